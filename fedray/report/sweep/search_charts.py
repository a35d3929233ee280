"""A search as plotly figures: parallel coordinates, and the metric against each key."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fedray.report import words
from fedray.report.charts import BLUE, GREY, Chart, label, plain
from fedray.report.figures import evenly
from fedray.report.sweep.merits import Merit
from fedray.report.sweep.rows import canonical, finite
from fedray.report.sweep.settings import Setting, Trials
from fedray.types import Floats

SHADES = 6
"""Colours of lines, from the worst sixth of settings to the best."""
MOST_LINES = 600
_LOGARITHMIC = ("loguniform", "lograndint")


class Dimension(NamedTuple):
    """One axis of parallel coordinates: `at` (settings,) in [0, 1], ticks as (place, text)."""

    name: str
    at: Floats
    ticks: Sequence[tuple[float, str]]


def is_log(of: Trials, key: str) -> bool:
    """Whether a key's values were drawn by their logarithm."""
    space = ((of.tree.get("sweep") or {}).get("search") or {}).get(key)
    return isinstance(space, dict) and any(kind in space for kind in _LOGARITHMIC)


def dimension(of: Trials, key: str, values: Sequence[Any]) -> Dimension:
    """Numbers along their range, words at even distances."""
    numbers = [finite(value) for value in values]
    name = label(of.names[key], 22)
    if any(number is None for number in numbers):
        spelt = sorted({canonical(value): value for value in values}.items())
        places = np.linspace(0, 1, len(spelt)) if len(spelt) > 1 else np.array([0.5])
        by_word = dict(zip((word for word, _ in spelt), places.tolist(), strict=True))
        at = np.array([by_word[canonical(value)] for value in values])
        ticks = [(by_word[c], label(of.say_value(key, value), 14)) for c, value in spelt]
        return Dimension(name, at, ticks)
    return _numeric(name, np.array(numbers, float), logarithmic=is_log(of, key))


def _numeric(
    name: str, values: Floats, *, logarithmic: bool, digits: int = 2, say: Any = words.number
) -> Dimension:
    scaled = np.log10(values) if logarithmic else values
    low, high = float(scaled.min()), float(scaled.max())
    if low == high:
        return Dimension(name, np.full(len(values), 0.5), [(0.5, say(float(values[0])))])
    different = np.unique(scaled)
    if len(different) <= 6:
        shown = different
    elif not logarithmic and (values == values.round()).all():
        shown = different[evenly(len(different), 5)]  # there is no 2.5th epoch
    else:
        shown = np.linspace(low, high, 5)
    ticks = [
        (float((v - low) / (high - low)), say(float(f"{10**v if logarithmic else v:.{digits}g}")))
        for v in shown
    ]
    return Dimension(name, (scaled - low) / (high - low), ticks)


def parallel_chart(of: Trials, settings: Sequence[Setting], keys: Sequence[str]) -> Chart:
    """A line per setting through its values to the metric; the better, the stronger.

    `settings` are best first and have values.
    """
    values = np.array([each.value.value for each in settings if each.value is not None])
    merit = of.merit
    axes = [dimension(of, key, [each.settings.get(key) for each in settings]) for key in keys]
    last = _metric_axis(values, merit)
    axes.append(last)
    data = []
    count = len(settings)
    # The worst first, so that the best are drawn on top.
    for shade in range(SHADES):
        first = count - (shade + 1) * count // SHADES
        end = count - shade * count // SHADES
        if first < end:
            data.append(_lines(of, settings, values, axes, range(first, end), shade))
    return {
        "data": data,
        "layout": {
            "height": 380,
            "shapes": [_upright(i) for i in range(len(axes))],
            "annotations": [note for i, axis in enumerate(axes) for note in _scale(i, axis)],
            "xaxis": {
                "tickvals": list(range(len(axes))),
                "ticktext": [axis.name for axis in axes],
                "range": [-0.15, len(axes) - 0.6],
                "showgrid": False,
                "side": "top",
                "fixedrange": True,
            },
            "yaxis": {"visible": False, "range": [-0.06, 1.06], "fixedrange": True},
        },
    }


