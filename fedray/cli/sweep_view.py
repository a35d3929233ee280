"""What a sweep looks like while it runs: a live table on stderr, or lines for a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from fedray.api.sweep import Outlook, Watcher
from fedray.cli import display
from fedray.config.problems import show
from fedray.config.sweep import SweepFile
from fedray.config.sweep_axes import Choice, Space
from fedray.report.sweep.merits import Merit
from fedray.report.sweep.settings import short_names

if TYPE_CHECKING:
    from fedray.distributed.sweep_watch import SweepProgress

_MOST_RUNNING = 12
_MOST_VALUES = 10


def watching(*, plain: bool) -> AbstractContextManager[Watcher]:
    """A sweep, watched."""
    return display.showing(LiveSweep, PlainSweep, plain=plain)


# --- words ----------------------------------------------------------------------------------


def announce(file: SweepFile) -> list[str]:
    """What is about to be run, in a few lines."""
    sweep, seeds = file.sweep, file.seeds
    settings = file.total // len(seeds)
    counted = f"{settings:,} setting{'s' * (settings != 1)}"
    if len(seeds) > 1:
        counted += f" x {len(seeds)} seeds ({seeds[0]} to {seeds[-1]})"
    lines = [f"{file.total:,} trial{'s' * (file.total != 1)}: {counted}"]
    axes = {key: _listed(values) for key, values in file.grid.items()}
    axes |= {key: _drawn(space) for key, space in file.space.items()}
    width = max(map(len, axes))
    lines += [f"  {key:{width}}  {values}" for key, values in axes.items()]
    if file.space:
        lines.append(f"drawn by {sweep.searcher}, {sweep.samples:,} times")
    lines.append(ranked(file) + _scheduled(file))
    return lines


def ranked(file: SweepFile) -> str:
    """`ranked by accuracy, highest first`"""
    sweep = file.sweep
    first = "highest" if sweep.mode == "max" else "lowest"
    target = f" {show(sweep.target)}" if sweep.target is not None else ""
    return f"ranked by {merit(file).name}{target}, {first} first"


def _scheduled(file: SweepFile) -> str:
    sweep = file.sweep
    how = {
        "asha": f"; asha ends trials that fall behind, from version {sweep.grace:,} on",
        "median": f"; trials below the median end, from version {sweep.grace:,} on",
        "pbt": f"; pbt: every {sweep.grace:,} versions, bad trials go on from good ones",
    }
    return how.get(sweep.scheduler, "")


def _listed(values: tuple[Any, ...]) -> str:
    shown = [shortly(value) for value in values[:_MOST_VALUES]]
    more = len(values) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def _drawn(space: Space) -> str:
    if isinstance(space, Choice):
        return f"one of {_listed(space.values)}"
    return f"{space.kind} {shortly(space.low)} to {shortly(space.high)}"


def shortly(value: Any) -> str:
    """A setting's value, as narrow as can be: four digits of a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value if isinstance(value, str) else show(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def merit(file: SweepFile) -> Merit:
    """How values of the sweep's metric are named and written."""
    sweep = file.sweep
    return Merit(str(sweep.metric), str(sweep.mode), sweep.target)


def setting_words(settings: Mapping[str, Any]) -> str:
    """`severity 0.5, algorithm fedavg, seed 8`"""
    names = short_names(list(settings))
    return ", ".join(f"{names[key]} {shortly(value)}" for key, value in settings.items())


# --- progress -------------------------------------------------------------------------------


class Board:
    """Progress so far, and what follows from it: the share that is done, and the time left."""

    def __init__(self) -> None:
        self.now: SweepProgress | None = None
        self.file: SweepFile | None = None
        self._began_at = self._told_at = time.monotonic()
        self._first = 0.0
        self._settings: dict[str, dict[str, Any]] = {}
        self._rounds: dict[str, int] = {}

    def planned(self, file: SweepFile) -> None:
        """Takes in what is to come."""
        self.file = file
        if not file.space:
            for trial in file.trials():
                self._settings[trial.id] = trial.settings
                self._rounds[trial.id] = trial.config.server.rounds

    def take(self, progress: SweepProgress) -> None:
        """Takes in the newest progress."""
        for trial, settings, _, _ in progress.running:
            self._settings.setdefault(trial, dict(settings))
        fresh, self.now = self.now is None, progress
        self._told_at = time.monotonic()
        if fresh:
            self._began_at, self._first = self._told_at, self.share

    def settings(self, trial: str) -> dict[str, Any]:
        """What a trial was given, as far as it is known."""
        return self._settings.get(trial, {})

    def rounds(self, trial: str) -> int:
        """How many versions a trial makes if nothing ends it early."""
        assert self.file is not None
        return self._rounds.get(trial, self.file.base.config.server.rounds)

    @property
    def ended(self) -> int:
        now = self.now
        return 0 if now is None else now.finished + now.failed + now.stopped_early

    @property
    def share(self) -> float:
        """Of the work, in [0, 1]; a running trial counts by its versions."""
        if self.now is None or not self.now.total:
            return 0.0
        running = sum(
            min(1.0, version / self.rounds(trial)) for trial, _, version, _ in self.now.running
        )
        return min(1.0, (self.ended + running) / self.now.total)

    @property
    def left_s(self) -> float | None:
        """Seconds to go at the pace of this session; None before there is one."""
        gained = self.share - self._first
        if gained <= 0:
            return None
        expected_s = (1 - self.share) / gained * (self._told_at - self._began_at)
        return max(0.0, expected_s - (time.monotonic() - self._told_at))

    def times(self) -> str:
        """`0:00:40, 0:01:50 left`"""
        if self.now is None:
            return ""
        elapsed = self.now.elapsed_s + (time.monotonic() - self._told_at)
        left_s = self.left_s if self.share < 1 else None
        return display.clock(elapsed) + (
            "" if left_s is None else f", {display.clock(left_s)} left"
        )

    def counts(self) -> str:
        """`2 running · 10 finished · 1 failed`; what is zero is left out."""
        if self.now is None:
            return ""
        counted = {
            "running": len(self.now.running),
            "finished": self.now.finished,
            "stopped early": self.now.stopped_early,
            "failed": self.now.failed,
        }
        return " · ".join(f"{n:,} {what}" for what, n in counted.items() if n)

    def best(self) -> str:
        """`accuracy 96.4%, t0003: severity 0, algorithm fedavg, seed 8`; empty without one."""
        if self.now is None or self.now.best is None or self.file is None:
            return ""
        trial, value = self.now.best
        of, settings = merit(self.file), setting_words(self.settings(trial))
        where = f"{trial}: {settings}" if settings else trial
        return f"{of.name} {of.say(value)}, {where}"


