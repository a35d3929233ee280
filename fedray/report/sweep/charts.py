"""A sweep as plotly figures: response curves, heat maps, importance."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10
from typing import Any, NamedTuple

from fedray.report.charts import BLUE, GREY, SCALE, SERIES, Chart, label, line, plain
from fedray.report.diagnosis.effects import Effect
from fedray.report.sweep.importance import Importance
from fedray.report.sweep.merits import Merit
from fedray.report.sweep.response import Axes, Pair, Series, place
from fedray.report.sweep.settings import Trials
from fedray.types import Floats

_DASHES = ("solid", "dash", "dot", "dashdot")


class Scale(NamedTuple):
    """What a y axis is in: its title, and how the table's unit becomes the axis's."""

    title: str
    factor: float = 1.0


def coloured(i: int) -> dict[str, Any]:
    """Colour and dash of the i-th curve."""
    return {"colour": SERIES[i % len(SERIES)], "dash": _DASHES[i // len(SERIES) % len(_DASHES)]}


def banded(
    x: Any,
    effects: Sequence[Effect],
    name: str,
    i: int,
    factor: float = 1.0,
    **more: Any,
) -> list[Chart]:
    """A line with the band of its intervals, where it has any."""
    how = coloured(i)
    group = {"legendgroup": name}
    traces = []
    if any(each.low is not None for each in effects):
        unseen = {"hoverinfo": "skip", "showlegend": False} | group
        faint = {"fill": "tonexty", "fillcolor": {"css": f"series-{i % len(SERIES)}-faint"}}
        low = [factor * (e.value if e.low is None else e.low) for e in effects]
        high = [factor * (e.value if e.high is None else e.high) for e in effects]
        traces.append(line(x, low, name, how["colour"], width=0) | unseen)
        traces.append(line(x, high, name, how["colour"], width=0) | unseen | faint)
    middle = line(x, [factor * e.value for e in effects], name, how["colour"], dash=how["dash"])
    return [*traces, middle | group | more]


def response_chart(
    of: Trials, axes: Axes, curves: Sequence[Series], up: Scale, crossed: Sequence[Pair] = ()
) -> Chart:
    """A curve per series over the levels; where two are told to cross, a line."""
    data: list[Chart] = []
    for i, each in enumerate(curves):
        name = label(of.say(axes.series, each.value), 30) if axes.series else "all"
        hover = [
            f"{of.say(axes.key, level)}<br><b>{_said(effect, up)}</b>"
            for level, effect in zip(each.levels, each.y, strict=True)
        ]
        data += banded(
            each.x, each.y, name, i, up.factor,
            mode="lines+markers", marker={"size": 6}, customdata=hover,
            hovertemplate=f"%{{customdata}}<extra>{name}</extra>",
        )  # fmt: skip
    shapes, notes = [], []
    for i, pair in enumerate(crossed):
        shapes.append({
            "type": "line", "x0": pair.at, "x1": pair.at, "y0": 0, "y1": 1, "yref": "paper",
            "line": {"color": GREY, "width": 1.2, "dash": "dot"}, "layer": "below",
        })  # fmt: skip
        notes.append({
            # Plotly places notes by the logarithm, unlike lines.
            "x": log10(pair.at or 1.0) if axes.log else pair.at,
            "y": 0.02 + 0.07 * i, "yref": "paper", "yanchor": "bottom",
            "xanchor": "left", "xshift": 3, "showarrow": False, "font": {"size": 11},
            "text": label(
                f"{of.say_value(axes.series or '', pair.above)} overtakes "
                f"{of.say_value(axes.series or '', pair.below)}: {place(pair.at or 0.0)}", 48
            ),
        })  # fmt: skip
    return {
        "data": data,
        "layout": {
            "height": 400, "showlegend": len(curves) > 1, "shapes": shapes, "annotations": notes,
            "xaxis": {"title": {"text": along(of, axes)}} | ({"type": "log"} if axes.log else {}),
            "yaxis": {"title": {"text": up.title}},
        },
    }  # fmt: skip


def along(of: Trials, axes: Axes) -> str:
    """The title of the x axis."""
    if axes.measured:
        return "measured label severity (0: IID, 1: one class per client)"
    return label(of.names[axes.key], 40)


def _said(of: Effect, up: Scale) -> str:
    text = f"{up.factor * of.value:.4g}"
    if of.low is None or of.high is None:
        return text
    return f"{text} ({up.factor * of.low:.4g} to {up.factor * of.high:.4g})"


class Heat(NamedTuple):
    """Mean values by level of two keys: `values` is (rows, columns), NaN where there is none."""

    rows: Sequence[str]
    columns: Sequence[str]
    values: Floats


def heat_chart(
    of: Heat, merit: Merit, bounds: tuple[float, float], names: tuple[str, str]
) -> Chart:
    """Levels are categories; darker is better. `names`: of rows, of columns."""
    trace = {
        "type": "heatmap",
        "x": [label(text) for text in of.columns],
        "y": [label(text) for text in of.rows],
        "z": [plain(merit.scale * v for v in row) for row in of.values],
        "zmin": float(merit.scale * bounds[0]),
        "zmax": float(merit.scale * bounds[1]),
        "colorscale": SCALE,
        "reversescale": merit.sign < 0,
        "text": [["" if v != v else merit.say(float(v)) for v in row] for row in of.values],
        "texttemplate": "%{text}" if of.values.size <= 150 else "",
        "hovertemplate": f"{label(names[1], 40)} %{{x}}<br>{label(names[0], 40)} %{{y}}"
        "<br><b>%{text}</b><extra></extra>",
        "xgap": 2,
        "ygap": 2,
        "showscale": False,
    }
    return {
        "data": [trace],
        "layout": {
            "height": 110 + 34 * max(len(of.rows), 4),
            "xaxis": {"type": "category", "title": {"text": label(names[1], 40)}},
            "yaxis": {"type": "category", "title": {"text": label(names[0], 40)}},
        },
    }


def importance_chart(of: Trials, known: Importance, least: float = 0.005) -> Chart:
    """A bar per key and interaction that is behind more than `least` of the variance."""
    bars = [(of.names[key], share, BLUE) for key, share in known.shares.items()]
    bars += [
        (" with ".join(of.names[key] for key in keys.split("*")), share, SERIES[5])
        for keys, share in known.together.items()
        if share >= least
    ]
    if known.seeds is not None:
        bars.append(("seed", known.seeds, GREY))
    bars.sort(key=lambda bar: bar[1])
    return {
        "data": [
            {
                "type": "bar",
                "orientation": "h",
                "x": plain(100 * share for _, share, _ in bars),
                "y": [label(name, 40) for name, _, _ in bars],
                "marker": {"color": [colour for _, _, colour in bars]},
                "text": [f"{100 * share:.1f}%" for _, share, _ in bars],
                "textposition": "outside",
                "cliponaxis": False,
                "hovertemplate": "%{y}: <b>%{text}</b><extra></extra>",
            }
        ],
        "layout": {
            "height": 90 + 30 * len(bars),
            "bargap": 0.35,
            "xaxis": {
                "title": {"text": "share of the variance (%)"},
                "range": [0, 112 * max([share for _, share, _ in bars] + [1e-3])],
            },
            "yaxis": {"type": "category"},
        },
    }


def ranked_chart(names: Sequence[str], effects: Sequence[Effect], up: Scale) -> Chart:
    """A dot per setting on its interval, the first on top."""
    rows = list(range(len(names)))
    names = [label(name, 52) for name in names]
    value = [up.factor * e.value for e in effects]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": plain(value),
        "y": rows,
        "marker": {"size": 9, "color": BLUE},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": plain(
                up.factor * ((e.value if e.high is None else e.high) - e.value) for e in effects
            ),
            "arrayminus": plain(
                up.factor * (e.value - (e.value if e.low is None else e.low)) for e in effects
            ),
            "color": {"css": "soft"},
            "thickness": 1.4,
            "width": 4 if any(e.low is not None for e in effects) else 0,
        },
        "customdata": [
            f"{name}<br><b>{_said(e, up)}</b>" for name, e in zip(names, effects, strict=True)
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    return {
        "data": [trace],
        "layout": {
            "height": 100 + 24 * len(rows),
            "xaxis": {"title": {"text": up.title}, "rangemode": "tozero"},
            "yaxis": {"tickvals": rows, "ticktext": names, "range": [len(rows) - 0.4, -0.6]},
        },
    }
