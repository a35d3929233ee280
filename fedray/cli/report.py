"""fedray report: the page of a run folder, built anew."""

from __future__ import annotations

from pathlib import Path

import click

from fedray.cli import options


@click.command(name="report")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=options.Place())
@options.verbose_option
def command(runs: tuple[Path | str, ...], verbose: bool) -> None:  # noqa: ARG001
    """Build report.html and plots/ of each run folder RUN anew, and print where the page is.

    Works on runs that are interrupted or still going, too.

    \b
    fedray report runs/a
    fedray report runs/*
    """
    from fedray.report.page import build_report
    from fedray.report.run import Run
    from fedray.report.storage import joined, uri_of

    for run in runs:
        Run(run)  # a wrong folder is an error before the first page
    for run in runs:
        page = build_report(run)
        uri = uri_of(run)
        click.echo(joined(uri, page.name) if uri else page)
