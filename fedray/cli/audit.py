"""fedray audit: why clients got their weights."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fedray.cli import options


@click.command(name="audit")
@click.argument("run", metavar="RUN", type=options.Place())
@options.json_option
@options.verbose_option
def command(run: Path | str, as_json: bool, verbose: bool) -> None:  # noqa: ARG001
    """Say why the clients of RUN got their weights, and what accuracy that bought.

    For runs with `server.quality`: each client's score, its share of the versions with and
    without quality, who was suppressed for long, and how every step compares with the same
    step weighted without, on the validation samples.

    \b
    fedray launch --set server.quality=shapley --out runs/a
    fedray audit runs/a
    fedray audit runs/a --json | jq .gain
    """
    from fedray.report.audit import HEADER, audit, rows, sentences
    from fedray.report.facts import client_names
    from fedray.report.run import Run

    of = Run(run)
    found = audit(of)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
        return
    from rich.table import Table

    console, names = options.console(), client_names(of)
    for line in sentences(found, names):
        console.print(line, markup=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for at, title in enumerate(HEADER):
        table.add_column(title, justify="right" if at else "left")
    for row in rows(found, names):
        table.add_row(*row)
    console.print()
    console.print(table)
