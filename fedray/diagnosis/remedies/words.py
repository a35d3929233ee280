"""A prescription in plain words: what to try first, what it costs, and what it acts on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedray.diagnosis.attribution.phrases import NAMES, Phrasing, capital, listed

_TARGETS = {**NAMES, "participation": "who takes part"}


def advice(
    ranking: Sequence[Mapping[str, Any]], found: Mapping[str, Any], shares: Mapping[str, float]
) -> list[str]:
    """Sentences, the verdict first. `found`: the prescription but for its ranking.

    `shares`: of the gap in level, by cause, of those that are known to cost something.
    """
    if not ranking:
        return [_nothing(found["tried"])]
    say = Phrasing(found["metric"], max(map(abs, shares.values()), default=0.0))
    best = ranking[0]
    winners = [one for one in ranking if one["beats"]]
    if winners:
        return [_first(winners[0], say), _price(winners[0]), _acts(winners[0], shares, say),
                *_against_falls(ranking, winners[0], say)]  # fmt: skip
    seeds = len(found["seeds"])
    if seeds < 3 and best["recovered"]["value"] > 0:
        these, count = ("this one seed", "one seed") if seeds == 1 else ("these two seeds", "two")
        return [
            f"On {these}, {_named(best)} does best and recovers {_recovered(best, say)}, "
            f"but {count} cannot tell help from luck: confirm it with launches on others.",
            _price(best), _acts(best, shares, say),
        ]  # fmt: skip
    text = f"Nothing here beats what you have: of the {found['tried']} remedies tried at equal "
    if best["recovered"]["value"] > 0:
        text += (
            f"client updates, the best, {_named(best)}, recovers {_recovered(best, say)}, which "
            "is within the noise between seeds."
        )
    else:
        text += f"client updates, even the best, {_named(best)}, gains nothing."
    return [text, *_against_falls(ranking, None, say)]


def _nothing(tried: int) -> str:
    if tried:
        return (
            f"Nothing here beats what you have: none of the {tried} remedies tried got to the end."
        )
    return "Nothing to try: no remedy applies to this configuration."


def _named(one: Mapping[str, Any]) -> str:
    settings = ", ".join(f"{key}={value}" for key, value in one["set"].items())
    return f"{one['name']} ({settings})"


def _recovered(one: Mapping[str, Any], say: Phrasing) -> str:
    return say.size(one["recovered"], first=True)


def _first(one: Mapping[str, Any], say: Phrasing) -> str:
    return f"Try {_named(one)} first: it recovers {_recovered(one, say)} at equal client updates."


def _price(one: Mapping[str, Any]) -> str:
    costs = (("bytes_ratio", "bytes"), ("time_ratio", "virtual time"), ("compute_ratio", "compute"))
    known = [(one[key], name) for key, name in costs if one[key] is not None]
    changed = [f"{ratio:.2g} times the {name}" for ratio, name in known if abs(ratio - 1) >= 0.05]
    same = [name for ratio, name in known if abs(ratio - 1) < 0.05]
    note = f" Note: {one['note']}." if one["note"] else ""
    if not changed:
        return f"It costs as much as the run does now.{note}"
    rest = f", with {listed(same)} unchanged" if same else ""
    return f"It takes {listed(changed)}{rest}.{note}"


def _acts(one: Mapping[str, Any], shares: Mapping[str, float], say: Phrasing) -> str:
    """What it acts on, beside what is known to cost."""
    target = one["cause"]
    what = f"It {one['reason']}"
    if target in shares:
        cost = say.amount(shares[target])
        return f"{what}: it acts on {_TARGETS[target]}, which the diagnosis found to cost {cost}."
    if not shares:
        return f"{what}."
    largest = max(shares, key=lambda cause: shares[cause])
    return (
        f"{what}: it acts on {_TARGETS[target]}, while the diagnosis found {NAMES[largest]} to "
        f"cost {say.amount(shares[largest])}."
    )


def _against_falls(
    ranking: Sequence[Mapping[str, Any]], first: Mapping[str, Any] | None, say: Phrasing
) -> list[str]:
    """The remedy that makes the largest fall smaller, if that stands out from noise."""
    best = max(ranking, key=lambda one: one["fall_reduced"]["value"])
    fall = best["fall_reduced"]
    if fall["low"] is None or fall["low"] <= 0 or not say.distinguishable(fall):
        return []
    who = "it also" if best is first else f"{best['name']}"
    return [capital(f"{who} reduces the largest fall by {say.size(fall)}.")]
