"""The shares of a gap in words: who costs, who helps, and whose share may be zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedray.diagnosis.attribution.phrases import (
    NAMES,
    Phrasing,
    V,
    capital,
    clause,
    listed,
)
from fedray.diagnosis.counterfactual.arms import CAUSES

_VERBS = {
    ("level", "accuracy"): ("cost", "helped by", "gap"),
    ("level", "loss"): ("cost", "helped by", "gap"),
    ("fall", "accuracy"): ("added", "reduced the fall by", "difference"),
    ("fall", "loss"): ("added", "reduced the rise by", "difference"),
}
"""What a cause did that costs, what one did that helps, what they share."""


def shares_in_words(
    found: Mapping[str, Any], measure: str, phrasing: Phrasing, gap: float | None
) -> list[str]:
    """Who costs, who helps, whose share may be zero, who is out of it.

    Shares are set against `gap`; None where there is none to be set against.
    """
    shares, inert = found[measure]["shares"], found["inert"]
    verbs = _VERBS[measure, phrasing.metric]
    live = [cause for cause in CAUSES if cause not in inert]
    by_size = sorted(live, key=lambda cause: -abs(shares[cause]["value"]))
    sure = [cause for cause in by_size if phrasing.distinguishable(shares[cause])]
    costing = [cause for cause in sure if shares[cause]["value"] > 0]
    helping = [cause for cause in sure if shares[cause]["value"] < 0]
    unsure = [cause for cause in by_size if cause not in sure]
    said = []
    if costing:
        said.append(_costing(costing, shares, verbs, phrasing, gap))
    if helping:
        helpers = listed(f"{NAMES[c]} {verbs[1]} {phrasing.size(shares[c])}" for c in helping)
        said.append(f"{capital(helpers)}.")
    if unsure and (sure or gap is not None or phrasing.inconclusive(found[measure]["gap"])):
        said.append(_unsure(unsure, shares, phrasing, some_sure=bool(sure)))
    if measure == "level":
        said += [
            f"The share of {NAMES[cause]} is exactly zero: {clause(reason)}."
            for cause, reason in inert.items()
        ]
    return said


def _unsure(
    causes: Sequence[str], shares: Mapping[str, V], phrasing: Phrasing, *, some_sure: bool
) -> str:
    asides = listed(phrasing.aside(NAMES[c], shares[c]) for c in causes)
    if shares[causes[0]]["low"] is None:
        return f"Negligible: {asides}."
    if some_sure:
        return f"Not distinguishable from zero: {asides}."
    return f"No single cause is distinguishable from zero: {asides}."


def _costing(
    costing: Sequence[str],
    shares: Mapping[str, V],
    verbs: tuple[str, str, str],
    phrasing: Phrasing,
    gap: float | None,
) -> str:
    """Who is known to cost, the largest first; called that only if no other share is larger."""
    first, *others = costing
    adds, _, whole = verbs
    name, said = NAMES[first], phrasing.size(shares[first])
    part = None if gap is None else shares[first]["value"] / gap
    leads = shares[first]["value"] >= max(share["value"] for share in shares.values())
    if part is not None and part > 1:
        opening = f"{capital(name)} {adds} {said}, more than the whole {whole}"
    elif part is None or not leads:
        opening = f"{capital(name)} {adds} {said}"
    elif part >= 0.5:
        opening = f"Most of the {whole}, {said}, is due to {name}"
    else:
        opening = f"The largest share, {said}, is due to {name}"
    if not others:
        return opening + "."
    return f"{opening}; {listed(f'{NAMES[c]} {adds} {phrasing.size(shares[c])}' for c in others)}."


def contributes_most(part: Mapping[str, Any], phrasing: Phrasing) -> str:
    """The largest share in the direction of the gap, where it is sure; to go on after the gap."""
    sign = 1 if part["gap"]["value"] > 0 else -1
    cause = max(CAUSES, key=lambda cause: sign * part["shares"][cause]["value"])
    share = part["shares"][cause]
    if sign * share["value"] <= 0 or not phrasing.distinguishable(share):
        return ""
    return f"; {NAMES[cause]} contributes most ({phrasing.amount(abs(share['value']))})"
