"""fedray sweep: every combination of settings, on all cores, and how they compare."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path

import click

from fedray.cli import options


@click.command(name="sweep")
@options.config_argument
@options.set_option
@options.out_option
@options.resume_option("Continue the interrupted sweep in DIR; trials that were finished are kept.")
@click.option(
    "--max-concurrent",
    metavar="N",
    type=int,
    help="Trials at a time; without it as many as fit on the cores.",
)
@click.option(
    "--address",
    metavar="A",
    help="Run on the Ray cluster at HOST:PORT, or on the one that `auto` finds; short for "
    "--set runtime.address=A.",
)
@options.json_option
@options.plain_option
@options.verbose_option
def command(
    source: str | None,
    overrides: tuple[str, ...],
    out: Path | str | None,
    resume: Path | str | None,
    max_concurrent: int | None,
    address: str | None,
    as_json: bool,
    plain: bool,
    verbose: bool,
) -> None:
    """Run all trials of CONFIG, a file that says under `sweep:` what varies.

    Every setting on every seed is a run like those of `fedray launch`, to the bit, with a
    run folder of its own. Everything that can be checked is checked before Ray starts.

    Progress goes to stderr; a table of settings, best first, or with --json the content of
    sweep.json, goes to stdout. DIR has all trials (trials.parquet, trials/) and a page
    (sweep.html). After Ctrl-C, or worse, --resume goes on.

    \b
    fedray sweep configs/sweeps/severity.yaml
    fedray sweep my.yaml --set 'sweep.grid.client.lr=[0.01, 0.1, 1]' --set sweep.seeds=3
    fedray sweep --resume runs/my-sweep
    fedray plan configs/sweeps/severity.yaml     what it would run; starts nothing
    """
    from fedray.api.sweep import sweep
    from fedray.cli.sweep_view import watching

    more = {} if address is None else {"runtime.address": address}
    # Whatever a library prints meanwhile must not end up among the results.
    with redirect_stdout(sys.stderr), watching(plain=plain) as watcher:
        found = sweep(
            source, overrides, out=out, resume=resume, max_concurrent=max_concurrent,
            watcher=watcher, verbose=verbose, **more,
        )  # fmt: skip
    if as_json:
        click.echo((found.path / "sweep.json").read_text(encoding="utf-8"), nl=False)
        return
    from fedray.cli.sweep_results import show

    show(options.console(), found)
