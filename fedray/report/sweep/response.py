"""How the metric answers to one swept key, a curve per value of another, and where curves cross.

Trials of one seed share partition and delays (common random numbers), so that two curves are
compared by their differences seed by seed, whose interval is narrower than the curves' own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import inf, log10
from typing import Any, NamedTuple

from fedray.report.diagnosis.effects import Effect
from fedray.report.sweep.importance import importance
from fedray.report.sweep.merits import interval
from fedray.report.sweep.rows import canonical, finite
from fedray.report.sweep.settings import Row, Trials

SEVERITY = "label_severity"
COSTS = 0.0, inf
"""What bytes and seconds can be."""
_LEAST_SPREAD = 0.02
"""Of measured severity, below which partitions are all alike."""
_MOST_LEVELS, _MOST_SERIES = 50, 8


class Axes(NamedTuple):
    """What goes along the x axis, and what makes a curve."""

    key: str
    """The swept key whose values are the levels."""
    measured: bool
    """Whether a level is drawn at its measured label severity, not at its value."""
    series: str | None
    """The swept key that has a curve per value."""
    averaged: tuple[str, ...]
    """Other swept keys, which curves are means over."""
    log: bool = False
    """Whether distances along x are those of logarithms."""


class Level(NamedTuple):
    """A value of the x key: its place, and the trials by series."""

    value: Any
    x: float
    rows: dict[str, list[Row]]


@dataclass(frozen=True)
class Series:
    """A curve; x, y and levels have one entry per point, by increasing x."""

    value: Any
    x: list[float]
    y: list[Effect]
    levels: list[Any]


@dataclass(frozen=True)
class Pair:
    """Two curves compared seed by seed.

    verdict: `crosses` (the better one changes, told from chance on both sides), `ahead` (one
    is better wherever they can be told apart) or `open`. `at`: where the mean curves cross,
    None where they do not. `below` and `above`: which is better on which side of it.
    """

    first: Any
    second: Any
    over: str
    verdict: str
    at: float | None
    below: Any
    above: Any
    words: str


def axes_of(of: Trials) -> Axes | None:
    """The partition's key at its measured severity; else the numeric key that matters most."""
    gridded = [k for k in of.keys if k not in of.searched and len(_values(of, k)) >= 2]
    spread = {key: _severity_spread(of, key) for key in gridded if key.startswith("partition")}
    widest = max(spread, key=lambda key: spread[key], default=None)
    weights = importance(of)
    shares = weights.shares if weights else {}
    rank = sorted(gridded, key=lambda key: -shares.get(key, 0.0))
    if widest is not None and spread[widest] >= _LEAST_SPREAD:
        key, measured = widest, True
    else:
        numeric = [k for k in rank if all(finite(v) is not None for v in _values(of, k))]
        numeric = [k for k in numeric if len(_values(of, k)) <= _MOST_LEVELS]
        if not numeric:
            return None
        key, measured = numeric[0], False
    others = [k for k in rank if k != key and len(_values(of, k)) <= _MOST_SERIES]
    series = "algorithm" if "algorithm" in gridded else others[0] if others else None
    averaged = tuple(k for k in of.keys if k not in (key, series))
    return Axes(key, measured, series, averaged, not measured and _decades(_values(of, key)))


def _decades(values: Sequence[Any]) -> bool:
    """Whether positive numbers span so much that they can only be seen by their logarithm."""
    return bool(min(values) > 0 and max(values) / min(values) >= 50)


def _values(of: Trials, key: str) -> list[Any]:
    """The values of a key, in the order of the trials."""
    found = {canonical(row["settings"].get(key)): row["settings"].get(key) for row in of.rows}
    return list(found.values())


def _severity_spread(of: Trials, key: str) -> float:
    means = [level.x for level in _levels(of, Axes(key, True, None, ()))]
    return max(means) - min(means) if len(means) > 1 else 0.0


def _levels(of: Trials, axes: Axes) -> list[Level]:
    """By increasing x; without those that no finished trial has."""
    found = []
    for value in _values(of, axes.key):
        same = canonical(value)
        rows = [
            row
            for row in of.rows
            if row["status"] == "finished" and canonical(row["settings"].get(axes.key)) == same
        ]
        # All trials of a seed have the same partition: each seed counts once.
        by_seed = {row["seed"]: row[SEVERITY] for row in rows if row[SEVERITY] is not None}
        if not rows or (axes.measured and not by_seed):
            continue
        x = sum(by_seed.values()) / len(by_seed) if axes.measured else float(value)
        by_series: dict[str, list[Row]] = {}
        for row in rows:
            name = canonical(row["settings"].get(axes.series or ""))
            by_series.setdefault(name, []).append(row)
        found.append(Level(value, x, by_series))
    return sorted(found, key=lambda level: level.x)


