"""How trials learned, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fedray.report import words
from fedray.report.charts import GREY, Chart, label, line
from fedray.report.figures import evenly, thin
from fedray.report.layout import Picture, Section
from fedray.report.sweep.charts import Scale, banded
from fedray.report.sweep.curves import Bundle, bundle, curves_of, score_curve
from fedray.report.sweep.response import Axes
from fedray.report.sweep.rows import canonical
from fedray.report.sweep.settings import Row, Trials

_IN_FRONT, _BEHIND, _MOST_LEVELS = 6, 60, 6
_TRIALS_PER_CURVE = 30


def learning_section(of: Trials, axes: Axes | None) -> Section:
    """A picture per level of the x key, with a curve per series; else the best settings."""
    title = "How they learned"
    if axes is not None and axes.series is not None and not of.searched:
        pictures = list(_by_level(of, axes))
        text = [_note(of, axes)]
        return Section("learning", title, text, pictures, columns=2 if len(pictures) > 1 else 1)
    pictures = list(_best(of))
    return Section("learning", title, (), pictures, columns=len(pictures) or 1)


def _scale(of: Trials) -> Scale:
    name = words.metric_name(of.merit.score)
    return Scale(f"{name} (%)", 100.0) if of.merit.score == "accuracy" else Scale(name)


def _note(of: Trials, axes: Axes) -> str:
    text = "Means over seeds, with bands from the worst to the best trial"
    if axes.averaged:
        text = (
            f"Means over seeds and {', '.join(of.names[key] for key in axes.averaged)}, with "
            "bands from the worst to the best trial"
        )
    return text + ". Time is virtual; curves end where the first of their trials does."


def _by_level(of: Trials, axes: Axes) -> Iterator[Picture]:
    levels: dict[str, list[Row]] = {}
    for row in of.with_status("finished"):
        levels.setdefault(canonical(row["settings"].get(axes.key)), []).append(row)
    chosen = list(levels.values())
    chosen = [chosen[i] for i in evenly(len(chosen), _MOST_LEVELS)] if chosen else []
    series = {canonical(row["settings"].get(axes.series or "")): None for row in of.rows}
    drawn = []
    for rows in chosen:
        bundles = []
        for i, name in enumerate(series):
            mine = [r for r in rows if canonical(r["settings"].get(axes.series or "")) == name]
            mine = [mine[j] for j in evenly(len(mine), _TRIALS_PER_CURVE)] if mine else []
            found = bundle(list(curves_of(of, mine)), "time")
            if found is not None:
                said = of.say(axes.series or "", mine[0]["settings"].get(axes.series or ""))
                bundles.append((i, said, found))
        if bundles:
            drawn.append((of.say(axes.key, rows[0]["settings"].get(axes.key)), bundles))
    window = _window([b for _, bundles in drawn for _, _, b in bundles])
    for i, (heading, bundles) in enumerate(drawn):
        about = f"Learning curves at {heading}: {', '.join(name for _, name, _ in bundles)}."
        chart = _chart(of, bundles, "time", window)
        yield Picture(f"learning-{i}", heading, about, chart)


def _window(bundles: Sequence[Bundle]) -> list[float] | None:
    """One range for all pictures: what comes after the first tenth of the way."""
    rest = [e.value for b in bundles for e in b.y[len(b.y) // 10 :]]
    if not rest or len(rest) < 20:
        return None
    low, high = np.quantile(rest, 0.01), max(rest)
    margin = 0.08 * ((high - low) or abs(high) or 1.0)
    return [float(low - margin), float(high + margin)]


def _best(of: Trials) -> Iterator[Picture]:
    """The best settings in front of all others' trials."""
    front = [each for each in of.settings if each.value is not None][:_IN_FRONT]
    if not front:
        return
    ahead = {each.number for each in front}
    others = [r for r in of.rows if r["setting"] not in ahead and r["versions"] is not None]
    others = [others[i] for i in evenly(len(others), _BEHIND)] if others else []
    behind = [found for row in others if (found := score_curve(of, row)) is not None]
    mine = [
        (f"#{place} {of.label(each.settings)}", list(curves_of(of, each.counted)))
        for place, each in enumerate(front, 1)
    ]
    note = "Numbers are those of the table of settings."
    if len(of.seeds) > 1:
        note += " Bands reach from the worst to the best seed."
    if behind:
        note += f" Grey: {len(behind)} trials of other settings."
    for over in ("version", "time"):
        bundles = [(i, name, b) for i, (name, c) in enumerate(mine) if (b := bundle(c, over))]
        grey = [
            (each.versions if over == "version" else each.times, each.values) for each in behind
        ]
        name = "version" if over == "version" else "virtual time"
        heading = f"{words.metric_name(of.merit.score)} by {name}, the best settings"
        about = f"{heading}: {', '.join(said for _, said, _ in bundles)}."
        window = _window([b for _, _, b in bundles])
        chart = _chart(of, bundles, over, window, grey)
        yield Picture(f"learning-{over}", heading, about, chart, note)


def _chart(
    of: Trials,
    bundles: Sequence[tuple[int, str, Bundle]],
    over: str,
    window: list[float] | None,
    grey: Sequence[tuple[Any, Any]] = (),
) -> Chart:
    up = _scale(of)
    end = max([float(b.x[-1]) for _, _, b in bundles] + [float(x[-1]) for x, _ in grey])
    divisor, unit = words.time_unit(end) if over == "time" else (1.0, "")
    data: list[Chart] = []
    for x, y in grey:
        kept = thin(y, 60)
        data.append(
            line(np.asarray(x)[kept] / divisor, up.factor * y[kept], "", GREY, width=1)
            | {"hoverinfo": "skip", "showlegend": False, "opacity": 0.4}
        )
    for i, said, found in bundles:
        # Long names would fill the picture: the legend has the number alone.
        name = label(said.split()[0] if said.startswith("#") else said, 44)
        data += banded(
            found.x / divisor, found.y, name, i, up.factor,
            hovertemplate=f"%{{x:.4g}}: <b>%{{y:.4g}}</b><br>{label(said, 80)}<extra></extra>",
        )  # fmt: skip
    y_axis: Chart = {"title": {"text": up.title}}
    if window is not None:
        y_axis["range"] = [up.factor * bound for bound in window]
    across = f"virtual time ({unit})" if over == "time" else "version"
    layout = {"height": 320, "showlegend": True, "xaxis": {"title": {"text": across}}}
    return {"data": data, "layout": layout | {"yaxis": y_axis}}
