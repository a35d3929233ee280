"""Plotly figures of a run, as plain dicts: data and layout, no plotly import.

Colours are written {"css": NAME} and looked up by the page, so that the same figure
suits a light screen, a dark one and paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

from fedray.report.figures import (
    Curve,
    Fall,
    Histogram,
    thin,
    window_without_start,
    worth_marking,
)
from fedray.report.words import metric_name, points, points_short, recovery, seconds, time_unit
from fedray.types import Floats, Ints

Chart = dict[str, Any]

BLUE, RED, GREY = {"css": "blue"}, {"css": "red"}, {"css": "grey"}
SERIES = [{"css": f"series-{i}"} for i in range(8)]
SCALE = {"css": "scale"}
STATUS_COLOURS = {
    "applied": BLUE,
    "stale": RED,
    "late": {"css": "orange"},
    "dropped_out": GREY,
    "rejected": {"css": "purple"},
}
MOST_POINTS = 1500


def plain(values: Iterable[float]) -> list[float | None]:
    """Six digits, and None for what JSON has no number for."""
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in values]


def label(text: str, most: int = 24) -> str:
    """A user's string for plotly, whose texts are a kind of HTML; shortened."""
    shown = text if len(text) <= most else text[: most - 1] + "…"
    return escape(shown).replace("$", "&#36;")  # a pair of dollars would be mathematics


def curve_chart(of: Curve, *, over: str, marked: Sequence[Fall] | None = None) -> Chart:
    """A figure of merit over `version` or `time`; falls from the running best are marked."""
    kept = thin(of.values, MOST_POINTS)
    scale = 100.0 if of.name == "accuracy" else 1.0
    divisor, unit = time_unit(float(of.times.max(initial=0.0)))
    x = of.versions[kept] if over == "version" else of.times[kept] / divisor
    hover = [f"version {of.versions[i]}, {seconds(of.times[i])}" for i in kept]
    shown = ":.1f}%" if of.name == "accuracy" else ":.4g}"
    data: list[Chart] = []
    if of.higher_is_better and len(kept) > 1:
        data.append(
            line(
                x,
                of.best[kept] * scale,
                "running best",
                GREY,
                dash="dot",
                hoverinfo="skip",
            )
        )
    data.append(
        line(
            x,
            of.values[kept] * scale,
            metric_name(of.name),
            BLUE,
            customdata=hover,
            mode="lines+markers" if len(kept) <= 60 else "lines",
            marker={"size": 5},
            hovertemplate=f"<b>%{{y{shown}</b><br>%{{customdata}}<extra></extra>",
        )
    )
    if marked is None:
        marked = worth_marking([], of)
    if marked:
        data.append(_fall_markers(marked, of.name, scale, over, divisor, float(x[-1])))
    axis = "version" if over == "version" else f"time ({unit})"
    y: Chart = {"title": {"text": metric_name(of.name) + (" (%)" if scale == 100 else "")}}
    y |= _y_range(of, scale)
    few = over == "version" and of.versions.max(initial=0) <= 10
    x_axis: Chart = {"title": {"text": axis}} | ({"dtick": 1} if few else {})
    return {"data": data, "layout": {"xaxis": x_axis, "yaxis": y}}


def _y_range(of: Curve, scale: float) -> Chart:
    """Loss on a log axis where it spans decades; R^2 cut below -1, where it is just bad."""
    if not len(of.values):
        return {}
    if (window := window_without_start(of)) is not None:
        return {"range": [scale * bound for bound in window]}
    low, high = float(of.values.min()), float(of.values.max())
    if of.name in ("loss", "mse") and low > 0 and high / low > 50:
        return {"type": "log", "dtick": 1}
    if of.name == "r2" and low < -1 and high > -1:
        return {"range": [-1.0 * scale, max(high, 0.0) * scale + 0.05]}
    return {}


def _fall_markers(
    marked: Sequence[Fall], name: str, scale: float, over: str, divisor: float, end: float
) -> Chart:
    x = [f.to_version if over == "version" else f.to_time_s / divisor for f in marked]
    at = x[0] / end if end else 0.5
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": "fall",
        "x": x,
        "y": plain(f.to_value * scale for f in marked),
        # Only the largest is written out: small ones crowd together.
        "text": [f"\N{MINUS SIGN}{points_short(marked[0].lost, name)}", *[""] * (len(marked) - 1)],
        "textposition": _beside(at),
        "textfont": {"color": RED, "size": 11},
        "cliponaxis": False,
        "marker": {"symbol": "triangle-down", "size": 10, "color": RED},
        "customdata": [
            f"{points(f.lost, name)} below version {f.from_version}'s best<br>"
            f"version {f.to_version}, {seconds(f.to_time_s)}; {recovery(f)}"
            for f in marked
        ],
        "hovertemplate": "<b>fall</b>: %{customdata}<extra></extra>",
    }


