"""fedray config: show, schema, reference."""

from __future__ import annotations

import json

import click

from fedray.cli import options


@click.group(name="config")
def command() -> None:
    """Show a file resolved, the JSON Schema, or the reference page.

    \b
    fedray config show my.yaml --set server.schedule.mode=sync
    fedray config schema > fedray.schema.json
    fedray config reference | less
    """


@command.command()
@options.config_argument
@options.set_option
@options.json_option
@options.verbose_option
def show(source: str | None, overrides: tuple[str, ...], as_json: bool, verbose: bool) -> None:  # noqa: ARG001
    """Print CONFIG with every default written out (without CONFIG: the quickstart).

    The output is itself a file that runs, from anywhere.
    """
    from fedray.config.load import as_tree, dump, load

    loaded = load(source, overrides)
    options.say(loaded.notes)
    text = json.dumps(as_tree(loaded.config), indent=2) + "\n" if as_json else dump(loaded.config)
    click.echo(text, nl=False)


@command.command()
def schema() -> None:
    """Print the JSON Schema of a file, for editors that complete and check YAML.

    \b
    fedray config schema > fedray.schema.json
    # first line of a file:  # yaml-language-server: $schema=fedray.schema.json
    """
    from fedray.config.reference import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@command.command()
def reference() -> None:
    """Print the reference of every key as Markdown (the page docs/configuration.md)."""
    from fedray.config.reference import markdown

    click.echo(markdown(), nl=False)
