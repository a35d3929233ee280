"""fedray algorithms: the presets by name."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from fedray.cli import options


@click.group(name="algorithms", invoke_without_command=True)
@options.json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List the algorithms, or explain one.

    An algorithm is a set of values over the parts of a file; anything in it can be set
    otherwise.

    \b
    fedray algorithms
    fedray algorithms show fedbuff
    fedray launch --set algorithm=fedprox --set client.prox_mu=0.1
    """
    if ctx.invoked_subcommand is not None:
        return
    from fedray.config.presets import ALGORITHMS

    if as_json:
        click.echo(json.dumps([asdict(one) for one in ALGORITHMS.values()], indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "what it is", "paper"):
        table.add_column(title, no_wrap=title == "name")
    for one in ALGORITHMS.values():
        table.add_row(one.name, one.title, one.paper)
    Console(soft_wrap=False).print(table)


@command.command()
@click.argument("name")
@options.json_option
@options.verbose_option
def show(name: str, as_json: bool, verbose: bool) -> None:  # noqa: ARG001
    """Explain the algorithm NAME: rule, paper, parameters, and YAML to paste."""
    from fedray.config.presets import find
    from fedray.config.reference import meanings, paste

    algorithm = find(name)
    if as_json:
        click.echo(json.dumps(asdict(algorithm), indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("key", "value", "meaning"):
        table.add_column(title, no_wrap=title == "key")
    for key, value, meaning in meanings(algorithm):
        table.add_row(key, str(value), meaning)
    console.print(f"{algorithm.name}: {algorithm.title}", style="bold")
    console.print(f"{algorithm.paper}\n\n{algorithm.rule}\n")
    console.print(table)
    console.print(f"\n{paste(algorithm)}", end="")
