"""fedray doctor: whether this machine is well, and whether a run fits on it."""

from __future__ import annotations

import json

import click

from fedray.cli import options

_STYLES = {"ok": "green", "warning": "yellow", "refused": "red"}


@click.command(name="doctor")
@options.config_argument
@options.set_option
@options.json_option
@options.verbose_option
def command(
    source: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
    verbose: bool,  # noqa: ARG001
) -> None:
    """Look at this machine, and whether CONFIG's run fits on it. Starts and writes nothing.

    Cores and who else wants them, memory and limits of a container, /dev/shm, open files,
    other Rays, versions of packages. With CONFIG (or --set) also what the run needs of
    memory and disk, and how long it will take: a few of its jobs are timed here.

    Exit code 2 if the run cannot fit: `fedray launch` would refuse it, too.

    \b
    fedray doctor
    fedray doctor my.yaml
    fedray doctor my.yaml --json | jq .needs.computing.total_s
    """
    from fedray.api.doctor import doctor

    found = doctor(source, overrides)
    if as_json:
        facts = {
            "fits": found.fits,
            "findings": [finding._asdict() for finding in found.findings],
            "needs": found.needs,
        }
        click.echo(json.dumps(facts, indent=2))
    else:
        from rich.table import Table

        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, style="bold")
        table.add_column(overflow="fold")
        for finding in found.findings:
            text = finding.text + (f". {finding.advice}" if finding.advice else "")
            table.add_row(f"[{_STYLES[finding.level]}]{finding.level}[/]", finding.what, text)
        options.console().print(table)
    if not found.fits:
        raise click.exceptions.Exit(2)
