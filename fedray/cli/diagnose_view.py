"""What a diagnosis looks like: while it runs on stderr, and its results on stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from fedray.api.diagnose import Outlook, Watcher
from fedray.cli import display
from fedray.diagnosis.remedies.halving import TELLING
from fedray.report.diagnosis.causes import CAUSES, QUESTIONS
from fedray.report.diagnosis.effects import effect
from fedray.report.diagnosis.prescription import acts_on
from fedray.report.diagnosis.reader import Diagnosis


def watching(*, plain: bool) -> AbstractContextManager[Watcher]:
    """A diagnosis, watched."""
    return display.showing(LiveArms, PlainArms, plain=plain)


def announce(outlook: Outlook) -> list[str]:
    """What is about to be computed, and why that and no more, in a few lines."""
    load, seeds = outlook.workload, outlook.seeds
    which = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    lines = [
        f"{outlook.name}: {load.clients:,} clients, {load.versions:,} versions, "
        f"{load.updates:,} updates; {which}",
        f"arms: {outlook.arms} per seed, {outlook.distinct} of them distinct, and "
        f"{outlook.controls} control{'s' * (outlook.controls > 1)}",
    ]
    lines += [
        f"{CAUSES[cause].short} makes no difference: {reason}"
        for cause, reason in outlook.inert.items()
    ]
    if outlook.kept:
        lines.append(f"{outlook.kept} of all arms and controls are finished already")
    return [*lines, f"diagnosis folder: {outlook.folder}"]


class Bar:
    """How far the tasks at hand have come, by the share of work that is done."""

    def __init__(self) -> None:
        self.what, self.tasks, self.done, self.share = "", 0, 0, 0.0
        self._made_at = self._began_at = self._told_at = time.monotonic()
        self._began_with = 0.0

    def begin(self, what: str, tasks: int, done: int, share: float) -> None:
        self.what, self.tasks, self.done, self.share = what, tasks, done, share
        self._began_at, self._began_with = time.monotonic(), share

    def take(self, done: int, share: float) -> None:
        self.done, self.share = done, share
        self._told_at = time.monotonic()

    @property
    def left_s(self) -> float | None:
        """Seconds to go at the speed so far; None before the first task has ended."""
        gained = self.share - self._began_with
        if gained <= 0:
            return None
        expected_s = (1 - self.share) / gained * (self._told_at - self._began_at)
        return max(0.0, expected_s - (time.monotonic() - self._told_at))

    def figures(self) -> str:
        """` 40%  0:00:12, 0:00:18 left`"""
        times = display.clock(time.monotonic() - self._made_at)
        if self.left_s is not None and self.share < 1:
            times += f", {display.clock(self.left_s)} left"
        return f"{self.share:4.0%}  {times}"

    def __str__(self) -> str:
        return f"{self.done:,}/{self.tasks:,} {self.what}"


class LiveArms(Watcher):
    """One progress bar; `render` draws it, several times a second, in another thread."""

    def __init__(self, console: Console) -> None:
        self.bar = Bar()
        self.doing = "reading the data and replaying the timeline"
        self._console = console
        self._spinner = Spinner("dots")

    def note(self, text: str) -> None:
        self._console.print(Text(text, style="dim"))

    def waiting(self, text: str) -> None:
        self.doing = text

    def planned(self, outlook: Outlook) -> None:
        first, *others = announce(outlook)
        self._console.print(Text(first, style="bold"))
        for line in others:
            self._console.print(Text(line), soft_wrap=True)

    def computing(self, what: str, tasks: int, done: int, share: float) -> None:
        self.bar.begin(what, tasks, done, share)
        self.doing = "starting"

    def progress(self, done: int, share: float) -> None:
        self.bar.take(done, share)
        self.doing = ""

    def reporting(self, folder: Path) -> None:
        self.doing = "drawing the page"

    def leave(self) -> bool:
        self.doing = ""
        return self.bar.tasks > 0

    def render(self) -> RenderableType:
        lines: list[RenderableType] = []
        if self.bar.tasks:
            lines.append(display.row(str(self.bar), self.bar.share, self.bar.figures()))
        if self.doing:
            self._spinner.update(text=Text(self.doing, style="dim"))
            lines.append(self._spinner)
        return Group(*lines)


class PlainArms(Watcher):
    """A line every tenth of the work."""

    def __init__(self) -> None:
        self._bar = Bar()
        self._told = 0

    def note(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def waiting(self, text: str) -> None:
        self.note(text)

    def planned(self, outlook: Outlook) -> None:
        for line in announce(outlook):
            self.note(line)

    def computing(self, what: str, tasks: int, done: int, share: float) -> None:
        self._bar.begin(what, tasks, done, share)
        self._told = int(10 * share)

    def progress(self, done: int, share: float) -> None:
        self._bar.take(done, share)
        if int(10 * share + 1e-9) > self._told or done == self._bar.tasks:
            self._told = int(10 * share + 1e-9)
            self.note(f"{self._bar}  {self._bar.figures()}")

    def reporting(self, folder: Path) -> None:
        self.note("drawing the page")


def show(console: Console, found: Diagnosis) -> None:
    """The findings: words, figures, and where there is more."""
    console.print()
    for paragraph in found.words:
        console.print(Text(paragraph), width=min(console.width, 100))
        console.print()
    console.print(costs(found))
    console.print()
    if found.prescription is not None:
        prescribe(console, found, found.prescription)
    rows = [("folder", found.place)]
    if found.page is not None:
        rows.append(("page", found.named(found.page.name)))
    for label, place in rows:
        console.print(Text.assemble((f"{label:8}", "bold"), place), soft_wrap=True)


def prescribe(console: Console, found: Diagnosis, prescribed: Mapping[str, Any]) -> None:
    """What would help: words, the ranking, and how to run the best of it."""
    for paragraph in prescribed["words"]:
        console.print(Text(paragraph), width=min(console.width, 100))
        console.print()
    ranking = prescribed["ranking"]
    if ranking:
        console.print(remedies(found, ranking))
        console.print()
    if (best := worth_trying(prescribed)) is not None:
        console.print(Text.assemble(("try     ", "bold"), best["command"]), soft_wrap=True)


def worth_trying(prescribed: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What beats the run; of seeds too few to tell, what gains most. None: nothing does."""
    ranking = prescribed["ranking"]
    if len(prescribed["seeds"]) < TELLING:
        return next((one for one in ranking if one["recovered"]["value"] > 0), None)
    return next((one for one in ranking if one["beats"]), None)


