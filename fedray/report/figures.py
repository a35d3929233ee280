"""What the pictures of a run show, as numbers; drawing is elsewhere.

Everything here keeps a page small and readable for any size of run: curves are
thinned without losing an extreme, timelines and matrices are sampled and say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fedray.types import Floats, Ints

if TYPE_CHECKING:
    import pyarrow as pa


def column(table: pa.Table, name: str) -> Floats:
    """A numeric column as float64, shape (rows,); null or absent is NaN."""
    import pyarrow as pa

    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    values = table.column(name).cast(pa.float64()).to_numpy()
    return np.asarray(values, dtype=np.float64)


class Curve(NamedTuple):
    """A figure of merit where it was evaluated: all arrays have shape (evaluations,)."""

    name: str
    versions: Ints
    times: Floats
    values: Floats
    best: Floats
    """The running best: maximum so far, minimum for losses."""
    higher_is_better: bool
    not_finite: int
    """Evaluations left out because the value was infinite or not a number."""


def curve(rounds: pa.Table, name: str) -> Curve:
    """The evaluated rows of one column of `rounds`, with the running best."""
    values = column(rounds, name)
    higher = name in ("accuracy", "r2")
    kept = np.isfinite(values)
    evaluated = rounds.num_rows - (
        rounds.column(name).null_count if name in rounds.column_names else rounds.num_rows
    )
    best = np.maximum.accumulate(values[kept]) if higher else np.minimum.accumulate(values[kept])
    return Curve(
        name,
        column(rounds, "version")[kept].astype(np.int64),
        column(rounds, "virtual_time_s")[kept],
        values[kept],
        best,
        higher,
        evaluated - int(kept.sum()),
    )


def window_without_start(of: Curve) -> tuple[float, float] | None:
    """Bounds that show the rest of a curve whose first value would flatten it; else None.

    The untrained model's R^2 or loss is often a hundred times out of the range that matters.
    """
    if len(of.values) < 3 or of.name == "accuracy":
        return None
    first, rest = float(of.values[0]), of.values[1:]
    low, high = float(rest.min()), float(rest.max())
    distance = max(low - first, first - high)
    if distance <= 3 * (high - low):
        return None
    margin = 0.15 * (high - low) or 0.05 * max(abs(high), 1e-9)
    return low - margin, high + margin


class Fall(NamedTuple):
    """A stretch below the running best: from the best, down to the lowest, back (or not)."""

    lost: float
    """In the units of the value: 0.05 is 5 points of accuracy."""
    from_version: int
    from_value: float
    to_version: int
    to_value: float
    to_time_s: float
    recovered_version: int | None
    """The first version that is as good as the best was; None: never within the run."""


def falls(of: Curve) -> list[Fall]:
    """All falls from the running best, the largest first."""
    sign = 1.0 if of.higher_is_better else -1.0
    values, best = sign * of.values, sign * of.best
    below = np.flatnonzero(values < best)
    found = []
    for stretch in np.split(below, np.flatnonzero(np.diff(below) > 1) + 1):
        if not len(stretch):
            continue
        start, end = int(stretch[0]) - 1, int(stretch[-1]) + 1
        low = int(stretch[np.argmin(values[stretch])])
        # `start` may be one of several equal bests; it is the one that the fall begins at.
        found.append(
            Fall(
                float(best[low] - values[low]),
                int(of.versions[start]),
                float(of.values[start]),
                int(of.versions[low]),
                float(of.values[low]),
                float(of.times[low]),
                int(of.versions[end]) if end < len(values) else None,
            )
        )
    return sorted(found, key=lambda fall: -fall.lost)


def worth_marking(all_falls: Sequence[Fall], of: Curve, most: int = 5) -> list[Fall]:
    """The falls to draw: at most `most`, none below a tenth of the largest or 1% of the range."""
    if not all_falls:
        return []
    span = float(of.values.max() - of.values.min())
    least = max(0.1 * all_falls[0].lost, 0.01 * span)
    return [fall for fall in all_falls[:most] if fall.lost >= least]


def thin(values: Floats, limit: int) -> list[int]:
    """Indices of about `limit` points: first, last, and the extremes of every bucket."""
    n = len(values)
    if n <= limit:
        return list(range(n))
    edges = np.linspace(0, n, max(limit // 2, 1) + 1).astype(int)
    kept = {0, n - 1}
    for low, high in pairwise(edges.tolist()):
        bucket = values[low:high]
        if np.isfinite(bucket).any():
            kept |= {low + int(np.nanargmin(bucket)), low + int(np.nanargmax(bucket))}
    return sorted(kept)


class Histogram(NamedTuple):
    """Counts per bin and status; bin b covers staleness [edges[b], edges[b+1])."""

    edges: Ints
    counts: dict[str, Ints]


def staleness_histogram(updates: pa.Table, bins: int = 40) -> Histogram:
    """How stale updates were on arrival, by what became of them.

    Updates that never arrived are not counted. One bin per value where there are few.
    """
    staleness = column(updates, "staleness")
    statuses = strings(updates, "status")
    known = np.isfinite(staleness) & (statuses != "dropped_out")
    if not known.any():
        return Histogram(np.array([0, 1]), {})
    width = max(1, int(np.ceil((staleness[known].max() + 1) / bins)))
    edges = np.arange(0, int(staleness[known].max()) + width + 1, width)
    counts = {
        str(status): np.histogram(staleness[known & (statuses == status)], edges)[0]
        for status in np.unique(statuses[known])
    }
    return Histogram(edges, counts)


def strings(table: pa.Table, name: str) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    """A text column as an array; null is ''."""
    if name not in table.column_names or not table.num_rows:
        return np.full(table.num_rows, "", dtype=np.str_)
    return np.asarray([value or "" for value in table.column(name).to_pylist()], dtype=np.str_)


def evenly(n: int, limit: int) -> Ints:
    """At most `limit` of the indices 0..n-1, evenly spaced, both ends included."""
    return np.unique(np.linspace(0, max(n - 1, 0), min(n, limit)).round().astype(np.int64))


@dataclass(frozen=True)
class LabelMatrix:
    """Samples by client and class: `counts` (rows, columns)."""

    counts: Ints
    clients: Ints
    classes: tuple[str, ...]
    note: str


def label_matrix(
    clients: pa.Table, classes: Sequence[str], rows: int = 200, columns: int = 60
) -> LabelMatrix | None:
    """The partition; None where there are no label counts.

    More than `rows` clients are sorted by their most frequent class and evenly sampled;
    beyond `columns` classes, the rarest are added up in one column.
    """
    if "label_counts" not in clients.column_names or not clients.num_rows:
        return None
    lists = clients.column("label_counts").to_pylist()
    width = max((len(row) for row in lists if row), default=0)
    if not width:
        return None
    counts = np.array([row or [0] * width for row in lists], dtype=np.int64)
    names = [str(classes[c]) if c < len(classes) else str(c) for c in range(width)]
    index, note = np.arange(len(counts)), []
    if len(counts) > rows:
        index = np.lexsort((counts.max(1), counts.argmax(1)))[evenly(len(counts), rows)]
        note.append(
            f"{len(index)} of {len(counts):,} clients, sorted by their most frequent class "
            "and evenly sampled"
        )
    if width > columns:
        order = np.argsort(-counts.sum(0), kind="stable")
        head, tail = np.sort(order[: columns - 1]), order[columns - 1 :]
        counts = np.column_stack([counts[:, head], counts[:, tail].sum(1)])
        names = [names[c] for c in head] + [f"{len(tail)} others"]
        note.append(f"the {len(head)} most frequent of {width:,} classes")
    shown = column(clients, "client")[index].astype(np.int64)
    text = "Shown: " + "; ".join(note) + "." if note else ""
    return LabelMatrix(counts[index], shown, tuple(names), text)


class ClassCurves(NamedTuple):
    """Accuracy per class where evaluated: versions (v,), values (classes, v), NaN if absent."""

    versions: Ints
    values: Floats
    classes: tuple[str, ...]


def class_curves(rounds: pa.Table, classes: Sequence[str], limit: int = 300) -> ClassCurves | None:
    """Per-class accuracy over versions, evenly sampled; None where it was not recorded."""
    if "accuracy_per_class" not in rounds.column_names:
        return None
    lists = rounds.column("accuracy_per_class")
    rows = np.flatnonzero(~np.asarray(lists.is_null().to_numpy(), dtype=bool))
    rows = rows[evenly(len(rows), limit)] if len(rows) else rows
    found = lists.take(rows).to_pylist() if len(rows) else []
    width = max(map(len, found), default=0)
    if not width:
        return None
    values = np.array([[np.nan if v is None else v for v in row] for row in found], dtype=float)
    names = tuple(str(classes[c]) if c < len(classes) else str(c) for c in range(width))
    return ClassCurves(column(rounds, "version")[rows].astype(np.int64), values.T, names)


def smooth(values: Floats, window: int) -> Floats:
    """Centred running mean that skips NaN; ends use what there is."""
    known = np.isfinite(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    count = np.concatenate([[0], np.cumsum(known)])
    at = np.arange(len(values))
    low, high = np.maximum(at - window // 2, 0), np.minimum(at + window // 2 + 1, len(values))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((total[high] - total[low]) / (count[high] - count[low]))