def _beside(at: float) -> str:
    """Where the writing goes for a marker at this share of the width."""
    side = "right" if at < 0.15 else "left" if at > 0.85 else "center"
    return f"bottom {side}"


def line(
    x: Any,
    y: Any,
    name: str,
    colour: Chart,
    *,
    dash: str = "solid",
    width: float = 2,
    shape: str = "linear",
    **more: Any,
) -> Chart:
    """A trace of connected points; `more` goes to plotly as it is."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": plain(x),
        "y": plain(y),
        "line": {"color": colour, "width": width, "dash": dash, "shape": shape},
    } | more


def histogram_chart(of: Histogram) -> Chart:
    """Stacked bars: how many versions old updates were on arrival."""
    width = int(of.edges[1] - of.edges[0])
    names = [str(e) if width == 1 else f"{e} to {e + width - 1}" for e in of.edges[:-1]]
    total = sum(int(c.sum()) for c in of.counts.values()) or 1
    data = [
        {
            "type": "bar",
            "name": label(status.replace("_", " ")),
            "x": (of.edges[:-1] + (width - 1) / 2).tolist(),
            "y": counts.tolist(),
            "customdata": [
                [name, f"{100 * n / total:.1f}%"] for name, n in zip(names, counts, strict=True)
            ],
            "marker": {"color": STATUS_COLOURS.get(status, GREY)},
            "hovertemplate": "staleness %{customdata[0]}<br><b>%{y:,}</b> updates "
            "(%{customdata[1]})<extra>%{fullData.name}</extra>",
        }
        for status, counts in sorted(of.counts.items(), key=lambda item: item[0] != "applied")
    ]
    few = len(of.edges) <= 13 and width == 1
    x = {"title": {"text": "staleness (versions)"}} | ({"dtick": 1} if few else {})
    layout = {
        "barmode": "stack",
        "bargap": 0.15,
        "xaxis": x,
        "yaxis": {"title": {"text": "updates"}},
        "showlegend": len(data) > 1,
    }
    return {"data": data, "layout": layout}


def dynamics_chart(versions: Ints, values: Floats, smoothed: Floats, name: str) -> Chart:
    """A quantity over versions: thin as measured, thick as a running mean."""
    kept = thin(values, MOST_POINTS)
    noisy = len(versions) > 60
    data = [
        line(
            versions[kept],
            values[kept],
            name,
            BLUE,
            width=1 if noisy else 2,
            opacity=0.45 if noisy else 1,
            mode="lines" if len(kept) > 60 else "lines+markers",
            marker={"size": 4},
            hovertemplate="version %{x}<br><b>%{y:.4g}</b><extra></extra>",
        )
    ]
    if noisy:
        data.append(line(versions[kept], smoothed[kept], "running mean", BLUE, hoverinfo="skip"))
    layout = {
        "height": 210,
        "showlegend": False,
        "xaxis": {"title": {"text": "version"}},
        "yaxis": {"nticks": 5},
    }
    return {"data": data, "layout": layout}


def overlay_chart(curves: Sequence[tuple[str, Any, Any]], across: str, up: str) -> Chart:
    """Several runs in one picture: (name, x, y) each; dashes tell apart what colours repeat."""
    dashes = ("solid", "dash", "dot", "dashdot")
    data = []
    for i, (name, x, y) in enumerate(curves):
        kept = thin(y, MOST_POINTS)
        data.append(
            line(
                x[kept],
                y[kept],
                label(name, 40),
                SERIES[i % len(SERIES)],
                dash=dashes[i // len(SERIES) % len(dashes)],
                hovertemplate=f"%{{x:.5g}}: <b>%{{y:.4g}}</b><extra>{label(name, 40)}</extra>",
            )
        )
    layout = {
        "showlegend": True,
        "hovermode": "closest",
        "height": 380,
        "xaxis": {"title": {"text": across}},
        "yaxis": {"title": {"text": up}},
    }
    return {"data": data, "layout": layout}
