"""One-feature regressions: the fitted lines, and what the built-in scenarios teach."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fedray.report.charts import GREY, SERIES, Chart, label, line
from fedray.report.facts import Facts, client_names, dig
from fedray.report.run import Run
from fedray.report.words import metric, number


class Line(NamedTuple):
    """y = coef x + intercept, and R^2 on the test set where known."""

    name: str
    coef: float
    intercept: float
    r2: float | None = None
    client: int | None = None

    @property
    def formula(self) -> str:
        sign = "+" if self.intercept >= 0 else "\N{MINUS SIGN}"
        return f"y = {number(self.coef)} x {sign} {number(abs(self.intercept))}"


def lines(run: Run, known: Facts) -> list[Line]:
    """The global model's line, then whatever `summary["scenario"]` has; [] for other models."""
    found = []
    model = _line_of(run.model.get("coef"), run.model.get("intercept"))
    if model and len(known.summary.get("features") or [None]) == 1:
        found.append(Line("global model", *model, known.final))
    scenario = known.summary.get("scenario")
    if not isinstance(scenario, dict):
        return found
    for key, name in (
        ("mean", "proper mean"),
        ("pairwise", "running average"),
        ("pooled", "pooled fit"),
    ):
        if pair := _pair(scenario.get(key)):
            found.append(Line(name, *pair, scenario.get(f"r2_{key}")))
    names = client_names(run)
    for i, entry in enumerate(scenario.get("client_models") or []):
        if pair := _pair(entry):
            found.append(Line(names.get(i, f"client {i}"), *pair, client=i))
    return found


def _line_of(coef: Any, intercept: Any) -> tuple[float, float] | None:
    if coef is None or np.size(coef) != 1:
        return None
    offset = float(np.ravel(intercept)[0]) if np.size(intercept) == 1 else 0.0
    return float(np.ravel(coef)[0]), offset


def _pair(value: Any) -> tuple[float, float] | None:
    flat = np.ravel(np.asarray(value, dtype=float)) if value is not None else np.empty(0)
    return (float(flat[0]), float(flat[1])) if flat.size == 2 else None


def x_range(known: Facts) -> tuple[float, float]:
    """Where the inputs lie: known for the scenarios, else about four standard deviations."""
    if dig(known.config, "data.source") != "linear_regression":
        return -2.0, 2.0
    widest = dig(known.config, "data.scenario") == "non_iid"
    return 0.0, 5.0 * max(known.clients, 1) if widest else 10.0


def lines_chart(all_lines: list[Line], known: Facts) -> Chart:
    """The lines over the range of the inputs; a client's line ends where its inputs end."""
    low, high = x_range(known)
    own_range = dig(known.config, "data.scenario") == "non_iid"
    data = []
    for i, one in reversed(list(enumerate(all_lines))):  # the global model on top
        is_client = one.client is not None
        end = 5.0 * (one.client + 1) if one.client is not None and own_range else high
        x = np.array([low, (low + end) / 2, end])
        strong = one.name == "global model"
        colour = {"css": "text"} if strong else GREY if is_client else SERIES[i % len(SERIES)]
        dash = "solid" if strong else "dot" if is_client else "dash"
        data.append(
            line(
                x,
                one.coef * x + one.intercept,
                label(one.name),
                colour,
                dash=dash,
                width=3.5 if strong else 2,
                hovertemplate=f"<b>{label(one.name)}</b><br>{one.formula}<extra></extra>",
            )
        )
    layout = {
        "xaxis": {"title": {"text": "x"}},
        "yaxis": {"title": {"text": "y"}},
        "showlegend": True,
        "legend": {"traceorder": "reversed"},
        "height": 380,
    }
    return {"data": data, "layout": layout}


def explanation(known: Facts) -> list[str]:
    """What a run on `data.source: linear_regression` shows; [] for other data."""
    if dig(known.config, "data.source") != "linear_regression":
        return []
    told = [_the_data(known), _the_average(known), _the_figures(known), _the_rounds(known)]
    return [text for text in told if text]


