"""fedray fetch: bring a job's folder here."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from fedray.cli import job_views, options


@click.command(name="fetch")
@click.argument("job_id", metavar="JOB")
@job_views.address_option
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where it goes; without it runs/JOB.",
)
@options.json_option
@options.tracebacks_option
def command(job_id: str, address: str | None, out: Path | None, as_json: bool) -> None:
    """Bring the folder of JOB, which has ended, here, and show what is in it.

    The folder stays on the cluster, too. That of a job that was stopped can be resumed here.

    \b
    fedray fetch my-job --out runs/mine
    """
    from fedray.api.jobs import fetch, kind_of, results_folder

    jobs = job_views.connected(address)
    job = jobs.find(job_id)
    kind = kind_of(job)
    folder = results_folder(out, Path("runs") / job.id)
    with options.busy("bringing the folder here"):
        fetch(jobs, job, folder)
    if job_views.finished(kind, folder):
        job_views.show(kind, folder, as_json=as_json)
    else:
        again = f"fedray {kind} --resume {shlex.quote(str(folder))}"
        click.echo(f"{folder} is not finished; continue it here with: {again}", err=True)
