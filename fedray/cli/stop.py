"""fedray stop: end a job on a cluster, with a checkpoint."""

from __future__ import annotations

import click

from fedray.cli import job_views, options


@click.command(name="stop")
@click.argument("job_id", metavar="JOB")
@job_views.address_option
@options.tracebacks_option
def command(job_id: str, address: str | None) -> None:
    """End JOB after the version at hand, with a checkpoint, and wait until it has ended.

    Its folder can be fetched then, and the run resumed from it.

    \b
    fedray stop my-job
    """
    from fedray.api.jobs import kind_of
    from fedray.api.submit import STOP_GRACE_S
    from fedray.errors import FedrayError

    jobs = job_views.connected(address)
    job = jobs.find(job_id)
    kind_of(job)
    if job.ended:
        click.echo(f"{job.id} has ended already: {job.status.lower()}", err=True)
    elif job.status == "PENDING":
        jobs.stop(job.id)  # which Ray heeds once there is room for the job
        click.echo(f"{job.id} has not begun, and ends when it would", err=True)
        return
    else:
        jobs.stop(job.id)
        click.echo(f"{job.id} ends shortly, with a checkpoint", err=True)
        with options.busy("waiting for its end"):
            job = jobs.wait(job.id, STOP_GRACE_S + 10)
        if not job.ended:
            raise FedrayError(f"{job.id} is still {job.status.lower()}")
        click.echo(f"{job.id} has ended: {job.status.lower()}", err=True)
    for line in job_views.commands(job.id, jobs, job.facts.get("place") or None, ("fetch",)):
        click.echo(line, err=True)
