"""What steps were made of, as plotly figures: effects and norms of the terms, per version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fedray.report.charts import BLUE, MOST_POINTS, SERIES, Chart, label, line, plain
from fedray.report.definitions import TERMS
from fedray.report.diagnosis.effects import minus
from fedray.report.figures import thin
from fedray.report.words import number
from fedray.types import Floats, Ints

MOST_BARS = 120
COLOURS = dict(
    zip(TERMS, (SERIES[1], SERIES[3], SERIES[4], SERIES[7], SERIES[6], SERIES[2]), strict=True)
)
TEXT, HELPS, COSTS = {"css": "text"}, {"css": "helps"}, {"css": "costs"}


class Steps(NamedTuple):
    """The versions that were looked into: all arrays have shape (versions looked into,)."""

    versions: Ints
    norms: Mapping[str, Floats]
    """By term, the gradient's own included."""
    effects: Mapping[str, Floats]
    """First-order effect on the training loss: -step size x inner product with the gradient."""
    all_together: Floats

    def silent(self, term: str) -> bool:
        """Whether a term is nothing but rounding, as staleness is in a synchronous run."""
        longest = float(np.nanmax(self.norms["gradient"], initial=0.0))
        return not float(np.nanmax(self.norms[term], initial=0.0)) > 1e-6 * longest


def steps_chart(of: Steps) -> Chart:
    """Stacked bars: below zero a term lowered the loss, above it raised it; line: the sum."""
    edges = _bins(len(of.versions))
    names = _spans(of.versions, edges)
    at = [float(of.versions[a:b].mean()) for a, b in edges]
    data: list[Chart] = []
    for term, effects in of.effects.items():
        if of.silent(term):
            continue
        name = TERMS[term].name.lower()
        means = [float(effects[a:b].mean()) for a, b in edges]
        data.append(
            {
                "type": "bar",
                "name": name,
                "x": plain(at),
                "y": plain(means),
                "customdata": names,
                "marker": {"color": COLOURS[term]},
                "hovertemplate": f"%{{customdata}}<br>{name} <b>%{{y:.4g}}</b><extra></extra>",
            }
        )
    sums = [float(of.all_together[a:b].mean()) for a, b in edges]
    data.append(
        line(at, sums, "all together", TEXT, width=1.6, mode="lines+markers", marker={"size": 4})
        | {
            "customdata": names,
            "hovertemplate": "%{customdata}<br>all together <b>%{y:.4g}</b><extra></extra>",
        }
    )
    y: Chart = {"title": {"text": "effect on the training loss"}, "zeroline": True}
    if (window := bar_window(of)) is not None:
        y["range"] = list(window)
    layout = {
        "height": 380,
        "barmode": "relative",
        "bargap": 0.12,
        "showlegend": True,
        "xaxis": {"title": {"text": "version"}},
        "yaxis": y,
    }
    return {"data": data, "layout": layout}


def bar_window(of: Steps) -> tuple[float, float] | None:
    """Bounds that cut the tallest bars, where they would flatten all others; else None.

    The first steps are often a hundred times as effective as those at the falls.
    """
    bars = np.array(
        [[v[a:b].mean() for a, b in _bins(len(of.versions))] for v in of.effects.values()]
    )
    tops, bottoms = np.maximum(bars, 0).sum(0), np.minimum(bars, 0).sum(0)
    spans = tops - bottoms
    usual = float(np.quantile(spans, 0.8))
    if float(spans.max()) <= 4 * usual or usual == 0:
        return None
    seen = spans <= usual
    return 1.3 * float(bottoms[seen].min()), 1.3 * float(tops[seen].max())


def bar_note(of: Steps) -> str:
    """What a bar stands for, where it stands for several versions, and which are cut."""
    edges = _bins(len(of.versions))
    most = max((b - a for a, b in edges), default=1)
    notes = [f"A bar is the mean of up to {most} of the versions looked into."] if most > 1 else []
    if bar_window(of) is not None:
        notes.append("The tallest bars are cut off; a double click shows all of them.")
    return " ".join(notes)


def _bins(count: int) -> list[tuple[int, int]]:
    """Consecutive, of about equal size, at most `MOST_BARS`."""
    edges = np.unique(np.linspace(0, count, min(count, MOST_BARS) + 1).round().astype(int))
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))


def _spans(versions: Ints, edges: Sequence[tuple[int, int]]) -> list[str]:
    return [
        f"version {versions[a]}" if b - a == 1 else f"versions {versions[a]} to {versions[b - 1]}"
        for a, b in edges
    ]


def norms_chart(of: Steps) -> Chart:
    """How long each term is, beside the gradient itself."""
    curves = {
        TERMS[term].name.lower(): (norms, COLOURS[term])
        for term, norms in of.norms.items()
        if not of.silent(term)
    }
    if not curves:
        return curves_chart(of.versions, {"gradient": (of.norms["gradient"], BLUE)}, "norm")
    chart = curves_chart(of.versions, curves, "norm")
    known = np.concatenate([v[np.isfinite(v) & (v > 0)] for v, _ in curves.values()])
    if len(known) and known.max() > 50 * known.min():
        # Below a millionth of the longest there is only rounding.
        low = max(float(known.min()), 1e-6 * float(known.max()))
        chart["layout"]["yaxis"] |= {
            "type": "log",
            "dtick": 1,
            "range": [float(np.log10(low)), float(np.log10(known.max())) + 0.1],
        }
    return chart


def curves_chart(
    versions: Ints, curves: Mapping[str, tuple[Floats, Chart]], up: str, scale: float = 1.0
) -> Chart:
    """Named curves over versions; unknown values are left out."""
    data = []
    for name, (values, colour) in curves.items():
        known = np.flatnonzero(np.isfinite(values))
        kept = known[thin(values[known], MOST_POINTS)]
        data.append(
            line(
                versions[kept],
                scale * values[kept],
                name,
                colour,
                width=1.8,
                mode="lines+markers" if len(kept) <= 60 else "lines",
                marker={"size": 4},
                hovertemplate=f"version %{{x}}<br><b>%{{y:.4g}}</b><extra>{name}</extra>",
            )
        )
    layout = {
        "height": 300,
        "showlegend": len(data) > 1,
        "xaxis": {"title": {"text": "version"}},
        "yaxis": {"title": {"text": up}},
    }
    return {"data": data, "layout": layout}


def effects_chart(
    names: Sequence[str], values: Sequence[float], notes: Sequence[str], across: str
) -> Chart:
    """A horizontal bar each: orange raises the loss, green lowers it."""
    rows = list(range(len(values)))
    names = [label(name, 28) for name in names]
    return {
        "data": [
            {
                "type": "bar",
                "orientation": "h",
                "x": plain(values),
                "y": rows,
                "marker": {"color": [COSTS if v > 0 else HELPS for v in values]},
                "customdata": [
                    f"<b>{name}</b> {minus(number(value))}{'<br>' if note else ''}{note}"
                    for name, value, note in zip(names, values, notes, strict=True)
                ],
                "hovertemplate": "%{customdata}<extra></extra>",
            }
        ],
        "layout": {
            "height": 100 + 24 * max(len(rows), 3),
            "bargap": 0.25,
            "xaxis": {"title": {"text": across}, "zeroline": True, "nticks": 6},
            "yaxis": {
                "tickvals": rows,
                "ticktext": names,
                "range": [max(len(rows), 3) - 0.5, -0.5],
            },
        },
    }
