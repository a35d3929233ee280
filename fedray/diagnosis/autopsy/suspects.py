"""Clients whose updates point uphill while those of the others point downhill."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedray.diagnosis.autopsy.breakdown import Roster, Updates
from fedray.report.figures import column
from fedray.report.run import Run
from fedray.types import Floats

SCORE = 3.5
"""Robust standard deviations that are out of the ordinary (Iglewicz & Hoaglin 1993)."""
ENOUGH = 3
"""Updates that a client is judged by, at least."""
OTHERS = 4
"""Clients that it is compared with, at least."""

METHOD = (
    "clients stand out whose mean effect per unit weight and unit gradient raises the test loss "
    f"and is more than {SCORE:g} robust standard deviations (1.4826 median absolute deviations) "
    f"above the median of the other clients; of its {ENOUGH} or more updates at least half must "
    "raise the loss. Judged over the inspected steps and those around them, or over the steps that "
    "the run decomposed if those hold more updates"
)


def outliers(updates: Updates, who: Roster) -> list[dict[str, Any]]:
    """The clients that stand out for harm, the worst first.

    Clients are compared with all others, not with themselves among them: where there are
    few, one that is far out would widen the spread that it is measured by.
    """
    known = np.isfinite(updates.unit_effects)
    updates = updates.where(known)
    clients, index, counts = np.unique(updates.clients, return_inverse=True, return_counts=True)
    judged = counts >= ENOUGH
    if judged.sum() <= OTHERS:
        return []
    mean = np.bincount(index, updates.unit_effects, len(clients)) / counts
    against = np.bincount(index, updates.unit_effects > 0, len(clients)) / counts
    found = []
    for row in np.flatnonzero(judged & (mean > 0) & (against >= 0.5)):
        others = mean[judged & (np.arange(len(mean)) != row)]
        score = robust_score(float(mean[row]), others)
        if score > SCORE:
            client = int(clients[row])
            found.append(
                {
                    "client": client,
                    "name": who.name(client),
                    "score": score,
                    "effect": float(mean[row]),
                    "others": float(np.median(others)),
                    "updates": int(counts[row]),
                    "against": float(against[row]),
                    "labels": who.labels(client),
                }
            )
    return sorted(found, key=lambda one: -float(one["score"]))


def recorded(run: Run) -> Updates | None:
    """The updates that the run itself decomposed (`diagnosis.decompose`), over its whole length.

    A unit effect is then per unit gradient of the training objective, which is recorded, not
    of the test loss. None where the run decomposed no version.
    """
    table = run.decomposition
    if not table.num_rows:
        return None
    members = table.filter(table["client"].is_valid())
    clients, dispatches = (members[name].to_numpy() for name in ("client", "dispatch"))
    updates = run.updates
    keys = zip(updates["client"].to_pylist(), updates["dispatch"].to_pylist(), strict=True)
    weight_of = dict(zip(keys, column(updates, "weight").tolist(), strict=True))
    weights = np.array(
        [weight_of[key] for key in zip(clients.tolist(), dispatches.tolist(), strict=True)]
    )
    slopes = column(run.rounds, "gradient_norm")[members["version"].to_numpy()]
    effects = column(members, "test_effect")
    with np.errstate(all="ignore"):
        unit_effects = effects / (weights * slopes)
    return Updates(clients, members["staleness"].to_numpy(), weights, effects, unit_effects)


def robust_score(value: float, others: Floats) -> float:
    """(value - median) / (1.4826 MAD) of the others; the scale is at least 1e-12 of the median."""
    middle = float(np.median(others))
    spread = 1.4826 * float(np.median(np.abs(others - middle)))
    return (value - middle) / max(spread, 1e-12 * abs(middle), 1e-300)