def _the_data(known: Facts) -> str:
    n = known.clients
    if dig(known.config, "data.scenario") == "non_iid":
        return (
            f"Non-IID: client i of {n} (from 1; tables and pictures count from 0) has inputs x "
            "from 0 to 5i and answers y = i x + i + noise. "
            "No line is right for all of them: the mean of the clients' lines is a compromise, and "
            "it differs from the fit on the pooled data, in which clients with wide inputs pull "
            "harder. That gap is the price of heterogeneity, and more rounds do not remove it."
        )
    return (
        f"IID: all {n} clients share one law, y = 2x + 1 + noise. Every client's own fit is close "
        "to the truth, so every average of the fits is too, whatever its weights. If accuracy "
        "decays elsewhere, averaging as such is not the cause."
    )


def _the_average(known: Facts) -> str:
    if dig(known.config, "server.aggregator.kind") != "pairwise":
        return ""
    n = known.clients
    weights = [2.0 ** -(n - 1)] + [2.0 ** -(n - i) for i in range(1, n)] if n else []
    shown = ", ".join(f"1/{round(1 / w)}" if w < 1 else "1" for w in weights[-6:])
    first = "" if n <= 6 else "..., "
    return (
        "The aggregator is the naive running average, g <- (g + l) / 2 over the clients in order. "
        f"It is no mean: the clients' weights come to {first}{shown}, so the last client counts "
        f"half and the result depends on the order. A proper mean weights each 1/{n}."
    )


def _the_figures(known: Facts) -> str:
    scenario = known.summary.get("scenario")
    found = {
        name: scenario.get(f"r2_{key}") if isinstance(scenario, dict) else None
        for key, name in (
            ("pooled", "the fit on all data pooled"),
            ("mean", "the proper mean of the clients' exact fits"),
            ("pairwise", "their running average"),
        )
    }
    told = [f"{name} has {metric(r2, 'r2')}" for name, r2 in found.items() if r2 is not None]
    if not told or known.final is None:
        return ""
    return (
        f"In R² on the test set, {', '.join(told)}; this run ended at {metric(known.final, 'r2')}."
    )


def _closed_form(config: Any) -> bool:
    """Whether clients fit from scratch, so that the model they were sent does not matter."""
    fit, estimator = dig(config, "model.fit"), str(dig(config, "model.estimator") or "")
    solved = estimator.endswith((".LinearRegression", ".Ridge"))
    return dig(config, "model.kind") == "sklearn" and (fit == "full" or (fit == "auto" and solved))


def _the_rounds(known: Facts) -> str:
    config, values = known.config, known.curve.values
    if _closed_form(config):
        text = (
            "Clients refit in closed form and from scratch: a fit depends on the client's data "
            "and not on the model it was sent. So every round gives the same lines and the same "
            "average, and repeating it cannot drift, whichever way it is averaged."
        )
        after = values[1:] if len(values) and known.curve.versions[0] == 0 else values
        if len(after) > 1:
            spread = float(after.max() - after.min())
            text += (
                f" Here R² is {metric(float(after[-1]), 'r2')} after each of the "
                f"{len(after)} versions."
                if spread < 1e-9
                else f" Here R² still varies by {number(spread)} over the versions, so the cohorts "
                "or the server's own state differ between them."
            )
        return text
    epochs = dig(config, "client.epochs")
    work = f"{number(epochs)} epochs" if isinstance(epochs, int | float) else "local steps"
    if dig(config, "data.scenario") != "non_iid":
        return f"Clients take {work} of SGD from the model they were sent, towards similar optima."
    return (
        f"Clients take {work} of SGD from the model they were sent, each towards its own optimum: "
        "with enough of them they forget what they were sent. This is drift that is real: see the "
        "distance of local models from their base, and how updates cancel out."
    )
