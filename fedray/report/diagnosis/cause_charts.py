"""What each cause costs, as plotly figures: waterfall and interactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from fedray.report.charts import BLUE, GREY, SERIES, Chart, line, plain
from fedray.report.diagnosis.causes import CAUSES
from fedray.report.diagnosis.effects import MINUS, Effect, Measure

COSTS, HELPS, TEXT = {"css": "costs"}, {"css": "helps"}, {"css": "text"}


class Fall(NamedTuple):
    """A waterfall's two ends and the costs between them, in the measure's own units."""

    start: float
    end: float
    steps: Mapping[str, Effect]
    """Cost per cause: positive makes it worse."""
    down: bool
    """Whether worse is lower, as it is for accuracy."""


def waterfall_chart(of: Fall, measure: Measure, axis: str, ends: tuple[str, str]) -> Chart:
    """From `start` to `end`, a bar per cause, the costliest first; whiskers are intervals."""
    scale, sign = measure.scale, -1.0 if of.down else 1.0
    order = sorted(of.steps, key=lambda cause: -of.steps[cause].value)
    at = [of.start]
    for cause in order:
        at.append(at[-1] + sign * of.steps[cause].value)
    steps = [of.steps[cause] for cause in order]
    tops, bottoms = _extents(at, steps, sign)
    data = [
        _bars(order, at, steps, measure),
        _whiskers(at, steps, sign, scale),
        _numbers(steps, sign, [scale * top for top in tops], measure),
        *_ends(of, measure, len(order), axis),
    ]
    low, high = scale * min([*bottoms, of.end, of.start]), scale * max([*tops, of.end, of.start])
    room = (high - low) or abs(high) or 1.0
    names = [ends[0], *(_wrapped(CAUSES[cause].short) for cause in order), ends[1]]
    layout = {
        "height": 340,
        "bargap": 0.25,
        "shapes": _connectors(at, scale),
        "xaxis": {
            "tickvals": list(range(len(names))),
            "ticktext": names,
            "showgrid": False,
            "range": [-0.6, len(names) - 0.4],
            "tickangle": 0,
        },
        "yaxis": {"title": {"text": axis}, "range": [low - 0.12 * room, high + 0.2 * room]},
    }
    return {"data": data, "layout": layout}


def _extents(
    at: Sequence[float], steps: Sequence[Effect], sign: float
) -> tuple[list[float], list[float]]:
    """Upper and lower edge of each bar with its whisker."""
    tops, bottoms = [], []
    for (before, after), step in zip(pairwise(at), steps, strict=True):
        edges = [before, after]
        edges += [before + sign * v for v in (step.low, step.high) if v is not None]
        tops.append(max(edges))
        bottoms.append(min(edges))
    return tops, bottoms


def _bars(
    order: Sequence[str], at: Sequence[float], steps: Sequence[Effect], measure: Measure
) -> Chart:
    return {
        "type": "bar",
        "x": list(range(1, len(order) + 1)),
        "base": plain(measure.scale * v for v in at[: len(order)]),
        "y": plain(measure.scale * (b - a) for a, b in pairwise(at)),
        "marker": {
            "color": [COSTS if step.value > 0 else HELPS for step in steps],
            "opacity": [0.45 if step.doubtful else 1.0 for step in steps],
        },
        "customdata": [
            f"<b>{CAUSES[cause].name}</b> {verb(step)} {_amount(step, measure)}"
            for cause, step in zip(order, steps, strict=True)
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def verb(step: Effect) -> str:
    """What a cause did, by the sign of its cost."""
    return "cost" if step.value > 0 else "helped by" if step.value < 0 else "made no difference,"


def _amount(step: Effect, measure: Measure) -> str:
    size = -step if step.value < 0 else step
    return f"{measure.interval(size)} {measure.unit}"


def _whiskers(at: Sequence[float], steps: Sequence[Effect], sign: float, scale: float) -> Chart:
    """Intervals at the bars' ends, where there are any; unseen points carry them."""
    known = [i for i, step in enumerate(steps) if step.low != step.high]
    longer = [scale * max(_bound(steps[i].high, steps[i]) - steps[i].value, 0.0) for i in known]
    shorter = [scale * max(steps[i].value - _bound(steps[i].low, steps[i]), 0.0) for i in known]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [i + 1 for i in known],
        "y": plain(scale * at[i + 1] for i in known),
        "marker": {"size": 1, "opacity": 0},
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": plain(longer if sign > 0 else shorter),
            "arrayminus": plain(shorter if sign > 0 else longer),
            "color": TEXT,
            "thickness": 1.2,
            "width": 5,
        },
        "hoverinfo": "skip",
    }


