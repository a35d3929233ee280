"""fedray autopsy: what happened at a run's falls."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import click

from fedray.cli import options


@click.command(name="autopsy")
@click.argument("run", metavar="RUN", type=options.Place())
@click.option(
    "--at",
    metavar="VERSION",
    type=int,
    help="Look at the step that made this version, instead of looking for falls.",
)
@click.option(
    "--top",
    metavar="N",
    type=int,
    default=3,
    show_default=True,
    help="Look at the N largest falls, and at most N shifts of level.",
)
@options.json_option
@options.verbose_option
def command(run: Path | str, at: int | None, top: int, as_json: bool, verbose: bool) -> None:  # noqa: ARG001
    """Say what brought the accuracy of RUN down: which updates, clients, labels, causes.

    Looks at the largest falls from the running best, and at shifts of level. The versions
    around them are computed again, bit for bit as in the run. That gives every update's
    effect on the test loss, to first order, and splits each step exactly into gradient,
    participation, staleness, client drift, sampling noise and residual.

    Prints text, or with --json the content of RUN/autopsy.json. RUN/report.html is rebuilt
    and has a section on it, where the run has or asks for a report.

    \b
    fedray autopsy runs/a
    fedray autopsy runs/a --at 41
    fedray autopsy runs/a --json | jq '.falls[0].clients.harmful'
    """
    from fedray.api.autopsy import autopsy
    from fedray.report.run import Run

    of = Run(run)
    with redirect_stdout(sys.stderr), _progress() as watch:
        found = autopsy(of, at=at, top=top, watch=watch)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    from fedray.cli.autopsy_view import show

    show(options.console(), found, of)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr, gone when it is done; nothing where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} versions replayed"),
        BarColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("replay", total=1, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)
