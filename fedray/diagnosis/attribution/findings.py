"""What a diagnosis found: the content of diagnosis.json, and the rows of arms.parquet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedray.config import schema
from fedray.diagnosis.attribution.shares import (
    MEASURES,
    Cost,
    Metric,
    attribute,
    cost,
    costs,
    diverged,
    estimate,
    horizon,
)
from fedray.diagnosis.attribution.words import words
from fedray.diagnosis.counterfactual.arms import ARMS, CAUSES, POOLED, RUN, Arm
from fedray.diagnosis.counterfactual.curve import Curve
from fedray.diagnosis.counterfactual.trace import only_recorded

if TYPE_CHECKING:
    import pyarrow as pa

REFERENCE, PARTICIPATION = "reference", "participation"
"""Names of the controls: independent pooled SGD; every client in every version."""


def findings(
    config: schema.Config,
    clients: int,
    curves: Mapping[int, Mapping[str, Curve]],
    inert: Mapping[str, str],
    *,
    window: int | None,
    notes: Sequence[str],
    classification: bool,
) -> dict[str, Any]:
    """diagnosis.json as `docs/diagnosis.md` describes it; all numbers in it are finite.

    `curves[seed]` has the curve of every computed arm by its name, and of the controls
    that were flown. `inert` says of causes that make no difference why; arms that differ
    in them only are computed once. `window` is the number of arrivals that stand for a
    group where one update makes a version, else None.
    """
    metric: Metric = "accuracy" if classification else "loss"
    seeds = [_all_arms(by_name, inert) for by_name in curves.values()]
    by_updates = [costs(arms, metric, "updates") for arms in seeds]
    by_time = [costs(arms, metric, "time") for arms in seeds]
    runs = [arms[RUN] for arms in seeds]
    computed = len({arm.computed_as(inert) for arm in ARMS})
    found: dict[str, Any] = {
        "name": config.name,
        "algorithm": config.algorithm,
        "mode": config.server.schedule.mode,
        "clock": config.clock,
        "recorded": only_recorded(config),
        "clients": clients,
        "seeds": list(curves),
        "metric": metric,
        "versions": _mean_count(run.version[-1] for run in runs),
        "updates": _mean_count(run.updates[-1] for run in runs),
        "virtual_time_s": math.fsum(float(run.virtual_time_s[-1]) for run in runs) / len(runs),
        "window": window,
        "run": _figures([cost[RUN] for cost in by_updates], metric),
        "pooled": _figures([cost[POOLED] for cost in by_updates], metric),
        "reference": _reference(curves, seeds, by_updates, metric),
        "participation": _participation(curves, seeds, metric, clients),
        **_attributions(by_updates, inert),
        "by_time": _attributions(by_time, inert),
        "inert": dict(inert),
        "notes": [*notes, *_notes(curves, seeds, metric)],
        "arms": {"all": len(ARMS) * len(seeds), "computed": computed * len(seeds)},
    }
    return {**found, "words": words(found)}


def _all_arms(by_name: Mapping[str, Curve], inert: Mapping[str, str]) -> dict[Arm, Curve]:
    return {arm: by_name[arm.computed_as(inert).name] for arm in ARMS}


def _mean_count(counts: Iterable[Any]) -> int:
    """Seeds may stop at different versions; their mean, as a count."""
    values = [int(count) for count in counts]
    return round(math.fsum(values) / len(values))


def _attributions(
    seeds: Sequence[Mapping[Arm, Cost]], inert: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for measure in MEASURES:
        of = attribute([{a: getattr(c, measure) for a, c in s.items()} for s in seeds], inert)
        found[measure] = {
            "gap": of.gap._asdict(),
            "shares": {cause: share._asdict() for cause, share in of.shares.items()},
            "interactions": {pair: index._asdict() for pair, index in of.interactions.items()},
        }
    return found


def _figures(of: Sequence[Cost], metric: Metric) -> dict[str, dict[str, float | None]]:
    """Costs as the figures that they were made from: an accuracy is minus its cost."""
    sign, most = (-1.0, 1.0) if metric == "accuracy" else (1.0, math.inf)
    return {
        "level": _within([sign * c.level for c in of], most),
        "fall": _within([c.fall for c in of], most),
        "area": _within([sign * c.area for c in of], most),
    }


def _within(values: Sequence[float], most: float) -> dict[str, float | None]:
    """An estimate whose interval goes no further than the figure itself can."""
    value, low, high = estimate(values)
    if low is None or high is None:
        return {"value": value, "low": None, "high": None}
    return {"value": value, "low": max(low, min(0.0, value)), "high": min(high, max(most, value))}


def _minus(some: Sequence[float], others: Sequence[float]) -> dict[str, float | None]:
    """Of pairs from the same seed."""
    return estimate([a - b for a, b in zip(some, others, strict=True)])._asdict()


def _flown(name: str, curves: Mapping[int, Mapping[str, Curve]]) -> list[Curve]:
    """The curves of a control, one per seed; none unless all seeds have one."""
    found = [by_name[name] for by_name in curves.values() if name in by_name]
    return found if len(found) == len(curves) else []


def _reference(
    curves: Mapping[int, Mapping[str, Curve]],
    seeds: Sequence[Mapping[Arm, Curve]],
    by_updates: Sequence[Mapping[Arm, Cost]],
    metric: Metric,
) -> dict[str, Any] | None:
    """Independent pooled training, and how far above it the all-off arm ends."""
    flown = _flown(REFERENCE, curves)
    if not flown:
        return None
    within = [horizon(arms.values(), metric) for arms in seeds]
    of = [cost(c, metric, "updates", w) for c, w in zip(flown, within, strict=True)]
    figures = _figures(of, metric)
    sign = -1.0 if metric == "accuracy" else 1.0
    pooled = [sign * cost[POOLED].level for cost in by_updates]
    return {**figures, "difference": _minus(pooled, [sign * c.level for c in of])}


def _participation(
    curves: Mapping[int, Mapping[str, Curve]],
    seeds: Sequence[Mapping[Arm, Curve]],
    metric: Metric,
    clients: int,
) -> dict[str, Any] | None:
    """Every client in every version, against the run: both whole, so at equal versions."""
    flown = _flown(PARTICIPATION, curves)
    if not flown:
        return None
    within = [horizon(arms.values(), metric) for arms in seeds]
    of = [cost(c, metric, "updates", w) for c, w in zip(flown, within, strict=True)]
    run = [cost(arms[RUN], metric, "updates", w) for arms, w in zip(seeds, within, strict=True)]
    return {
        **_figures(of, metric),
        "clients": clients,
        "compute_ratio": _gradients(flown) / max(_gradients([a[RUN] for a in seeds]), 1),
        "level_gain": _minus([c.level for c in run], [c.level for c in of]),
        "fall_gain": _minus([c.fall for c in run], [c.fall for c in of]),
    }


def _gradients(curves: Sequence[Curve]) -> int:
    return sum(int(curve.steps[-1]) for curve in curves)


def _notes(
    curves: Mapping[int, Mapping[str, Curve]], seeds: Sequence[Mapping[Arm, Curve]], metric: Metric
) -> list[str]:
    """What the curves themselves say about the limits of the figures."""
    found = []
    bad = sorted({n for by_name in curves.values() for n, c in by_name.items() if diverged(c)})
    if bad:
        counted = (
            "its accuracy counts as it is"
            if metric == "accuracy"
            else "such a loss counts as the largest finite one of any arm of the same seed"
        )
        found.append(f"Diverged, with a loss that is no finite number: {_few(bad)}; {counted}.")
    rejected = sum(int(arms[RUN].rejected[-1]) for arms in seeds)
    if rejected:
        all_of = rejected + sum(int(arms[RUN].updates[-1]) for arms in seeds)
        found.append(
            f"The run refused {rejected:,} of {all_of:,} updates, which were not finite; joint "
            "walks that are not finite are left out whole. What a cause costs is then mostly "
            "what it diverges for."
        )
    shown = min(len(arms[RUN].version) for arms in seeds)
    if shown < 30:
        found.append(
            f"With {shown} evaluations the level is the mean of {max(shown // 10, 1)}: a smaller "
            "eval.every makes it steadier."
        )
    return found


def _few(names: Sequence[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def table(curves: Mapping[int, Mapping[str, Curve]], inert: Mapping[str, str]) -> pa.Table:
    """arms.parquet: the curves of all arms and controls, seed by seed (`report.tables.ARMS`)."""
    import pyarrow as pa

    from fedray.report import tables

    parts = [tables.ARMS.empty_table()]
    for seed, by_name in curves.items():
        for arm, curve in _all_arms(by_name, inert).items():
            causes: dict[str, Any] = dict(zip(CAUSES, arm, strict=True))
            made = {"arm": arm.name, "computed_as": arm.computed_as(inert).name, **causes}
            parts.append(_rows(curve, {"seed": seed, **made}))
        for name in (REFERENCE, PARTICIPATION):
            if name in by_name:
                no_cause: dict[str, Any] = dict.fromkeys(CAUSES)
                made = {"arm": name, "computed_as": name, **no_cause}
                parts.append(_rows(by_name[name], {"seed": seed, **made}))
    return pa.concat_tables(parts).combine_chunks()


def _rows(curve: Curve, same: Mapping[str, Any]) -> pa.Table:
    """A row per evaluation; an accuracy that does not exist is null."""
    import pyarrow as pa

    from fedray.report import tables

    n = len(curve.version)
    columns = []
    for field in tables.ARMS:
        if field.name in same:
            columns.append(pa.array([same[field.name]] * n, field.type))
        else:
            values = getattr(curve, field.name)
            columns.append(pa.array(values, field.type, from_pandas=field.name == "accuracy"))
    return pa.Table.from_arrays(columns, schema=tables.ARMS)
