"""What a launch looks like while it runs: a live display, or plain lines for a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from fedray.api.launch import Watcher
from fedray.api.outlook import Outlook
from fedray.report import words
from fedray.simulation.progress import Progress

STOPPING = "ending shortly, with a checkpoint; Ctrl-C again: at once"


class Drawn(Protocol):
    """Something that is drawn several times a second, in another thread."""

    def render(self) -> RenderableType:
        """What is to be seen right now."""

    def leave(self) -> bool:
        """It is over; whether there is something to leave on the screen."""


DrawnT = TypeVar("DrawnT", bound=Drawn)
LinesT = TypeVar("LinesT")


@contextmanager
def showing(
    live: Callable[[Console], DrawnT], lines: Callable[[], LinesT], *, plain: bool
) -> Iterator[DrawnT | LinesT]:
    """A live display on stderr; plain lines if asked for or if stderr is no terminal."""
    console = Console(stderr=True, highlight=False)
    if plain or not sys.stderr.isatty() or console.is_dumb_terminal:
        yield lines()
        return
    display = live(console)
    screen = Live(
        get_renderable=display.render,
        console=console,
        refresh_per_second=8,
        redirect_stdout=False,
    )
    with screen:
        try:
            yield display
        finally:
            screen.transient = not display.leave()


def watching(*, plain: bool) -> AbstractContextManager[Watcher]:
    """A launch, watched."""
    return showing(LiveDisplay, PlainDisplay, plain=plain)


class Track:
    """Progress so far, and what follows from it: best figures, speed, time left."""

    def __init__(self) -> None:
        self.now: Progress | None = None
        self.metric = "accuracy"
        self.best: float | None = None
        self.best_loss: float | None = None
        self._limit_s: float | None = None
        self._first: Progress | None = None

    def planned(self, outlook: Outlook) -> None:
        """Takes in what is to come."""
        self.metric, self._limit_s = outlook.metric, outlook.limit_s

    def take(self, progress: Progress) -> None:
        """Takes in the newest progress."""
        self.now, self._first = progress, self._first or progress
        value = self.value
        if self.metric == "accuracy":
            self.best = progress.best
        elif value is not None and (self.best is None or value > self.best):
            self.best = value
        if progress.metrics is not None and progress.metrics.loss == progress.metrics.loss:
            loss = progress.metrics.loss
            self.best_loss = loss if self.best_loss is None else min(loss, self.best_loss)

    @property
    def value(self) -> float | None:
        """The newest accuracy or R^2."""
        scores = self.now.metrics if self.now else None
        return None if scores is None else getattr(scores, self.metric)

    @property
    def done(self) -> float:
        """Share of the run, in [0, 1], by the limit that is nearer."""
        return 0.0 if self.now is None else self._share(self.now)

    @property
    def updates_per_s(self) -> float | None:
        """Client updates per second of wall time, of this session."""
        elapsed_s = self._elapsed_s()
        if not elapsed_s or self.now is None or self._first is None:
            return None
        return (self.now.updates - self._first.updates) / elapsed_s

    @property
    def left_s(self) -> float | None:
        """Seconds of wall time to go, at the pace of this session."""
        if self._first is None:
            return None
        gained = self.done - self._share(self._first)
        return (1 - self.done) / gained * self._elapsed_s() if gained > 0 else None

    def _share(self, progress: Progress) -> float:
        shares = [progress.version / progress.rounds]
        if self._limit_s is not None:
            shares.append(progress.virtual_time_s / self._limit_s)
        return min(1.0, max(shares))

    def _elapsed_s(self) -> float:
        if self.now is None or self._first is None:
            return 0.0
        return self.now.wall_time_s - self._first.wall_time_s

    def figures(self) -> list[str]:
        """Where the run is, most wanted first, as short phrases."""
        now = self.now
        if now is None:
            return []
        found = []
        if self.value is not None:
            best = words.metric(self.best, self.metric) if self.best is not None else "-"
            name = "R²" if self.metric == "r2" else self.metric
            found.append(f"{name} {words.metric(self.value, self.metric)} (best {best})")
        if now.metrics is not None:
            best = words.number(self.best_loss)
            found.append(f"loss {words.number(now.metrics.loss)} (best {best})")
        rate = self.updates_per_s
        return [
            *found,
            f"virtual time {words.seconds(now.virtual_time_s)}",
            f"mean staleness {now.staleness_mean:.1f}",
            f"{now.in_flight:,} in flight",
            f"{now.updates:,} client updates"
            + (f", {words.number(round(rate))}/s" if rate else ""),
        ]


class LiveDisplay(Watcher):
    """Remembers what to draw; `render` draws it, several times a second, in another thread."""

    def __init__(self, console: Console) -> None:
        self.track = Track()
        self.doing = "reading and splitting the data"
        self._console = console
        self._spinner = Spinner("dots")
        self._actors: tuple[int, int] | None = None
        self._began_at = self._told_at = time.monotonic()
        self._stopping = False

    def note(self, text: str) -> None:
        self._console.print(Text(text, style="dim"))

    def starting(self, ready: int, actors: int) -> None:
        self._actors = ready, actors

    def waiting(self, text: str) -> None:
        self.doing = text

    def planned(self, outlook: Outlook) -> None:
        self.track.planned(outlook)
        self._console.print(Text.assemble((outlook.name, "bold"), f": {outlook.what}"))
        self._console.print(Text(f"run folder: {outlook.folder}"), soft_wrap=True)
        self.doing = "starting Ray and its actors" if outlook.executor == "ray" else "starting"

    def progress(self, progress: Progress) -> None:
        self.track.take(progress)
        self._actors = None
        self._told_at = time.monotonic()
        self.doing = "training" if progress.version < progress.rounds else "finishing"

    def interrupting(self) -> None:
        self._stopping = True

    def reporting(self, folder: Path) -> None:
        self.doing = "drawing the report"

    def leave(self) -> bool:
        self.doing = ""
        return self.track.now is not None

    def render(self) -> RenderableType:
        lines: list[RenderableType] = []
        if self.track.now is not None:
            lines = [self._bar(self.track.now), self._figures()]
        elif self._actors is not None:
            ready, actors = self._actors
            lines = [row(f"actors {ready:,}/{actors:,} up", ready / actors, "")]
        if self._stopping and self.doing:
            lines.append(Text(STOPPING, style="yellow"))
        elif self.doing not in ("", "training") and self._actors is None:
            self._spinner.update(text=Text(self.doing, style="dim"))
            lines.append(self._spinner)
        return Group(*lines)

    def _bar(self, now: Progress) -> RenderableType:
        elapsed = clock(time.monotonic() - self._began_at)
        left_s = self.track.left_s
        if self.doing != "training" or left_s is None:
            times = elapsed
        else:
            left = clock(max(0.0, left_s - (time.monotonic() - self._told_at)))
            times = f"{elapsed}, {left} left"
        done = self.track.done
        return row(f"{now.version:,}/{now.rounds:,} versions", done, f"{done:4.0%}  {times}")

    def _figures(self) -> Text:
        return Text("\n".join(flow(self.track.figures(), self._console.width)))


class PlainDisplay(Watcher):
    """A line every tenth of the run, and some in between while it is slow."""

    def __init__(self) -> None:
        self._track = Track()
        self._told_at = time.monotonic()
        self._told_share = 0.0
        self._pause_s = 2.0

    def note(self, text: str) -> None:
        self._say(text)

    def starting(self, ready: int, actors: int) -> None:
        if ready == actors or time.monotonic() - self._told_at > self._pause_s:
            self._say(f"actors {ready:,}/{actors:,} up")

    def waiting(self, text: str) -> None:
        self._say(text)

    def planned(self, outlook: Outlook) -> None:
        self._track.planned(outlook)
        self._say(f"{outlook.name}: {outlook.what}")
        self._say(f"run folder: {outlook.folder}")

    def progress(self, progress: Progress) -> None:
        track = self._track
        track.take(progress)
        waited = time.monotonic() - self._told_at > self._pause_s
        if not waited and int(10 * track.done) <= int(10 * self._told_share):
            return
        if waited:
            self._pause_s = min(60.0, 1.5 * self._pause_s)  # long runs, short logs
        self._told_share = track.done
        left_s = track.left_s or 0.0
        left = f" · {clock(left_s)} left" if left_s >= 1 else ""
        at = f"version {progress.version:,}/{progress.rounds:,}"
        self._say(" · ".join([at, *track.figures()]) + left)

    def interrupting(self) -> None:
        os.write(2, f"{STOPPING}\n".encode())  # in a signal handler: past all buffers

    def reporting(self, folder: Path) -> None:
        self._say("drawing the report")

    def _say(self, line: str) -> None:
        self._told_at = time.monotonic()
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def flow(phrases: list[str], width: int) -> list[str]:
    """Phrases joined to lines of at most `width` columns, none of them broken."""
    lines: list[str] = []
    for phrase in phrases:
        if lines and cell_len(lines[-1]) + 3 + cell_len(phrase) <= width:
            lines[-1] += f" · {phrase}"
        else:
            lines.append(phrase)
    return lines


def row(title: str, share: float, text: str) -> Table:
    """A progress bar between two texts."""
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True)
    grid.add_row(title, ProgressBar(total=1.0, completed=share), text)
    return grid


def clock(seconds: float | None) -> str:
    """0:00:07"""
    whole = round(seconds or 0.0)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
