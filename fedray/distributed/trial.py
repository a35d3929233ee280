"""One trial of a sweep: a run in a folder of its own, flown piece by piece.

Nothing in here knows Tune: it is told when to go on, to end early, or to save.
"""

from __future__ import annotations

import json
import math
import shutil
import time
import traceback
from collections import deque
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import ray

from fedray.config import schema
from fedray.config.load import dump
from fedray.data.federate import stays_in_files
from fedray.report.tables import read_table, write_text
from fedray.simulation import checkpoint
from fedray.simulation.executor import Executor, LocalExecutor
from fedray.simulation.flight import Flight
from fedray.simulation.plan import Plan, build_plan
from fedray.simulation.progress import Progress
from fedray.types import Dataset, Federation

NEWS_EVERY_S = 0.5
"""How often a trial says where it is, when nobody decides anything by it."""
_WORST = 1e30
"""What a figure that is not finite counts for: Tune's rules for stopping cannot compare NaN."""
_KEPT = 3
"""Federations that an actor remembers, as trials of one split differ in other things."""
STOPPED, ERROR, SPEC = "stopped-at", "error.txt", "trial.json"
"""Files of a trial's folder: the version it is to end at, why it failed, what it was given."""


class Spec(NamedTuple):
    """What a trial is given; see `config.sweep.TrialSpec`."""

    id: str
    settings: Mapping[str, Any]
    setting: int
    seed: int
    config: schema.Config


class Report(NamedTuple):
    """Where a trial is. `early`: it is over because the scheduler has ended it."""

    version: int
    value: float | None
    finished: bool
    early: bool = False


class Metric(NamedTuple):
    """What trials are ranked by. `mode`: max or min; `target` of *_to_target."""

    name: str
    mode: str
    target: float | None = None

    def comparable(self, value: float | None) -> float:
        """The value, or as bad as can be where there is none."""
        if value is not None and math.isfinite(value):
            return value
        return -_WORST if self.mode == "max" else _WORST

    def better(self, value: float, than: float) -> bool:
        return value > than if self.mode == "max" else value < than


class Cast(Protocol):
    """Who computes a trial."""

    def executor(self, plan: Plan, federation: Federation) -> Executor:
        """An executor for this run; the one before is over."""

    def facts(self, clients: int) -> dict[str, Any]:
        """What the summary says of it."""


class Alone:
    """The trial's own process does all of it."""

    def executor(self, plan: Plan, federation: Federation) -> Executor:
        return LocalExecutor(plan.work, federation)

    def facts(self, clients: int) -> dict[str, Any]:
        return {"kind": "local", "actors": 0}


class Library:
    """The data of trials: loaded once by the driver, split here, the newest splits kept.

    `refs`: data sets in Ray's store, by `data_key`; what is not there is loaded here.
    """

    def __init__(self, refs: Mapping[str, Any], base_dir: Path) -> None:
        self._refs, self._base_dir = refs, base_dir
        self._federations: dict[str, Federation] = {}

    def plan(self, config: schema.Config) -> tuple[Plan, Federation]:
        """Like `build_plan`, without doing again what an earlier trial has done."""
        from fedray.simulation.plan import plan_for

        key = repr(
            (
                config.data,
                config.partition,
                config.seed,
                config.model.dtype,
                config.personal.held_out,
            )
        )
        known = self._federations.pop(key, None)
        if known is None:
            plan, known = build_plan(config, self._base_dir, self._dataset(config))
        else:
            plan = plan_for(known, config, self._base_dir)
        self._federations[key] = known
        while len(self._federations) > _KEPT:
            self._federations.pop(next(iter(self._federations)))
        return plan, known

    def _dataset(self, config: schema.Config) -> Dataset | None:
        ref = self._refs.get(data_key(config) or "")
        return None if ref is None else ray.get(ref)


def data_key(config: schema.Config) -> str | None:
    """What the data set of a run depends on; None where clients may stay in their file."""
    if stays_in_files(config.data, config.partition):
        return None
    return repr((config.data, config.seed))


