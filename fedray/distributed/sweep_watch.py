"""What a sweep tells whoever looks on, and what Tune is told from outside."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from ray.tune import Callback, Stopper

from fedray.distributed.trial import ERROR, STOPPED, Metric, final_value
from fedray.endings import Asked, asked_to_end

LOOK_EVERY_S = 0.2


class SweepProgress(NamedTuple):
    """Where a sweep is.

    running: (id, settings, version, metric so far) of each; best: (id, metric) among trials
    that have ended.
    """

    total: int
    running: list[tuple[str, dict[str, Any], int, float | None]]
    finished: int
    failed: int
    stopped_early: int
    best: tuple[str, float] | None
    elapsed_s: float


class Tally:
    """Counts a sweep's trials as they end, and passes it on."""

    def __init__(self, total: int, metric: Metric, watch: Callable[[SweepProgress], None]) -> None:
        self.total, self.metric, self._watch = total, metric, watch
        self.running: dict[str, tuple[dict[str, Any], int, float | None]] = {}
        self.finished, self.failed, self.stopped_early = 0, 0, 0
        self._best: tuple[str, float] | None = None
        self._began, self._told = time.monotonic(), float("-inf")

    def ended(self, name: str, value: float | None, *, early: bool) -> None:
        """A trial is complete."""
        self.running.pop(name, None)
        if early:
            self.stopped_early += 1
        else:
            self.finished += 1
        if value is not None and not early and (
            self._best is None or self.metric.better(value, self._best[1])
        ):  # fmt: skip
            self._best = name, value

    def lost(self, name: str) -> None:
        """A trial has failed for good."""
        self.running.pop(name, None)
        self.failed += 1

    def tell(self, *, now: bool = False) -> None:
        """Passes on where the sweep is, a few times a second."""
        at = time.monotonic()
        if not now and at - self._told < LOOK_EVERY_S:
            return
        self._told = at
        running = [(name, *rest) for name, rest in sorted(self.running.items())]
        counts = self.finished, self.failed, self.stopped_early
        self._watch(SweepProgress(self.total, running, *counts, self._best, at - self._began))


class Listener(Callback):
    """Tune's events for a tally. Marks trials that a scheduler ends, for their actors to see."""

    def __init__(
        self, folder: Path, tally: Tally, settings: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self._folder, self._tally, self._settings = folder, tally, settings

    def __deepcopy__(self, memo: Any) -> Listener:
        return self

    def __reduce__(self) -> Any:
        return Callback, ()  # Tune pickles what it may never need again

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """It has an actor."""
        if str(trial) not in self._tally.running:
            self._tally.running[str(trial)] = self._given(trial), 0, None

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        """It has come so far."""
        value = result["value"] if result["known"] else None
        self._tally.running[str(trial)] = self._given(trial), result["version"], value

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """It has ended, or it is to be ended: then its actor completes the folder."""
        last, folder = trial.last_result, self._folder / str(trial)
        value = last["value"] if last["known"] else None
        early = bool(last["early"])
        if not last["finished"]:
            summary = folder / "summary.json"
            if summary.exists():  # ended while a resumed sweep made its reports again
                found = json.loads(summary.read_text(encoding="utf-8"))
                value = final_value(folder, found, self._tally.metric)
                early = found["stopped_by"] == "scheduler"
            else:
                (folder / STOPPED).write_text(str(last["version"]))
                early = True
        self._tally.ended(str(trial), value, early=early)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """It has failed for good. What its own process could not say is said here."""
        note = self._folder / str(trial) / ERROR
        if not note.exists():
            lines = str(trial.get_error() or "the trial's process died").strip().splitlines()
            text = "\n".join([lines[-1].strip(), "", *lines]) + "\n"
            with suppress(OSError):
                note.parent.mkdir(parents=True, exist_ok=True)
                note.write_text(text, encoding="utf-8")
        self._tally.lost(str(trial))

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        """Tune has gone round once."""
        self._tally.tell()

    def _given(self, trial: Any) -> dict[str, Any]:
        given = trial.config["trial"]
        return dict(given.get("settings") or self._settings.get(given["id"], {}))


class Brake(Stopper):
    """Ends all trials, with a checkpoint each, once it is pulled."""

    def __init__(self) -> None:
        self.pulled = False
        self.asked = Asked()

    def pull(self) -> None:
        """All trials are to end."""
        self.pulled = True

    def __deepcopy__(self, memo: Any) -> Brake:
        return self

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.pulled


@contextmanager
def braked(interrupting: Callable[[], None] | None = None) -> Iterator[Brake]:
    """The first Ctrl-C or SIGTERM ends all trials with a checkpoint, the next raises as usual.

    `interrupting` is told of the first one, by a signal handler.
    """
    brake = Brake()
    if threading.current_thread() is not threading.main_thread():
        yield brake
        return
    before = signal.getsignal(signal.SIGUSR1)  # Tune's, too
    with asked_to_end() as brake.asked:
        brake.asked.calls += [call for call in (brake.pull, interrupting) if call]
        try:
            yield brake
        finally:
            signal.signal(signal.SIGUSR1, before)


@contextmanager
def quiet(verbose: bool) -> Iterator[None]:
    """Tune logs through loggers below `ray`, some of which have a level of their own."""
    if verbose:
        yield
        return
    names = ("ray", "ray.tune", "ray.train", "ray.air")
    loggers = [logging.getLogger(name) for name in names]
    before = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for each, level in zip(loggers, before, strict=True):
            each.setLevel(level)
