"""Where a run lost accuracy: falls from the running best, and shifts of its level.

Falls are those of the report (`report.figures.falls`). Shifts of the mean are found by
optimal partitioning: they catch a run that settles lower without a spectacular low point.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from fedray.report import figures
from fedray.types import Floats, Ints

PENALTY = 3.0
"""A change of level must save `PENALTY` sigma^2 log n in squares to count."""

METHOD = (
    "falls: stretches below the running best, the report's own; level shifts: exact optimal "
    "partitioning of the evaluations into stretches of constant mean (squared error, penalty "
    f"{PENALTY:g} sigma^2 log n per change, sigma from the median absolute first difference; "
    "Jackson et al. 2005, pruned as in Killick et al. 2012)"
)


class Loss(NamedTuple):
    """A stretch of versions over which the figure of merit got worse, or one asked-for step."""

    kind: Literal["fall", "shift", "step"]
    lost: float
    """In units of the value, 0.05 is 5 points of accuracy. shift: difference of the two means."""
    from_version: int
    to_version: int
    recovered_version: int | None = None


def noise(values: Floats) -> float:
    """Standard deviation of white noise on a slowly moving curve (E,).

    1.4826 MAD of the first differences / sqrt(2), but no less than the rounding of a curve
    that moves in steps of q, q / sqrt(12): else a curve that mostly stands still has none.
    """
    if len(values) < 3:
        return 0.0
    differences = np.diff(values)
    spread = np.median(np.abs(differences - np.median(differences))) * 1.4826 / np.sqrt(2.0)
    gaps = np.diff(np.unique(values))
    rounding = gaps.min() / np.sqrt(12.0) if len(gaps) else 0.0
    return float(max(spread, rounding))


def change_points(values: Floats, penalty: float) -> Ints:
    """Starts of all stretches but the first, in the best split of `values` (E,).

    Minimises sum over stretches of (sum of squares about the stretch's mean + `penalty`),
    exactly: F(t) = min_s F(s) + C(s, t) + penalty (Jackson et al. 2005), where an s with
    F(s) + C(s, t) > F(t) can never come back and is dropped (Killick et al. 2012, theorem
    3.1). About linear in E where changes are spread out, at worst quadratic.
    """
    n = len(values)
    centred = values - (values.mean() if n else 0.0)
    sums = np.concatenate([[0.0], np.cumsum(centred)])
    squares = np.concatenate([[0.0], np.cumsum(centred**2)])
    best, before = np.zeros(n + 1), np.zeros(n + 1, np.int64)
    best[0] = -penalty
    alive = np.array([0])
    for t in range(1, n + 1):
        cost = best[alive] + squares[t] - squares[alive]
        cost -= (sums[t] - sums[alive]) ** 2 / (t - alive)
        least = int(cost.argmin())
        best[t], before[t] = cost[least] + penalty, alive[least]
        alive = np.append(alive[cost <= best[t]], t)
    starts = []
    at = int(before[n])
    while at > 0:
        starts.append(at)
        at = int(before[at])
    return np.array(starts[::-1], np.int64)


def shifts(of: figures.Curve) -> list[Loss]:
    """Downward shifts of the level, the largest first.

    From the last evaluation before the shift to the first one after it. A shift has not
    recovered until a later stretch is as good as the one before it was.
    """
    values = of.values if of.higher_is_better else -of.values
    sigma = noise(values)
    starts = change_points(values, PENALTY * sigma**2 * np.log(max(len(values), 2)))
    if sigma == 0.0:
        return []
    means = [float(part.mean()) for part in np.split(values, starts)]
    found = []
    for k, start in enumerate(starts.tolist()):
        lost = means[k] - means[k + 1]
        if lost <= 0:
            continue
        back = next((j for j in range(k + 2, len(means)) if means[j] >= means[k]), None)
        found.append(
            Loss(
                "shift", lost, int(of.versions[start - 1]), int(of.versions[start]),
                None if back is None else int(of.versions[starts[back - 1]]),
            )
        )  # fmt: skip
    return sorted(found, key=lambda shift: -shift.lost)


def losses(of: figures.Curve, top: int) -> list[Loss]:
    """What an autopsy looks at: the `top` largest falls worth marking, and up to `top` shifts.

    The largest fall is among them, however small. A shift within one of those falls is that
    fall, and is left out.
    """
    all_falls = figures.falls(of)
    found = [
        Loss("fall", fall.lost, fall.from_version, fall.to_version, fall.recovered_version)
        for fall in figures.worth_marking(all_falls, of, top) or all_falls[:1]
    ]
    others = [shift for shift in shifts(of) if not _within(shift, found)]
    return [*found, *others[:top]]


def _within(shift: Loss, among: Sequence[Loss]) -> bool:
    return any(
        fall.from_version <= shift.from_version and shift.to_version <= fall.to_version
        for fall in among
    )


def worst_steps(of: figures.Curve, loss: Loss, limit: int) -> list[int]:
    """The versions of a stretch to look at, at most `limit`, in order.

    The versions in which most was lost: where several versions share one evaluation, its
    change is spread evenly over them. Known before anything is replayed.
    """
    made = np.arange(loss.from_version + 1, loss.to_version + 1)
    if len(made) <= limit:
        return [int(version) for version in made]
    values = of.values if of.higher_is_better else -of.values
    curve = np.interp(np.arange(loss.from_version, loss.to_version + 1), of.versions, values)
    order = np.argsort(np.diff(curve), kind="stable")
    return sorted(int(version) for version in made[order[:limit]])
