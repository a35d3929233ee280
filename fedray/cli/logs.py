"""fedray logs: how a job on a cluster goes."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path

import click

from fedray.cli import job_views, options
from fedray.endings import exit_code


@click.command(name="logs")
@click.argument("job_id", metavar="JOB")
@job_views.address_option
@click.option("--follow", "following", is_flag=True, help="Go on until the job ends.")
@options.plain_option
@options.tracebacks_option
def command(job_id: str, address: str | None, following: bool, plain: bool) -> None:
    """Show what JOB has told so far, or with --follow how it goes, from its beginning.

    With --follow the exit code is the job's; Ctrl-C detaches, and the job goes on.

    \b
    fedray logs my-job
    fedray logs my-job --follow
    """
    from fedray.api.jobs import Stopped, follow, kind_of, replay

    jobs = job_views.connected(address)
    job = jobs.find(job_id)
    kind = kind_of(job)
    there = job.facts.get("place") or None
    target = there or Path("runs") / job.id
    try:
        with (
            redirect_stdout(sys.stderr),
            job_views.watching(kind, plain=plain or not following) as watcher,
        ):
            if following:
                follow(jobs, job, watcher, target)
            else:
                replay(jobs, job, watcher, target)
    except Stopped as stopped:
        click.echo(str(stopped), err=True)
        _how(job_views.commands(job.id, jobs, there, ("fetch",)))
        raise click.exceptions.Exit(stopped.exit_code) from None
    except KeyboardInterrupt as end:
        click.echo(f"detached; {job.id} goes on", err=True)
        _how(job_views.commands(job.id, jobs, there, ("follow", "stop", "fetch")))
        raise click.exceptions.Exit(exit_code(end)) from None
    running = not following and not job.ended
    which = ("follow", "stop") if running else ("fetch",)
    _how(job_views.commands(job.id, jobs, there, which))


def _how(lines: list[str]) -> None:
    for line in lines:
        click.echo(line, err=True)
