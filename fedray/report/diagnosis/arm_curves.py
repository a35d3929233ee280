"""The arms of a diagnosis as curves over seeds, each computed arm once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fedray.report.diagnosis.causes import CAUSES, CONTROLS
from fedray.report.figures import column, evenly, strings
from fedray.types import Floats

if TYPE_CHECKING:
    import pyarrow as pa

MOST_POINTS = 400


@dataclass(frozen=True)
class ArmCurve:
    """Mean, least and greatest over seeds; arrays have shape (points,)."""

    name: str
    on: frozenset[str]
    also: tuple[str, ...]
    """Other arms that are the same, because causes make no difference."""
    x: Floats
    mean: Floats
    low: Floats
    high: Floats
    seeds: int
    final: float
    """The last evaluation, mean over seeds."""

    @property
    def control(self) -> bool:
        return self.name in CONTROLS


def arm_curves(arms: pa.Table, metric: str, over: str) -> list[ArmCurve]:
    """All arms of `arms.parquet`, run first and pooled second, controls last.

    `over` is `updates` or `virtual_time_s`. Arms that were computed as one are one curve,
    named for the fewest causes. Between evaluations of a seed, lines are straight.
    """
    names = strings(arms, "arm")
    found = []
    for members in _computed_as_one(arms):
        named = min(members, key=_rank)
        arm = arms.take(np.flatnonzero(names == named))
        also = tuple(sorted((m for m in members if m != named), key=_rank))
        if (curve := _over_seeds(arm, metric, over, named, also)) is not None:
            found.append(curve)
    return sorted(found, key=lambda curve: (curve.control, _rank(curve.name)))


def causes_on(arm: str) -> tuple[str, ...]:
    """The causes that are on in an arm, by its name."""
    if arm == "run":
        return tuple(CAUSES)
    return tuple(cause for cause in CAUSES if cause in arm.split("+"))


def _computed_as_one(arms: pa.Table) -> list[list[str]]:
    """Names of arms, those together that one computation stands for in every seed."""
    stands: dict[str, set[tuple[float, str]]] = {}
    seeds, names = column(arms, "seed").tolist(), strings(arms, "arm").tolist()
    for seed, name, one in zip(seeds, names, strings(arms, "computed_as").tolist(), strict=True):
        stands.setdefault(name, set()).add((seed, name if name in CONTROLS else one or name))
    groups: dict[frozenset[tuple[float, str]], list[str]] = {}
    for name, by_seed in stands.items():
        groups.setdefault(frozenset(by_seed), []).append(name)
    return list(groups.values())


def _rank(name: str) -> tuple[int, int, str]:
    """The run, then the pooled arm, then by how many causes are on."""
    first = {"run": 0, "pooled": 1}.get(name, 2)
    return first, len(causes_on(name)), name


def _over_seeds(
    arm: pa.Table, metric: str, over: str, name: str, also: tuple[str, ...]
) -> ArmCurve | None:
    seed, x, y = column(arm, "seed"), column(arm, over), column(arm, metric)
    kept = np.isfinite(x) & np.isfinite(y)
    per_seed = [(x[kept & (seed == s)], y[kept & (seed == s)]) for s in np.unique(seed)]
    per_seed = [(a, b) for a, b in per_seed if len(a)]
    if not per_seed:
        return None
    grid = _grid([a for a, _ in per_seed])
    values = np.stack([np.interp(grid, a, b) for a, b in per_seed])
    return ArmCurve(
        name,
        frozenset(causes_on(name)),
        also,
        grid,
        values.mean(0),
        values.min(0),
        values.max(0),
        len(per_seed),
        float(np.mean([b[-1] for _, b in per_seed])),
    )


def _grid(xs: Sequence[Floats]) -> Floats:
    """Where to draw: the evaluations of all seeds; one that has ended keeps its last value."""
    every = np.unique(np.concatenate(xs))
    return np.asarray(every[evenly(len(every), MOST_POINTS)])
