"""A diagnosis in plain words, ready for a design review."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedray.diagnosis.attribution.phrases import NAMES, Saying, V, capital, clause, listed
from fedray.diagnosis.counterfactual.arms import CAUSES

_VERBS = {
    "level": ("cost", "helped by", "gap"),
    "fall": ("added", "took off", "difference"),
}
"""By measure: what a cause did that costs, what one did that helps, what they share."""
_LARGE = 1 / 3
"""Interactions beyond this part of the gap are spoken of."""
_BECAUSE = {
    "non_iid*drift": "non-IID data costs this much largely because clients drift, and they "
    "drift apart because their data differ",
    "non_iid*staleness": "stale updates harm mostly where clients differ",
    "drift*averaging": "long walks alone harm mostly where they are then averaged",
}


def words(found: Mapping[str, Any]) -> list[str]:
    """Two to four paragraphs: the level, the falls, what goes together, what it rests on.

    `found` is the content of diagnosis.json. A cause is said to cost or to help only where
    its interval excludes zero; with one seed there is none, and the last paragraph says so.
    """
    saying = Saying(found["metric"], found["pooled"]["level"]["value"])
    paragraphs = (
        [*_level(found, saying), *_level_participation(found, saying)],
        [*_falls(found, saying), *_fall_participation(found, saying)],
        [*_together(found, saying), *_elsewhere(found, saying)],
        [*_basis(found), *_reference(found, saying)],
    )
    return [" ".join(sentences) for sentences in paragraphs if sentences]


# --- the level -----------------------------------------------------------------------------


def _level(found: Mapping[str, Any], saying: Saying) -> list[str]:
    gap = found["level"]["gap"]
    if not saying.told(gap):
        return [_no_gap(found, saying), *_shares(found, "level", saying, None)]
    run = saying.figure(found["run"]["level"]["value"])
    pooled = saying.figure(found["pooled"]["level"]["value"])
    by, costs = saying.size(gap, first=True), gap["value"] > 0
    if saying.metric == "loss":
        way = "above" if costs else "below"
        said = f"The run ends with a loss of {run}, {by} {way} that of pooled training ({pooled})."
    else:
        way = "below" if costs else "above"
        said = f"The run ends {by} {way} pooled training: {run} against {pooled}."
    return [said, *_shares(found, "level", saying, gap["value"] if costs else None)]


def _no_gap(found: Mapping[str, Any], saying: Saying) -> str:
    """Nothing to explain, or nothing that so few seeds could tell."""
    gap, lossy = found["level"]["gap"], saying.metric == "loss"
    of = "with a loss of" if lossy else "at"
    said = (
        f"The run ends {of} {saying.figure(found['run']['level']['value'])} and pooled training "
        f"{of} {saying.figure(found['pooled']['level']['value'])}. The gap, "
        f"{saying.amount(gap['value'])}{saying.interval(gap, first=True)}, "
    )
    nothing = f"there is no {'excess loss' if lossy else 'loss of accuracy'} to explain."
    if saying.open(gap):
        return (
            f"{said}cannot be told from zero by {len(found['seeds'])} seeds, but may be as large "
            f"as {saying.amount(gap['high'])}: more seeds would tell."
        )
    if gap["low"] is not None and gap["low"] <= 0 <= gap["high"] and gap["low"] < gap["high"]:
        return f"{said}cannot be told from zero: {nothing}"
    return f"{said}is next to nothing: {nothing}"


def _shares(found: Mapping[str, Any], measure: str, saying: Saying, gap: float | None) -> list[str]:
    """Who costs, who helps, who cannot be told from zero, who is out of it.

    Shares are set against `gap`; None where there is none to be set against.
    """
    shares, inert = found[measure]["shares"], found["inert"]
    ask = gap is not None or saying.open(found[measure]["gap"])
    _, helps, _ = _VERBS[measure]
    live = [cause for cause in CAUSES if cause not in inert]
    by_size = sorted(live, key=lambda cause: -abs(shares[cause]["value"]))
    told = [cause for cause in by_size if saying.told(shares[cause])]
    costing = [cause for cause in told if shares[cause]["value"] > 0]
    helping = [cause for cause in told if shares[cause]["value"] < 0]
    untold = [cause for cause in by_size if cause not in told]
    said = []
    if costing:
        said.append(_costing(costing, shares, _VERBS[measure], saying, gap))
    if helping:
        helpers = listed(f"{NAMES[c]} {helps} {saying.size(shares[c])}" for c in helping)
        said.append(capital(helpers) + ".")
    if told and untold:
        asides = listed(saying.aside(NAMES[c], shares[c]) for c in untold)
        said.append(f"Cannot be told from zero: {asides}.")
    elif untold and ask:
        asides = listed(saying.aside(NAMES[c], shares[c]) for c in untold)
        said.append(f"No single cause can be told from zero: {asides}.")
    if measure == "level":
        said += [
            f"The share of {NAMES[cause]} is exactly zero: {clause(reason)}."
            for cause, reason in inert.items()
        ]
    return said


def _costing(
    costing: Sequence[str],
    shares: Mapping[str, V],
    verbs: tuple[str, str, str],
    saying: Saying,
    gap: float | None,
) -> str:
    first, *others = costing
    adds, _, whole = verbs
    name, said = NAMES[first], saying.size(shares[first])
    part = None if gap is None else shares[first]["value"] / gap
    if part is None:
        opening = f"{capital(name)} {adds} {said}"
    elif part > 1:
        opening = f"{capital(name)} {adds} {said}, more than the whole {whole}"
    elif part >= 0.5:
        opening = f"Most of the {whole}, {said}, is due to {name}"
    else:
        opening = f"The largest share, {said}, is due to {name}"
    if not others:
        return opening + "."
    return f"{opening}; {listed(f'{NAMES[c]} {adds} {saying.size(shares[c])}' for c in others)}."


def _level_participation(found: Mapping[str, Any], saying: Saying) -> list[str]:
    control = found["participation"]
    if control is None:
        return []
    gain, level = control["level_gain"], saying.figure(control["level"]["value"])
    end = "at" if saying.metric == "accuracy" else "with a loss of"
    said = f"With all {control['clients']:,} clients in every version it would end {end} {level}"
    if not saying.told(gain):
        return [f"{said}, which cannot be told from the run's end{saying.gain(gain)}."]
    better, worse = ("higher", "lower") if saying.metric == "accuracy" else ("lower", "higher")
    if gain["value"] > 0:
        return [f"{said}, {saying.size(gain)} {better}: the price of {_absence(found)}."]
    return [
        f"{said}, {saying.size(gain)} {worse}, so {_absence(found)} does not explain the level."
    ]


def _absence(found: Mapping[str, Any]) -> str:
    """What the control with every client, each from the newest version, takes away."""
    stale = "" if "staleness" in found["inert"] else " or staleness"
    return "partial participation" + stale


# --- the falls -----------------------------------------------------------------------------


def _falls(found: Mapping[str, Any], saying: Saying) -> list[str]:
    fall, pooled, gap = found["run"]["fall"], found["pooled"]["fall"], found["fall"]["gap"]
    lossy = saying.metric == "loss"
    if fall["value"] < saying.smallest:
        never = "rises above its lowest loss" if lossy else "falls below its best accuracy so far"
        return [f"Falls are no question here: the run never {never} by an amount that shows."]
    what = "rise above the lowest loss so far" if lossy else "fall from the best accuracy so far"
    said = (
        f"The largest {what} is another question. It is {saying.size(fall)} in the run and "
        f"{saying.amount(pooled['value'])} in pooled training"
    )
    if not saying.told(gap):
        not_told = f"{said}, a difference{saying.gain(gap)} that cannot be told from zero."
        return [not_told, *_shares(found, "fall", saying, None)]
    if gap["value"] < 0:
        return [f"{said}, {saying.size(gap)} less.", *_shares(found, "fall", saying, None)]
    return [f"{said}, {saying.size(gap)} more.", *_shares(found, "fall", saying, gap["value"])]


def _fall_participation(found: Mapping[str, Any], saying: Saying) -> list[str]:
    control, fall = found["participation"], found["run"]["fall"]["value"]
    if control is None or fall < saying.smallest:
        return []
    gain = control["fall_gain"]
    word = "rise" if saying.metric == "loss" else "fall"
    said = (
        f"With all {control['clients']:,} clients in every version the largest {word} would be "
        f"{saying.amount(control['fall']['value'])}"
    )
    if not saying.told(gain):
        said += f", which cannot be told from the run's{saying.gain(gain)}"
        if saying.open(gain):
            return [f"{said}: more seeds would tell."]
        return [f"{said}: {_absence(found)} does not explain it."]
    if gain["value"] < 0:
        return [f"{said}, which is more: {_absence(found)} does not explain it."]
    if gain["value"] >= fall / 2:
        few = ": versions made by few clients, which differ" if _differing(found) else ""
        return [f"{said}, so {word}s come mostly from {_absence(found)}{few}."]
    if gain["value"] >= fall / 5:
        return [f"{said}, so {word}s come in part from {_absence(found)}."]
    return [f"{said}, so {_absence(found)} explains little of it."]


def _differing(found: Mapping[str, Any]) -> bool:
    """Whether the falls are a matter of who takes part: of data that differ, none stale."""
    shares = found["fall"]["shares"]
    if "staleness" not in found["inert"]:
        return False
    return bool(max(CAUSES, key=lambda cause: shares[cause]["value"]) == "non_iid")


# --- what goes together, and the other ways to look at it ------------------------------------


def _together(found: Mapping[str, Any], saying: Saying) -> list[str]:
    """The interactions that are large against the gap, two at most."""
    gap = found["level"]["gap"]
    if not saying.told(gap):
        return []
    pairs = found["level"]["interactions"]
    large = [
        pair
        for pair in sorted(pairs, key=lambda pair: -abs(pairs[pair]["value"]))
        if abs(pairs[pair]["value"]) > _LARGE * abs(gap["value"]) and saying.told(pairs[pair])
    ]
    return [_interaction(pair, pairs[pair], saying) for pair in large[:2]]


def _interaction(pair: str, v: V, saying: Saying) -> str:
    one, other = (NAMES[cause] for cause in pair.split("*"))
    if v["value"] < 0:
        return (
            f"{capital(one)} and {other} offset each other: each costs {saying.size(v)} less "
            "where the other is there, so removing one alone gains less than its share."
        )
    because = f" ({_BECAUSE[pair]})" if pair in _BECAUSE else ""
    return (
        f"{capital(one)} and {other} work together: each costs {saying.size(v)} more where the "
        f"other is there{because}. Removing either one also removes that part of the other."
    )


def _elsewhere(found: Mapping[str, Any], saying: Saying) -> list[str]:
    """The whole course, and the same at equal virtual time, where that tells more."""
    said = []
    area, timed = found["area"], found["by_time"]["level"]
    if saying.told(area["gap"]):
        more, less = ("higher", "lower") if saying.metric == "loss" else ("lower", "higher")
        way = more if area["gap"]["value"] > 0 else less
        said.append(
            f"Over the whole course the run's {saying.metric} is {saying.size(area['gap'])} {way} "
            f"on average{_mostly(area, saying)}."
        )
    if saying.told(timed["gap"]):
        ends = "behind" if timed["gap"]["value"] > 0 else "ahead of"
        said.append(
            f"At equal virtual time it ends {saying.size(timed['gap'])} {ends} pooled training"
            f"{_mostly(timed, saying)}."
        )
    elif saying.told(found["level"]["gap"]):
        said.append("At equal virtual time the gap at the end cannot be told from zero.")
    return said


def _mostly(part: Mapping[str, Any], saying: Saying) -> str:
    """The largest share in the direction of the gap, where it is told from zero."""
    sign = 1 if part["gap"]["value"] > 0 else -1
    cause = max(CAUSES, key=lambda cause: sign * part["shares"][cause]["value"])
    share = part["shares"][cause]
    if sign * share["value"] <= 0 or not saying.told(share):
        return ""
    return f", with {NAMES[cause]} the largest share ({saying.amount(abs(share['value']))})"


# --- what it rests on ------------------------------------------------------------------------


def _basis(found: Mapping[str, Any]) -> list[str]:
    seeds, arms = found["seeds"], found["arms"]
    coincide = arms["all"] - arms["computed"]
    runs = f"{arms['all']} counterfactual runs"
    if coincide:
        runs += f" ({coincide} of them equal to another one, and not repeated)"
    if len(seeds) > 1:
        named = ", ".join(map(str, seeds))
        said = [f"Figures are means over {len(seeds)} seeds ({named}), from {runs}."]
    else:
        said = [
            f"Figures are of one seed ({seeds[0]}), from {runs}, so there are no intervals, and "
            "small differences may be chance; diagnose with --seeds 3 or more to tell."
        ]
    if found["window"] is not None:
        said.append(
            "Every version is made from one update, so drift and averaging are measured over "
            f"windows of {found['window']:,} arrivals."
        )
    return said


def _reference(found: Mapping[str, Any], saying: Saying) -> list[str]:
    """Whether "pooled training", the all-off arm, is what it says."""
    control = found["reference"]
    if control is None:
        return []
    off, level = control["difference"], saying.figure(control["level"]["value"])
    of = "with a loss of" if saying.metric == "loss" else "at"
    said = f"Pooled training written independently, without clients, ends {of} {level}"
    if not saying.told(off):
        return [f"{said}, as the arm with all causes off does{saying.gain(off)}."]
    by = f"{saying.amount(off['value'])}{saying.interval(off)}"
    return [
        f"{said}; the arm with all causes off, which the shares are counted from, differs from "
        f"that by {by}."
    ]
