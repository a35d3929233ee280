"""Plotly figures about the clients: who trained when, and who owns what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.report.charts import BLUE, GREY, SCALE, STATUS_COLOURS, Chart, label, line, plain
from fedray.report.figures import ClassCurves, LabelMatrix, thin
from fedray.report.gantt import Timeline
from fedray.report.words import NONE, seconds, time_unit
from fedray.types import Floats


def timeline_chart(of: Timeline, client_names: dict[int, str]) -> Chart:
    """Gantt: a bar per job, a lane per client, coloured by staleness or by what went wrong."""
    divisor, unit = time_unit(float(of.end_s.max(initial=0.0)))
    applied = of.status == "applied"
    data = [
        _bars(of, applied & inside, name, client_names, {"color": colour}, divisor)
        for name, inside, colour in _staleness_classes(of.staleness, applied)
    ]
    for status in sorted(set(of.status[~applied].tolist())):
        colour = {"color": STATUS_COLOURS.get(status, GREY), "pattern": {"shape": "/", "size": 5}}
        name = label(status.replace("_", " ")) or "unknown"
        data.append(_bars(of, of.status == status, name, client_names, colour, divisor))
    lanes = np.arange(len(of.clients))
    step = max(1, len(lanes) // 20)
    ticks = lanes[::step]
    lines = [
        {
            "type": "line",
            "x0": t,
            "x1": t,
            "y0": 0,
            "y1": 1,
            "yref": "paper",
            "line": {"color": GREY, "width": 0.6, "dash": "dot"},
            "layer": "below",
        }
        for t in plain(of.version_times_s / divisor)
    ]
    layout = {
        "barmode": "overlay",
        "bargap": 0.18,
        "shapes": lines,
        "hovermode": "closest",
        "height": int(min(760, 110 + 22 * max(len(lanes), 3))),
        "showlegend": len(data) > 1,
        "xaxis": {"title": {"text": f"time ({unit})"}},
        "yaxis": {
            "autorange": "reversed",
            "showgrid": False,
            "tickvals": ticks.tolist(),
            "ticktext": [_client(of.clients[i], client_names) for i in ticks],
        },
    }
    return {"data": data, "layout": layout}


def _staleness_classes(
    staleness: Floats, applied: NDArray[np.bool_], most: int = 6
) -> Iterator[tuple[str, NDArray[np.bool_], Chart]]:
    """Up to `most` ranges of staleness, darker where staler: (name, mask, colour)."""
    if not applied.any():
        return
    values = np.where(np.isfinite(staleness), staleness, 0)
    top = int(values[applied].max())
    width = -(-(top + 1) // most)
    count = top // width + 1
    for i in range(count):
        low, high = i * width, (i + 1) * width - 1
        name = f"staleness {low}" if width == 1 else f"staleness {low} to {high}"
        shade = round(i * (most - 1) / max(count - 1, 1))
        yield name, (values >= low) & (values <= high), {"css": f"job-{shade}"}


def _bars(
    of: Timeline, mask: Any, name: str, names: dict[int, str], marker: Chart, divisor: float
) -> Chart:
    rows = np.flatnonzero(mask)
    return {
        "type": "bar",
        "orientation": "h",
        "width": 0.8,
        "textposition": "none",
        "name": name,
        "base": plain(of.start_s[rows] / divisor),
        "x": plain((of.end_s - of.start_s)[rows] / divisor),
        "y": of.lane[rows].tolist(),
        "customdata": [
            [
                _client(of.clients[of.lane[i]], names),
                seconds(of.start_s[i]),
                seconds(of.end_s[i]),
                seconds(of.end_s[i] - of.start_s[i]),
                _count(of.base_version[i]),
                _count(of.staleness[i]),
            ]
            for i in rows
        ],
        "marker": marker,
        "hovertemplate": "<b>%{customdata[0]}</b><br>%{customdata[1]} to %{customdata[2]} "
        "(%{customdata[3]})<br>from version %{customdata[4]}, staleness %{customdata[5]}"
        f"<extra>{name}</extra>",
    }


def _count(value: float) -> str:
    return str(int(value)) if np.isfinite(value) else NONE


def _client(client: int, names: dict[int, str]) -> str:
    return label(names.get(int(client)) or f"client {client}")


def partition_chart(of: LabelMatrix, names: dict[int, str]) -> Chart:
    """Client by class: shade is the share of the client's samples, hover gives the count."""
    share = of.counts / np.maximum(of.counts.sum(1, keepdims=True), 1)
    rows, columns = of.counts.shape
    every = max(1, rows // 24)
    across = max(1, columns // 24)
    return {
        "data": [
            {
                "type": "heatmap",
                "z": [plain(100 * row) for row in share],
                "customdata": [
                    [
                        [_client(of.clients[r], names), label(of.classes[c]), int(of.counts[r, c])]
                        for c in range(columns)
                    ]
                    for r in range(rows)
                ]
                if rows * columns <= 4000
                else None,
                "text": of.counts.tolist(),
                "colorscale": SCALE,
                "zmin": 0,
                "zmax": 100,
                "xgap": 1 if columns <= 40 else 0,
                "ygap": 1 if rows <= 60 else 0,
                "colorbar": {
                    "title": {"text": "% of the client's samples", "side": "right"},
                    "thickness": 10,
                    "outlinewidth": 0,
                },
                "hovertemplate": (
                    "<b>%{customdata[0]}</b>, class %{customdata[1]}<br>"
                    "%{customdata[2]:,} samples, %{z:.1f}% of its own<extra></extra>"
                    if rows * columns <= 4000
                    else "%{text:,} samples, %{z:.1f}% of the client's own<extra></extra>"
                ),
            }
        ],
        "layout": {
            "height": int(min(720, 130 + 17 * max(rows, 8))),
            "xaxis": {
                "title": {"text": "class"},
                "showgrid": False,
                "zeroline": False,
                "tickvals": list(range(0, columns, across)),
                "ticktext": [label(c, 16) for c in of.classes[::across]],
            },
            "yaxis": {
                "autorange": "reversed",
                "showgrid": False,
                "zeroline": False,
                "tickvals": list(range(0, rows, every)),
                "ticktext": [_client(c, names) for c in of.clients[::every]],
            },
        },
    }


def sizes_chart(examples: Floats) -> Chart:
    """Samples per client, largest first."""
    ordered = -np.sort(-examples[np.isfinite(examples)])
    bars = len(ordered) <= 200
    kept = np.arange(len(ordered)) if bars else np.asarray(thin(ordered, 400))
    rank, size = (kept + 1).tolist(), ordered[kept]
    hover = "rank %{x}<br><b>%{y:,}</b> samples<extra></extra>"
    trace = (
        {
            "type": "bar",
            "x": rank,
            "y": plain(size),
            "marker": {"color": BLUE},
            "hovertemplate": hover,
        }
        if bars
        else line(rank, size, "samples", BLUE, fill="tozeroy", hovertemplate=hover)
    )
    layout = {
        "xaxis": {"title": {"text": "client, by size"}},
        "bargap": 0.15,
        "yaxis": {"title": {"text": "samples"}, "rangemode": "tozero"},
        "showlegend": False,
    }
    return {"data": [trace], "layout": layout}


def classes_chart(of: ClassCurves) -> Chart:
    """Accuracy of every class over versions."""
    rows = len(of.classes)
    every = max(1, rows // 30)
    trace = {
        "type": "heatmap",
        "x": of.versions.tolist(),
        "y": list(range(rows)),
        "z": [plain(100 * row) for row in of.values],
        "colorscale": SCALE,
        "zmin": 0,
        "zmax": 100,
        "ygap": 1 if rows <= 40 else 0,
        "text": [[label(name)] * len(of.versions) for name in of.classes] if rows <= 40 else None,
        "colorbar": {
            "title": {"text": "accuracy (%)", "side": "right"},
            "thickness": 10,
            "outlinewidth": 0,
        },
        "hovertemplate": "class %{text}<br>version %{x}: <b>%{z:.1f}%</b><extra></extra>"
        if rows <= 40
        else "class %{y}<br>version %{x}: <b>%{z:.1f}%</b><extra></extra>",
    }
    return {
        "data": [trace],
        "layout": {
            "height": int(min(640, 120 + 20 * max(rows, 6))),
            "xaxis": {"title": {"text": "version"}, "showgrid": False},
            "yaxis": {
                "autorange": "reversed",
                "showgrid": False,
                "tickvals": list(range(0, rows, every)),
                "ticktext": [label(c) for c in of.classes[::every]],
            },
        },
    }
