"""Asks for the scores of clients' own models, and sums up what clients gain by them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fedray.learning.personal import COLUMNS, OwnScores
from fedray.types import Floats

if TYPE_CHECKING:
    from fedray.simulation.executor import Executor
    from fedray.simulation.memories import Memories
    from fedray.simulation.plan import Plan
    from fedray.simulation.server import GlobalModel

PER_QUESTION = 16
"""Clients that one question is about. Fixed, so that it does not depend on workers."""

MOST_BYTES = 1 << 28
"""Memories of clients that travel at a time."""


def own_columns(
    plan: Plan, executor: Executor, model: GlobalModel, memories: Memories | None
) -> dict[str, Any]:
    """Table columns of clients' own models at the newest version; empty where they have none."""
    if not plan.work.personal.held_out:
        return {}
    return _columns(_scores(plan, executor, model, memories), plan)


def _scores(
    plan: Plan, executor: Executor, model: GlobalModel, memories: Memories | None
) -> Floats:
    """A row of `learning.personal.COLUMNS` for every client, for the newest version and what
    clients remember now."""
    clients = np.arange(len(plan.sizes))
    row_bytes = memories.row_bytes if memories is not None else 1
    step = PER_QUESTION * max(1, MOST_BYTES // (PER_QUESTION * row_bytes))
    found = []
    for first in range(0, len(clients), step):
        asked = clients[first : first + step]
        questions = [
            _question(plan, model, memories, asked[i : i + PER_QUESTION])
            for i in range(0, len(asked), PER_QUESTION)
        ]
        key = ("personal", model.version, first)
        executor.ask(key, questions)
        found += executor.answers(key)
    return np.concatenate(found)


def _question(plan: Plan, model: GlobalModel, memories: Memories | None, clients: Any) -> OwnScores:
    """Memories are copied: those of the run go on changing."""
    known = [memories.get(c) if memories is not None else None for c in clients.tolist()]
    return OwnScores(
        model.version, model.w, model.readout, model.extras.get(model.version, ()), clients,
        [None if rows is None else np.array(rows) for rows in known],
        int(plan.sizes[clients].sum()),
    )  # fmt: skip


def _columns(rows: Floats, plan: Plan) -> dict[str, Any]:
    """A model that nobody could use by itself has no scores."""
    of = dict(zip(COLUMNS, rows.T, strict=True))
    name, sign = ("accuracy", 1.0) if plan.classification else ("mse", -1.0)
    found: dict[str, Any] = {
        "test_examples": of["samples"].astype(np.int64),
        f"personal_{name}": of["own_score"],
        "personal_loss": of["own_loss"],
    }
    if plan.work.personal.shared_model:
        found |= {
            f"global_{name}": of["shared_score"],
            "global_loss": of["shared_loss"],
            "gain": sign * (of["own_score"] - of["shared_score"]),
        }
    if plan.work.personal.groups:
        found["cluster"] = of["label"].astype(np.int64)
    return found


def figures(columns: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """What `summary.json` says of clients' own models.

    Of honest clients that hold something back. One gains or loses where its two scores differ at
    all. The worst decile is the mean over the worst tenth of clients, rounded up.
    """
    name, higher = ("accuracy", True) if plan.classification else ("mse", False)
    tested = columns["test_examples"] > 0
    if plan.work.attackers is not None:
        tested &= ~plan.work.attackers.among(np.arange(len(tested)))
    found: dict[str, Any] = {
        "kind": plan.work.personal.kind,
        "metric": name,
        "clients": int(tested.sum()),
        "personal": _spread(columns[f"personal_{name}"][tested], higher),
        "global": None,
    }
    if "gain" in columns:
        gain = columns["gain"][tested]
        found["global"] = _spread(columns[f"global_{name}"][tested], higher)
        found["gain"] = {
            "mean": _mean(gain),
            "standard_error": float(gain.std(ddof=1) / math.sqrt(len(gain)))
            if len(gain) > 1 else None,
            "median": float(np.median(gain)) if len(gain) else None,
            "clients_that_gain": int((gain > 0).sum()),
            "clients_that_lose": int((gain < 0).sum()),
            "share_that_gains": _mean(gain > 0),
            "largest_loss": float(max(0.0, -gain.min())) if len(gain) else None,
        }  # fmt: skip
    if "cluster" in columns:
        found["cluster_sizes"] = np.bincount(columns["cluster"]).tolist()
    return found


def _spread(values: Floats, higher: bool) -> dict[str, float | None]:
    ordered = np.sort(values if higher else -values)
    worst = ordered[: math.ceil(0.1 * len(ordered))]
    worst_mean = _mean(worst)
    return {
        "mean": _mean(values),
        "median": float(np.median(values)) if len(values) else None,
        "worst_decile": None if worst_mean is None else worst_mean * (1 if higher else -1),
    }


def _mean(values: Any) -> float | None:
    return float(np.mean(values)) if len(values) else None
