"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

F = TypeVar("F", bound=Callable[..., Any])


def _verbose(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    ctx.meta["fedray.verbose"] = value or ctx.meta.get("fedray.verbose", False)
    return bool(ctx.meta["fedray.verbose"])


def config_argument(function: F) -> F:
    """[CONFIG] as `source`: a path, or None for the quickstart."""
    return click.argument("source", metavar="[CONFIG]", required=False)(function)


def set_option(function: F) -> F:
    """--set KEY=VALUE, any number of times, as `overrides`: a tuple of strings."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Change a key, e.g. --set partition.alpha=0.1. Dotted, value in YAML, repeatable.",
    )(function)


class Place(click.ParamType[Path | str]):
    """A path, or the URI of a place elsewhere, which is no path."""

    name = "place"

    def convert(self, value: Any, param: Any, ctx: Any) -> Path | str:
        from fedray.report.storage import local_path, uri_of

        return value if uri_of(value) else local_path(value)


def out_option(function: F) -> F:
    """--out DIR as `out`: a path, a URI, or None."""
    return click.option(
        "--out",
        metavar="DIR",
        type=Place(),
        help="Where to write: a folder, or s3://, gs://; without it a new one in output.dir.",
    )(function)


def resume_option(help_: str) -> Callable[[F], F]:
    """--resume DIR as `resume`: a path, a URI, or None."""
    return click.option("--resume", metavar="DIR", type=Place(), help=help_)


def plain_option(function: F) -> F:
    """--plain as `plain`."""
    return click.option(
        "--plain", is_flag=True, help="Lines for a log instead of the live display."
    )(function)


def json_option(function: F) -> F:
    """--json as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")(function)


def verbose_option(function: F) -> F:
    """-v / --verbose as `verbose`; also turns on tracebacks for errors."""
    return click.option(
        "-v",
        "--verbose",
        is_flag=True,
        callback=_verbose,
        help="Tracebacks, and Ray's own logs.",
    )(function)


def tracebacks_option(function: F) -> F:
    """-v / --verbose for commands that start no Ray: only the tracebacks."""
    return click.option(
        "-v", "--verbose", is_flag=True, callback=_verbose, expose_value=False,
        help="Tracebacks for errors.",
    )(function)  # fmt: skip


@contextmanager
def busy(text: str) -> Iterator[None]:
    """Says on stderr what takes a moment, as long as it does, where that is a terminal."""
    import sys

    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if not sys.stderr.isatty() or console.is_dumb_terminal:
        yield
        return
    with console.status(text):
        yield


def say(lines: list[str]) -> None:
    """Remarks for the user, on stderr so that they never mix with results."""
    for line in lines:
        click.echo(f"note: {line}", err=True)


def console() -> Console:
    """Tables on stdout: as wide as the terminal, or wide enough for a file or a pipe."""
    import sys

    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)