def _bound(bound: float | None, step: Effect) -> float:
    return step.value if bound is None else bound


def _numbers(
    steps: Sequence[Effect], sign: float, tops: Sequence[float], measure: Measure
) -> Chart:
    """What each bar does to the figure on the axis, above it."""
    texts = []
    for step in steps:
        change = sign * step.value
        size = measure.difference(abs(change))
        prefix = "" if size in ("0", "0.0") else MINUS if change < 0 else "+"
        texts.append(prefix + size)
    return _texts(range(1, len(steps) + 1), tops, texts)


def _ends(of: Fall, measure: Measure, count: int, axis: str) -> list[Chart]:
    """Both ends as short lines, since bars would promise an axis that starts at zero."""
    write = measure.level if of.down or measure.metric != "accuracy" else measure.difference
    lines = [
        line(
            [x - 0.36, x + 0.36],
            [measure.scale * value] * 2,
            axis,
            colour,
            width=4,
            hoverinfo="skip",
        )
        for x, value, colour in ((0, of.start, SERIES[2]), (count + 1, of.end, BLUE))
    ]
    return [
        *lines,
        _texts(
            [0, count + 1],
            [measure.scale * of.start, measure.scale * of.end],
            [f"<b>{write(of.start)}</b>", f"<b>{write(of.end)}</b>"],
        ),
    ]


def _texts(x: Sequence[float], y: Sequence[float], texts: Sequence[str]) -> Chart:
    return {
        "type": "scatter",
        "mode": "markers+text",
        # Unseen, they keep the writing off what is below it.
        "marker": {"size": 7, "opacity": 0},
        "x": list(x),
        "y": plain(y),
        "text": list(texts),
        "textposition": "top center",
        "textfont": {"color": TEXT, "size": 12},
        "cliponaxis": False,
        "hoverinfo": "skip",
    }


def _connectors(at: Sequence[float], scale: float) -> list[Chart]:
    """Dotted levels from each bar to the next."""
    return [
        {
            "type": "line",
            "x0": i + 0.36,
            "x1": i + 0.64,
            "y0": y,
            "y1": y,
            "line": {"color": GREY, "width": 1, "dash": "dot"},
        }
        for i, y in enumerate(plain(scale * v for v in at))
    ]


def _wrapped(name: str) -> str:
    """A cause's short name over two lines, for the foot of a bar."""
    return "<br>".join(name.split(" ", 1))


def interactions_chart(
    shares: Mapping[str, Effect], pairs: Mapping[frozenset[str], Effect], measure: Measure
) -> Chart:
    """Cause by cause: shares on the diagonal, what two cost together elsewhere."""
    names = [CAUSES[cause].short for cause in shares]
    cells = [
        [shares[a] if a == b else pairs.get(frozenset((a, b))) for b in shares] for a in shares
    ]
    largest = max((abs(c.value) for row in cells for c in row if c), default=0.0) or 1.0
    trace = {
        "type": "heatmap",
        "x": list(range(len(names))),
        "y": list(range(len(names))),
        "z": [plain(measure.scale * c.value if c else float("nan") for c in row) for row in cells],
        "text": [[measure.difference(c.value) if c else "" for c in row] for row in cells],
        "texttemplate": "%{text}",
        "textfont": {"size": 13},
        "customdata": [
            [
                f"<b>{a if a == b else f'{a} with {b}'}</b><br>{measure.interval(c)} {measure.unit}"
                for b, c in zip(names, row, strict=True)
            ]
            for a, row in zip(names, cells, strict=True)
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
        "colorscale": {"css": "effect-scale"},
        "zmin": -measure.scale * largest,
        "zmax": measure.scale * largest,
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
    }
    axis = {"tickvals": list(range(len(names))), "showgrid": False, "tickangle": 0}
    return {
        "data": [trace],
        "layout": {
            "height": 320,
            "xaxis": {**axis, "ticktext": [_wrapped(n) for n in names]},
            "yaxis": {**axis, "ticktext": names, "autorange": "reversed"},
        },
    }
