"""What a job looks like from here: the same displays and tables as for a run here."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fedray.cli import options

if TYPE_CHECKING:
    from fedray.distributed.jobs import Jobs

F = TypeVar("F", bound=Callable[..., Any])


def address_option(function: F) -> F:
    """--address URL as `address`."""
    return click.option(
        "--address",
        metavar="URL",
        help="The cluster's jobs port, http://HEAD:8265; without it what RAY_API_SERVER_ADDRESS "
        "or RAY_ADDRESS says.",
    )(function)


def connected(address: str | None) -> Jobs:
    """The jobs of the cluster at --address, or where the environment says."""
    from fedray.distributed.jobs import connect
    from fedray.distributed.jobs_address import jobs_address

    to = jobs_address(address)
    if to.note:
        options.say([to.note])
    return connect(to)


def watching(kind: str, *, plain: bool) -> AbstractContextManager[Any]:
    """The display of a launch, a sweep or a diagnosis, as a context with its watcher."""
    if kind == "sweep":
        from fedray.cli.sweep_view import watching as sweeping

        return sweeping(plain=plain)
    if kind == "diagnose":
        from fedray.cli.diagnose_view import watching as diagnosing

        return diagnosing(plain=plain)
    from fedray.cli.display import watching as launching

    return launching(plain=plain)


def show(kind: str, place: Path | str, *, as_json: bool) -> None:
    """The results in a folder or at a URI, as the command that made them would show them."""
    console = options.console()
    if kind == "sweep":
        from fedray.cli.sweep_results import show as show_sweep
        from fedray.report.sweep.reader import Sweep

        swept = Sweep(place)
        if as_json:
            click.echo((swept.path / "sweep.json").read_text(encoding="utf-8"), nl=False)
        else:
            show_sweep(console, swept)
    elif kind == "diagnose":
        from fedray.cli.diagnose import as_json_text
        from fedray.cli.diagnose_view import show as show_diagnosis
        from fedray.report.diagnosis.reader import Diagnosis

        found = Diagnosis(place)
        if as_json:
            click.echo(as_json_text(found), nl=False)
        else:
            show_diagnosis(console, found)
    else:
        from fedray.cli.launch import results
        from fedray.report.run import Run

        run = Run(place)
        if as_json:
            click.echo((run.path / "summary.json").read_text(encoding="utf-8"), nl=False)
            return
        console.print()
        console.print(results(run))


def finished(kind: str, folder: Path) -> bool:
    """Whether a folder has the results of a command that came to its end."""
    last = {"launch": "summary.json", "sweep": "sweep.json", "diagnose": "diagnosis.json"}[kind]
    return (folder / last).exists()


def commands(job: str, jobs: Jobs, out: Path | str | None, which: Sequence[str]) -> list[str]:
    """How to go on with a job: lines of shell, for `which` of follow, stop and fetch.

    Results at a URI (`out` is text) need no fetching.
    """
    where = ["--address", jobs.address.url] if not jobs.address.key.startswith("RAY_") else []
    into = ["--out", str(out)] if out is not None else []
    known = {
        "follow": ["logs", job, "--follow", *where],
        "stop": ["stop", job, *where],
        "fetch": ["fetch", job, *into, *where],
    }
    there = isinstance(out, str)
    lines = [
        f"  {name:7} fedray {shlex.join(known[name])}"
        for name in which
        if not (there and name == "fetch")
    ]
    return [*lines, f"  results {out}"] if there else lines
