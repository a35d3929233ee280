"""The audit of `server.quality`: why clients got their weights, and what that brought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fedray.errors import InputError
from fedray.report import words
from fedray.report.figures import column
from fedray.types import Floats, Ints

if TYPE_CHECKING:
    from fedray.report.run import Run

SUPPRESSED = 0.5
"""An update is suppressed if it counts less than so much of what it would without quality."""
LONG = 5
"""Suppressed updates of a client in a row that are worth a sentence."""


@dataclass(frozen=True)
class Member:
    """One client over the whole run. Shares are sums over its updates."""

    client: int
    updates: int
    examples: int
    score: float
    """Mean over its updates."""
    total_before: float
    total_after: float
    suppressed: int
    """Updates that were suppressed."""
    longest: int
    """Most of them in a row."""
    lately: int
    """Of them in a row up to its last update."""

    @property
    def ratio(self) -> float:
        """What it counted, of what it would have counted without."""
        return self.total_after / self.total_before if self.total_before > 0 else float("nan")


@dataclass(frozen=True)
class Audit:
    """All clients with updates, those that lost most first, and each version's gain."""

    kind: str
    metric: str
    """accuracy, or loss for a regression."""
    clients: tuple[Member, ...]
    versions: Ints
    gains: Floats
    """(versions,): the version's validation score minus that of the same step without quality;
    positive is better, also of the loss."""
    loss_gains: Floats
    """(versions,): by how much the loss was lower."""

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {
            "quality": self.kind,
            "metric": self.metric,
            "gain": {
                "mean": float(self.gains.mean()),
                "better": int((self.gains > 0).sum()),
                "worse": int((self.gains < 0).sum()),
                "versions": len(self.versions),
                "loss_mean": float(self.loss_gains.mean()),
            },
            "by_version": {
                "version": self.versions.tolist(),
                "gain": self.gains.tolist(),
                "loss_gain": self.loss_gains.tolist(),
            },
            "clients": [{**asdict(m), "ratio": m.ratio} for m in self.clients],
        }


def audit(run: Run) -> Audit:
    """The audit of a run. Raises InputError where `server.quality` weighed nothing."""
    table = run.quality
    if not table.num_rows:
        raise InputError(
            f"{run.path}: no update was weighed by its quality; launch with "
            "--set server.quality=validation, loss, cosine or shapley"
        )
    accuracy = bool(np.isfinite(column(table, "validation_accuracy")).any())
    metric = "accuracy" if accuracy else "loss"
    version = column(table, "version").astype(np.int64)
    versions, first = np.unique(version, return_index=True)

    def gained(name: str, sign: float) -> Floats:
        with_it = column(table, f"validation_{name}")[first]
        without = column(table, f"validation_{name}_unweighted")[first]
        with np.errstate(invalid="ignore"):
            return np.asarray(np.nan_to_num(sign * (with_it - without), posinf=0.0, neginf=0.0))

    client = column(table, "client").astype(np.int64)
    members = [_member(table, np.flatnonzero(client == c), int(c)) for c in np.unique(client)]
    members.sort(key=lambda m: (m.total_after - m.total_before, m.client))
    kind = str(((run.config.get("server") or {}).get("quality") or {}).get("kind"))
    loss_gains = gained("loss", -1.0)
    gains = gained("accuracy", 1.0) if accuracy else loss_gains
    return Audit(kind, metric, tuple(members), versions, gains, loss_gains)


def _member(table: Any, rows: Ints, client: int) -> Member:
    of = table.take(rows)
    before, after = column(of, "share_before"), column(of, "share_after")
    low = (after < SUPPRESSED * before).tolist()
    longest = lately = 0
    for one in low:
        lately = lately + 1 if one else 0
        longest = max(longest, lately)
    return Member(
        client, len(rows), int(column(of, "examples")[0]), float(column(of, "score").mean()),
        float(before.sum()), float(after.sum()), sum(low), longest, lately,
    )  # fmt: skip


def sentences(of: Audit, names: Mapping[int, str]) -> list[str]:
    """What is worth saying, the gain first."""
    gains, count = of.gains, len(of.gains)
    accuracy = of.metric == "accuracy"
    mean = float(gains.mean()) * (100 if accuracy else 1)
    size = f"{abs(mean):.2f} points of accuracy" if accuracy else f"{abs(mean):.3g} of the loss"
    so = f"{size} {'better' if mean > 0 else 'worse'} on average than"
    if abs(mean) < (0.005 if accuracy else 1e-9):
        so = "on average as good as"
    said = [
        f"On the validation samples, steps weighted by {of.kind} were {so} the same steps without: "
        f"better at {int((gains > 0).sum()):,} of {count:,} versions, worse at "
        f"{int((gains < 0).sum()):,}{_lower(of)}. Each step is compared from the "
        "version before it as it was, so gains do not add up."
    ]
    typical = float(np.mean([m.score for m in of.clients]))
    kept_down = [m for m in of.clients if m.longest >= LONG]
    for m in kept_down[:3]:
        name = name_of(m.client, names)
        if name.startswith("client "):
            name = name.capitalize()
        when = f"and {m.lately:,} lately" if m.lately else "but not lately"
        if m.lately == m.longest:
            when = "and still is"
        said.append(
            f"{name} counted {words.percent(m.ratio)} of what it would without: its "
            f"score is {words.number(m.score)} on average, where the clients' "
            f"mean is {words.number(typical)}. It was suppressed {m.longest:,} updates in a row, "
            f"{when}."
        )
    if len(kept_down) > 3:
        said.append(f"So were {len(kept_down) - 3:,} others, for {LONG} updates or more.")
    if not kept_down:
        said.append(f"Nobody was suppressed for {LONG} updates in a row.")
    return said


def rows(of: Audit, names: Mapping[int, str], most: int = 24) -> list[tuple[str, ...]]:
    """Clients as cells: all where they are few, else those that lost and won most."""
    shown = of.clients
    if len(shown) > most:
        shown = (*shown[: most // 2], *shown[-most // 2 :])
    return [
        (
            name_of(m.client, names),
            words.number(m.examples),
            words.number(m.updates),
            words.number(m.score),
            words.percent(m.total_before / m.updates),
            words.percent(m.total_after / m.updates),
            f"{m.ratio:.2f}",
            words.number(m.longest),
        )
        for m in shown
    ]


def _lower(of: Audit) -> str:
    if of.metric == "loss":
        return ""
    mean = float(of.loss_gains.mean())
    return f"; the loss was {abs(mean):.3g} {'lower' if mean >= 0 else 'higher'} on average"


HEADER = (
    "client", "samples", "updates", "mean score", "share without", "share", "ratio",
    "suppressed in a row",
)  # fmt: skip


def name_of(client: int, names: Mapping[int, str]) -> str:
    """A client's name, or its number."""
    return names.get(client) or f"client {client}"
