"""fedray diagnose: what each cause costs a run."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedray.cli import options

if TYPE_CHECKING:
    from fedray.report.diagnosis.reader import Diagnosis


@click.command(name="diagnose")
@click.argument("source", metavar="[CONFIG|RUN]", required=False)
@options.set_option
@click.option(
    "--seeds",
    metavar="N",
    type=int,
    help="Repeat everything with so many seeds, from the file's own upwards; 5 if not given. "
    "Intervals come from them.",
)
@click.option(
    "--prescribe",
    is_flag=True,
    help="Also try mitigations at equally many client updates, and rank them by what they "
    "recover (prescription.json).",
)
@click.option(
    "--out",
    metavar="DIR",
    type=options.Place(),
    help="Where to write: a folder, or s3://, gs://; without it RUN/diagnosis, or a new folder "
    "under output.dir.",
)
@options.resume_option(
    "Continue the interrupted diagnosis in DIR; arms that were finished are kept."
)
@options.json_option
@options.plain_option
@options.verbose_option
def command(
    source: str | None,
    overrides: tuple[str, ...],
    seeds: int | None,
    prescribe: bool,
    out: Path | str | None,
    resume: Path | str | None,
    as_json: bool,
    plain: bool,
    verbose: bool,
) -> None:
    """Say what non-IID data, client drift, staleness and averaging each cost.

    Takes a file (without one: the quickstart), or the folder of a run. Replays its event
    trace, the same arrivals and random numbers, with every combination of the four causes
    switched off: 16 arms per seed, from the run itself to plain training on the pooled
    data. What lies between the two is split into a share per cause, by Shapley values,
    which add up exactly. Positive: the cause costs accuracy. Negative: it helps.

    \b
    level       how high the run ends: mean of the last tenth of its evaluations
    fall        the deepest point below the best so far
    whole curve mean over all evaluations

    Progress goes to stderr; words and a table, or with --json the content of
    diagnosis.json, go to stdout. DIR has them too, with all curves (arms.parquet) and a
    page (diagnosis.html). After Ctrl-C, --resume goes on.

    \b
    fedray diagnose                              the quickstart, 5 seeds
    fedray diagnose runs/a --seeds 3             a run that you have, and why it is as it is
    fedray diagnose my.yaml --set partition.alpha=0.1 --out why
    fedray diagnose --resume why
    fedray diagnose my.yaml --json | jq .level.shares
    fedray diagnose my.yaml --prescribe          and what would help
    """
    from fedray.api.diagnose import diagnose
    from fedray.cli.diagnose_view import watching

    # Whatever a library prints meanwhile must not end up among the results.
    with redirect_stdout(sys.stderr), watching(plain=plain) as watcher:
        found = diagnose(
            source, overrides, seeds=seeds, out=out, resume=resume, prescribe=prescribe,
            watcher=watcher, verbose=verbose,
        )  # fmt: skip
    if as_json:
        click.echo(as_json_text(found), nl=False)
        return
    from fedray.cli.diagnose_view import show

    show(options.console(), found)


def as_json_text(found: Diagnosis) -> str:
    """The content of diagnosis.json, and under `prescription` that of prescription.json."""
    import json

    from fedray.report.diagnosis.reader import FINDINGS

    if found.prescription is None:
        return (found.path / FINDINGS).read_text(encoding="utf-8")
    both = {**found.findings, "prescription": found.prescription}
    return json.dumps(both, indent=2, allow_nan=False) + "\n"
