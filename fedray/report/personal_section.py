"""The report's section on clients' own models: two distributions, and who gains how much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fedray.report import words
from fedray.report.charts import BLUE, GREY, MOST_POINTS, RED, Chart, label, line, plain
from fedray.report.figures import thin
from fedray.report.layout import Picture, Section, Table
from fedray.report.personal_words import OwnModels, in_words, own_models
from fedray.types import Floats

if TYPE_CHECKING:
    from fedray.report.run import Run

_ROWS = 5
_BARS = 200


def personal_section(run: Run, names: Mapping[int, str]) -> Section:
    """Empty where clients have no models of their own, or the run is unfinished."""
    title = "Models of the clients' own"
    of = own_models(run)
    if of is None:
        return Section("personal", title)
    pictures = [
        Picture(
            "personal-scores", "How good models are at the clients",
            "Share of clients up to each score, for the models of their own"
            + (" and the global one." if of.shared is not None else "."),
            _distributions(of),
            "Every client on the samples that it holds back. A curve further to the "
            + ("right" if of.metric == "accuracy" else "left") + " is better.",
        )
    ]  # fmt: skip
    if of.gain is not None:
        pictures.append(
            Picture(
                "personal-gains", "What each client gains",
                f"Gains of {len(of.gain)} clients in rising order.", _gains(of, of.gain, names),
                "Red: the global model serves the client better.",
            )
        )  # fmt: skip
    tables = [_figures(of), *_extremes(of, names)]
    return Section("personal", title, in_words(of), pictures, tables, columns=2)


def _scale(of: OwnModels) -> float:
    return 100.0 if of.metric == "accuracy" else 1.0


def _distributions(of: OwnModels) -> Chart:
    """Two empirical distribution functions: share of clients with at most this score."""
    data = []
    for name, values, colour in (("global", of.shared, GREY), ("own", of.own, BLUE)):
        if values is None:
            continue
        ordered = np.sort(values[np.isfinite(values)]) * _scale(of)
        share = 100.0 * np.arange(1, len(ordered) + 1) / max(1, len(ordered))
        kept = np.asarray(thin(ordered, MOST_POINTS))
        data.append(
            line(
                ordered[kept], share[kept], f"{name} model", colour, shape="hv",
                hovertemplate="%{y:.3g}% of clients: %{x:.4g} or less"
                f"<extra>{name} model</extra>",
            )
        )  # fmt: skip
    unit = "accuracy (%)" if of.metric == "accuracy" else "squared error"
    return {
        "data": data,
        "layout": {
            "showlegend": True,
            "hovermode": "closest",
            "xaxis": {"title": {"text": f"{unit}, held-out samples"}},
            "yaxis": {"title": {"text": "clients (%)"}, "range": [0, 102]},
        },
    }


def _gains(of: OwnModels, gain: Floats, names: Mapping[int, str]) -> Chart:
    """A bar per client, losers first; thinned where there are many."""
    order = np.argsort(gain, kind="stable")
    if len(order) > _BARS:
        order = order[np.linspace(0, len(order) - 1, _BARS).astype(np.int64)]
    shown = "%{y:+.1f} points" if of.metric == "accuracy" else "%{y:+.4g}"
    bars = {
        "type": "bar",
        "x": list(range(1, len(order) + 1)),
        "y": plain(gain[order] * _scale(of)),
        "marker": {"color": [RED if gain[i] < 0 else BLUE for i in order]},
        "customdata": [
            [label(_name(of, int(i), names)), int(of.examples[i]), int(of.tested[i])] for i in order
        ],
        "hovertemplate": f"<b>%{{customdata[0]}}</b><br>{shown}<br>trains on %{{customdata[1]:,}}, "
        "tests on %{customdata[2]:,} samples<extra></extra>",
    }
    unit = "gain (points)" if of.metric == "accuracy" else "gain (squared error)"
    return {
        "data": [bars],
        "layout": {
            "showlegend": False,
            "bargap": 0.15,
            "xaxis": {"title": {"text": "client, by gain"}},
            "yaxis": {"title": {"text": unit}},
        },
    }


def _name(of: OwnModels, row: int, names: Mapping[int, str]) -> str:
    client = int(of.clients[row])
    return names.get(client) or f"client {client}"


def _figures(of: OwnModels) -> Table:
    rows = [
        (f"{whose} model", *(of.score(found[key]) for key in ("mean", "median", "worst_decile")))
        for whose, found in (
            ("global", of.summary.get("global")), ("own", of.summary["personal"]),
        )
        if found is not None
    ]  # fmt: skip
    header = ("model", "mean", "median", "worst tenth")
    return Table("Over clients, on the samples they hold back", header, rows, header[1:])


def _extremes(of: OwnModels, names: Mapping[int, str]) -> list[Table]:
    """Who loses and who gains most."""
    if of.gain is None:
        return []
    order = np.argsort(of.gain, kind="stable")
    header = ("client", "global", "own", "gain", "trains on", "tests on")
    tables = []
    for caption, rows in (
        ("Lose most", order[of.gain[order] < 0][:_ROWS]),
        ("Gain most", order[::-1][of.gain[order[::-1]] > 0][:_ROWS]),
    ):
        if not len(rows):
            continue
        assert of.shared is not None
        body = [
            (
                _name(of, i, names), of.score(float(of.shared[i])), of.score(float(of.own[i])),
                of.change(float(of.gain[i])), words.number(float(of.examples[i])),
                words.number(float(of.tested[i])),
            )
            for i in rows.tolist()
        ]  # fmt: skip
        tables.append(Table(caption, header, body, header[1:]))
    return tables
