"""Run folders on S3: written while the run goes on, read, resumed and forked by their URI.

The server is moto's, in this process, and forgets everything.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

import fedray
from fedray.api.launch import Interrupted, Watcher
from fedray.cli import cli
from fedray.errors import InputError, StorageError
from fedray.report import storage
from fedray.report.run import Run
from fedray.report.storage import Mirror, Store, joined, local_path, uri_of

SMALL: dict[str, Any] = {
    "runtime.executor": "local",
    "data.source": "linear_regression",  # for which no process imports scikit-learn
    "data.clients": 6,
    "partition.scheme": "natural",
    "model.kind": "linear",
    "client.lr": 0.01,
    "server.rounds": 12,
    "server.schedule.concurrency": 4,
    "server.schedule.buffer_size": 2,
    "checkpoint.every": 3,
    "output.report": False,
}


@pytest.fixture(scope="module")
def run(options: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A run on S3, and the same one here."""
    here = tmp_path_factory.mktemp("here") / "run"
    fedray.launch(out=here, **SMALL)
    fedray.launch(out=f"s3://bucket/runs/a{options}", **SMALL)
    return f"s3://bucket/runs/a{options}", here


def bits(run: Run) -> Any:
    rounds = pq.read_table(run.path / "rounds.parquet").drop_columns(["wall_time_s"])
    return rounds, run.updates, run.clients, (run.path / "model.npz").read_bytes()


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def test_places_and_their_names() -> None:
    assert uri_of("s3://b/a") == uri_of(Path("s3://b/a")) == "s3://b/a"
    assert uri_of("/a/b") is uri_of("file:///a/b") is uri_of("a:b") is uri_of("runs") is None
    assert local_path("file:///a%20b/c") == Path("/a b/c")
    assert joined("s3://b/a/?x=1", "c") == "s3://b/a/c?x=1"


def test_file_uris_are_folders_of_this_machine(tmp_path: Path) -> None:
    made = fedray.launch(out=f"file://{tmp_path}/a", **SMALL)
    assert made.path == tmp_path / "a"
    assert Run(f"file://{tmp_path}/a").finished
    given = {**SMALL, "output.dir": f"file://{tmp_path}/runs"}
    assert fedray.launch(**given).path.parent == tmp_path / "runs"


def test_a_run_elsewhere_is_the_run_here(run: tuple[str, Path]) -> None:
    uri, here = run
    opened = Run(uri)
    assert opened.place == uri
    assert bits(opened) == bits(Run(here))
    there = [name.partition("-")[0] for name in Store(uri).names()]  # digests are of times, too
    files = [path for path in here.rglob("*") if path.is_file() and path.name[0] != "."]
    assert there == sorted(p.relative_to(here).as_posix().partition("-")[0] for p in files)
    copy = opened.path
    del opened
    assert not copy.exists()


def test_the_commands_take_uris(run: tuple[str, Path], options: str, tmp_path: Path) -> None:
    uri, here = run
    done = invoke("compare", uri, here, "--json")
    assert done.exit_code == 0, done.output
    assert uri in done.stdout
    done = invoke("compare", uri, here)
    assert "quickstart (a)" in done.stdout
    done = invoke("autopsy", uri)
    assert done.exit_code == 0, done.output
    assert f"autopsy: s3://bucket/runs/a/autopsy.json{options}\n" in done.stdout
    assert "autopsy.json" in Store(uri).names()
    done = invoke("report", uri)
    assert done.stdout == f"s3://bucket/runs/a/report.html{options}\n"
    assert {"report.html", "plots/r2.png"} <= set(Store(uri).names())
    keys = [part for k, v in SMALL.items() for part in ("--set", f"{k}={v}")]
    done = invoke("launch", *keys, "--set", f"output.dir=s3://bucket/named{options}")
    assert done.exit_code == 0, done.output
    shown = [line.split()[-1] for line in done.stdout.splitlines() if "run folder" in line]
    assert shown[0].startswith("s3://bucket/named/quickstart-")
    assert Run(shown[0]).finished
    done = invoke("fork", uri, "--at", "6", "--out", f"s3://bucket/fork{options}")
    assert done.exit_code == 0, done.output
    assert bits(Run(f"s3://bucket/fork{options}")) == bits(Run(here))


def test_an_interrupted_run_goes_on_from_its_uri_on_another_machine(
    run: tuple[str, Path], options: str
) -> None:
    class Impatient(Watcher):
        def progress(self, progress: Any) -> None:
            if progress.version == 7:
                raise KeyboardInterrupt

    uri = f"s3://bucket/interrupted{options}"
    with pytest.raises(Interrupted) as caught:
        fedray.launch(out=uri, watcher=Impatient(), **SMALL)
    assert str(caught.value).endswith(f"fedray launch --resume '{uri}'")
    assert any(name.startswith("checkpoints/v00000000") for name in Store(uri).names())
    assert Run(uri).rounds.num_rows > 6
    resumed = fedray.launch(resume=uri)
    assert resumed.place == uri
    assert bits(resumed) == bits(Run(run[1])) == bits(Run(uri))
    assert not [name for name in Store(uri).names() if "part-" in name]


KILLED = """
import os, sys, fedray
from fedray.api.launch import Watcher
from fedray.report import storage
storage.EVERY_S = 0.05
class Watch(Watcher):
    def progress(self, progress):
        if progress.version == 7:
            print("here", flush=True)
            sys.stdin.read()
fedray.launch(out=sys.argv[1], watcher=Watch(), **eval(sys.argv[2]))
"""


