"""fedray compare: runs beside each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedray.cli import options

if TYPE_CHECKING:
    from rich.table import Table

    from fedray.report import layout

_BESIDE = 4
"""Up to so many runs have a column each, more have a row each."""


@click.command(name="compare")
@click.argument("runs", metavar="RUN RUN...", nargs=-1, required=True, type=options.Place())
@click.option(
    "--out",
    metavar="PAGE.html",
    type=click.Path(path_type=Path),
    help="Also write a page with the curves over each other.",
)
@options.json_option
@options.verbose_option
def command(
    runs: tuple[Path | str, ...],
    out: Path | None,
    as_json: bool,
    verbose: bool,  # noqa: ARG001
) -> None:
    """Compare runs: what came of each, what it cost, and which keys differ.

    Costs are counted up to the best figure that all of the runs reach.

    \b
    fedray compare runs/a runs/b
    fedray compare runs/* --out compare.html
    fedray compare runs/a runs/b --json | jq .differences
    """
    from fedray.report.compare import compare, in_words, tables
    from fedray.report.run import Run

    found = compare([Run(run) for run in runs], out)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2, default=str))
        return
    console = options.console()
    for table in tables(found):
        console.print(f"[bold cyan]{table.caption}[/bold cyan]")
        console.print(_drawn(table))
        console.print()
    for line in in_words(found):
        console.print(line, markup=False)
    if found.page is not None:
        console.print(f"page: {found.page}", markup=False, soft_wrap=True)


def _drawn(found: layout.Table) -> Table:
    from rich.table import Table
    from rich.text import Text

    keyed = found.header[0] != "run"
    lines: list[Sequence[str]] = [found.header, *found.rows]
    if not keyed and len(found.rows) <= _BESIDE:
        lines = list(zip(*lines, strict=True))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    first, *others = lines
    for position, title in enumerate(first):
        table.add_column(Text(title), justify="right" if position else "left", overflow="fold")
    for line in others:
        table.add_row(*(Text(cell) for cell in line))
    return table