def remedies(found: Diagnosis, ranking: Sequence[Mapping[str, Any]]) -> Table:
    """What was tried on all seeds, best first: what it recovers, what it costs, and why."""
    measure = found.measure
    unit = "points" if measure.metric == "accuracy" else "loss"
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("tried")
    for title in (f"{unit} recovered", "largest fall reduced by"):
        table.add_column(title, no_wrap=True)
    for title in ("bytes", "time", "compute"):
        table.add_column(title, no_wrap=True, justify="right")
    table.add_column("acts on", no_wrap=True)
    for row in ranking:
        gains = (measure.interval(effect(row[key])) for key in ("recovered", "fall_reduced"))
        ratios = (row[key] for key in ("bytes_ratio", "time_ratio", "compute_ratio"))
        table.add_row(
            row["name"], *gains, *("-" if x is None else f"x{x:.2f}" for x in ratios),
            acts_on(row["cause"]), style="bold" if row["beats"] else "",
        )  # fmt: skip
    return table


def costs(found: Diagnosis) -> RenderableType:
    """A row per cause and one for the gap, a column per question; with intervals."""
    measure = found.measure
    unit = "points of accuracy" if measure.metric == "accuracy" else "loss"
    several = "; in brackets: 95% interval over seeds" if len(found.findings["seeds"]) > 1 else ""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column(f"cost in {unit}", no_wrap=True)
    for title, _ in QUESTIONS.values():
        table.add_column(title.lower(), no_wrap=True)
    shares = {question: found.shares(question) for question in QUESTIONS}
    for cause, (name, *_) in CAUSES.items():
        table.add_row(name, *(measure.interval(shares[q].get(cause)) for q in QUESTIONS))
    gaps = [measure.interval(effect(found.part(q).get("gap"))) for q in QUESTIONS]
    table.add_row("gap to pooled training", *gaps, style="bold")
    return Group(
        table,
        Padding(
            Text(f"shares add up to the gap; negative: the cause helped{several}", "dim"),
            (1, 0, 0, 0),
        ),
    )
