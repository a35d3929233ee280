"""fedray launch: train, watch, and leave a run folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedray.cli import options

if TYPE_CHECKING:
    from rich.table import Table

    from fedray.report.facts import Facts
    from fedray.report.run import Run


@click.command(name="launch")
@options.config_argument
@options.set_option
@options.out_option
@options.resume_option("Continue the interrupted run in DIR from its newest checkpoint.")
@options.json_option
@options.plain_option
@options.verbose_option
def command(
    source: str | None,
    overrides: tuple[str, ...],
    out: Path | str | None,
    resume: Path | str | None,
    as_json: bool,
    plain: bool,
    verbose: bool,
) -> None:
    """Run the federation that CONFIG describes (without CONFIG: the quickstart).

    Progress goes to stderr, the results to stdout: a table, or with --json the content of
    summary.json. Ctrl-C, or SIGTERM, ends the run after the version at hand, with a
    checkpoint.

    \b
    fedray launch
    fedray launch my.yaml --set partition.alpha=0.1 --set server.schedule.mode=sync --out runs/a
    fedray launch --resume runs/a
    fedray launch my.yaml --json > summary.json
    """
    from fedray.api.launch import launch
    from fedray.cli.display import watching

    # Whatever a library prints meanwhile must not end up among the results.
    with redirect_stdout(sys.stderr), watching(plain=plain) as watcher:
        run = launch(source, overrides, out=out, resume=resume, watcher=watcher, verbose=verbose)
    show(run, as_json=as_json)


def show(run: Run, *, as_json: bool) -> None:
    """What came of a run, on stdout."""
    if as_json:
        click.echo((run.path / "summary.json").read_text(encoding="utf-8"), nl=False)
        return
    console = options.console()
    console.print()
    console.print(results(run))


def results(run: Run) -> Table:
    """What came of a run, in a small table."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in _rows(run):
        table.add_row(label, value)
    return table


def _rows(run: Run) -> Iterator[tuple[str, str]]:
    from fedray.report.facts import facts

    known = facts(run)
    yield "run folder", run.place
    if origin := known.summary.get("forked_from"):
        yield "forked from", f"{origin['run']} at version {origin['version']}"
    yield from _learned(known)
    yield from _besides(run, known)
    yield from _costs(known)
    if (run.path / "report.html").exists():
        yield "report", run.named("report.html")


def _learned(known: Facts) -> Iterator[tuple[str, str]]:
    """How good the model became, and on which way."""
    from fedray.report import words
    from fedray.report.definitions import STOPPED

    name = "R²" if known.metric == "r2" else known.metric
    stopped, fall = known.summary.get("stopped_by"), known.largest_fall
    early = (
        "" if stopped in (None, "rounds") else f" (ended early: {STOPPED.get(stopped, stopped)})"
    )
    best = words.metric(known.best, known.metric)
    yield "versions", f"{known.versions:,}{early}"
    yield f"final {name}", words.metric(known.final, known.metric)
    yield (
        f"best {name}",
        f"{best} at version {known.best_version}, {words.seconds(known.best_time_s)}",
    )
    yield (
        "largest fall",
        f"{words.points(fall.lost, known.metric)}, version {fall.from_version} to "
        f"{fall.to_version}, {words.recovery(fall)}"
        if fall
        else "none",
    )
    yield "final loss", words.number(known.final_loss)


def _besides(run: Run, known: Facts) -> Iterator[tuple[str, str]]:
    """What only some runs have: a regression's error, models of the clients' own, privacy."""
    from fedray.report import words
    from fedray.report.personal_words import one_line, own_models

    if not known.classification:
        yield "final squared error", words.number(known.summary.get("final", {}).get("mse"))
    if (own := own_models(run)) is not None:
        yield "own models", one_line(own)
    if spent := known.summary.get("privacy"):
        yield "privacy", f"epsilon {words.number(spent['epsilon'])} at delta {spent['delta']:.3g}"


def _costs(known: Facts) -> Iterator[tuple[str, str]]:
    """What it took: jobs, time, bytes."""
    from fedray.report import words

    mean, most = words.number(known.staleness_mean), words.number(known.staleness_max)
    jobs = [f"{n:,} {status.replace('_', ' ')}" for status, n in known.statuses.items()]
    rate = words.number(known.summary.get("updates_per_wall_s"))
    yield "staleness", f"mean {mean}, max {most}"
    yield "updates", ", ".join(jobs) or "none"
    yield words.time_name(known), words.seconds(known.virtual_time_s)
    yield "computed in", f"{words.seconds(known.wall_time_s)}, {rate} updates/s"
    yield "bytes", f"{words.amount(known.bytes_down)} down, {words.amount(known.bytes_up)} up"
