"""The effects of many updates, added up: stale or fresh, by client, by label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fedray.diagnosis.autopsy.effects import Effects
from fedray.types import Federation, Floats, Ints

SHOWN = 5
"""Clients that are listed, of the harmful and of the helpful ones."""


class Updates(NamedTuple):
    """Updates of several steps, one after the other; arrays are (U,)."""

    clients: Ints
    staleness: Ints
    weights: Floats
    effects: Floats
    unit_effects: Floats

    @property
    def harm(self) -> float:
        """What the updates that raise the test loss raise it by."""
        return float(self.effects[self.effects > 0].sum())

    def where(self, chosen: Any) -> Updates:
        return Updates(*(column[chosen] for column in self))


def joined(steps: Sequence[Effects]) -> Updates:
    """All updates of some steps."""
    nothing = np.zeros(0)
    return Updates(
        np.concatenate([nothing, *(s.clients for s in steps)]).astype(np.int64),
        np.concatenate([nothing, *(s.staleness for s in steps)]).astype(np.int64),
        np.concatenate([nothing, *(s.weights for s in steps)]),
        np.concatenate([nothing, *(s.effects for s in steps)]),
        np.concatenate([nothing, *(s.unit_effects for s in steps)]),
    )


@dataclass(frozen=True)
class Roster:
    """Who the clients are."""

    names: tuple[str, ...] | None
    classes: tuple[str, ...]
    label_shares: Floats | None
    """(clients, classes), rows that sum to 1; None for a regression."""

    def name(self, client: int) -> str:
        """Its own name where it has one that is not a mere number."""
        name = str(client) if self.names is None else self.names[client]
        return f"client {name}" if name.isdigit() else name

    def labels(self, client: int, most: int = 3) -> dict[str, float] | None:
        """The most frequent labels of a client's training samples, and their shares."""
        if self.label_shares is None:
            return None
        row = self.label_shares[client]
        order = np.argsort(-row, kind="stable")[:most]
        return {self.classes[c]: float(row[c]) for c in order if row[c] > 0}


def roster(federation: Federation) -> Roster:
    """Who the clients of a federation are."""
    counts, shares = federation.label_counts, None
    if counts is not None:
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return Roster(federation.client_names, tuple(map(str, federation.classes)), shares)


def by_age(updates: Updates) -> dict[str, dict[str, Any]]:
    """What updates from older versions did, and what those from the newest one did."""
    stale = updates.staleness > 0
    return {"stale": _group(updates, stale), "fresh": _group(updates, ~stale)}


def _group(updates: Updates, chosen: Any) -> dict[str, Any]:
    some, all_harm = updates.where(chosen), updates.harm
    return {
        "updates": len(some.effects),
        "weight": float(some.weights.sum()),
        "effect": float(some.effects.sum()),
        "harm": some.harm,
        "share": part(some.harm, all_harm),
    }


def part(some: float, whole: float) -> float | None:
    """The share of `some` in a positive whole; None where there is no such thing."""
    return some / whole if 0 < whole < np.inf else None


def by_client(updates: Updates, who: Roster) -> dict[str, list[dict[str, Any]]]:
    """The clients whose updates raised the test loss most, and those that lowered it most."""
    clients, index = np.unique(updates.clients, return_inverse=True)
    net = np.bincount(index, updates.effects, len(clients))
    order = np.argsort(-net, kind="stable")
    shown = {"harmful": order[net[order] > 0], "helpful": order[::-1][net[order[::-1]] < 0]}
    return {
        kind: [_client(updates, int(clients[row]), who) for row in rows[:SHOWN]]
        for kind, rows in shown.items()
    }


def _client(updates: Updates, client: int, who: Roster) -> dict[str, Any]:
    own, all_harm = updates.where(updates.clients == client), updates.harm
    return {
        "client": client,
        "name": who.name(client),
        "effect": float(own.effects.sum()),
        "share": part(own.harm, all_harm) if own.harm else None,
        "updates": len(own.effects),
        "staleness": float(own.staleness.mean()),
        "weight": float(own.weights.sum()),
        "labels": who.labels(client),
    }


def by_label(updates: Updates, who: Roster) -> list[dict[str, Any]] | None:
    """Every update's effect, spread over the labels of its client's samples by their shares."""
    if who.label_shares is None:
        return None
    effects = updates.effects @ who.label_shares[updates.clients]
    order = np.argsort(-effects, kind="stable")
    return [{"label": who.classes[c], "effect": float(effects[c])} for c in order.tolist()]


def label_mix(updates: Updates, who: Roster) -> Floats | None:
    """Shares (classes,) of the labels that updates were trained on, by their weights."""
    total = updates.weights.sum()
    if who.label_shares is None or not 0 < total < np.inf:
        return None
    return np.asarray(updates.weights @ who.label_shares[updates.clients] / total)


def classes_lost(
    before: Sequence[float | None] | None,
    after: Sequence[float | None] | None,
    classes: Sequence[str],
    test_counts: Ints,
    mix: Floats | None = None,
) -> list[dict[str, Any]] | None:
    """Accuracy per class before and after, the largest losses first.

    A class's share of the fall is n_c (before - after) over the same sum of all classes,
    which is the fall in accuracy; classes that gained have negative shares. Classes
    without test samples are left out. `mix`, see `label_mix`, is what the steps were trained on.
    """
    if before is None or after is None:
        return None
    then, now = (np.array([np.nan if v is None else v for v in row]) for row in (before, after))
    lost = then - now
    weighted = np.where(test_counts > 0, test_counts * lost, 0.0)
    order = [c for c in np.argsort(-weighted, kind="stable").tolist() if np.isfinite(lost[c])]
    total = float(np.nansum(weighted))
    return [
        {
            "label": str(classes[c]),
            "before": float(then[c]),
            "after": float(now[c]),
            "lost": float(lost[c]),
            "share": part(float(weighted[c]), total),
            "trained": None if mix is None else float(mix[c]),
        }
        for c in order
    ]
