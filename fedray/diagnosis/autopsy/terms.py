"""The terms of one replayed step, and what each did to the test loss.

The identity is that of `learning.decomposition`: w' - w = -c (grad F(w) + participation +
staleness + drift + noise + residual). Its inner product with the test gradient splits the
first-order effect of the whole step: a term x has the effect -c <x, grad F_test(w)>.

Terms other than the gradient are rarely zero, and drift points uphill at most steps of most
runs: a term is a culprit only where it does unusually much harm, see `RULE`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import NamedTuple

import numpy as np

from fedray.diagnosis.counterfactual.replay import Made
from fedray.learning.decomposition import TERMS, MemberBlock, TargetBlock
from fedray.learning.members import group_of, members_of, target_weights
from fedray.simulation.plan import Plan
from fedray.types import Federation, Floats

NAMES = ("gradient", *TERMS)
PART = 0.25
"""Share of a step's harm that a culprit has, at least."""
OTHERS = 5
"""Steps that a step is compared with, at least."""
MARGIN = 0.1
"""By how much a culprit's share exceeds what is usual."""

RULE = (
    "a term's share is its first-order effect on the test loss over the sum of the effects of all "
    "terms of the step, taken without their signs; a term is named only where it has at least "
    f"{PART:.0%} of the step's harm and its share is at least {100 * MARGIN:.0f} percentage points "
    f"larger than at all but one of the other steps that it is compared with ({OTHERS} or more)"
)


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
    block = _block(made, plan, federation, test_gradient)
    if block is None:
        return None
    parts, _ = block(plan.work, federation)
    group, step = block.group, made.step
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


class Share(NamedTuple):
    """effect / sum of |effects| over a step's terms: 1 all harm, -1 all help."""

    worst: float
    usual: float
    """Median over the other steps."""
    bar: float
    """The second largest over the other steps."""
    unusual: bool
    """Whether the term is a culprit, see `RULE`."""


def compared(
    worst: Mapping[str, Term], others: Sequence[Mapping[str, Term]]
) -> dict[str, Share] | None:
    """By term of `TERMS`, the worst step compared with others; None for less than `OTHERS`."""
    if len(others) < OTHERS:
        return None
    harm, found = shares_of_harm(worst), {}
    here, usual = _shares(worst), [_shares(step) for step in others]
    for name in TERMS:
        there = sorted(step[name] for step in usual)
        unusual = harm[name] >= PART and here[name] >= there[-2] + MARGIN
        found[name] = Share(here[name], float(np.median(there)), there[-2], unusual)
    return found


def _shares(terms: Mapping[str, Term]) -> dict[str, float]:
    total = sum(abs(term.effect) for term in terms.values())
    known = 0 < total < inf
    return {name: term.effect / total if known else 0.0 for name, term in terms.items()}


def shares_of_harm(terms: Mapping[str, Term]) -> dict[str, float]:
    """By term, its effect over the sum of all that raise the test loss; 0 if it lowers it."""
    harm = {name: max(term.effect, 0.0) for name, term in terms.items()}
    total = sum(harm.values())
    return {name: part / total if 0 < total < inf else 0.0 for name, part in harm.items()}


def medians(several: Sequence[Mapping[str, Term]]) -> dict[str, Term]:
    """Term by term the medians over steps, at least one."""
    return {
        name: Term(*np.median([step[name] for step in several], axis=0).tolist()) for name in NAMES
    }


def _block(
    made: Made, plan: Plan, federation: Federation, test_gradient: Floats
) -> MemberBlock | None:
    """The question that a run with `diagnosis.decompose` asks of this step, of all members."""
    step, config, sizes = made.step, plan.config, plan.sizes
    assert step is not None
    jobs = made.groups[-1].jobs
    p = target_weights(sizes, None, config.seed, made.version)
    members, scale = members_of(
        [job for job, ok in zip(jobs, step.accepted, strict=True) if ok],
        step.weights[step.accepted], step.results.steps[step.accepted], config.client, p,
        np.ones(int(step.accepted.sum())),
    )  # fmt: skip
    if not members:
        return None
    everyone = TargetBlock(made.before, np.arange(len(p)), p, int(sizes.sum()))
    group = group_of(
        made.before,
        {job.base_version: base for job, base in zip(jobs, made.bases, strict=True)},
        made.version - 1,
        everyone(plan.work, federation).gradient,
        test_gradient,
        scale,
        config.server,
    )
    return MemberBlock(group, members, 0, score=False)
