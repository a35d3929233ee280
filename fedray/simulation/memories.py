"""What each client remembers from job to job, or the server of each client: vectors by client.

Rows live in one file without a name, mapped into memory: what does not fit is paged out by the
system, and nothing is left behind however the process ends. A checkpoint writes the rows that
changed since the one before as one more *segment*; from time to time a segment is written
whole, so that old ones can go.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import tempfile
import weakref
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedray.errors import FedrayError
from fedray.parts import summation
from fedray.parts.arrivals import newest
from fedray.types import Floats, Ints, Matrix

if TYPE_CHECKING:
    from fedray.simulation.events import Job
    from fedray.simulation.plan import Plan

_FIRST_ROWS = 64
_MOST_SEGMENTS = 16
_SEGMENT_BYTES = 1 << 26
"""A segment is in memory as a whole when it is written or read."""


def memories_of(plan: Plan, folder: Path) -> dict[str, Memories]:
    """What clients remember, and what the server does of each client, where a method asks."""
    model, vectors = plan.work.model, plan.work.state_vectors
    found = {}
    if vectors:
        found["clients"] = Memories("clients", vectors, model.size, model.dtype, folder)
    if plan.work.method.table:
        found["table"] = Memories("table", 1, model.size, model.dtype, folder)
    return found


def before_jobs(
    jobs: Sequence[Job], remembered: dict[int, Matrix | None], states: Any
) -> dict[int, Matrix]:
    """What each job's client remembered when it began, by dispatch: a later job of the same
    client builds on the earlier one."""
    found = {}
    if remembered:
        for job, after in zip(jobs, states, strict=True):
            before = remembered[job.client]
            if before is not None:
                found[job.dispatch] = before
            remembered[job.client] = np.array(after)
    return found


class Memories:
    """S >= 1 vectors (P,) of every client that has any. `name` tells its segments from others'."""

    def __init__(
        self, name: str, vectors: int, size: int, dtype: np.dtype[Any], folder: Path
    ) -> None:
        self.shape = (vectors, size)
        self._name, self._dtype = name, dtype
        self._file, path = tempfile.mkstemp(prefix=f".{name}-", dir=folder)
        Path(path).unlink()
        weakref.finalize(self, os.close, self._file)
        self._rows = np.empty((0, vectors, size), dtype)
        self._slots: dict[int, int] = {}
        """By client, its row; in order of first use."""
        self._dispatches: list[int] = []
        """By row, the job that it comes from."""
        self._changed: set[int] = set()
        self._segments: list[list[Any]] = []
        """[file name, rows] since the last whole one, oldest first."""

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def clients(self) -> list[int]:
        """Who remembers anything, in order of first use."""
        return list(self._slots)

    @property
    def row_bytes(self) -> int:
        """Bytes of one client's vectors."""
        return self.shape[0] * self.shape[1] * self._dtype.itemsize

    def dispatch(self, client: int) -> int:
        """The job that a client's vectors come from; -1 where it has none."""
        slot = self._slots.get(client)
        return -1 if slot is None else self._dispatches[slot]

    def get(self, client: int) -> Matrix | None:
        """A client's vectors (S, P), a view that `remember` will change; None where none."""
        slot = self._slots.get(client)
        return None if slot is None else self._rows[slot]

    def remember(self, client: int, vectors: Matrix, dispatch: int = -1) -> None:
        """Replaces a client's vectors (S, P)."""
        self._place(client, dispatch)[:] = vectors

    def _place(self, client: int, dispatch: int) -> Matrix:
        """Where a client's vectors (S, P) go that come from a job."""
        slot = self._slots.setdefault(client, len(self._slots))
        if slot == len(self._dispatches):
            self._dispatches.append(dispatch)
            self._grow(slot + 1)
        self._dispatches[slot] = dispatch
        self._changed.add(client)
        place: Matrix = self._rows[slot]
        return place

    def rows(self, clients: Ints) -> Matrix:
        """The first vector of some clients, (A, P); zeros for who has none."""
        found = np.zeros((len(clients), self.shape[1]), self._dtype)
        for row, client in zip(found, clients.tolist(), strict=True):
            kept = self.get(client)
            if kept is not None:
                row[:] = kept[0]
        return found

    def put(self, clients: Ints, rows: Matrix) -> None:
        """Replaces the first vector of some clients by rows (A, P)."""
        for client, row in zip(clients.tolist(), rows, strict=True):
            self.remember(client, row[None])

    def exchange(
        self, clients: Ints, rows: Matrix, new: Matrix, old: Matrix, factors: Floats | None = None
    ) -> Matrix:
        """new @ rows - old @ rows(clients), (K, P), and puts the rows there, times factors (A,).

        Row by row, so that each is read once, and written over while it is in the cache. What
        counts as a client's old vector is that of before, also for his second row of a group.
        """
        found = np.zeros((len(new), self.shape[1]), self._dtype)
        last = set(newest(clients).tolist())
        with summation.adding(self.shape[1], self._dtype) as add:
            for i, (client, row) in enumerate(zip(clients.tolist(), rows, strict=True)):
                kept = self.get(client)
                for total, gains, losses in zip(found, new[:, i], old[:, i], strict=True):
                    if gains:
                        add(total, row, gains)
                    if losses and kept is not None:
                        add(total, kept[0], -losses)
                if i in last:
                    scale = 1.0 if factors is None else factors[i]
                    np.multiply(row, self._dtype.type(scale), out=self._place(client, -1)[0])
        return found

    def _grow(self, rows: int) -> None:
        if rows <= len(self._rows):
            return
        room = max(_FIRST_ROWS, 2 * len(self._rows))
        if hasattr(os, "posix_fallocate"):  # not on macOS
            os.posix_fallocate(self._file, 0, room * self.row_bytes)  # a full disk says so here
        else:
            os.ftruncate(self._file, room * self.row_bytes)
        flat = np.frombuffer(mmap.mmap(self._file, 0), self._dtype)
        self._rows = flat.reshape(room, *self.shape)

    # --- checkpoints -----------------------------------------------------------------------

    def save(self, folder: Path, version: int) -> list[list[Any]]:
        """Writes what changed since the last time; the segments that hold all of it now."""
        held, at_a_time = sum(rows for _, rows in self._segments), self._rows_per_segment
        whole = -(-len(self._slots) // at_a_time)
        if len(self._segments) >= _MOST_SEGMENTS + whole or held > 2 * len(self._slots):
            self._segments, self._changed = [], set(self._slots)
        clients = sorted(self._changed)
        for first in range(0, len(clients), at_a_time):
            some = clients[first : first + at_a_time]
            name = self._write(folder, version, some)
            self._segments = [*self._segments, [name, len(some)]]
        self._changed = set()
        return self._segments

    @property
    def _rows_per_segment(self) -> int:
        return max(1, _SEGMENT_BYTES // self.row_bytes)

    def _write(self, folder: Path, version: int, clients: list[int]) -> str:
        slots = [self._slots[client] for client in clients]
        half = folder / f".{self._name}.half"
        with half.open("wb") as file:
            np.savez(
                file, allow_pickle=False, clients=np.array(clients, np.int64),
                dispatches=np.array([self._dispatches[slot] for slot in slots], np.int64),
                rows=self._rows[slots],
            )  # fmt: skip
        name = f"{self._name}-v{version:09d}-{_digest(half)}.npz"
        half.replace(folder / name)
        return name

    def restore(self, folder: Path, segments: Sequence[Sequence[Any]]) -> None:
        """Goes on from the segments of a checkpoint."""
        for name, _ in segments:
            with np.load(check(folder, name), allow_pickle=False) as read:
                columns = (read["clients"].tolist(), read["rows"], read["dispatches"].tolist())
                for client, vectors, dispatch in zip(*columns, strict=True):
                    self.remember(client, vectors, dispatch)
        self._segments, self._changed = [list(each) for each in segments], set()


def check(folder: Path, name: str) -> Path:
    """The path of a segment. Raises FedrayError where it is missing or damaged."""
    path = folder / Path(name).name
    if not path.is_file() or not path.stem.endswith(_digest(path)):
        raise FedrayError(f"{path} is missing or damaged")
    return path


def sweep(folder: Path, needed: Callable[[], Container[str]]) -> None:
    """Removes segments that no checkpoint refers to; `needed` is asked where there are any."""
    segments = [path for path in folder.glob("*-v*-*.npz") if not path.name.startswith("v")]
    kept = needed() if segments else ()
    for path in segments:
        if path.name not in kept:
            path.unlink()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
