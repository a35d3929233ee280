"""What is worth trying after an autopsy: remedies that act on what did the harm, with why.

The remedies are those of `fedray diagnose --prescribe`, which runs and ranks them; here
they are picked by what was found at the falls, and nothing is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any, NamedTuple

from fedray.config.load import Loaded, load
from fedray.diagnosis.autopsy.words import harm_of, shares_of_harm
from fedray.diagnosis.counterfactual.study import Study
from fedray.diagnosis.remedies.rules import Situation
from fedray.diagnosis.remedies.table import candidates
from fedray.errors import InputError

MORE = "makes each version from more clients, closer to the federation as a whole"
WHY = {"buffer x2": MORE, "buffered instead of async": MORE}
"""Reasons that differ for participation: these remedies act on staleness too."""

REMEDIES: Mapping[str, tuple[str, ...]] = {
    "staleness": (
        "staleness bound at 90 %, drop",
        "discount 1 / (1 + staleness)",
        "half as many clients at a time",
    ),
    "participation": (
        "cohort x2",
        "buffer x2",
        "buffered instead of async",
        "server momentum 0.9, same step",
    ),
    "drift": ("local training / 2", "FedProx, mu 0.1", "client lr x0.5"),
    "noise": ("client lr x0.5",),
    "optimizer": ("plain server step",),
    "step": ("server step x0.5", "client lr x0.5"),
}
"""By cause, names in `remedies.REMEDIES`, in the order in which they are suggested."""

MOST = 3
"""Remedies per cause."""
PART = 0.25
"""Share of the harm that a cause is worth acting on from."""


class Cause(NamedTuple):
    """Something that did harm at a fall, and the evidence for it."""

    name: str
    evidence: str


def mitigations(loaded: Loaded, study: Study, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is worth trying, for all falls together; each with the falls that it is about."""
    known = {one.name: one for one in candidates(loaded, Situation(study))}
    merged: dict[str, dict[str, Any]] = {}

    def add(
        cause: Cause, title: str, why: str, settings: Mapping[str, Any], fall: int | None
    ) -> None:
        entry = merged.setdefault(
            title,
            {
                "cause": cause.name,
                "title": title,
                "reason": f"{cause.evidence}; this {why}" if why else cause.evidence,
                "set": [f"{key}={_yaml(value)}" for key, value in settings.items()],
                "falls": [],
            },
        )
        if fall is not None and fall not in entry["falls"]:
            entry["falls"].append(fall)

    for index, fall in enumerate(found["falls"]):
        for cause in causes(fall):
            picked = [known[name] for name in REMEDIES[cause.name] if name in known][:MOST]
            if cause.name == "noise" and (batch := _larger_batch(loaded, study)):
                add(cause, "larger minibatches", "averages more samples per step", batch, index)
            for one in picked:
                why = WHY.get(one.name, one.reason) if cause.name == "participation" else one.reason
                add(cause, one.name, why, one.settings, index)
    for one in found["outliers"]:
        cause, title = _suspect(one), f"look at the data of {one['name']}"
        add(cause, title, "", {}, None)
    return sorted(merged.values(), key=lambda entry: entry["cause"] != "client")


def causes(fall: Mapping[str, Any]) -> list[Cause]:
    """What did a good part of the harm at a fall, the largest part first.

    None where the test loss did not rise: what it did cannot say why accuracy fell.
    """
    if not isfinite(fall["effect"]["actual"]):
        return [Cause("step", "the model diverged: its test loss is no longer finite")]
    if fall["effect"]["actual"] <= 0:
        return []
    return [cause for _, cause in sorted(_parts(fall), key=lambda part: -part[0])]


def _parts(fall: Mapping[str, Any]) -> Iterator[tuple[float, Cause]]:
    effect = fall["effect"]
    if effect["left_over"] > 0.5 * effect["actual"]:
        yield (
            effect["left_over"] / effect["actual"],
            Cause(
                "step",
                f"of the {effect['actual']:+.3g} in test loss, {effect['left_over']:+.3g} is "
                "curvature: the steps went further than the slope holds",
            ),
        )
    rise = max(effect["updates"], 0.0) + max(effect["memory"], 0.0)
    if rise > 0 and effect["memory"] > PART * rise:
        yield (
            effect["memory"] / rise,
            Cause(
                "optimizer",
                "what the server optimizer remembers of earlier versions did "
                f"{effect['memory']:+.3g} to the test loss, the updates {effect['updates']:+.3g}",
            ),
        )
    terms = fall["terms"]
    if terms is None:
        yield from _staleness_by_weight(fall)
        return
    harm = shares_of_harm(terms["worst"])
    for name in ("participation", "staleness", "drift", "noise"):
        if harm[name] > PART:
            evidence = f"to version {fall['worst']['version']}, {harm_of(fall, name)}"
            yield harm[name], Cause(name, evidence)


def _staleness_by_weight(fall: Mapping[str, Any]) -> Iterator[tuple[float, Cause]]:
    """Where terms are not known: stale updates that did more harm than their weight says."""
    stale, fresh = fall["groups"]["stale"], fall["groups"]["fresh"]
    weight = stale["weight"] + fresh["weight"]
    if stale["share"] and weight and stale["share"] > stale["weight"] / weight + 0.1:
        yield (
            stale["share"],
            Cause(
                "staleness",
                f"stale updates did {stale['share']:.0%} of the harm with "
                f"{stale['weight'] / weight:.0%} of the weight",
            ),
        )


def _suspect(one: Mapping[str, Any]) -> Cause:
    times = round(one["against"] * one["updates"])
    return Cause(
        "client",
        f"{times} of its {one['updates']} updates that were looked at raise the test loss, and "
        f"its mean effect is {one['score']:.1f} robust standard deviations above the other "
        "clients': wrong labels or other data would look like this; leave it out of the data if so",
    )


def _larger_batch(loaded: Loaded, study: Study) -> dict[str, Any] | None:
    size = study.plan.config.client.batch_size
    if size == "full" or size >= int(study.plan.sizes.max()):
        return None
    settings = {"client.batch_size": 2 * size}
    try:
        load(loaded.explicit, settings)
    except InputError:
        return None
    return settings


def _yaml(value: Any) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