class LiveSweep(Watcher):
    """Remembers what to draw; `render` draws it, several times a second, in another thread."""

    def __init__(self, console: Console) -> None:
        self.board = Board()
        self.doing = "checking every setting"
        self._console = console
        self._spinner = Spinner("dots")
        self._stopping = False

    def note(self, text: str) -> None:
        self._console.print(Text(text, style="dim"))

    def waiting(self, text: str) -> None:
        self.doing = text

    def planned(self, outlook: Outlook) -> None:
        self.board.planned(outlook.file)
        first, *others = announce(outlook.file)
        self._console.print(Text.assemble((outlook.name, "bold"), f": {first}"))
        for line in (*others, f"sweep folder: {outlook.folder}"):
            self._console.print(Text(line), soft_wrap=True)
        self.doing = "starting Ray"

    def progress(self, progress: SweepProgress) -> None:
        self.board.take(progress)
        self.doing = "" if progress.running or self.board.ended else "starting trials"

    def interrupting(self) -> None:
        self._stopping = True

    def reporting(self, folder: Path) -> None:
        self.doing = "making tables and the page"

    def leave(self) -> bool:
        self.doing, self._stopping = "", False
        return self.board.now is not None

    def render(self) -> RenderableType:
        board = self.board
        lines: list[RenderableType] = []
        if board.now is not None:
            title = f"{board.ended:,}/{board.now.total:,} trials"
            share = board.share
            lines.append(display.row(title, share, f"{share:4.0%}  {board.times()}"))
            lines.append(Text(board.counts()))
            if board.best():
                lines.append(Text.assemble(("best  ", "bold"), board.best()))
            if board.now.running and not self.doing:
                lines.append(self._running(board.now))
        if self._stopping:
            lines.append(Text(display.STOPPING, style="yellow"))
        elif self.doing:
            self._spinner.update(text=Text(self.doing, style="dim"))
            lines.append(self._spinner)
        return Group(*lines)

    def _running(self, now: SweepProgress) -> RenderableType:
        """A row per running trial."""
        assert self.board.file is not None
        of = merit(self.board.file)
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("running", no_wrap=True)
        table.add_column("settings", overflow="ellipsis", no_wrap=True)
        table.add_column("version", no_wrap=True, justify="right")
        table.add_column(of.name, no_wrap=True, justify="right")
        for trial, settings, version, value in now.running[:_MOST_RUNNING]:
            at = f"{version:,}/{self.board.rounds(trial):,}"
            table.add_row(trial, setting_words(settings), at, of.say(value))
        if len(now.running) > _MOST_RUNNING:
            table.add_row("", f"and {len(now.running) - _MOST_RUNNING:,} more", "", "")
        return table


class PlainSweep(Watcher):
    """A line every tenth of the sweep, and some in between while it is slow."""

    def __init__(self) -> None:
        self._board = Board()
        self._told_at = time.monotonic()
        self._told = (0, 0)
        self._pause_s = 10.0

    def note(self, text: str) -> None:
        self._told_at = time.monotonic()
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def waiting(self, text: str) -> None:
        self.note(text)

    def planned(self, outlook: Outlook) -> None:
        self._board.planned(outlook.file)
        first, *others = announce(outlook.file)
        for line in (f"{outlook.name}: {first}", *others, f"sweep folder: {outlook.folder}"):
            self.note(line)

    def progress(self, progress: SweepProgress) -> None:
        board = self._board
        board.take(progress)
        tenth = int(10 * board.ended / max(1, progress.total))
        news = (tenth, progress.failed)
        if news == self._told:
            if time.monotonic() - self._told_at < self._pause_s:
                return
            self._pause_s = min(300.0, 1.5 * self._pause_s)  # long sweeps, short logs
        self._told = news
        parts = [f"{board.ended:,}/{progress.total:,} trials", board.counts(), board.times()]
        if board.best():
            parts.append(f"best {board.best()}")
        self.note(" · ".join(part for part in parts if part))

    def interrupting(self) -> None:
        os.write(2, f"{display.STOPPING}\n".encode())  # in a signal handler: past all buffers

    def reporting(self, folder: Path) -> None:
        self.note("making tables and the page")
