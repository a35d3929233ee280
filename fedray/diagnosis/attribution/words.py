"""A diagnosis in plain words, ready for a design review."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedray.diagnosis.attribution.participation_words import (
    participation_and_falls,
    participation_and_level,
)
from fedray.diagnosis.attribution.phrases import NAMES, Phrasing, V, capital, uncapital
from fedray.diagnosis.attribution.share_words import contributes_most, shares_in_words

_LARGE = 1 / 3
"""Interactions beyond this part of the gap are spoken of."""
_BECAUSE = {
    "non_iid*drift": "non-IID data costs this much largely because clients drift, and they "
    "drift apart because their data differ",
    "non_iid*staleness": "stale updates do harm mostly where clients differ",
    "drift*averaging": "long local walks do harm mostly where they are then averaged",
}


def words(found: Mapping[str, Any]) -> list[str]:
    """Two to four paragraphs: the level, the falls, what goes together, what it rests on.

    `found` is the content of diagnosis.json. A cause is said to cost or to help only where
    its interval excludes zero; with one seed there is none, and each paragraph says "on this seed".
    """
    phrasing = Phrasing(found["metric"], found["pooled"]["level"]["value"])
    findings = (
        [*_level(found, phrasing), *participation_and_level(found, phrasing)],
        [*_falls(found, phrasing), *participation_and_falls(found, phrasing)],
        [*_together(found, phrasing), *_elsewhere(found, phrasing)],
    )
    paragraphs = [" ".join(sentences) for sentences in findings if sentences]
    if len(found["seeds"]) == 1:
        paragraphs = [f"On this seed, {uncapital(paragraph)}" for paragraph in paragraphs]
    return [*paragraphs, " ".join([*_basis(found), *_reference(found, phrasing)])]


# --- the level -----------------------------------------------------------------------------


def _level(found: Mapping[str, Any], phrasing: Phrasing) -> list[str]:
    gap = found["level"]["gap"]
    if not phrasing.distinguishable(gap):
        return [_no_gap(found, phrasing), *shares_in_words(found, "level", phrasing, None)]
    run = phrasing.figure(found["run"]["level"]["value"])
    pooled = phrasing.figure(found["pooled"]["level"]["value"])
    by, costs = phrasing.size(gap, first=True), gap["value"] > 0
    if phrasing.metric == "loss":
        way = "above" if costs else "below"
        said = f"The run ends with a loss of {run}, {by} {way} that of pooled training ({pooled})."
    else:
        way = "below" if costs else "above"
        said = f"The run ends {by} {way} pooled training: {run} against {pooled}."
    shares = shares_in_words(found, "level", phrasing, gap["value"] if costs else None)
    return [said, *shares]


def _no_gap(found: Mapping[str, Any], phrasing: Phrasing) -> str:
    """Nothing to explain, or nothing that so few seeds could tell."""
    gap, lossy = found["level"]["gap"], phrasing.metric == "loss"
    of = "with a loss of" if lossy else "at"
    said = (
        f"The run ends {of} {phrasing.figure(found['run']['level']['value'])} and pooled training "
        f"{of} {phrasing.figure(found['pooled']['level']['value'])}. The gap, "
        f"{phrasing.amount(gap['value'])}{phrasing.interval(gap, first=True)}, "
        f"{phrasing.is_nothing(gap)}"
    )
    if phrasing.inconclusive(gap):
        return (
            f"{said} with {len(found['seeds'])} seeds, but may be as large as "
            f"{phrasing.amount(gap['high'])}: more seeds would tell."
        )
    what = "excess loss" if lossy else "loss of accuracy"
    return f"{said}, so there is no {what} to explain."


# --- the falls -----------------------------------------------------------------------------


def _falls(found: Mapping[str, Any], phrasing: Phrasing) -> list[str]:
    fall, pooled, gap = found["run"]["fall"], found["pooled"]["fall"], found["fall"]["gap"]
    lossy = phrasing.metric == "loss"
    if fall["value"] < phrasing.smallest:
        never = "rises above its lowest loss" if lossy else "falls below its best accuracy"
        return [f"Falls are no issue: the run never noticeably {never} so far."]
    what = "rise above the lowest loss so far" if lossy else "fall below the best accuracy so far"
    said = (
        f"The largest {what} is a separate question: it is {phrasing.size(fall)} in the run and "
        f"{phrasing.amount(pooled['value'])} in pooled training"
    )
    if not phrasing.distinguishable(gap):
        nothing = f"{said}, a difference{phrasing.gain(gap)} that {phrasing.is_nothing(gap)}."
        return [nothing, *shares_in_words(found, "fall", phrasing, None)]
    if gap["value"] < 0:
        return [
            f"{said}, {phrasing.size(gap)} less.",
            *shares_in_words(found, "fall", phrasing, None),
        ]
    return [
        f"{said}, {phrasing.size(gap)} more.",
        *shares_in_words(found, "fall", phrasing, gap["value"]),
    ]


# --- what goes together, and the other ways to look at it ------------------------------------


def _together(found: Mapping[str, Any], phrasing: Phrasing) -> list[str]:
    """The interactions that are large against the gap, two at most."""
    gap = found["level"]["gap"]
    if not phrasing.distinguishable(gap):
        return []
    pairs = found["level"]["interactions"]
    large = [
        pair
        for pair in sorted(pairs, key=lambda pair: -abs(pairs[pair]["value"]))
        if abs(pairs[pair]["value"]) > _LARGE * abs(gap["value"])
        and phrasing.distinguishable(pairs[pair])
    ]
    return [_interaction(pair, pairs[pair], phrasing) for pair in large[:2]]


def _interaction(pair: str, v: V, phrasing: Phrasing) -> str:
    one, other = (NAMES[cause] for cause in pair.split("*"))
    both = f"{capital(one)} and {other}"
    if v["value"] < 0:
        return (
            f"{both} offset each other: each costs {phrasing.size(v)} less where the other is "
            "present, so removing only one gains less than its share."
        )
    because = f" ({_BECAUSE[pair]})" if pair in _BECAUSE else ""
    return (
        f"{both} amplify each other: each costs {phrasing.size(v)} more where the other is "
        f"present{because}. Removing either also removes that part of the other's cost."
    )


def _elsewhere(found: Mapping[str, Any], phrasing: Phrasing) -> list[str]:
    """The whole course, and the same at equal virtual time, where that tells more."""
    said = []
    area, timed = found["area"], found["by_time"]["level"]
    if phrasing.distinguishable(area["gap"]):
        more, less = ("higher", "lower") if phrasing.metric == "loss" else ("lower", "higher")
        way = more if area["gap"]["value"] > 0 else less
        said.append(
            f"Over the whole run, its {phrasing.metric} is on average "
            f"{phrasing.size(area['gap'])} {way} than pooled training's"
            f"{contributes_most(area, phrasing)}."
        )
    if phrasing.distinguishable(timed["gap"]):
        ends = "behind" if timed["gap"]["value"] > 0 else "ahead of"
        said.append(
            f"At equal virtual time it ends {phrasing.size(timed['gap'])} {ends} pooled training"
            f"{contributes_most(timed, phrasing)}."
        )
    elif phrasing.distinguishable(found["level"]["gap"]):
        nothing = phrasing.is_nothing(timed["gap"])
        said.append(f"At equal virtual time the gap at the end {nothing}.")
    return said


# --- what it rests on ------------------------------------------------------------------------


def _basis(found: Mapping[str, Any]) -> list[str]:
    seeds, arms = found["seeds"], found["arms"]
    coincide = arms["all"] - arms["computed"]
    runs = f"{arms['all']} counterfactual runs"
    if coincide:
        runs += f" ({coincide} of which coincide with another one and are not repeated)"
    if len(seeds) > 1:
        named = ", ".join(map(str, seeds))
        said = [f"Figures are means over {len(seeds)} seeds ({named}), from {runs}."]
    else:
        more = (
            "a run by the wall clock has only the seed that it was recorded with"
            if found["clock"] == "wall"
            else f"{found['recorded']}, so there is only the seed that it was recorded with"
            if found.get("recorded")
            else "diagnose with --seeds 3 or more to tell"
        )
        said = [
            f"Figures are of one seed ({seeds[0]}), from {runs}, so there are no intervals, and "
            f"small differences may be chance; {more}."
        ]
    if found["window"] is not None:
        said.append(
            "Every version is made from one update, so drift and averaging are measured over "
            f"windows of {found['window']:,} arrivals."
        )
    return said


def _reference(found: Mapping[str, Any], phrasing: Phrasing) -> list[str]:
    """Whether "pooled training", the all-off arm, is what it says."""
    control = found["reference"]
    if control is None:
        return []
    off, level = control["difference"], phrasing.figure(control["level"]["value"])
    of = "with a loss of" if phrasing.metric == "loss" else "at"
    said = f"As a check, pooled training programmed independently ends {of} {level}"
    if not phrasing.distinguishable(off):
        return [
            f"{said}; the difference from the arm with all causes off{phrasing.gain(off)} "
            f"{phrasing.is_nothing(off)}."
        ]
    by = f"{phrasing.amount(off['value'])}{phrasing.interval(off)}"
    return [
        f"{said}; the arm with all causes off, which shares are measured from, differs from it "
        f"by {by}."
    ]
