"""From the curves of the arms to what each cause costs: costs, Shapley values, intervals."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations, product
from math import factorial, fsum, inf, sqrt
from typing import Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np

from fedray.diagnosis.counterfactual.arms import CAUSES, POOLED, RUN, Arm
from fedray.diagnosis.counterfactual.curve import Curve
from fedray.types import Floats

Metric: TypeAlias = Literal["accuracy", "loss"]
View: TypeAlias = Literal["updates", "time"]
Measure: TypeAlias = Literal["level", "fall", "area"]

MEASURES: tuple[Measure, ...] = ("level", "fall", "area")
CONFIDENCE = 0.95
DIVERGED = 1e100
"""A loss beyond this counts as not finite: sums and squares of smaller ones are."""

_On = TypeVar("_On", bound=tuple[bool, ...])


class Cost(NamedTuple):
    """What an arm came to, in accuracy (a fraction) or loss; more is worse.

    level: minus the accuracy (the loss) at the end, over the last tenth.
    fall: largest fall from the best accuracy so far (rise above the lowest loss so far).
    area: minus the mean accuracy (the mean loss) over the whole curve.
    """

    level: float
    fall: float
    area: float


class Horizon(NamedTuple):
    """What all arms of a seed have in common, so that they are compared like with like."""

    updates: float
    """Client updates up to which they are compared: all, for arms of one trace."""
    time_s: float
    """The shortest virtual time over the arms."""
    worst: float
    """The worst finite figure over the arms: what a figure that is not finite counts as."""


def worse(curve: Curve, metric: Metric) -> Floats:
    """The curve as (E,) figures of which more is worse, not finite ones included."""
    return -curve.accuracy if metric == "accuracy" else curve.loss


def diverged(curve: Curve) -> bool:
    """Whether the loss stopped being a finite number on the way."""
    return not bool(np.all(np.abs(curve.loss) <= DIVERGED))


def horizon(curves: Collection[Curve], metric: Metric) -> Horizon:
    """What the arms of one seed are compared within."""
    figures = np.concatenate([worse(curve, metric) for curve in curves])
    finite = figures[np.abs(figures) <= DIVERGED]
    return Horizon(
        updates=inf,
        time_s=min(float(curve.virtual_time_s[-1]) for curve in curves),
        worst=float(finite.max(initial=-1.0 if metric == "accuracy" else 0.0)),
    )


def cost(curve: Curve, metric: Metric, view: View, within: Horizon) -> Cost:
    """Level, fall and area of one curve.

    At equal updates: of the evaluations up to the horizon's updates, each counting the
    same; the last tenth of them is a tenth of their number, rounded down, at least one.
    At equal virtual time: each evaluation counts for the time since the one before, in
    which its model was made, up to the horizon's time; so the last model counts, and the
    first, which all arms share, does not. Of models made at one time the last one counts.
    Where no virtual time passes this view is the other one. Falls have no weights.

    A diverged model has an accuracy like any other (its predictions are what they are).
    Its loss is not finite and counts as `within.worst`, so that one arm beyond all bounds
    costs as much as the worst that any arm can show, and not infinitely more.
    """
    figures = worse(curve, metric)
    figures = np.where(np.abs(figures) <= DIVERGED, figures, within.worst)
    if view == "updates" or within.time_s == 0:
        shown = curve.updates <= within.updates
        whole = shown.astype(np.float64)
        tail = np.where(np.cumsum(shown) > shown.sum() - max(shown.sum() // 10, 1), whole, 0.0)
    else:
        times = curve.virtual_time_s
        whole = _durations(times, 0.0, within.time_s)
        tail = _durations(times, 0.9 * within.time_s, within.time_s)
        shown = (times <= within.time_s) | (whole > 0)
    seen = figures[shown]
    fall = float(np.max(seen - np.minimum.accumulate(seen)))
    return Cost(_mean(figures, tail), fall, _mean(figures, whole))


def _durations(times: Floats, since: float, until: float) -> Floats:
    """Seconds (E,) between `since` and `until` that each evaluation stands for."""
    last = np.append(times[1:] > times[:-1], True)
    widths = np.zeros(len(times))
    widths[last] = np.diff(np.clip(times[last], since, until), prepend=since)
    return widths


def _mean(figures: Floats, weights: Floats) -> float:
    # Summed exactly, so that equal curves cost the same to the bit on any machine.
    return fsum((figures * weights).tolist()) / fsum(weights.tolist())


def costs(curves: Mapping[Arm, Curve], metric: Metric, view: View) -> dict[Arm, Cost]:
    """The costs of all arms of one seed, over the whole trace that they share.

    An update that the run lost was trained as well, so an arm that takes it in has cost no
    more than one that does not: equal updates are equally many dispatched ones.
    """
    within = horizon(curves.values(), metric)
    return {arm: cost(curve, metric, view, within) for arm, curve in curves.items()}


def shapley(cost: Mapping[_On, float], causes: Sequence[str] = CAUSES) -> dict[str, float]:
    """What each cause adds to the cost, on average over all orders of switching causes on.

    phi_c = sum over S without c of |S|! (n - |S| - 1)! / n! * (v(S + c) - v(S))

    with v the cost of the arm in which exactly the causes in S are on (Shapley 1953).
    `cost` has all 2^n arms as tuples of n bools. The shares sum to v(all) - v(none), to
    rounding. A cause whose arms cost the same, to the bit, gets exactly 0.0.
    """
    value, n = _by_corner(cost), len(causes)
    shares = {}
    for c, cause in enumerate(causes):
        shares[cause] = fsum(
            _chance(sum(rest), n - 1) * (value[_on(rest, c)] - value[_off(rest, c)])
            for rest in product((False, True), repeat=n - 1)
        )
    return shares


def interactions(cost: Mapping[_On, float], causes: Sequence[str] = CAUSES) -> dict[str, float]:
    """How much more (negative: less) each of two causes costs where the other one is on.

    I_ab = sum over S without a, b of |S|! (n - |S| - 2)! / (n - 1)!
           * (v(S + a + b) - v(S + b) - v(S + a) + v(S))

    the Shapley interaction index (Grabisch & Roubens 1999), keyed "a*b" in the order of
    `causes`. Exactly 0.0 where a cause makes no difference to the bit.
    """
    value, n = _by_corner(cost), len(causes)
    found = {}
    for (a, cause), (b, other) in combinations(enumerate(causes), 2):
        total = []
        for rest in product((False, True), repeat=n - 2):
            # b is the later one: it is put in after a, which is put in at its own place.
            with_a, without_a = _on(rest, a), _off(rest, a)
            more = value[_on(with_a, b)] - value[_on(without_a, b)]
            less = value[_off(with_a, b)] - value[_off(without_a, b)]
            total.append(_chance(sum(rest), n - 2) * (more - less))
        found[f"{cause}*{other}"] = fsum(total)
    return found


def _by_corner(cost: Mapping[_On, float]) -> dict[tuple[bool, ...], float]:
    return {tuple(on): value for on, value in cost.items()}


def _chance(size: int, others: int) -> float:
    """Chance of one set of `size` out of `others` to come first in a random order."""
    return factorial(size) * factorial(others - size) / factorial(others + 1)


def _on(rest: tuple[bool, ...], place: int) -> tuple[bool, ...]:
    return (*rest[:place], True, *rest[place:])


def _off(rest: tuple[bool, ...], place: int) -> tuple[bool, ...]:
    return (*rest[:place], False, *rest[place:])


class Estimate(NamedTuple):
    """A mean over seeds and its 95% interval; no interval with one seed."""

    value: float
    low: float | None
    high: float | None


def estimate(
    values: Sequence[float], *, exact: bool = False, confidence: float = CONFIDENCE
) -> Estimate:
    """Mean over n seeds with the interval value -+ t * se, t of t_{n-1}: the 0.975 quantile.

    se is the ideal bootstrap's standard error of the mean (infinitely many resamples, in
    closed form: sqrt(sum (x - mean)^2) / n) times sqrt(n / (n - 1)), which makes its
    square unbiased. No random draw is needed. Not the percentile bootstrap: with the 3 to
    5 seeds that people run, its interval excludes zero whenever all seeds have the same
    sign, which under no effect happens with chance 2^(1-n): 25% with 3 seeds, where 5% is
    meant. The t-interval assumes that seeds scatter about normally.

    `exact` values are known and not estimated: their interval has no width, even with one
    seed.
    """
    n = len(values)
    mean = fsum(values) / n
    if exact:
        return Estimate(mean, mean, mean)
    if n == 1:
        return Estimate(mean, None, None)
    from scipy.special import stdtrit

    bootstrap = sqrt(fsum((x - mean) ** 2 for x in values)) / n
    half = float(stdtrit(n - 1, 0.5 + confidence / 2)) * bootstrap * sqrt(n / (n - 1))
    return Estimate(mean, mean - half, mean + half)


class Attribution(NamedTuple):
    """Who the gap between the run and pooled training is due to."""

    gap: Estimate
    shares: dict[str, Estimate]
    interactions: dict[str, Estimate]


def attribute(seeds: Sequence[Mapping[Arm, float]], inert: Collection[str]) -> Attribution:
    """The gap, the shares and the interactions of one measure; a cost per arm and seed.

    What an `inert` cause adds is known to be 0.0, with no width.
    """
    shares = [shapley(cost) for cost in seeds]
    pairs = [interactions(cost) for cost in seeds]
    return Attribution(
        estimate([cost[RUN] - cost[POOLED] for cost in seeds], exact=set(CAUSES) <= set(inert)),
        {c: estimate([s[c] for s in shares], exact=c in inert) for c in CAUSES},
        {
            f"{a}*{b}": estimate([p[f"{a}*{b}"] for p in pairs], exact=a in inert or b in inert)
            for a, b in combinations(CAUSES, 2)
        },
    )
