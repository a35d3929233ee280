"""The sections of a sweep's page: which pictures and tables, and what they say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fedray.report import words
from fedray.report.diagnosis.effects import Effect
from fedray.report.layout import Picture, Section, Table
from fedray.report.sweep.charts import (
    Heat,
    Scale,
    along,
    heat_chart,
    importance_chart,
    ranked_chart,
    response_chart,
)
from fedray.report.sweep.curves import Costs, costs
from fedray.report.sweep.importance import ANOVA, importance
from fedray.report.sweep.learning import learning_section
from fedray.report.sweep.merits import interval
from fedray.report.sweep.response import COSTS, Axes, axes_of, curves, pairs
from fedray.report.sweep.rows import canonical, finite
from fedray.report.sweep.search import search_section
from fedray.report.sweep.settings import Setting, Trials
from fedray.report.sweep.trials import ranking_section, trials_section

_MOST_CELLS, _MOST_MAPS = 30, 6
_PREFIXES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B"))


def sections(of: Trials) -> Iterator[Section]:
    """All sections in reading order, empty ones included."""
    axes = axes_of(of)
    yield ranking_section(of)
    yield _response(of, axes)
    yield _heat(of, axes)
    yield search_section(of)
    yield _importance(of)
    yield _costs(of, axes)
    yield learning_section(of, axes)
    yield trials_section(of)


def _response(of: Trials, axes: Axes | None) -> Section:
    title = "How results answer to what was varied"
    if axes is None:
        return Section("response", title)
    found = curves(of, axes)
    if not found or max(len(each.x) for each in found) < 2:
        return Section("response", title)
    compared = pairs(of, axes)
    crossed = [pair for pair in compared if pair.verdict == "crosses"]
    name = of.merit.name
    by = f", by {of.names[axes.series]}" if axes.series else ""
    over = "measured severity" if axes.measured else of.names[axes.key]
    heading = f"{name[:1].upper()}{name[1:]} over {over}{by}"
    chart = response_chart(of, axes, found, Scale(of.merit.axis, of.merit.scale), crossed[:5])
    about = f"{heading}. " + " ".join(words.sentence(pair.words) for pair in compared[:6])
    picture = Picture("response", heading, about, chart, _band_note(of, axes))
    text = []
    if compared and len(of.seeds) > 1:
        text.append(
            "Two curves are compared by their differences seed by seed, as trials of one seed "
            "share partition and delays; told apart means that the 95% interval of the mean "
            "difference excludes zero. Crossings are where straight lines between means meet."
        )
    tables = [_leaders(of, axes)]
    if compared:
        rows = [(f"{_named(of, axes, pair.first)}, {_named(of, axes, pair.second)}",
                 words.sentence(pair.words)) for pair in compared]  # fmt: skip
        tables.append(Table("Two at a time", ("pair", "verdict"), rows[:40]))
    return Section("response", title, text, [picture], [t for t in tables if t.rows])


def _named(of: Trials, axes: Axes, value: Any) -> str:
    return of.say(axes.series or "", value)


def _band_note(of: Trials, axes: Axes) -> str:
    parts = []
    if len(of.seeds) > 1:
        parts.append(f"Bands are 95% t-intervals of the mean over {len(of.seeds)} seeds")
    else:
        parts.append("One seed: no intervals")
    if axes.averaged:
        parts.append(f"means over {', '.join(of.names[key] for key in axes.averaged)}")
    return "; ".join(parts) + "."


def _leaders(of: Trials, axes: Axes) -> Table:
    """The best setting at every level of the x key, and whether that is sure."""
    by_level: dict[str, list[Setting]] = {}
    for each in of.settings:
        if each.value is not None:
            by_level.setdefault(canonical(each.settings.get(axes.key)), []).append(each)
    rows = []
    for level in sorted(by_level.values(), key=lambda found: _place(found[0], axes)):
        best, others = level[0], level[1:]
        value = of.say_value(axes.key, best.settings.get(axes.key))
        place = [f"{_place(best, axes):.2f}"] if axes.measured else []
        rows.append((
            value, *place, of.label(best.settings, (axes.key,)),
            of.merit.say_interval(best.value), _lead(of, best, others),
        ))  # fmt: skip
    key = of.names[axes.key]
    header = (key, *(["measured"] if axes.measured else []), "best", of.merit.name, "next best")
    numeric = ("measured", of.merit.name)
    alone = len(rows) < 2 or len(of.keys) < 2
    return Table(f"The best at every {key}", header, [] if alone else rows, numeric)


def _place(of: Setting, axes: Axes) -> float:
    if axes.measured:
        measured = [r["label_severity"] for r in of.counted if r["label_severity"] is not None]
        return sum(measured) / len(measured) if measured else float("nan")
    return finite(of.settings.get(axes.key)) or 0.0


def _lead(of: Trials, best: Setting, others: Sequence[Setting]) -> str:
    if not others:
        return words.NONE
    second = others[0]
    ours, theirs = best.by_seed(), second.by_seed()
    both = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
    same = {k for k, v in best.settings.items() if second.settings.get(k) == v}
    name = of.label(second.settings, tuple(same))
    if not both:
        return name
    found = interval(both)
    gap = of.merit.difference(found.value)
    if found.low is None:
        return f"{name}, {gap} behind"
    return f"{name}, {gap} behind" + (" (could be chance)" if found.doubtful else "")


def _heat(of: Trials, axes: Axes | None) -> Section:
    """Two numeric keys of a grid, those that matter most; a map per value of the series."""
    title = "Two keys together"
    shares = known.shares if (known := importance(of)) else {}
    numeric = [key for key in of.keys if key not in of.searched and _gridlike(of, key)]
    numeric.sort(key=lambda key: -shares.get(key, 0.0))
    if axes is not None and axes.key in numeric:
        numeric.remove(axes.key)
        numeric.insert(0, axes.key)
    if len(numeric) < 2:
        return Section("heat", title)
    across, up = numeric[:2]
    series = axes.series if axes is not None and axes.series not in (across, up) else None
    values = _distinct(of, series) if series else [None]
    if len(values) > _MOST_MAPS:
        series, values = None, [None]
    maps = [(value, _heat_of(of, up, across, series, value)) for value in values]
    every = np.concatenate([found.values.ravel() for _, found in maps])
    if not np.isfinite(every).any():
        return Section("heat", title)
    bounds = float(np.nanmin(every)), float(np.nanmax(every))
    pictures = []
    for i, (value, found) in enumerate(maps):
        heading = of.say(series, value) if series else _by(of, up, across)
        about = f"{of.merit.name} by {of.names[up]} and {of.names[across]}: {heading}."
        names = of.names[up], of.names[across]
        chart = heat_chart(found, of.merit, bounds, names)
        pictures.append(Picture(f"heat-{i}", heading, about, chart))
    text = (
        f"{_by(of, up, across)}, means over seeds{' and all else' if len(of.keys) > 3 else ''}; "
        "the better, the more a cell stands out."
    )
    columns = min(len(pictures), 3 if len(_distinct(of, across)) <= 5 else 2)
    return Section("heat", title, [text], pictures, columns=columns)


def _by(of: Trials, up: str, across: str) -> str:
    name = of.merit.name
    return f"{name[:1].upper()}{name[1:]} by {of.names[up]} and {of.names[across]}"


def _distinct(of: Trials, key: str) -> list[Any]:
    return list(
        {canonical(r["settings"].get(key)): r["settings"].get(key) for r in of.rows}.values()
    )


def _gridlike(of: Trials, key: str) -> bool:
    values = _distinct(of, key)
    return 2 <= len(values) <= _MOST_CELLS and all(finite(v) is not None for v in values)


def _heat_of(of: Trials, up: str, across: str, series: str | None, value: Any) -> Heat:
    rows, columns = sorted(_distinct(of, up)), sorted(_distinct(of, across))
    sums: dict[tuple[str, str], list[float]] = {}
    for row in of.with_status("finished"):
        given = row["settings"]
        if row["value"] is not None and (series is None or given.get(series) == value):
            cell = canonical(given.get(up)), canonical(given.get(across))
            sums.setdefault(cell, []).append(row["value"])
    values = np.array([
        [np.mean(sums.get((canonical(r), canonical(c)), [np.nan])) for c in columns] for r in rows
    ])  # fmt: skip
    say = [of.say_value(up, r) for r in rows], [of.say_value(across, c) for c in columns]
    return Heat(*say, values)


def _importance(of: Trials) -> Section:
    title, known = "What mattered", importance(of)
    if known is None or not known.shares:
        return Section("importance", title)
    ranked = sorted(known.shares.items(), key=lambda item: -item[1])
    said = ", ".join(f"{of.names[key]} {words.percent(share)}" for key, share in ranked)
    text = [known.method]
    if known.method == ANOVA:
        rest = max(0.0, 1 - known.explained)
        text[0] += (
            " Pairs are what two keys do together beyond that; the rest, "
            f"{words.percent(rest)}, is noise and what three or more do."
        )
    else:
        text[0] += (
            f" On settings that it had not seen, the forest explains "
            f"{words.percent(known.explained)} of the variance ({known.settings} settings)."
        )
        if of.with_status("stopped_early"):
            text[0] += " Trials that were stopped early count with their last value."
    chart = importance_chart(of, known)
    heading = f"Share of the variance of {of.merit.name}"
    picture = Picture("importance", heading, f"{heading}: {said}.", chart)
    return Section("importance", title, text, [picture])


def _costs(of: Trials, axes: Axes | None) -> Section:
    title, found = "What it takes to get there", costs(of)
    if found is None or not any(found.by_trial.values()):
        return Section("costs", title)
    score = "R²" if of.merit.score == "r2" or of.regression else "accuracy"
    target = words.metric(found.target, "r2" if score == "R²" else "accuracy")
    never = sum(cost is None for cost in found.by_trial.values())
    text = f"Bytes, both ways, and virtual time up to a test {score} of {target}, {found.said}."
    if never:
        text += (
            f" {never} of {len(found.by_trial)} finished trials never got there and are left out."
        )
    pictures = list(_cost_pictures(of, axes, found))
    return Section("costs", title, [text], pictures, columns=2 if axes else 1)


def _cost_pictures(of: Trials, axes: Axes | None, found: Costs) -> Iterator[Picture]:
    for row in of.rows:
        row["cost_bytes"], row["cost_s"] = found.by_trial.get(row["id"]) or (None, None)
    times = [row["cost_s"] for row in of.rows if row["cost_s"] is not None]
    divisor, unit = words.time_unit(max(times))
    most = max(row["cost_bytes"] or 0 for row in of.rows)
    size, prefix = next((s, p) for s, p in _PREFIXES if most >= s or s == 1)
    for column, name, scale in (
        ("cost_s", "Time to target", Scale(f"virtual time ({unit})", 1 / divisor)),
        ("cost_bytes", "Bytes to target", Scale(f"bytes, both directions ({prefix})", 1 / size)),
    ):
        if axes is not None:
            chart = response_chart(of, axes, curves(of, axes, column), scale)
            chart["layout"] |= {"height": 330}
            chart["layout"]["yaxis"] |= {"rangemode": "nonnegative"}
            about = f"{name} over {along(of, axes)}."
        else:
            ranked = _cheapest(of, column)
            names = [of.label(each.settings) for each, _ in ranked]
            chart = ranked_chart(names, [effect for _, effect in ranked], scale)
            about = f"{name}, cheapest first: {', '.join(names[:3])}."
        yield Picture(column.replace("_", "-"), name, about, chart)


def _cheapest(of: Trials, column: str, most: int = 15) -> list[tuple[Setting, Effect]]:
    """Settings all of whose counted trials get there, those with the least cost."""
    known = []
    for each in of.settings:
        values = [row[column] for row in each.counted]
        if values and None not in values:
            known.append((each, interval(values, COSTS)))
    return sorted(known, key=lambda item: item[1].value)[:most]