def _metric_axis(values: Floats, merit: Merit) -> Dimension:
    """Cut at the middle half's reach below: one bad value must not flatten all others."""
    ordered = np.sort(merit.sign * values)
    quarter, most = float(np.quantile(ordered, 0.25)), float(ordered[-1])
    least = max(float(ordered[0]), quarter - 3 * (most - quarter))
    kept = merit.sign * np.maximum(merit.sign * values, least)
    return _numeric(label(merit.name, 24), kept, logarithmic=False, digits=3, say=merit.say)


def _lines(
    of: Trials,
    settings: Sequence[Setting],
    values: Floats,
    axes: Sequence[Dimension],
    which: range,
    shade: int,
) -> Chart:
    x: list[float | None] = []
    y: list[float | None] = []
    said: list[str] = []
    for i in which:
        text = f"<b>{of.merit.say(float(values[i]))}</b><br>" + "<br>".join(
            label(of.say(key, value), 40) for key, value in settings[i].settings.items()
        )
        for j, axis in enumerate(axes):
            x.append(j)
            y.append(float(f"{axis.at[i]:.3g}"))
            said.append(text if j == len(axes) - 1 else "")
        x.append(None)
        y.append(None)
        said.append("")
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": x,
        "y": y,
        "marker": {"size": [8 if text else 0.1 for text in said]},
        "line": {"color": {"css": f"job-{shade}"}, "width": 1 + shade / 4},
        "opacity": 0.45 + 0.1 * shade,
        "customdata": said,
        "hovertemplate": "%{customdata}<extra></extra>",
        "showlegend": False,
    }


def _upright(i: int) -> Chart:
    ends = {"x0": i, "x1": i, "y0": 0, "y1": 1}
    return {"type": "line", "line": {"color": GREY, "width": 1.2}, "layer": "above"} | ends


def _scale(i: int, axis: Dimension) -> list[Chart]:
    return [
        {
            "x": i, "y": at, "text": text, "showarrow": False, "xanchor": "left", "xshift": 5,
            "font": {"size": 10.5}, "bgcolor": {"css": "paper"}, "opacity": 0.85, "borderpad": 1,
        }
        for at, text in axis.ticks
    ]  # fmt: skip


def slice_chart(of: Trials, settings: Sequence[Setting], key: str) -> Chart:
    """The metric against one key, a dot per setting; grey where it was stopped early."""
    known = [(each, each.value.value) for each in settings if each.value is not None]
    values = [each.settings.get(key) for each, _ in known]
    numbers = [finite(value) for value in values]
    spelt = any(number is None for number in numbers)
    merit = of.merit
    x: Any = [label(of.say_value(key, v), 16) for v in values] if spelt else plain(numbers)  # type: ignore[arg-type]
    axis: Chart = {"title": {"text": label(of.names[key], 40)}}
    if spelt:
        axis |= {"type": "category"}
    elif is_log(of, key):
        axis |= {"type": "log"} | _decades([n for n in numbers if n is not None])
    ended = [all(row["status"] == "finished" for row in each.trials) for each, _ in known]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": x,
        "y": plain(merit.scale * value for _, value in known),
        "marker": {"size": 6, "color": [BLUE if end else GREY for end in ended], "opacity": 0.65},
        "customdata": [label(of.label(each.settings), 70) for each, _ in known],
        "hovertemplate": "<b>%{y:.4g}</b><br>%{customdata}<extra></extra>",
    }
    y: Chart = {"title": {"text": merit.axis}}
    return {"data": [trace], "layout": {"height": 260, "xaxis": axis, "yaxis": y}}


def _decades(numbers: Sequence[float]) -> Chart:
    """Whole powers of ten where the range has some."""
    span = math.log10(max(numbers) / min(numbers))
    return {"dtick": 1} if span >= 2 else {}
