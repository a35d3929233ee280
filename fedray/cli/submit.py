"""fedray submit: a launch, a sweep or a diagnosis on a Ray cluster."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedray.cli import job_views, options
from fedray.endings import exit_code

if TYPE_CHECKING:
    from fedray.api.jobs import Kind
    from fedray.api.submit import Submitted


@click.command(name="submit")
@options.config_argument
@job_views.address_option
@options.set_option
@click.option("--sweep", "sweeping", is_flag=True, help="CONFIG is a sweep file: run its trials.")
@click.option("--diagnose", "diagnosing", is_flag=True, help="Say what each cause costs.")
@click.option(
    "--follow/--detach",
    "following",
    default=True,
    help="Follow it to its end and bring the results back (the default), or only send it.",
)
@click.option(
    "--out",
    metavar="DIR",
    type=options.Place(),
    help="Where results go: a folder here, or s3://, gs://, which the cluster writes to itself; "
    "without it a folder called like the job, under output.dir.",
)
@options.resume_option(
    "Go on with what a run, or with --sweep or --diagnose such a one, has left at a URI."
)
@click.option("--name", metavar="NAME", help="The job's id; without it <name>-<timestamp>.")
@click.option(
    "--module",
    "modules",
    metavar="PATH",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Code of yours that CONFIG names: a .py file or a package's folder. Repeatable.",
)
@click.option(
    "--shared",
    is_flag=True,
    help="Do not send the files that the configuration names: all nodes have them, at the same "
    "paths.",
)
@click.option(
    "--num-cpus",
    metavar="N",
    type=float,
    help="CPUs to reserve for the job's own process, which may then be on any node; without it "
    "none, and it is on the head node.",
)
@click.option(
    "--cluster-dir",
    metavar="DIR",
    help="Where the cluster keeps results until they are fetched; for a sweep on several nodes "
    "a folder that they share. Without it a temporary folder of the job's node.",
)
@click.option(
    "--python", metavar="CMD", default="python", help="The cluster's Python, if not `python`."
)
@click.option("--seeds", metavar="N", type=int, help="With --diagnose: as for fedray diagnose.")
@click.option("--prescribe", is_flag=True, help="With --diagnose: as for fedray diagnose.")
@click.option("--max-concurrent", metavar="N", type=int, help="With --sweep: as for fedray sweep.")
@options.json_option
@options.plain_option
@options.tracebacks_option
def command(
    source: str | None,
    overrides: tuple[str, ...],
    address: str | None,
    sweeping: bool,
    diagnosing: bool,
    following: bool,
    out: Path | str | None,
    as_json: bool,
    plain: bool,
    **more: Any,
) -> None:
    """Send CONFIG to a Ray cluster, follow it, and bring its folder back.

    CONFIG is checked here first, with its data. What goes to the cluster with it: fedray
    itself, the data files and tables that CONFIG names (100 MiB at most), and your --module.
    The cluster needs Python 3.11 or newer and fedray's dependencies.

    Ctrl-C detaches: the job goes on, and lines say how to follow, stop and fetch it. Results
    are the same to the bit as those of a run here.

    \b
    fedray submit my.yaml --address http://head:8265
    fedray submit my.yaml --set server.rounds=500 --detach
    fedray submit configs/sweeps/severity.yaml --sweep
    fedray submit my.yaml --diagnose --seeds 3
    fedray submit --resume s3://bucket/runs/a     what was interrupted, or died
    fedray jobs                    what runs there
    """
    from fedray.api.submit import Options, submit
    from fedray.errors import InputError

    if sweeping and diagnosing:
        raise InputError("--sweep and --diagnose exclude each other: give one")
    kind: Kind = "sweep" if sweeping else "diagnose" if diagnosing else "launch"
    asked = Options(kind=kind, **more)
    sent = None
    try:
        with redirect_stdout(sys.stderr), job_views.watching(kind, plain=plain) as watcher:
            sent = submit(source, overrides, asked, address=address, out=out, watcher=watcher)
            if following:
                _follow(sent, watcher)
    except KeyboardInterrupt as end:
        if sent is None:
            raise
        click.echo(f"detached from {sent.job}, which is not stopped by that", err=True)
        _how(sent)
        raise click.exceptions.Exit(exit_code(end)) from None
    if following:
        job_views.show(kind, sent.place, as_json=as_json)
    else:
        _tell(sent, as_json=as_json)


def _follow(sent: Submitted, watcher: Any) -> None:
    """Follows a job and brings its folder back, also that of a job that was stopped."""
    from fedray.api.jobs import Stopped, fetch, follow
    from fedray.api.launch import Interrupted

    watcher.note(f"job {sent.job} at {sent.jobs.address.url}; Ctrl-C detaches")
    job = sent.jobs.find(sent.job)
    try:
        follow(sent.jobs, job, watcher, sent.place)
    except Stopped:
        if isinstance(sent.place, Path):
            fetch(sent.jobs, sent.jobs.find(sent.job), sent.place)
        raise Interrupted(sent.place, by=KeyboardInterrupt(), command=sent.kind) from None
    if isinstance(sent.place, Path):
        watcher.waiting("bringing the folder back")
        fetch(sent.jobs, sent.jobs.find(sent.job), sent.place)


def _tell(sent: Submitted, *, as_json: bool) -> None:
    """Which job it is that goes on by itself."""
    told = {"job": sent.job, "address": sent.jobs.address.url, "out": str(sent.place)}
    click.echo(json.dumps(told, indent=2) if as_json else sent.job)
    _how(sent)


def _how(sent: Submitted) -> None:
    for line in job_views.commands(sent.job, sent.jobs, sent.place, ("follow", "stop", "fetch")):
        click.echo(line, err=True)
