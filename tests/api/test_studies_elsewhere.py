"""Sweeps and diagnoses on S3: what ends is there, is gone on with from there, and opened there.

A stand-in runs a sweep's trials in this process, where nothing is about Ray.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import fedray
from fedray.api import diagnose, sweep
from fedray.api.launch import Interrupted
from fedray.cli import cli
from fedray.config.load import as_tree
from fedray.config.sweep import SweepFile
from fedray.distributed import sweep as distributed
from fedray.distributed.draws import drawn
from fedray.errors import InputError, StorageError
from fedray.report import storage
from fedray.report.diagnosis.reader import Diagnosis
from fedray.report.storage import Store, joined
from fedray.report.sweep.reader import Sweep

SMALL: dict[str, Any] = {
    "runtime.executor": "local",
    "data.source": "blobs",
    "data.samples": 240,
    "data.dimensions": 2,
    "partition.clients": 6,
    "server.rounds": 3,
    "server.schedule.concurrency": 4,
    "server.schedule.buffer_size": 2,
    "output.report": False,
}
SWEEP: dict[str, Any] = {
    **{key: value for key, value in SMALL.items() if key != "runtime.executor"},
    "sweep.grid.client.lr": [0.01, 0.1],
    "sweep.seeds": 2,
}
Between = Callable[[Path, int], None]


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> Callable[[Between], None]:
    """Puts a stand-in in the place of `run_sweep`, which calls a function after every trial."""

    def use(between: Between) -> None:
        def run(file: SweepFile, folder: Path, **_: Any) -> None:
            for done, trial in enumerate(drawn(file), 1):
                place = folder / "trials" / trial.id
                if not (place / "summary.json").exists():
                    plain = {"runtime": {"executor": "local"}, "output": {"report": False}}
                    fedray.launch({**as_tree(trial.config), **plain}, out=place)
                    between(folder, done)

        monkeypatch.setattr(distributed, "run_sweep", run)

    return use


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def keys(settings: dict[str, Any]) -> list[str]:
    return [p for k, v in settings.items() for p in ("--set", f"{k}={json.dumps(v)}")]


def uploaded(uri: str, name: str) -> None:
    """Waits until a file is in the store."""
    deadline = time.monotonic() + 30
    while name not in Store(uri).names():
        assert time.monotonic() < deadline


def figures(of: Sweep) -> Any:
    rows = of.trials.drop_columns([c for c in of.trials.column_names if "wall" in c])
    models = [(of.trial(row["id"]).path / "model.npz").read_bytes() for row in rows.to_pylist()]
    return rows, models, of.summary


def test_of_a_sweep_whose_driver_dies_what_has_ended_is_there_and_not_run_again(
    options: str,
    trials: Callable[[Between], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    uri, gone = f"s3://bucket/sweeps/died{options}", []

    def dies(folder: Path, done: int) -> None:
        if done == 2:
            uploaded(uri, "trials/t0001/summary.json")
            monkeypatch.setattr(Store, "put", broken)
            gone.append(folder)
            raise KeyboardInterrupt

    def broken(self: Store, path: Path, name: str) -> None:
        raise StorageError(f"{self.uri}: no network")

    monkeypatch.setattr(storage, "EVERY_S", 0.01)
    trials(dies)
    with pytest.raises(StorageError, match="no network; its folder is kept in "):
        sweep.sweep(None, out=uri, **SWEEP)
    monkeypatch.undo()
    shutil.rmtree(gone[0])

    again: list[int] = []
    trials(lambda _, done: again.append(done))
    resumed = sweep.sweep(resume=uri)
    assert again == [3, 4]
    assert resumed.place == uri
    trials(lambda *_: None)
    here = sweep.sweep(None, out=tmp_path / "here", **SWEEP)
    opened = Sweep(uri)
    assert figures(resumed) == figures(opened) == figures(here)
    assert opened.trial("t0003").place == joined(uri, "trials/t0003")
    files = {p.relative_to(here.path).as_posix() for p in here.path.rglob("*") if p.is_file()}
    there = {name for name in Store(uri).names() if "/checkpoints/" not in name}
    assert there == {f for f in files if "/checkpoints/" not in f and "/." not in f"/{f}"}
    with pytest.raises(InputError, match=r"died.* is finished; there is nothing to resume"):
        sweep.sweep(resume=uri)


def test_a_sweep_goes_to_output_dir_and_shows_where(
    options: str, trials: Callable[[Between], None]
) -> None:
    def ends(_: Path, done: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    trials(ends)
    more = {"output.dir": f"s3://bucket/named{options}", "output.report": True}
    done = invoke("sweep", *keys({**SWEEP, **more}))
    assert (done.exit_code, done.stdout) == (130, "")
    command, _, uri = done.stderr.splitlines()[-1].rpartition("--resume ")
    assert command.endswith("continue with: fedray sweep ")
    uri = uri.strip("'")
    assert uri.startswith("s3://bucket/named/quickstart-sweep-")
    assert f"sweep folder: {uri}\n" in done.stderr
    assert "trials.parquet" in Store(uri).names()  # how far it came
    with pytest.raises(InputError, match="a sweep that has not ended"):
        Sweep(uri)
    trials(lambda *_: None)
    done = invoke("sweep", "--resume", uri)
    assert done.exit_code == 0, done.output
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert f"folder  {uri}" in lines
    assert f"page    {joined(uri, 'sweep.html')}" in lines
    assert not any(line.startswith("best") for line in lines)  # no file of this machine
    assert "fedray-staging" not in done.output
    assert "sweep.html" in Store(uri).names()


def test_a_population_reaches_the_store_at_its_end(
    options: str, trials: Callable[[Between], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, said, seen = f"s3://bucket/sweeps/pbt{options}", [], []

    class Notes(sweep.Watcher):
        def note(self, text: str) -> None:
            said.append(text)

    monkeypatch.setattr(storage, "EVERY_S", 0.001)
    trials(lambda *_: seen.extend(Store(uri).names()))
    given = {key: value for key, value in SWEEP.items() if "grid" not in key and "seeds" not in key}
    searched = {
        "sweep.search": {"client.lr": {"uniform": [0.1, 0.2]}}, "sweep.samples": 2,
        "sweep.scheduler": "pbt", "sweep.grace": 1, "checkpoint.every": 1,
    }  # fmt: skip
    sweep.sweep(None, out=uri, watcher=Notes(), **given, **searched)
    assert any(text.startswith("pbt: trials take over each other's folders") for text in said)
    assert seen == []
    assert Sweep(uri).summary["counts"]["finished"] == 2


class Impatient(diagnose.Watcher):
    """Interrupts after three arms."""

    def progress(self, done: int, share: float) -> None:
        if done == 3:
            raise KeyboardInterrupt


def test_a_diagnosis_is_interrupted_and_goes_on_from_its_uri(options: str, tmp_path: Path) -> None:
    uri = f"s3://bucket/why{options}"
    with pytest.raises(Interrupted) as caught:
        diagnose.diagnose(None, seeds=1, out=uri, watcher=Impatient(), **SMALL)
    assert str(caught.value).endswith(f"fedray diagnose --resume '{uri}'")
    assert sum(name.startswith("arms/") for name in Store(uri).names()) == 3
    with pytest.raises(InputError, match="a diagnosis that has not ended"):
        Diagnosis(uri)
    with pytest.raises(InputError, match="is not empty; choose another, or continue it"):
        diagnose.diagnose(None, seeds=1, out=uri, **SMALL)

    done = invoke("diagnose", "--resume", uri, "--prescribe")
    assert done.exit_code == 0, done.output
    assert "3 of all arms and controls are finished already" in done.stderr
    assert f"folder  {uri}\n" in done.stdout
    assert "try     fedray launch config.yaml --set " in done.stdout
    assert "fedray-staging" not in done.output
    here = diagnose.diagnose(None, seeds=1, out=tmp_path / "here", **SMALL)
    opened = Diagnosis(uri)
    assert opened.findings == here.findings
    assert opened.arms == here.arms
    assert opened.prescription is not None
    names = {"arms.parquet", "config.yaml", "diagnosis.json", "prescription.json", "request.json"}
    assert set(Store(uri).names()) == names
    with pytest.raises(InputError, match="has a finished diagnosis and prescription: see s3://"):
        diagnose.diagnose(resume=uri)


def test_one_that_was_killed_before_its_first_arm_is_gone_on_with(options: str) -> None:
    uri = f"s3://bucket/early{options}"
    with pytest.raises(Interrupted):
        diagnose.diagnose(None, seeds=1, out=uri, watcher=Impatient(), **SMALL)
    for name in Store(uri).names():
        if name.startswith("arms/"):  # a store has no empty folders
            Store(uri).delete(name)
    assert diagnose.diagnose(resume=uri).place == uri


def test_a_run_elsewhere_is_diagnosed_into_its_folder(options: str, tmp_path: Path) -> None:
    uri = f"s3://bucket/runs/diagnosed{options}"
    fedray.launch(out=uri, **SMALL)
    fedray.launch(out=tmp_path / "run", **SMALL)
    with pytest.raises(Interrupted):
        diagnose.diagnose(uri, seeds=1, watcher=Impatient())
    into = joined(uri, "diagnosis")
    found = diagnose.diagnose(resume=into)
    assert found.place == into
    here = diagnose.diagnose(f"file://{tmp_path}/run", seeds=1)
    assert here.path == tmp_path / "run/diagnosis"
    assert Diagnosis(uri).findings == found.findings == here.findings
    assert Diagnosis(uri).place == into
    with pytest.raises(InputError, match=r"s3://bucket/runs/diagnosed.* is diagnosed as it was"):
        diagnose.diagnose(uri, **{"client.lr": 1.0})


@pytest.mark.parametrize("command", ["sweep", "diagnose"])
@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("nope://a/b", "error: --out: nope://a/b: Unrecognized filesystem type"),
        ("s3://no-bucket/a{options}", "no-bucket"),
        ("s3://key:secret@bucket/a", "error: --out: s3://bucket/a: no passwords in a URI"),
    ],
)
def test_what_cannot_be_written_to_is_refused_in_a_line_before_anything_starts(
    options: str, command: str, uri: str, said: str
) -> None:
    given = SWEEP if command == "sweep" else SMALL
    done = invoke(command, *keys(given), "--out", uri.format(options=options))
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    assert said in done.stderr
    assert "secret" not in done.stderr


def test_what_is_not_there_is_a_line(options: str) -> None:
    uri = f"s3://bucket/nowhere{options}"
    for what, call in (
        (
            r"--resume: s3://bucket/nowhere.* is not a sweep's folder",
            lambda: sweep.sweep(resume=uri),
        ),
        (r"is not the folder of a diagnosis", lambda: diagnose.diagnose(resume=uri)),
        (r"nowhere.*: no such folder, trials.parquet", lambda: Sweep(uri)),
        (r"nowhere.*: no such folder, diagnosis.json", lambda: Diagnosis(uri)),
        (r"nowhere.*: no such folder; expected", lambda: diagnose.diagnose(uri)),
    ):
        with pytest.raises(InputError, match=what):
            call()


def test_file_uris_are_folders_of_this_machine(
    trials: Callable[[Between], None], tmp_path: Path
) -> None:
    trials(lambda *_: None)
    assert sweep.sweep(None, out=f"file://{tmp_path}/a", **SWEEP).path == tmp_path / "a"
    with pytest.raises(InputError, match="is finished; there is nothing to resume"):
        sweep.sweep(resume=f"file://{tmp_path}/a")
    assert Sweep(f"file://{tmp_path}/a").trial("t0000").path == tmp_path / "a/trials/t0000"


def test_where_nothing_has_begun_nothing_is_left(options: str) -> None:
    ray = {"runtime.executor": "ray", "runtime.address": "127.0.0.1:1"}
    uri = f"s3://bucket/withdrawn{options}"
    with pytest.raises(InputError, match=r"runtime\.address"):
        sweep.sweep(None, out=uri, **{**SWEEP, **ray})
    assert Store(uri).names() == []
    with pytest.raises(InputError, match=r"runtime\.address"):
        diagnose.diagnose(None, seeds=1, out=uri, **{**SMALL, **ray})
    assert Store(uri).names() == []
