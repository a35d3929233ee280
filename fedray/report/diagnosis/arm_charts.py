"""The arms' learning curves as plotly figures: the run and the pooled arm in front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fedray.report.charts import BLUE, GREY, SERIES, Chart, line
from fedray.report.diagnosis.arm_curves import ArmCurve, causes_on
from fedray.report.diagnosis.causes import CAUSES, CONTROLS
from fedray.report.diagnosis.effects import Measure
from fedray.report.words import time_unit

FEW = 12
"""Below so many evaluations, all of them are shown."""
COLOURS = dict(zip(CAUSES, (SERIES[1], SERIES[4], SERIES[3], SERIES[6]), strict=True))


class Look(NamedTuple):
    """How an arm is drawn."""

    name: str
    colour: Chart
    dash: str
    width: float
    shown: bool = True
    """Or only after a click on the legend."""


FRONT = {
    "run": Look("the run (all causes on)", BLUE, "solid", 3),
    "pooled": Look("pooled (all causes off)", SERIES[2], "solid", 3),
}
_CONTROLS = {
    "reference": Look(CONTROLS["reference"][0], {"css": "text"}, "dot", 1.5),
    "participation": Look(CONTROLS["participation"][0], SERIES[7], "dashdot", 1.5),
}


def arm_name(arm: str) -> str:
    """As people read it."""
    if arm in ("run", "pooled"):
        return FRONT[arm].name
    if arm in CONTROLS:
        return CONTROLS[arm][0]
    return " + ".join(CAUSES[cause].short for cause in causes_on(arm))


def curves_chart(curves: Sequence[ArmCurve], measure: Measure, over: str) -> Chart:
    """All arms over `updates` or `virtual_time_s`; seeds as a band around the front two."""
    largest = max((float(curve.x[-1]) for curve in curves if not curve.control), default=1.0)
    divisor, unit = time_unit(largest) if over == "virtual_time_s" else (1.0, "")
    live = live_causes(curves)
    data: list[Chart] = []
    # What comes last is drawn on top; the legend has its own order.
    for rank, curve in sorted(enumerate(curves), key=lambda item: item[1].name in FRONT):
        how = look(curve, live)
        order = {"legendrank": rank + (0 if how.shown else len(curves))}
        data += [trace | order for trace in _traces(curve, how, measure, divisor)]
    across = f"virtual time ({unit})" if unit else "client updates"
    y: Chart = {"title": {"text": measure.axis}}
    if (window := window_after_start(curves, largest)) is not None:
        y["range"] = [measure.scale * bound for bound in window]
    layout = {
        "height": 460,
        "showlegend": True,
        # A control may have gone on for longer: it is shown as far as the arms go.
        "xaxis": {"title": {"text": across}, "range": [0, 1.01 * largest / divisor]},
        "yaxis": y,
    }
    return {"data": data, "layout": layout}


def window_after_start(
    curves: Sequence[ArmCurve], end: float, start: float = 0.1
) -> tuple[float, float] | None:
    """Bounds of all that comes after the first tenth; None where that is most of the range.

    Every arm has the same steep start, which would press the differences together.
    """
    arms = [curve for curve in curves if not curve.control]
    if not arms or max(len(curve.x) for curve in arms) < FEW:
        return None
    whole = np.concatenate([curve.mean for curve in arms])
    rest = np.concatenate([curve.mean[curve.x >= start * end] for curve in arms])
    low, high = float(rest.min()), float(rest.max())
    if high - low > 0.7 * float(np.ptp(whole)):
        return None
    margin = 0.06 * ((high - low) or abs(high) or 1.0)
    return low - margin, high + margin


def live_causes(curves: Sequence[ArmCurve]) -> frozenset[str]:
    """The causes that make a difference: on in some named arm between pooled and run."""
    between = [c.on for c in curves if not c.control and c.name not in FRONT]
    return frozenset().union(*between)


def look(curve: ArmCurve, live: frozenset[str]) -> Look:
    """A cause has a colour: solid where it alone is on, dashed where it alone is off."""
    if curve.name in FRONT:
        return FRONT[curve.name]
    if curve.control:
        return _CONTROLS[curve.name]
    if len(curve.on) == 1:
        (only,) = curve.on
        return Look(f"only {CAUSES[only].short}", COLOURS[only], "solid", 1.4)
    if len(live - curve.on) == 1:
        (only,) = live - curve.on
        return Look(f"all but {CAUSES[only].short}", COLOURS[only], "dash", 1.4)
    return Look(arm_name(curve.name), GREY, "solid", 1, shown=False)


def _traces(curve: ArmCurve, how: Look, measure: Measure, divisor: float) -> list[Chart]:
    x, scale = curve.x / divisor, measure.scale
    group: Chart = {"legendgroup": curve.name, "visible": True if how.shown else "legendonly"}
    number = "%{y:.1f}%" if measure.metric == "accuracy" else "%{y:.4g}"
    same = f"<br>the same as {', '.join(map(arm_name, curve.also))}" if curve.also else ""
    traces = []
    if curve.name in FRONT and curve.seeds > 1:
        unseen = {"hoverinfo": "skip", "showlegend": False} | group
        fill = {"fill": "tonexty", "fillcolor": {"css": f"{curve.name}-band"}}
        traces.append(line(x, scale * curve.low, "least", how.colour, width=0) | unseen)
        traces.append(line(x, scale * curve.high, "most", how.colour, width=0) | unseen | fill)
    hover = f"%{{x:.5g}}: <b>{number}</b>{same}<extra>{how.name}</extra>"
    middle = line(x, scale * curve.mean, how.name, how.colour, dash=how.dash, width=how.width)
    if len(x) < FEW:
        middle |= {"mode": "lines+markers", "marker": {"size": 5}}
    return [*traces, middle | group | {"hovertemplate": hover}]
