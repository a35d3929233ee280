"""What a run tells its watcher, as records of a job's log, and back again.

A record has the name of the watcher's method under `tell`, and its arguments.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from fedray.api import diagnose, launch, sweep
from fedray.api.outlook import Outlook
from fedray.api.records import write
from fedray.config.sweep import load_sweep
from fedray.diagnosis.counterfactual.workload import Workload
from fedray.simulation.progress import Progress
from fedray.types import Metrics

_OFTEN_S, _SELDOM_S = 0.3, 5.0


# --- on the cluster -------------------------------------------------------------------------


class _Teller:
    """What all three tellers tell alike. Progress comes often at first, then every 5 s: a run
    of days must not write a log of gigabytes."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._next_s = 0.0

    def note(self, text: str) -> None:
        write({"tell": "note", "text": text})

    def waiting(self, text: str) -> None:
        write({"tell": "waiting", "text": text})

    def interrupting(self) -> None:
        """Nothing: a signal handler must not write, and who follows knows who has stopped it."""

    def reporting(self, folder: Path) -> None:
        write({"tell": "reporting"})

    def _due(self) -> bool:
        now_s = time.monotonic()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + min(_SELDOM_S, max(_OFTEN_S, (now_s - self._began_s) / 100))
        return True


class LaunchTeller(_Teller, launch.Watcher):
    """Tells of a launch."""

    def starting(self, ready: int, actors: int) -> None:
        if self._due() or ready == actors:
            write({"tell": "starting", "ready": ready, "actors": actors})

    def planned(self, outlook: Outlook) -> None:
        write({"tell": "planned", "outlook": {**asdict(outlook), "folder": ""}})

    def progress(self, progress: Progress) -> None:
        if self._due() or progress.version == progress.rounds:
            told = progress._asdict()
            del told["staleness"]  # of every update; displays show neither it nor classes
            if progress.metrics is not None:
                told["metrics"] = progress.metrics._replace(accuracy_per_class=None)._asdict()
            write({"tell": "progress", "progress": told})


class SweepTeller(_Teller, sweep.Watcher):
    """Tells of a sweep."""

    def planned(self, outlook: sweep.Outlook) -> None:
        write({"tell": "planned", "file": outlook.file.dump(), "resumed": outlook.resumed})

    def progress(self, progress: Any) -> None:
        if self._due() or not progress.running:
            write({"tell": "progress", "progress": progress._asdict()})


class DiagnosisTeller(_Teller, diagnose.Watcher):
    """Tells of a diagnosis."""

    def planned(self, outlook: diagnose.Outlook) -> None:
        told = {f.name: getattr(outlook, f.name) for f in fields(outlook)}
        workload = asdict(outlook.workload)
        write({"tell": "planned", "outlook": {**told, "workload": workload, "folder": ""}})

    def computing(self, what: str, tasks: int, done: int, share: float) -> None:
        write({"tell": "computing", "args": [what, tasks, done, share]})

    def progress(self, done: int, share: float) -> None:
        write({"tell": "progress", "args": [done, share]})


# --- here -----------------------------------------------------------------------------------


def passer(kind: str, watcher: Any, place: Path | str) -> Callable[[Mapping[str, Any]], None]:
    """A function that tells a watcher of this kind what a record says.

    `place` is where results will be for us; the cluster's own folder is of no interest.
    """
    methods: Mapping[str, Callable[[Any, Mapping[str, Any], Path | str], None]] = {
        "launch": _launch,
        "sweep": _sweep,
        "diagnose": _diagnose,
    }

    def tell(record: Mapping[str, Any]) -> None:
        match record.get("tell"):
            case "note" | "waiting" as name:
                getattr(watcher, name)(str(record["text"]))
            case "reporting":
                watcher.reporting(Path(place))
            case _:
                methods[kind](watcher, record, place)

    return tell


def _launch(watcher: launch.Watcher, record: Mapping[str, Any], place: Path | str) -> None:
    match record.get("tell"):
        case "starting":
            watcher.starting(record["ready"], record["actors"])
        case "planned":
            watcher.planned(Outlook(**{**record["outlook"], "folder": str(place)}))
        case "progress":
            told = dict(record["progress"])
            if told["metrics"] is not None:
                scores = Metrics(**told["metrics"])
                told["metrics"] = scores._replace(loss=_number(scores.loss))
            watcher.progress(Progress(**told))


def _sweep(watcher: sweep.Watcher, record: Mapping[str, Any], place: Path | str) -> None:
    match record.get("tell"):
        case "planned":
            watcher.planned(
                sweep.Outlook(load_sweep(record["file"]), str(place), record["resumed"])
            )
        case "progress":
            from fedray.distributed.sweep_watch import SweepProgress

            watcher.progress(SweepProgress(**record["progress"]))


def _diagnose(watcher: diagnose.Watcher, record: Mapping[str, Any], place: Path | str) -> None:
    match record.get("tell"):
        case "planned":
            told = dict(record["outlook"])
            told |= {"workload": Workload(**told["workload"]), "folder": str(place)}
            told["seeds"] = tuple(told["seeds"])
            watcher.planned(diagnose.Outlook(**told))
        case "computing":
            watcher.computing(*record["args"])
        case "progress":
            watcher.progress(*record["args"])


def _number(value: float | None) -> float:
    return math.nan if value is None else value
