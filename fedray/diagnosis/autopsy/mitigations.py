"""What is worth trying after an autopsy: remedies that act on what did the harm, with why.

The remedies are those of `fedray diagnose --prescribe`, which runs and ranks them; here
they are picked by what was found at the falls, and nothing is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any, NamedTuple

from fedray.config.load import Loaded, load
from fedray.diagnosis.autopsy.terms import PART
from fedray.diagnosis.autopsy.words import culprits, harm_of, stale_harm
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

SUSPECT = "wrong labels or unlike data would explain it; if so, leave this client out"
MOST = 3
"""Remedies per cause."""


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
                "evidence": cause.evidence,
                "reason": why,
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
        add(cause, title, SUSPECT, {}, None)
    return sorted(merged.values(), key=lambda entry: entry["cause"] != "client")


def causes(fall: Mapping[str, Any]) -> list[Cause]:
    """What did a good part of the harm at a fall: the steps' length and memory, then terms.

    None where the test loss did not rise: what it did cannot say why accuracy fell. Of the
    terms only those that did unusually much harm, the most harmful first, see `terms.RULE`.
    """
    if not isfinite(fall["effect"]["actual"]):
        return [Cause("step", "the model diverged: its test loss is no longer finite")]
    if fall["effect"]["actual"] <= 0:
        return []
    return [*_of_the_step(fall), *_of_the_terms(fall)]


def _of_the_step(fall: Mapping[str, Any]) -> Iterator[Cause]:
    effect = fall["effect"]
    if effect["left_over"] > 0.5 * effect["actual"]:
        yield Cause(
            "step",
            f"curvature raised the test loss by {effect['left_over']:.3g} (net change "
            f"{effect['actual']:+.3g}): the steps were too long",
        )
    rise = max(effect["updates"], 0.0) + max(effect["memory"], 0.0)
    if rise > 0 and effect["memory"] > PART * rise:
        yield Cause(
            "optimizer",
            "the server optimizer's memory of earlier steps raised the test loss by "
            f"{effect['memory']:.3g}, the updates changed it by {effect['updates']:+.3g}",
        )


def _of_the_terms(fall: Mapping[str, Any]) -> Iterator[Cause]:
    if fall["terms"] is None:
        if stale := stale_harm(fall):
            yield Cause("staleness", stale)
        return
    for name in culprits(fall):
        if name in REMEDIES:
            yield Cause(
                name, f"at the step to version {fall['worst']['version']} {harm_of(fall, [name])}"
            )


def _suspect(one: Mapping[str, Any]) -> Cause:
    against = round(one["against"] * one["updates"])
    return Cause(
        "client",
        f"{against} of {one['updates']} updates of {one['name']} raise the test loss, and its mean "
        f"effect is {one['score']:.1f} robust standard deviations above the other clients'",
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
