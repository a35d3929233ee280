"""What came of a sweep, on stdout: words, settings best first, and how to run the best."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedray.report.storage import uri_of
from fedray.report.sweep.reader import Sweep
from fedray.report.sweep.rows import override
from fedray.report.sweep.settings import Setting, Trials, open_trials

_MOST_SETTINGS = 15
_MOST_FAILED = 5
_MOST_WORDS = 6
_ALIKE = "~"


def show(console: Console, found: Sweep) -> None:
    """The findings: words, the ranking, what failed, and where there is more."""
    trials = open_trials(found.path)
    console.print()
    said = found.words[:_MOST_WORDS]
    if len(found.words) > len(said):
        more = (
            f"{len(found.words) - len(said):,} more comparisons are on the page and in sweep.json."
        )
        said = [*said, more]
    for sentence in said:
        console.print(Text(sentence), width=min(console.width, 100))
    if said:
        console.print()
    console.print(ranking(trials))
    for line in remarks(trials):
        console.print(Text(line, style="dim"), soft_wrap=True)
    console.print()
    rows = [("folder", found.place)]
    if found.page is not None:
        rows.append(("page", found.named(found.page.name)))
    if trials.best is not None:
        best = f"trials/{trials.best.trials[0]['id']}/config.yaml"
        if uri_of(found.place) is None:  # a configuration is a file of this machine
            rows.append(("best", f"fedray launch {shlex.quote(found.named(best))}"))
        rows.append(("as keys", as_overrides(trials.best.settings)))
    rows += failures(trials)
    for label, text in rows:
        console.print(Text.assemble((f"{label:8}", "bold"), text), soft_wrap=True)


def ranking(trials: Trials) -> Table:
    """A row per setting, best first: its values, the metric over seeds, its trials."""
    merit, several = trials.merit, len(trials.seeds) > 1
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for key in trials.keys:
        table.add_column(trials.names[key], no_wrap=True)
    if several:
        table.add_column("", no_wrap=True)
    title = merit.name + (" (95% interval)" if several else "")
    table.add_column(title, no_wrap=True)
    table.add_column("trials", no_wrap=True)
    best = trials.best
    for setting in trials.settings[:_MOST_SETTINGS]:
        table.add_row(
            *(trials.say_value(key, setting.settings.get(key)) for key in trials.keys),
            *([_ALIKE if _alike(trials, setting) else ""] if several else []),
            standing(trials, setting),
            ended(setting),
            style="bold" if setting is best else "",
        )
    return table


def _alike(trials: Trials, setting: Setting) -> bool:
    """Whether it could be as good as the best."""
    if trials.best is None or setting is trials.best or len(trials.seeds) < 2:
        return False
    apart = trials.against_best(setting)
    return apart is not None and apart.doubtful


def standing(trials: Trials, setting: Setting) -> str:
    """The value over seeds; where none of them was to go on, how good the best of them was."""
    merit = trials.merit
    if setting.value is not None:
        return merit.say_interval(setting.value)
    stopped = [row for row in setting.trials if row["value"] is not None]
    if not stopped:
        return merit.say_interval(None)
    last = max(stopped, key=lambda row: merit.sign * row["value"])
    return f"({merit.say(last['value'])} at version {last['versions']:,})"


def remarks(trials: Trials) -> list[str]:
    """What the table leaves out, and what its mark means."""
    lines = []
    more = len(trials.settings) - _MOST_SETTINGS
    if more > 0:
        lines.append(f"and {more:,} more setting{'s' * (more > 1)}")
    if any(_alike(trials, setting) for setting in trials.settings[:_MOST_SETTINGS]):
        lines.append(f"{_ALIKE}: cannot be told from the best, seed by seed")
    return lines


def ended(setting: Setting) -> str:
    """`3`; `1 of 3, 2 stopped early` where not all of them count."""
    total = len(setting.trials)
    if setting.complete and len(setting.reached) == total:
        return f"{total:,}"
    others = _counts([row["status"] for row in setting.trials if row not in setting.counted])
    missed = len(setting.counted) - len(setting.reached)
    if missed:
        others.append(f"{missed:,} without a value")
    return ", ".join([f"{len(setting.reached):,} of {total:,}", *others])


def _counts(statuses: Sequence[str]) -> list[str]:
    return [
        f"{statuses.count(status):,} {status.replace('_', ' ')}"
        for status in dict.fromkeys(statuses)
    ]


def failures(trials: Trials) -> list[tuple[str, str]]:
    """The trials that failed, each with its error."""
    failed = trials.with_status("failed")
    rows = [
        (
            "failed" if i == 0 else "",
            f"{row['id']}, {trials.label(row['settings'])}, seed {row['seed']}: {row['error']}",
        )
        for i, row in enumerate(failed[:_MOST_FAILED])
    ]
    more = len(failed) - _MOST_FAILED
    return rows + ([("", f"and {more:,} more, see trials.parquet")] if more > 0 else [])


def as_overrides(settings: Mapping[str, Any]) -> str:
    """`--set client.lr=0.1 --set algorithm=fedadam`, to paste into a shell."""
    return " ".join(f"--set {shlex.quote(override(k, v))}" for k, v in settings.items())
