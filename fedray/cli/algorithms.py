"""fedray algorithms: the presets by name."""

from __future__ import annotations

import json
from typing import Any

import click

from fedray.cli import options


@click.group(name="algorithms", invoke_without_command=True)
@options.json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List the algorithms, or explain one.

    An algorithm is a set of values over the parts of a file; anything in it can be set
    otherwise. A method of your own goes by its import path.

    \b
    fedray algorithms
    fedray algorithms show fedbuff
    fedray launch --set algorithm=fedprox --set client.prox_mu=0.1
    fedray launch --set algorithm=my_package.my_module:MyMethod
    """
    if ctx.invoked_subcommand is not None:
        return
    from fedray.config.algorithms_page import by_family, facts

    if as_json:
        everyone = [one for members in by_family().values() for one in members]
        click.echo(json.dumps([facts(one) for one in everyone], indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "what it is", "modes"):
        table.add_column(title, no_wrap=title != "what it is")
    for family, members in by_family().items():
        table.add_row(f"\n[bold cyan]{family}[/]", "", "")
        for one in members:
            table.add_row(f"  {one.name}", one.title, ", ".join(facts(one)["modes"]))
    Console(soft_wrap=False).print(table)


@command.command()
@click.argument("name")
@options.json_option
@options.verbose_option
def show(name: str, as_json: bool, verbose: bool) -> None:  # noqa: ARG001
    """Explain the algorithm NAME: rule, paper, parameters, and YAML to paste."""
    from fedray.config.algorithms_page import facts
    from fedray.config.presets import find
    from fedray.config.reference import meanings, paste

    algorithm = find(name)
    of = facts(algorithm)
    if as_json:
        click.echo(json.dumps(of, indent=2))
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
    console.print(_costs(of))
    console.print()
    console.print(table)
    console.print(f"\n{paste(algorithm)}", end="")


def _costs(of: dict[str, Any]) -> Any:
    """Memory, traffic, modes, and how far the algorithm is what its paper says."""
    from rich.table import Table

    from fedray.config.algorithms_page import memory, modes, traffic

    rows = Table(box=None, pad_edge=False, show_header=False)
    rows.add_column(no_wrap=True, style="bold")
    rows.add_column()
    rows.add_row("memory", memory(of))
    rows.add_row("traffic", traffic(of))
    rows.add_row("modes", modes(of))
    for title, key in (("proved by", "proof"), ("differences", "differs")):
        if of[key]:
            rows.add_row(title, of[key])
    return rows


@command.command()
def reference() -> None:
    """Print all of this as Markdown (the page docs/algorithms.md)."""
    from fedray.config.algorithms_page import markdown

    click.echo(markdown(), nl=False)
