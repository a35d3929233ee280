"""Who trained when, sampled so that a person can read it; drawing is elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fedray.report.figures import column, evenly, strings
from fedray.types import Floats, Ints

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Timeline:
    """Who trained when: bars of shape (jobs,); `lane` counts from the fastest client."""

    clients: Ints
    """The client of each lane, shape (lanes,)."""
    lane: Ints
    start_s: Floats
    end_s: Floats
    staleness: Floats
    base_version: Floats
    status: np.ndarray[tuple[int], np.dtype[np.str_]]
    version_times_s: Floats
    """When new versions were made within the window; empty if too many to draw."""
    note: str
    """What is left out, '' if nothing."""


def timeline(updates: pa.Table, rounds: pa.Table, lanes: int = 40, jobs: int = 500) -> Timeline:
    """The first jobs of a sample of clients: at most `lanes` lanes and `jobs` bars."""
    start, end = column(updates, "dispatched_at_s"), column(updates, "arrived_at_s")
    rows = np.flatnonzero(np.isfinite(start) & np.isfinite(end))
    rows = rows[np.argsort(start[rows], kind="stable")]
    made = column(rounds, "virtual_time_s")
    client = column(updates, "client").astype(np.int64)
    window = rows[: _window(client[rows], start[rows], made, lanes)]
    known, lane = np.unique(client[window], return_inverse=True)
    took = np.bincount(lane, (end - start)[window]) / np.maximum(np.bincount(lane), 1)
    chosen = np.argsort(took, kind="stable")[evenly(len(known), lanes)]
    place = np.full(len(known), -1)
    place[chosen] = np.arange(len(chosen))
    kept = np.flatnonzero(place[lane] >= 0)[:jobs]
    picked = window[kept]
    made = made[(made > 0) & (made <= (end[picked].max() if len(picked) else 0.0))]
    return Timeline(
        clients=known[chosen],
        lane=place[lane[kept]].astype(np.int64),
        start_s=start[picked],
        end_s=end[picked],
        staleness=column(updates, "staleness")[picked],
        base_version=column(updates, "base_version")[picked],
        status=strings(updates, "status")[picked],
        version_times_s=made if len(made) <= 80 else made[:0],
        note=_timeline_note(len(known), len(chosen), len(rows), len(picked)),
    )


def _window(client: Ints, start_s: Floats, made_s: Floats, lanes: int) -> int:
    """How many of the first jobs to draw from: while all clients have a lane, or five versions."""
    first = np.sort(np.unique(client, return_index=True)[1])
    if len(first) <= lanes:
        return len(client)
    fifth = np.sort(made_s[np.isfinite(made_s)])[:6].max(initial=0.0)
    return max(int(first[lanes]), int((start_s < fifth).sum()))


def _timeline_note(clients: int, lanes: int, jobs: int, bars: int) -> str:
    parts = []
    if bars < jobs:
        parts.append(f"{bars:,} early jobs of {jobs:,}")
    if lanes < clients:
        parts.append(f"{lanes} of the {clients:,} clients that had them, from fast to slow")
    return "Shown: " + "; ".join(parts) + "." if parts else ""
