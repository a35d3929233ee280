"""What a command leaves, says and exits with when the system lets it down or calls it off."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from signalled import quick, signalled

from fedray.cli import cli
from fedray.report.run import Run
from fedray.simulation import checkpoint

ROOT = Path(__file__).parents[2]
SMALL = {
    "runtime.executor": "local",
    "data.source": "blobs",
    "data.samples": "300",
    "data.dimensions": "2",
    "partition.clients": "6",
    "server.rounds": "10",
    "server.schedule.concurrency": "4",
    "server.schedule.buffer_size": "2",
    "output.report": "false",
}
LONG = {"server.rounds": "2500", "eval.every": "500", "checkpoint.every": "0"}


def settings(**more: str) -> list[str]:
    dotted = {key.replace("__", "."): value for key, value in more.items()}
    return [part for k, v in {**SMALL, **dotted}.items() for part in ("--set", f"{k}={v}")]


def fedray(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def started(*arguments: str | Path, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fedray", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, **more,
    )  # fmt: skip


def until(process: subprocess.Popen[str], said: Callable[[str], bool]) -> None:
    assert process.stderr
    while not said(process.stderr.readline()):
        assert process.poll() is None


def same(one: Path, other: Path) -> bool:
    """All but wall times and what they make: the same bits."""
    walls = ["wall_time_s"]
    return (
        all(
            pq.read_table(one / f"{name}.parquet").drop_columns(walls if name == "rounds" else [])
            == pq.read_table(other / f"{name}.parquet").drop_columns(
                walls if name == "rounds" else []
            )
            for name in ("rounds", "updates", "clients")
        )
        and (one / "model.npz").read_bytes() == (other / "model.npz").read_bytes()
    )


# --- SIGTERM ----------------------------------------------------------------------------


def test_sigterm_ends_a_launch_as_ctrl_c_does(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    long = quick(server__rounds="60", eval__every="20", checkpoint__every="0")
    done = signalled("version 6/60", signal.SIGTERM, "launch", *long, "--out", folder, "--json")
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, done.stdout) == (143, "")
    assert last.startswith("terminated at version ")
    assert last.endswith(f"continue with: fedray launch --resume '{folder}'")
    assert "Traceback" not in done.stderr
    version = int(last.split()[3].rstrip(","))
    assert checkpoint.version_of(checkpoint.found(folder / "checkpoints")[0]) == version
    assert Run(folder).rounds["version"].to_pylist() == list(range(version + 1))


def test_sigterm_keeps_the_arms_of_a_diagnosis(tmp_path: Path) -> None:
    folder = tmp_path / "why"
    arguments = [*quick(), "--out", folder, "--seeds", "2"]
    done = signalled("/36 arms", signal.SIGTERM, "diagnose", *arguments)
    assert (done.returncode, done.stdout) == (143, "")
    last = done.stderr.splitlines()[-1]
    assert last == f"terminated; continue with: fedray diagnose --resume {folder}"
    assert "are finished already" in fedray("diagnose", "--resume", folder).stderr


def test_sigterm_before_a_run_begins_is_a_word(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from fedray.cli import cli, main
import click
@click.command()
def slow():
    print("here", file=sys.stderr, flush=True)
    signal.pause()
type(cli).get_command = lambda *_: slow
sys.argv = ["fedray", "slow"]
main()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    until(process, lambda line: line == "here\n")
    process.send_signal(signal.SIGTERM)
    assert (process.communicate(timeout=30)[1], process.returncode) == ("terminated\n", 143)


@pytest.mark.ray
@pytest.mark.parametrize("whom", ["the driver", "all processes"])
def test_sigterm_on_ray(tmp_path: Path, whom: str) -> None:
    """All processes: as Slurm sends it, when the time is over."""
    folder = tmp_path / "a"
    ours = {"runtime.executor": "ray", "runtime.cpus": "1", "runtime.clients_per_actor": "6"}
    long = {**SMALL, **LONG, **ours, "checkpoint.every": "20"}
    arguments = [part for k, v in long.items() for part in ("--set", f"{k}={v}")]
    process = started("launch", *arguments, "--out", folder)
    until(process, lambda line: line.startswith("version") and (folder / "checkpoints").is_dir())
    family = [process.pid]
    if whom == "all processes":
        family += [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    for pid in family:
        with suppress(ProcessLookupError):  # some of Ray's live for a moment
            os.kill(pid, signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (143, ""), err
    last = err.splitlines()[-1]
    assert last.startswith("terminated"), err
    assert last.endswith(f"continue with: fedray launch --resume {folder}")
    assert "Traceback" not in err
    assert checkpoint.load_newest(folder / "checkpoints")[0] is not None


# --- disks ------------------------------------------------------------------------------


def limited(file_bytes: int, *arguments: str | Path) -> Result:
    """fedray where no file can be longer: what a quota looks like from inside."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, before[1]))
    try:
        return fedray(*arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_takes_no_more_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    quiet = settings(server__rounds="60", checkpoint__every="10")
    assert fedray("launch", *quiet, "--out", tmp_path / "b").exit_code == 0
    most = int(0.9 * (tmp_path / "b" / "rounds.parquet").stat().st_size)  # the largest file
    done = limited(most, "launch", *quiet, "--out", tmp_path / "a", "--json")
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert (done.exit_code, done.stdout, len(lines)) == (74, "", 1), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == lines[0]
    assert "cannot be written: File too large; what was written before is kept" in lines[0]
    assert lines[0].endswith(f"then: fedray launch --resume {tmp_path / 'a'}")
    assert not list((tmp_path / "a").rglob("*.half*"))
    assert Run(tmp_path / "a").rounds.num_rows > 10
    assert fedray("launch", "--resume", tmp_path / "a").exit_code == 0
    assert same(tmp_path / "a", tmp_path / "b")


def on_a_mount(options: str, where: Path, script: str) -> subprocess.CompletedProcess[str]:
    """A shell script in which `where` is a file system of its own; skips where that is denied."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    mount = f"mount -t tmpfs -o {options} fedray {where} || exit 99\n"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount + script],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip("may not mount a file system here")
    return done


def test_a_full_disk_is_one_line_and_what_was_recorded_is_readable(tmp_path: Path) -> None:
    mount, kept = tmp_path / "disk", tmp_path / "kept"
    mount.mkdir()
    arguments = " ".join(quick(server__rounds="4000", checkpoint__every="10"))
    done = on_a_mount(
        "size=16m", mount,
        f"{sys.executable} -m fedray launch {arguments} --out {mount}/a & run=$!\n"
        f"until ls {mount}/a/checkpoints/v*.npz 2> {tmp_path}/none; do sleep 0.05; done >&2\n"
        f"cat /dev/zero > {mount}/others 2> {tmp_path}/full\n"
        f"wait $run; code=$?; cp -r {mount}/a {kept}; exit $code",
    )  # fmt: skip
    assert done.returncode == 74, done.stderr
    last = done.stderr.splitlines()[-1]
    assert "cannot be written: No space left on device; what was written before is kept" in last
    assert "Traceback" not in done.stderr
    snapshot, complaints = checkpoint.load_newest(kept / "checkpoints")
    assert snapshot is not None
    assert complaints == []
    assert Run(kept).rounds.num_rows > snapshot.version


BOTH = """
import sys
from fedray.cli import main
for given in {given}:
    sys.argv[1:] = given
    try:
        main()
    except SystemExit as end:
        print(end.code, file=sys.stderr)
"""


def test_a_folder_that_is_read_only_is_one_line(tmp_path: Path) -> None:
    mount = tmp_path / "disk"
    mount.mkdir()
    given = [["launch", *settings(), "--out", f"{mount}/new"], ["report", f"{mount}/run"]]
    (tmp_path / "both.py").write_text(BOTH.format(given=given))
    (mount / "run").mkdir()
    done = on_a_mount("ro,size=64m", mount, f"{sys.executable} {tmp_path}/both.py")
    lines = done.stderr.splitlines()
    assert lines[:2] == [
        f"error: --out: cannot write to {mount}/new: Read-only file system", "2",
    ]  # fmt: skip
    assert lines[3] == "2"


def test_so_it_is_where_clients_remember_something(tmp_path: Path) -> None:
    given = {key: value for key, value in SMALL.items() if "schedule" not in key} | {
        "algorithm": "scaffold",
        "server.schedule": "{mode: sync}",
        "data.dimensions": "4000",
    }
    arguments = [part for k, v in given.items() for part in ("--set", f"{k}={v}")]
    done = limited(60_000, "launch", *arguments, "--out", tmp_path / "a")
    assert done.exit_code == 74, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: {tmp_path / 'a'}: cannot be written: File too large"), last
    assert "Traceback" not in done.stderr
