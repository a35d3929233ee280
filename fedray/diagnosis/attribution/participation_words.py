"""The control with every client in every version in words: what partial participation costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedray.diagnosis.attribution.phrases import Phrasing
from fedray.diagnosis.counterfactual.arms import CAUSES


def participation_and_level(found: Mapping[str, Any], phrasing: Phrasing) -> list[str]:
    """How the control ends beside the run; nothing where there is no control."""
    control = found["participation"]
    if control is None:
        return []
    gain, level = control["level_gain"], phrasing.figure(control["level"]["value"])
    end = "at" if phrasing.metric == "accuracy" else "with a loss of"
    said = f"With all {control['clients']:,} clients in every version{_effort(control)} the run "
    said += f"would end {end} {level}"
    if not phrasing.distinguishable(gain):
        return [f"{said}: the difference{phrasing.gain(gain)} {phrasing.is_nothing(gain)}."]
    better, worse = ("higher", "lower") if phrasing.metric == "accuracy" else ("lower", "higher")
    if gain["value"] > 0:
        why = f"{phrasing.size(gain)} {better}: the price of {_absence(found)}."
    else:
        why = f"{phrasing.size(gain)} {worse}, so {_absence(found)} does not explain the level."
    return [f"{said}, {why}"]


def _effort(control: Mapping[str, Any]) -> str:
    """What the control costs more than the run: more gradients may be all that helps."""
    ratio = control["compute_ratio"]
    if abs(ratio - 1) < 0.05:
        return ""
    return f", and {ratio:{'.1f' if ratio < 9.95 else ',.0f'}} times the gradient evaluations,"


def _absence(found: Mapping[str, Any]) -> str:
    """What the control with every client, each from the newest version, takes away."""
    stale = "" if "staleness" in found["inert"] else " or staleness"
    return "partial participation" + stale


def participation_and_falls(found: Mapping[str, Any], phrasing: Phrasing) -> list[str]:
    """How deep the control falls beside the run; nothing where there is no control or fall."""
    control, fall = found["participation"], found["run"]["fall"]["value"]
    if control is None or fall < phrasing.smallest:
        return []
    gain = control["fall_gain"]
    word = "rise" if phrasing.metric == "loss" else "fall"
    said = (
        f"With all {control['clients']:,} clients in every version the largest {word} would be "
        f"{phrasing.amount(control['fall']['value'])}"
    )
    if not phrasing.distinguishable(gain):
        said += (
            f", and the difference from the run's{phrasing.gain(gain)} {phrasing.is_nothing(gain)}"
        )
        if phrasing.inconclusive(gain):
            return [f"{said}: more seeds would tell."]
        return [f"{said}, so {_absence(found)} does not explain it."]
    if gain["value"] < 0:
        why = f"even more, so {_absence(found)} does not explain it."
    elif gain["value"] >= fall / 2:
        few = ": few clients make each version, and they differ" if _differing(found) else ""
        why = f"so {word}s come mostly from {_absence(found)}{few}."
    elif gain["value"] >= fall / 5:
        why = f"so {word}s come in part from {_absence(found)}."
    else:
        why = f"so {_absence(found)} explains little of it."
    return [f"{said}, {why}"]


def _differing(found: Mapping[str, Any]) -> bool:
    """Whether the falls are a matter of who takes part: of data that differ, none stale."""
    shares = found["fall"]["shares"]
    if "staleness" not in found["inert"]:
        return False
    return bool(max(CAUSES, key=lambda cause: shares[cause]["value"]) == "non_iid")