def test_of_a_killed_run_the_last_checkpoint_is_there(run: tuple[str, Path], options: str) -> None:
    uri = f"s3://bucket/killed{options}"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, uri, repr(SMALL)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "here\n"
    deadline = time.monotonic() + 30
    while not any("/v000000006" in name for name in Store(uri).names()):
        assert time.monotonic() < deadline
        time.sleep(0.05)  # the server is in this process, too
    process.kill()
    process.communicate()
    assert bits(fedray.launch(resume=uri)) == bits(Run(run[1]))


def test_tables_in_the_store_have_the_rows_that_its_checkpoints_count_on(tmp_path: Path) -> None:
    order = []

    class Slow:
        def put(self, path: Path, name: str) -> None:
            order.append(name)
            if name == "config.yaml":  # a checkpoint is made while we upload
                (tmp_path / "updates.parquet/part-2.parquet").touch()
                (tmp_path / "checkpoints/v2.npz").touch()

        def delete(self, name: str) -> None:
            order.append(f"-{name}")

    for name in ("config.yaml", "checkpoints/v1.npz", "updates.parquet/part-1.parquet", ".lock"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    mirror = Mirror(tmp_path, Slow(), lambda _: None)  # type: ignore[arg-type]
    mirror.sync()
    assert order == ["config.yaml", "updates.parquet/part-1.parquet", "checkpoints/v1.npz"]
    order.clear()
    (tmp_path / "checkpoints/v1.npz").unlink()
    mirror.sync()
    assert order == ["updates.parquet/part-2.parquet", "checkpoints/v2.npz", "-checkpoints/v1.npz"]


@pytest.mark.parametrize("run", ["", "trials/t0000/"])
def test_while_a_table_takes_another_form_checkpoints_wait(tmp_path: Path, run: str) -> None:
    order: list[str] = []

    class Slow:
        def put(self, path: Path, name: str) -> None:
            if name.endswith("config.yaml"):  # the run ends while we upload
                shutil.rmtree(table)
                table.touch()
            order.append(path.name) if path.is_file() else path.open()

        def delete(self, name: str) -> None:
            order.append(f"-{Path(name).name}")

    table, checkpoints = tmp_path / run / "rounds.parquet", tmp_path / run / "checkpoints"
    for folder in (table, checkpoints):
        folder.mkdir(parents=True)
    (table / "part-1.parquet").touch()
    (checkpoints / "v1.npz").touch()
    mirror = Mirror(tmp_path, Slow(), lambda _: None)  # type: ignore[arg-type]
    mirror.sync()
    assert order == ["part-1.parquet", "v1.npz"]
    order.clear()
    (table / "part-2.parquet").touch()
    (checkpoints / "v2.npz").touch()
    (checkpoints / "v1.npz").unlink()
    (tmp_path / run / "config.yaml").touch()
    mirror.sync()
    assert order == ["config.yaml"]  # v2 counts on rows that are not there; v1 does not
    order.clear()
    mirror.sync()
    assert order[:2] == ["rounds.parquet", "v2.npz"]
    assert sorted(order[2:]) == ["-part-1.parquet", "-v1.npz"]


def test_a_store_that_fails_meanwhile_is_a_note_and_at_the_end_the_folder_is_kept(
    options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Store, path: Path, name: str) -> None:
        raise StorageError("s3://bucket/broken: no network")

    class Notes(Watcher):
        def __init__(self) -> None:
            self.said: list[str] = []

        def note(self, text: str) -> None:
            self.said.append(text)

    monkeypatch.setattr(storage, "EVERY_S", 0.001)
    monkeypatch.setattr(Store, "put", broken)
    notes = Notes()
    with pytest.raises(StorageError, match="no network; its folder is kept in ") as caught:
        fedray.launch(out=f"s3://bucket/broken{options}", watcher=notes, **SMALL)
    assert notes.said.count("s3://bucket/broken: no network; it is tried again") == 1
    kept = Path(str(caught.value).rpartition(" ")[2])
    assert Run(kept).finished
    shutil.rmtree(kept)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("nope://a/b", "--out: nope://a/b: Unrecognized filesystem type"),
        ("s3://no-bucket/a{options}", "no-bucket"),
        ("s3://bucket/runs/a{options}", "is not empty; choose another"),
    ],
)
def test_what_cannot_be_written_to_is_refused_in_a_line_before_anything_starts(
    run: tuple[str, Path], options: str, uri: str, said: str
) -> None:
    with pytest.raises(InputError) as caught:
        fedray.launch(out=uri.format(options=options), **SMALL)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_not_there_cannot_be_read(options: str) -> None:
    with pytest.raises(InputError, match="no such folder; expected a folder that"):
        Run(f"s3://bucket/nowhere{options}")
    with pytest.raises(InputError, match=r"--resume: s3://bucket/nowhere.* is not a run folder"):
        fedray.launch(resume=f"s3://bucket/nowhere{options}")


def test_names_that_leave_the_run_folder_are_refused(
    options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(f"s3://bucket/evil{options}")
    for name in ("../outside", "a/../../outside", "/outside", "a\\..\\outside"):
        monkeypatch.setattr(store, "names", lambda name=name: [name])
        with pytest.raises(InputError, match="would leave the run folder"):
            store.fetch(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_passwords_in_uris_are_refused_and_not_shown() -> None:
    with pytest.raises(InputError) as caught:
        Store("s3://key:secret@bucket/a", key="--out")
    assert str(caught.value).startswith("--out: s3://bucket/a: no passwords in a URI, which is")


def test_where_nothing_has_begun_nothing_is_left(options: str) -> None:
    uri = f"s3://bucket/withdrawn{options}"
    given = {**SMALL, "runtime.executor": "ray", "runtime.address": "127.0.0.1:1"}
    with pytest.raises(InputError, match=r"runtime\.address"):
        fedray.launch(out=uri, **given)
    assert Store(uri).names() == []
