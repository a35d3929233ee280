"""What a run tells on the cluster is what a watcher hears here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from fedray.api import diagnose, launch, relay, sweep
from fedray.api.outlook import Outlook
from fedray.api.records import RS, read
from fedray.config.sweep import load_sweep
from fedray.diagnosis.counterfactual.workload import Workload
from fedray.distributed.sweep_watch import SweepProgress
from fedray.simulation.progress import Progress
from fedray.types import Metrics

HERE = Path("runs/here")
AT = Progress(  # with all that is shown
    version=3, rounds=9, virtual_time_s=1.5, metrics=Metrics(loss=0.5, accuracy=0.75),
    staleness_mean=0.25, in_flight=2, updates=7, wall_time_s=2.0, best=0.8,
)  # fmt: skip


class Heard:
    """A watcher of any kind that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.told.append((name, *arguments))


def passed(kind: str, text: str) -> list[tuple[Any, ...]]:
    watcher = Heard()
    tell = relay.passer(kind, watcher, HERE)
    for line in text.split("\n"):
        _, record = read(line)
        if record is not None:
            tell(record)
    return watcher.told


def test_a_launch_is_relayed(capsys: pytest.CaptureFixture[str]) -> None:
    there = Outlook("n", "fedavg, ...", "r2", 10.0, "ray", "/tmp/there")
    here = Outlook("n", "fedavg, ...", "r2", 10.0, "ray", str(HERE))
    teller = relay.LaunchTeller()
    teller.note("two\nlines, and an ü")
    teller.planned(there)
    teller.starting(4, 4)
    teller.progress(AT._replace(version=9))
    teller.reporting(Path("/tmp/there"))
    assert passed("launch", capsys.readouterr().out) == [
        ("note", "two\nlines, and an ü"), ("planned", here), ("starting", 4, 4),
        ("progress", AT._replace(version=9)), ("reporting", HERE),
    ]  # fmt: skip


def test_a_loss_that_is_no_number_stays_none(capsys: pytest.CaptureFixture[str]) -> None:
    relay.LaunchTeller().progress(AT._replace(version=9, metrics=Metrics(loss=math.nan)))
    ((_, progress),) = passed("launch", capsys.readouterr().out)
    assert math.isnan(progress.metrics.loss)


def test_progress_is_told_now_and_then_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    teller = relay.LaunchTeller()
    for version in range(1, 10):
        teller.progress(AT._replace(version=version))
    told = passed("launch", capsys.readouterr().out)
    assert [progress.version for _, progress in told] == [1, 9]  # all within 0.3 s


def test_a_sweep_is_relayed(capsys: pytest.CaptureFixture[str]) -> None:
    file = load_sweep({"sweep": {"grid": {"client.lr": [0.1, 0.2]}}})
    state = SweepProgress(2, [], 1, 0, 1, ("t0000", 0.5), 3.0)
    teller = relay.SweepTeller()
    teller.planned(sweep.Outlook(file, "/tmp/there", False))
    teller.progress(state)
    (_, outlook), (_, progress) = passed("sweep", capsys.readouterr().out)
    assert (outlook.folder, outlook.resumed, outlook.file.grid) == (str(HERE), False, file.grid)
    assert [t.config for t in outlook.file.trials()] == [t.config for t in file.trials()]
    assert progress._replace(best=tuple(progress.best)) == state


def test_a_diagnosis_is_relayed(capsys: pytest.CaptureFixture[str]) -> None:
    load = Workload(4, 5, 20, True, None, {"staleness": "none is late"}, 100, 40, 2.0, False)
    outlook = diagnose.Outlook("n", "/tmp/there", (1, 2), load, load.inert, 16, 8, 1, 0)
    teller = relay.DiagnosisTeller()
    teller.planned(outlook)
    teller.computing("arms", 9, 0, 0.0)
    teller.progress(1, 0.125)
    (_, planned), *rest = passed("diagnose", capsys.readouterr().out)
    assert planned == diagnose.Outlook("n", str(HERE), (1, 2), load, load.inert, 16, 8, 1, 0)
    assert rest == [("computing", "arms", 9, 0, 0.0), ("progress", 1, 0.125)]


def test_tellers_tell_all_that_watchers_hear() -> None:
    for teller, watcher in (
        (relay.LaunchTeller, launch.Watcher),
        (relay.SweepTeller, sweep.Watcher),
        (relay.DiagnosisTeller, diagnose.Watcher),
    ):
        methods = {name for name in vars(watcher) if not name.startswith("_")}
        silent = {name for name in methods if getattr(teller, name) is getattr(watcher, name)}
        assert silent == set()


def test_other_output_is_told_from_records() -> None:
    assert read("a print") == ("a print", None)
    assert read(f'unfinished{RS}{{"tell": "note"}}') == ("unfinished", {"tell": "note"})
    assert read(f"{RS}half a rec")[1] is None