def curves(of: Trials, axes: Axes, column: str = "value") -> list[Series]:
    """A curve per value of the series key: means over seeds with intervals.

    Of a seed, the mean over all other keys counts. Trials without a value are left out.
    """
    levels = _levels(of, axes)
    found = []
    for value in _values(of, axes.series) if axes.series else [None]:
        x, y, kept = [], [], []
        for level in levels:
            by_seed: dict[int, list[float]] = {}
            for row in level.rows.get(canonical(value), ()):
                if row.get(column) is not None:
                    by_seed.setdefault(row["seed"], []).append(row[column])
            if by_seed:
                x.append(level.x)
                means = [sum(each) / len(each) for each in by_seed.values()]
                y.append(interval(means, of.merit.bounds if column == "value" else COSTS))
                kept.append(level.value)
        if x:
            found.append(Series(value, x, y, kept))
    return found


def pairs(of: Trials, axes: Axes) -> list[Pair]:
    """Every two curves, compared; those that cross come first."""
    if axes.series is None:
        return []
    levels = _levels(of, axes)
    found = []
    for first, second in combinations(_values(of, axes.series), 2):
        x, differences = [], []
        for level in levels:
            difference = _difference(of, axes, level, first, second)
            if difference is not None:
                x.append(level.x)
                differences.append(difference)
        if x:
            found.append(_compared(of, axes, first, second, x, differences))
    return sorted(found, key=lambda pair: ("crosses", "ahead", "open").index(pair.verdict))


def _difference(of: Trials, axes: Axes, level: Level, first: Any, second: Any) -> Effect | None:
    """How much better the first is than the second, over seeds; of a seed, means over
    the settings of other keys that both have."""

    def cells(value: Any) -> dict[tuple[int, str], float]:
        return {
            (row["seed"], canonical([row["settings"].get(k) for k in axes.averaged])): row["value"]
            for row in level.rows.get(canonical(value), ())
            if row["value"] is not None
        }

    ours, theirs = cells(first), cells(second)
    by_seed: dict[int, list[float]] = {}
    for cell in ours.keys() & theirs.keys():
        by_seed.setdefault(cell[0], []).append(of.merit.sign * (ours[cell] - theirs[cell]))
    if not by_seed:
        return None
    return interval([sum(each) / len(each) for _, each in sorted(by_seed.items())])


def crossing(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Where straight lines between points (x increasing) last change sign; None: never."""
    at = None
    for (x0, x1), (y0, y1) in zip(pairwise(x), pairwise(y), strict=True):
        if y0 * y1 < 0:
            at = x0 + (x1 - x0) * y0 / (y0 - y1)
        elif y0 == 0 and any(v * y1 < 0 for v in y[: x.index(x0)]):
            at = x0
    return at


def _crossing(x: Sequence[float], y: Sequence[float], axes: Axes) -> float | None:
    if not axes.log:
        return crossing(x, y)
    at = crossing([log10(each) for each in x], y)
    return None if at is None else float(10**at)


def told(of: Effect) -> int:
    """The sign of a difference whose interval excludes zero, else 0."""
    return 0 if of.low is None or of.doubtful else (1 if of.value > 0 else -1)


def _compared(
    of: Trials,
    axes: Axes,
    first: Any,
    second: Any,
    x: list[float],
    differences: Sequence[Effect],
) -> Pair:
    signs = [told(each) for each in differences]
    known = [i for i, sign in enumerate(signs) if sign]
    turns = [(i, j) for i, j in pairwise(known) if signs[i] != signs[j]]
    means = [each.value for each in differences]
    over = SEVERITY if axes.measured else axes.key
    series = axes.series or ""
    names = of.say(series, first), of.say(series, second)
    along = "measured severity" if axes.measured else of.names[axes.key]
    if turns:
        i, j = turns[-1]
        at = _crossing(x[i : j + 1], means[i : j + 1], axes)
        assert at is not None  # the means at i and j have different signs
        winner, loser = (0, 1) if signs[j] > 0 else (1, 0)
        text = f"{names[winner]} overtakes {names[loser]} above {along} {place(at)}"
        both = (first, second)
        return Pair(first, second, over, "crosses", at, both[loser], both[winner], text)
    at = _crossing(x, means, axes)
    if known:
        winner = 0 if signs[known[0]] > 0 else 1
        text = f"{names[winner]} is ahead of {names[1 - winner]} {_where(known, x, along)}"
        ahead = (first, second)[winner]
        return Pair(first, second, over, "ahead", at, ahead, ahead, text)
    text = f"{names[0]} and {names[1]} cannot be told apart at any {along}"
    if differences[0].low is None:
        text += " on one seed"
    if at is not None:
        text += f", though their mean curves cross at {place(at)}"
    return Pair(first, second, over, "open", at, None, None, text)


def _where(known: Sequence[int], x: Sequence[float], along: str) -> str:
    if len(known) == len(x):
        return f"at every {along}, {place(x[0])} to {place(x[-1])}"
    places = [place(x[i]) for i in known]
    listed = places[0] if len(places) == 1 else f"{', '.join(places[:-1])} and {places[-1]}"
    return f"at {along} {listed}; elsewhere they cannot be told apart"


def place(x: float) -> str:
    """A place on the axis."""
    return f"{x:.2f}" if 0.1 <= abs(x) < 10 and not float(x).is_integer() else f"{x:.2g}"
