"""fedray init: a commented file to start from."""

from __future__ import annotations

from pathlib import Path

import click

from fedray.cli import options


@click.command(name="init")
@click.argument("out", metavar="OUT.yaml", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="Your table: .parquet, .csv or .npz.")
@click.option("--label", metavar="COLUMN", help="The column to predict (npz: the array).")
@click.option("--client-column", metavar="COLUMN", help="The column that says who owns a row.")
@click.option("--force", is_flag=True, help="Overwrite OUT.yaml if it exists.")
@options.verbose_option
def command(
    out: Path,
    data: Path | None,
    label: str | None,
    client_column: str | None,
    force: bool,
    verbose: bool,  # noqa: ARG001
) -> None:
    """Look at a data file and write a commented configuration that runs on it.

    Without --data it writes the quickstart. Without --client-column the rows are split over
    simulated clients.

    \b
    fedray init my.yaml
    fedray init my.yaml --data hospitals.parquet --label outcome --client-column hospital
    fedray launch my.yaml
    """
    from fedray.config.template import write_template

    for line in write_template(out, data, label, client_column, force=force):
        click.echo(line)
