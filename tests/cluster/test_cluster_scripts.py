"""Shell files: they parse, shellcheck likes them, and do what they say around fake commands."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cluster_files import CLUSTER

SCRIPTS = ["local.sh", "job.sh", "slurm.sbatch"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_parses_and_can_be_run(name: str) -> None:
    subprocess.run(["bash", "-n", str(CLUSTER / name)], check=True)
    if name.endswith(".sh"):
        assert os.access(CLUSTER / name, os.X_OK)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck here")
@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck_has_nothing_to_say(name: str) -> None:
    done = subprocess.run(
        ["shellcheck", str(CLUSTER / name)], capture_output=True, text=True, check=False
    )
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "usage:"),
        (("restart",), "usage:"),
        (("start", "--worker", "2"), "usage:"),
        (("start", "--workers", "two"), "--workers: 'two' is not a whole number"),
        (("start", "--cpus", "0"), "at least --cpus 1"),
        (("start", "--dir", "/tmp/" + "x" * 40), "too long for Ray's sockets"),
        (("start", "--dir", "/usr"), "/usr exists already"),
        (("stop", "--dir", "/tmp/fr-nothing"), "no cluster runs in /tmp/fr-nothing"),
        (("status", "--dir", "/tmp/fr-nothing"), "no cluster runs in /tmp/fr-nothing"),
        (("env", "--dir", "/tmp/fr-nothing"), "no cluster runs in /tmp/fr-nothing"),
    ],
)
def test_local_says_what_is_wrong(arguments: tuple[str, ...], said: str) -> None:
    done = subprocess.run(
        ["bash", str(CLUSTER / "local.sh"), *arguments],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode in (1, 2)
    assert said in done.stderr


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    said = process.communicate(timeout=60)[0]
    return process.returncode, said


@dataclass
class Stage:
    """A folder with fake commands in front of the PATH, which write down how they were called.

    `fedray` and `ray` run until SIGTERM, as after a checkpoint and as `ray start --block` does;
    where there is a file `quick`, `fedray` ends well at once.
    """

    folder: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "bin").mkdir()
        note = f'echo "{{}} $*" >> {self.folder}/calls\n'
        until = "trap 'exit 143' TERM\nfor _ in {1..600}; do sleep 0.1; done\n"
        self._fake("fedray", note.format("fedray") + f"[[ ! -e {self.folder}/quick ]] || exit 0\n"
                   + until)  # fmt: skip
        self._fake("ray", 'echo "ray $* token=${#RAY_AUTH_TOKEN} $RAY_AUTH_MODE" '
                   f">> {self.folder}/calls\n" + until)  # fmt: skip
        self._fake("scontrol", note.format("scontrol")
                   + '[[ $2 != hostnames ]] || printf "node%s\\n" 1 2 3\n')  # fmt: skip
        self._fake("srun", note.format("srun")
                   + 'while [[ $1 == --* ]]; do shift; done\nexec "$@"\n')  # fmt: skip
        # The script that waits for CPUs comes on stdin; all else is for the real Python. It
        # waits for the nodes that Slurm was asked for.
        nodes = f"$(grep -c '^ray start' {self.folder}/calls)"
        self._fake("python3", f'[[ $1 == - ]] || exec {sys.executable} "$@"\n'
                   'if [[ $2 != 0 && -n ${SLURM_CPUS_PER_TASK:-} ]]; then\n'
                   f'while (({nodes} * SLURM_CPUS_PER_TASK < $2)); do sleep 0.05; done\nfi\n'
                   f'echo "capacity $2" >> {self.folder}/calls\n')  # fmt: skip

    def _fake(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/usr/bin/env bash\n{text}", encoding="utf-8")
        path.chmod(0o755)

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SLURM_"))}
        process = subprocess.Popen(
            ["bash", *command],
            cwd=self.folder,
            env={**inherited, "PATH": f"{self.folder}/bin:{os.environ['PATH']}", **environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        self.started.append(process)
        return process

    def run(self, *command: str, **environment: str) -> tuple[int, str]:
        """Status and output."""
        return ended(self.start(*command, **environment))

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def wait_for(self, call: str) -> None:
        deadline = time.monotonic() + 20
        while not any(line.startswith(call) for line in self.calls()):
            assert time.monotonic() < deadline, self.calls()
            time.sleep(0.02)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    for process in made.started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what a failed test has left
        process.communicate()


JOB = str(CLUSTER / "job.sh")
HERE = "--set runtime.address=auto --set runtime.start_timeout_s=600"


def test_a_job_begins_goes_on_and_knows_when_it_is_over(stage: Stage) -> None:
    (stage.folder / "quick").touch()
    again = (JOB, "launch", "a.yaml", "out", "--set", "server.rounds=5")
    assert stage.run(*again) == (0, "")
    (stage.folder / "out").mkdir()
    (stage.folder / "out" / ".lock").touch()  # as a start leaves it that was killed at once
    assert stage.run(*again) == (0, "")
    assert not (stage.folder / "out" / ".lock").exists()
    (stage.folder / "out" / "config.yaml").touch()
    assert stage.run(*again) == (0, "")
    (stage.folder / "out" / "summary.json").touch()
    assert stage.run(*again) == (0, "job.sh: out is finished\n")
    first = f"fedray launch a.yaml --out out {HERE} --set server.rounds=5"
    assert stage.calls() == [first, first, f"fedray launch --resume out {HERE}"]


def test_a_job_waits_for_the_cpus_that_it_asks_for(stage: Stage) -> None:
    (stage.folder / "quick").touch()
    assert stage.run(JOB, "sweep", "s.yaml", "out", FEDRAY_CPUS="16") == (0, "")
    stage.wait_for("capacity 0")
    assert stage.calls() == ["capacity 16", f"fedray sweep s.yaml --out out {HERE}", "capacity 0"]


def test_capacity_alone_is_asked_for_and_taken_back(stage: Stage) -> None:
    assert stage.run(JOB, "capacity", "16") == (0, "")
    assert stage.run(JOB, "capacity", "0") == (0, "")
    for wrong in (("capacity",), ("capacity", "some"), ("launch", "a.yaml"), ("submit", "a", "b")):
        status, said = stage.run(JOB, *wrong)
        assert status == 2
        assert said.startswith("usage: ")
    assert stage.calls() == ["capacity 16", "capacity 0"]


def test_signals_are_fedrays_and_a_killed_job_asks_for_nothing_any_more(stage: Stage) -> None:
    for number, status in ((signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)):
        (stage.folder / "calls").unlink(missing_ok=True)
        process = stage.start(JOB, "launch", "a.yaml", "out", FEDRAY_CPUS="2")
        stage.wait_for("fedray launch")
        process.send_signal(number)
        assert ended(process)[0] == status
        stage.wait_for("capacity 0")


JOB_ID = 10**6 + 10 * os.getpid()  # folders below /tmp are called after it
SLURM = {
    "SLURM_JOB_ID": f"{JOB_ID}",
    "SLURM_JOB_NODELIST": "node[1-3]",
    "SLURM_CPUS_PER_TASK": "4",
    "FEDRAY_JOB": JOB,
    "FEDRAY_HEAD_IP": "10.1.2.3",
}
SBATCH = str(CLUSTER / "slurm.sbatch")


def test_slurm_starts_a_node_each_and_ends_them_after_the_run(stage: Stage) -> None:
    (stage.folder / "quick").touch()
    assert stage.run(SBATCH, "a.yaml", "out", "--set", "seed=3", **SLURM) == (0, "")
    calls = stage.calls()
    port = 20000 + JOB_ID % 20000
    steps = [c for c in calls if c.startswith("srun") and " ray start " in c]
    assert len(steps) == 3
    for node, step in zip(("node1", "node2", "node3"), sorted(steps), strict=True):
        assert f"--nodes=1 --ntasks=1 --nodelist={node} --cpus-per-task=4 " in step
        assert step.endswith(f"--num-cpus=4 --temp-dir=/tmp/fedray-{JOB_ID} --block")
    [head] = [c for c in calls if c.startswith("ray start --head")]
    assert f"--node-ip-address=10.1.2.3 --port={port} --include-dashboard=false" in head
    workers = [c for c in calls if c.startswith(f"ray start --address=10.1.2.3:{port} ")]
    assert len(workers) == 2
    assert all(c.endswith(" token=64 token") for c in (head, *workers))
    assert "capacity 12" in calls
    assert f"fedray launch a.yaml --out out {HERE} --set seed=3" in calls
    assert not any(c.startswith("scontrol requeue") for c in calls)
    removed = f"srun --ntasks-per-node=1 --overlap rm -rf -- /tmp/fedray-{JOB_ID}"
    assert [c for c in calls if c != "capacity 0"][-1] == removed


def test_slurm_checkpoints_before_the_limit_and_queues_again(stage: Stage) -> None:
    job = {**SLURM, "SLURM_JOB_ID": f"{JOB_ID + 1}"}
    process = stage.start(SBATCH, "a.yaml", "out", **job)
    stage.wait_for("fedray launch")
    assert stat.S_IMODE(Path(f"/tmp/fedray-{JOB_ID + 1}").stat().st_mode) == 0o700
    process.send_signal(signal.SIGTERM)  # as --signal=B:TERM@180 does
    status, said = ended(process)
    assert status == 143
    assert "checkpointed before the time limit; queueing again to go on" in said
    assert f"scontrol requeue {JOB_ID + 1}" in stage.calls()
    (stage.folder / "out").mkdir()
    (stage.folder / "out" / "config.yaml").touch()
    (stage.folder / "quick").touch()
    assert stage.run(SBATCH, "a.yaml", "out", **job) == (0, "")
    assert f"fedray launch --resume out {HERE}" in stage.calls()


def test_slurm_starts_no_node_in_a_folder_that_is_not_its_own(stage: Stage) -> None:
    job, taken = {**SLURM, "SLURM_JOB_ID": f"{JOB_ID + 2}"}, Path(f"/tmp/fedray-{JOB_ID + 2}")
    taken.symlink_to(stage.folder)  # as somebody else would lead us on
    process = stage.start(SBATCH, "a.yaml", "out", **job)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"slurm.sbatch: {taken} is somebody else's\n"
        assert not any(call.startswith("ray start") for call in stage.calls())
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)  # until then it would make the folder again
        taken.unlink(missing_ok=True)


def test_slurm_options_are_ahead_of_all_commands() -> None:
    lines = (CLUSTER / "slurm.sbatch").read_text(encoding="utf-8").splitlines()
    options = dict(
        line.removeprefix("#SBATCH --").partition("=")[::2]
        for line in lines
        if line.startswith("#SBATCH")
    )
    assert int(options["nodes"]) >= 2
    assert options["ntasks-per-node"] == "1"
    assert options["signal"].startswith("B:TERM@")  # to the script, which passes it on
    assert "requeue" in options
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert max(i for i, line in enumerate(lines) if line.startswith("#SBATCH")) < first