class TrialRun:
    """A trial in `folder`, which becomes a run folder like any other.

    `advance` flies to the next report: of every version in `marks`, with its own scores, and
    with `news` also a few times a second in between, where nobody decides anything. What an
    earlier process has done of it is not done again: a finished trial only says so, an
    unfinished one goes on from its newest checkpoint. With `replay` the reports of marks
    that were made before come again, first.
    """

    def __init__(
        self,
        folder: Path,
        spec: Spec,
        metric: Metric,
        *,
        library: Library,
        cast: Cast,
        marks: Container[int] = (),
        news: bool = True,
        replay: bool = False,
    ) -> None:
        self.folder, self._spec, self._metric = folder, spec, metric
        self._library, self._cast = library, cast
        self._marks, self._news, self._replay = marks, news, replay
        self._waiting: deque[Report] = deque()
        self._flight: Flight | None = None
        self._versions: Iterator[Progress] = iter(())
        self._opened, self._paused, self._ending = False, False, False

    def advance(self) -> Report:
        """Flies on. What goes wrong is left in the folder as well as raised."""
        try:
            return self._advance()
        except Exception as error:
            self._note(error)
            raise

    def _note(self, error: Exception) -> None:
        last = traceback.format_exception_only(error)[-1].strip()
        text = f"{last}\n\n{traceback.format_exc()}"
        with suppress(OSError):  # of a full disk there is nothing to be written on the disk
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / ERROR).write_text(text, encoding="utf-8")
        self.close()

    def _advance(self) -> Report:
        if not self._opened:
            self._open()
        if self._waiting:
            return self._waiting.popleft()
        since, self._paused = time.monotonic(), False
        for progress in self._versions:
            version = progress.version
            if self._ends_at(version):
                continue
            self._paused = self._pauses(version)
            if self._paused or (self._news and time.monotonic() - since > NEWS_EVERY_S):
                return Report(version, self._value(progress), False)
        return self._finished()

    def leave(self) -> None:
        """The actor has something else to do: ends a trial that is marked so, else interrupts it.

        What goes wrong is left in the folder and not raised, since it is not that other's.
        """
        try:
            if (self.folder / STOPPED).exists():
                self._end()
            elif self._flight is not None:
                self._interrupt(self._flight)
        except Exception as error:
            self._note(error)

    def _end(self) -> None:
        """The trial is not worth going on with: its folder is completed as it is."""
        self._waiting.clear()
        self._ending = True
        if self._flight is not None:
            if self._paused:
                self._flight.end("scheduler")
            for progress in self._versions:
                self._ends_at(progress.version)
            self._finished()

    def _interrupt(self, flight: Flight) -> None:
        """Leaves a checkpoint after a version or two, to go on from another time."""
        flight.interrupt()
        for _ in self._versions:
            pass
        self.close()

    def close(self) -> None:
        """Leaves everything as it is; what was recorded is readable."""
        close = getattr(self._versions, "close", None)
        if close is not None:
            close()
        self._flight, self._versions = None, iter(())
        self._opened = self._paused = False

    def save(self, into: Path) -> None:
        """Copies of all that it takes to go on from the version of the last report.

        Whoever goes on, here or elsewhere, does so from the checkpoint.
        """
        if self._flight is not None:
            if self._paused:
                self._flight.save()
            else:
                self._interrupt(self._flight)
        self.close()
        self._replay = False
        newest = checkpoint.found(self.folder / "checkpoints")[:1]
        of_it = [file for path in newest for file in checkpoint.files_of(path)]
        for path in [*self.folder.glob("*.parquet"), *of_it, self.folder / SPEC]:
            target = into / path.relative_to(self.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, target)

    def load(self, saved: Path) -> None:
        """Goes on from what `save` of this trial, or of another one, has left."""
        self.close()
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in [*self.folder.glob("*.parquet"), self.folder / "checkpoints"]:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        shutil.copytree(saved, self.folder, dirs_exist_ok=True)
        self._replay = False

    def _open(self) -> None:
        folder, spec = self.folder, self._spec
        folder.mkdir(parents=True, exist_ok=True)
        self._opened = True
        if (folder / "summary.json").exists():
            if self._replay:
                self._waiting.extend(self._reported(None))
            return
        write_spec(folder, spec, _history(folder, spec))  # first: what it is, even if it fails
        plan, federation = self._library.plan(spec.config)
        snapshot, _ = checkpoint.load_newest(folder / "checkpoints")
        if self._replay and snapshot is not None:
            self._waiting.extend(self._reported(snapshot.version))
        executor = self._cast.executor(plan, federation)
        flight = Flight(plan, federation, executor, folder, snapshot=snapshot)
        flight.pause_at(self._marks)
        self._flight = flight
        self._versions = flight.run(self._cast.facts(federation.clients))

    def _pauses(self, version: int) -> bool:
        return version in self._marks and version < self._spec.config.server.rounds

    def _ends_at(self, version: int) -> bool:
        """Whether this version is to be the last one, decided now or before a crash."""
        if not self._ending:
            mark = self.folder / STOPPED
            self._ending = mark.exists() and version >= int(mark.read_text())
        if self._ending and self._flight is not None and self._pauses(version):
            self._flight.end("scheduler")
        return self._ending

    def _reported(self, up_to: int | None) -> Iterator[Report]:
        """The reports that were made of what the folder has."""
        table = read_table(self.folder / "rounds.parquet").select(["version", self._metric.name])
        last = table["version"][-1].as_py() if up_to is None else up_to + 1
        for row in table.to_pylist():
            version, value = row["version"], row[self._metric.name]
            if version < last and version in self._marks:
                yield Report(version, value, False)

    def _value(self, progress: Progress) -> float | None:
        value = getattr(progress.metrics, self._metric.name, None)
        return None if value is None else float(value)

    def _finished(self) -> Report:
        self._flight = None
        for name in (ERROR, STOPPED):
            (self.folder / name).unlink(missing_ok=True)
        summary = json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))
        value = final_value(self.folder, summary, self._metric)
        return Report(summary["rounds"], value, True, summary["stopped_by"] == "scheduler")


