"""How often clients are heard: updates per version, from durations and the schedule alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedray.config import schema
from fedray.types import Floats

if TYPE_CHECKING:
    from fedray.simulation.plan import Plan

_SHORTEST_S = 1e-12
_HALVINGS = 60


def frequency(plan: Plan) -> Floats:
    """`frequencies` of a run."""
    population, stragglers = plan.population, plan.config.client.stragglers
    left_out = stragglers.share if stragglers.partial == "drop" else 0.0
    lost = 1.0 - (1.0 - population.dropout) * (1.0 - left_out)
    return frequencies(plan.config.server.schedule, population.duration_s, plan.cohort, lost)


def per_version(plan: Plan) -> int:
    """Updates that a version is made from: cohort, buffer size, 1, or an expectation."""
    schedule = plan.config.server.schedule
    if isinstance(schedule, schema.SyncSchedule):
        return plan.cohort
    if isinstance(schedule, schema.AsyncSchedule):
        return 1
    if schedule.every_s is None:
        return schedule.buffer_size
    return max(1, round(float(frequency(plan).sum())))


def frequencies(
    schedule: schema.Schedule, duration_s: Floats, cohort: int, lost: float = 0.0
) -> Floats:
    """Expected updates per version of each client, (N,), under uniform selection.

    Jobs are lost with the chance `lost`.

    A client is busy for a while b_i, then idle until it is drawn; P_i is the share of its time
    that it is busy, see `busy_shares`, so that it is heard P_i / b_i times per unit of time.

    - buffered and async: b_i is the duration T_i; of the K updates of a version client i has
      the share (P_i / T_i) / sum_j P_j / T_j.
    - buffered with `every_s`: b_i = ceil(T_i / every_s) versions.
    - sync: cohorts are drawn, and all drawn clients are equally often idle for x rounds, so
      sum_i 1 / (b_i + x) = cohort, with b_i = 1 round, or ceil(T_i / deadline_s) where late
      updates are carried.
    """
    durations = np.maximum(np.asarray(duration_s, np.float64), _SHORTEST_S)
    answers = 1.0 - lost
    match schedule:
        case schema.SyncSchedule(deadline_s=deadline_s):
            busy = np.ones(len(durations)) if deadline_s is None else _ticks(durations, deadline_s)
            return answers / (busy + _idle(np.ones(len(busy)), busy, cohort))
        case schema.BufferedSchedule(every_s=float(every_s)):
            busy = _ticks(durations, every_s)
            return np.asarray(answers * busy_shares(busy, schedule.concurrency) / busy)
        case _:
            rates = busy_shares(durations, schedule.concurrency) / durations
            size = getattr(schedule, "buffer_size", 1)
            return np.asarray(size * rates / rates.sum())


def busy_shares(busy: Floats, concurrency: int) -> Floats:
    """P_i, (N,): the share of time that a client is at work, where C of N always are.

    Of the sets of C clients each is at work with a chance proportional to the product of its
    members' b_i, whatever the law of the durations (a reversible chain: each end is followed
    by a uniform draw). That is conditional Poisson sampling: with p_i = b_i / (b_i + x),
    sum_i p_i = C, and d = sum p (1 - p), P_i = p_i (1 - (1 - p_i)(m - p_i) / d) to first order,
    m = sum p^2 (1 - p) / d (Hajek 1964). Where everybody is at work, 1.
    """
    p = busy / (busy + _idle(busy, busy, concurrency))
    spread = float((p * (1.0 - p)).sum())
    if spread == 0.0:
        return p
    middle = float((p * p * (1.0 - p)).sum()) / spread
    return np.clip(p * (1.0 - (1.0 - p) * (middle - p) / spread), _SHORTEST_S, 1.0)


def _ticks(busy: Floats, every_s: float) -> Floats:
    """Whole periods, of which one that ends exactly with a job is not over before it."""
    return np.maximum(np.ceil(busy / every_s - 1e-9), 1.0)


def _idle(weights: Floats, busy: Floats, total: float) -> float:
    """x >= 0 with sum_i weights_i / (busy_i + x) = total; 0 where even that is not enough.

    The sum falls with x, and at x = sum weights / total it is at most the total.
    """
    if (weights / busy).sum() <= total:
        return 0.0
    low, high = 0.0, float(weights.sum()) / total
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if (weights / (busy + middle)).sum() > total:
            low = middle
        else:
            high = middle
    return (low + high) / 2
