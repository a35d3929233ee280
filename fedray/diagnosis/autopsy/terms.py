"""The terms of one replayed step, and what each did to the test loss.

The identity is that of `learning.decomposition`: w' - w = -c (grad F(w) + participation +
staleness + drift + noise + residual). Its inner product with the test gradient splits the
first-order effect of the whole step: a term x has the effect -c <x, grad F_test(w)>.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fedray.config import schema
from fedray.diagnosis.counterfactual.replay import Made
from fedray.learning import decomposition as math
from fedray.simulation.plan import Plan
from fedray.types import Federation, Floats

NAMES = ("gradient", *math.TERMS)


class Term(NamedTuple):
    """`dot` is the inner product with grad F(w), `effect` the part of the change of the loss."""

    norm: float
    dot: float
    effect: float


def terms(
    made: Made, plan: Plan, federation: Federation, test_gradient: Floats
) -> dict[str, Term] | None:
    """The terms of one step, by name; None where no update went in, or none counted.

    Costs the gradient of all shards once, and for every member those of its shard at every
    local step.
    """
    group = _group(made, plan, federation, test_gradient)
    if group is None:
        return None
    parts = math.MemberBlock(group, _members(made, plan, group.scale), 0)(plan.work, federation)[0]
    step = made.step
    assert step is not None
    c = group.server_lr * group.scale
    pull = np.zeros(len(made.before))
    for weight, vector in zip(step.weights[step.accepted], step.vectors, strict=True):
        pull += weight * vector.astype(np.float64)
    v = -np.subtract(made.after, made.before, dtype=np.float64) / c
    vectors = (
        group.gradient, parts[0] - group.gradient, *parts[1:4], parts[4] + v + pull / group.scale
    )  # fmt: skip
    with np.errstate(all="ignore"):
        return {
            name: Term(
                float(np.linalg.norm(x)), float(x @ group.gradient), -c * float(x @ test_gradient)
            )
            for name, x in zip(NAMES, vectors, strict=True)
        }


def medians(several: Sequence[dict[str, Term]]) -> dict[str, Term]:
    """Term by term the medians over steps, at least one."""
    return {
        name: Term(*np.median([step[name] for step in several], axis=0).tolist()) for name in NAMES
    }


def _group(
    made: Made, plan: Plan, federation: Federation, test_gradient: Floats
) -> math.Group | None:
    lengths = _lengths(made, plan)
    if not lengths.sum():
        return None
    p = plan.sizes / plan.sizes.sum()
    everyone = math.TargetBlock(made.before, np.arange(len(p)), p, int(plan.sizes.sum()))
    jobs, server = made.groups[-1].jobs, plan.config.server
    return math.Group(
        made.before,
        {job.base_version: base for job, base in zip(jobs, made.bases, strict=True)},
        made.version - 1,
        everyone(plan.work, federation).gradient,
        test_gradient,
        float(lengths.sum()),
        server.optimizer.lr,
        isinstance(server.schedule, schema.AsyncSchedule),
    )


def _lengths(made: Made, plan: Plan) -> Floats:
    """d_i eta_i K_i of the updates that went in, (A,)."""
    step, client = made.step, plan.config.client
    assert step is not None
    bases = np.array([job.base_version for job in made.groups[-1].jobs])[step.accepted]
    lengths = step.weights * step.results.steps
    return np.asarray(lengths[step.accepted] * client.lr * client.lr_decay**bases)


def _members(made: Made, plan: Plan, scale: float) -> list[math.Member]:
    step = made.step
    assert step is not None
    jobs = [job for job, ok in zip(made.groups[-1].jobs, step.accepted, strict=True) if ok]
    times = Counter(job.client for job in jobs)
    total = int(plan.sizes.sum())
    return [
        math.Member(
            job.client, job.dispatch, job.base_version, weight, q,
            float(plan.sizes[job.client]) / total / times[job.client], 1.0,
        )
        for job, weight, q in zip(
            jobs, step.weights[step.accepted].tolist(), (_lengths(made, plan) / scale).tolist(),
            strict=True,
        )
    ]  # fmt: skip
