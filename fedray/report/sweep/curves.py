"""What trials' learning curves show side by side: how good, and at what cost to a target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fedray.errors import InputError
from fedray.report.diagnosis.effects import Effect
from fedray.report.figures import Curve, curve, evenly
from fedray.report.run import Run
from fedray.report.sweep.rows import cost_of
from fedray.report.sweep.settings import Row, Trials
from fedray.types import Floats

MOST_POINTS = 120


class Costs(NamedTuple):
    """What it takes to reach `target`: (bytes, seconds) by trial; None where it never does."""

    target: float
    said: str
    """Where the target is from."""
    by_trial: dict[str, tuple[int, float] | None]


class Bundle(NamedTuple):
    """Curves of several trials as one: arrays have shape (points,)."""

    x: Floats
    y: list[Effect]
    """Mean, least and greatest."""


def run_of(of: Trials, row: Row) -> Run | None:
    """A trial's folder; None where it cannot be read."""
    try:
        run = Run(of.folder / "trials" / row["id"])
        return run if run.rounds.num_rows else None
    except InputError:
        return None


def score_curve(of: Trials, row: Row) -> Curve | None:
    """A trial's learning curve in the score that belongs to the metric; None without points."""
    run = run_of(of, row)
    found = None if run is None else curve(run.rounds, of.merit.score)
    return found if found is not None and len(found.values) else None


def costs(of: Trials) -> Costs | None:
    """Costs to the sweep's target, or to the best value that all finished trials reach.

    Where one of them hardly learned anything, a quarter of the trials is left behind.
    """
    rows = [row for row in of.with_status("finished") if row["best"] is not None]
    if not rows:
        return None
    if of.merit.target is not None:
        told = {
            row["id"]: None
            if row["bytes_to_target"] is None
            else (row["bytes_to_target"], row["virtual_time_to_target"])
            for row in rows
        }
        return Costs(of.merit.target, "the sweep's target", told)
    levels = sorted(row["best"] for row in rows)
    middle, start = levels[len(levels) // 2], _start(of, rows[0])
    target, said = levels[0], "the best that every finished trial reaches"
    if target < start + 0.5 * (middle - start):
        target, said = levels[len(levels) // 4], "what three quarters of the trials reach"
    found: dict[str, tuple[int, float] | None] = {}
    for row in rows:
        run = run_of(of, row)
        found[row["id"]] = None if run is None else cost_of(run, target)
    return Costs(target, said, found)


def _start(of: Trials, row: Row) -> float:
    """How good the untrained model is."""
    run = run_of(of, row)
    if run is None:
        return 0.0
    values = curve(run.rounds, "accuracy" if run.classification else "r2").values
    return float(values[0]) if len(values) else 0.0


def bundle(curves: Sequence[Curve], over: str) -> Bundle | None:
    """Mean, least and greatest of curves over `version` or `time`, as far as all of them go.

    Between evaluations, lines are straight.
    """
    known = [(each.versions if over == "version" else each.times, each.values) for each in curves]
    known = [(np.asarray(x, float), y) for x, y in known if len(x)]
    if not known:
        return None
    start, end = max(x[0] for x, _ in known), min(x[-1] for x, _ in known)
    every = np.unique(np.concatenate([x for x, _ in known]))
    every = every[(every >= start) & (every <= end)]
    if not len(every):
        return None
    grid = every[evenly(len(every), MOST_POINTS)]
    values = np.stack([np.interp(grid, x, y) for x, y in known])
    one = len(known) == 1
    return Bundle(
        grid,
        [
            Effect(float(mean), None if one else float(low), None if one else float(high))
            for mean, low, high in zip(values.mean(0), values.min(0), values.max(0), strict=True)
        ],
    )


def curves_of(of: Trials, rows: Sequence[Row]) -> Iterator[Curve]:
    """The learning curves of trials that have one."""
    for row in rows:
        if (found := score_curve(of, row)) is not None:
            yield found
