"""fedray jobs: what fedray runs, or ran, on a cluster."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import TYPE_CHECKING

import click

from fedray.cli import job_views, options

if TYPE_CHECKING:
    from fedray.distributed.jobs import Job


@click.command(name="jobs")
@job_views.address_option
@options.json_option
@options.tracebacks_option
def command(address: str | None, as_json: bool) -> None:
    """List fedray's jobs on a cluster, the newest first.

    \b
    fedray jobs --address http://head:8265
    """
    found = job_views.connected(address).all()
    if as_json:
        click.echo(json.dumps([_facts(job) for job in found], indent=2))
        return
    if not found:
        click.echo("no jobs of fedray", err=True)
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("job", "does", "status", "began", "took"):
        table.add_column(title, no_wrap=title != "job", overflow="fold")
    for job in found:
        table.add_row(
            job.id, job.facts.get("kind", ""), job.status.lower(), _began(job), _took(job)
        )
    options.console().print(table)


def _facts(job: Job) -> dict[str, object]:
    return {
        "job": job.id,
        "kind": job.facts.get("kind"),
        "name": job.facts.get("name"),
        "status": job.status,
        "began": None if job.began_s is None else _local(job.began_s).isoformat(),
        "took_s": _seconds(job),
        "exit_code": job.exit_code,
        "fedray": job.facts.get("fedray"),
    }


def _local(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s).astimezone()


def _began(job: Job) -> str:
    return "" if job.began_s is None else _local(job.began_s).strftime("%Y-%m-%d %H:%M:%S")


def _seconds(job: Job) -> float | None:
    if job.began_s is None:
        return None
    return round((job.ended_s or time.time()) - job.began_s, 3)


def _took(job: Job) -> str:
    from fedray.cli.display import clock

    return clock(_seconds(job))
