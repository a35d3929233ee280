"""fedray fork: a run again, from one of its versions on, with settings changed."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path

import click

from fedray.cli import options


@click.command(name="fork")
@click.argument("run", metavar="RUN", type=options.Place())
@click.option("--at", metavar="VERSION", type=int, required=True, help="Last version in common.")
@options.set_option
@options.out_option
@options.json_option
@options.plain_option
@options.verbose_option
def command(
    run: Path | str,
    at: int,
    overrides: tuple[str, ...],
    out: Path | str | None,
    as_json: bool,
    plain: bool,
    verbose: bool,
) -> None:
    """Run on from version VERSION of RUN with settings changed: an exact what-if.

    The new run folder begins with the rows of RUN up to VERSION, and goes on under the new
    settings; without any, it ends in the bits of RUN. Data, partition, model, seed, method,
    clock and the schedule's mode stay as they are. RUN is only read. Versions since the
    newest checkpoint before VERSION are computed again.

    Afterwards: fedray compare RUN FORK.

    \b
    fedray fork runs/a --at 40 --set server.schedule.max_staleness=2
    fedray fork runs/a --at 40 --set client.lr=0.01 --set server.rounds=200 --out runs/slower
    """
    from fedray.api.fork import fork
    from fedray.cli.display import watching
    from fedray.cli.launch import show

    # Whatever a library prints meanwhile must not end up among the results.
    with redirect_stdout(sys.stderr), watching(plain=plain) as watcher:
        made = fork(run, at, overrides, out=out, watcher=watcher, verbose=verbose)
    show(made, as_json=as_json)