def write_spec(folder: Path, spec: Spec, history: Sequence[Mapping[str, Any]] = ()) -> None:
    """The configuration as `launch` leaves it, and what the sweep knows of the trial.

    `history`: what it was before, where it goes on from another trial's checkpoint.
    """
    write_text(folder / "config.yaml", dump(spec.config))
    facts = {
        "id": spec.id, "setting": spec.setting, "seed": spec.seed, "settings": dict(spec.settings),
        **({"history": list(history)} if history else {}),
    }  # fmt: skip
    write_text(folder / SPEC, json.dumps(facts, indent=2) + "\n")


def read_spec(folder: Path) -> dict[str, Any] | None:
    """What `write_spec` wrote; None where there is nothing yet."""
    try:
        facts: dict[str, Any] = json.loads((folder / SPEC).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return facts


def _history(folder: Path, spec: Spec) -> list[dict[str, Any]]:
    """What the run in the folder was before it became this trial's: who, until which version."""
    before = read_spec(folder)
    if before is None:
        return []
    found: list[dict[str, Any]] = before.get("history", [])
    if before["settings"] != dict(spec.settings):
        newest = checkpoint.found(folder / "checkpoints")[:1]
        version = checkpoint.version_of(newest[0]) if newest else 0
        found = [*found, {"id": before["id"], "until": version, "settings": before["settings"]}]
    return found


def final_value(folder: Path, summary: Mapping[str, Any], metric: Metric) -> float | None:
    """The metric of a finished run; None where it has none, or has not reached the target."""
    import numpy as np

    name = metric.name
    if name == "worst_decile_accuracy":
        column = read_table(folder / "clients.parquet").column("accuracy")
        accuracies = np.sort(column.drop_null().to_numpy())
        return float(accuracies[: max(1, math.ceil(0.1 * len(accuracies)))].mean())
    if name == "epsilon":
        return float(summary["privacy"]["epsilon"])
    if not name.endswith("_to_target"):
        value = summary["final"].get(name)
        return None if value is None else float(value)
    rounds = read_table(folder / "rounds.parquet")
    score = "accuracy" if summary["classification"] else "r2"
    reached = np.nan_to_num(rounds[score].to_numpy(), nan=-np.inf) >= (metric.target or 0.0)
    if not reached.any():
        return None
    first = int(np.argmax(reached))
    if name == "virtual_time_to_target":
        return float(rounds["virtual_time_s"][first].as_py())
    moved = rounds["bytes_up"].to_numpy() + rounds["bytes_down"].to_numpy()
    return float(np.nansum(moved[: first + 1]))
