"""Memory that the server and the client actors of one machine share for updates.

A Ray result of many megabytes is copied three times on its way; an update that is
written into shared memory where the server reads it is not copied at all. The memory
has no name in any file system: it is an anonymous file of the server's, which others
reach through /proc, so nothing is left behind however a process ends. Where that does
not work (another machine, another operating system), updates travel as Ray results.
"""

from __future__ import annotations

import mmap
import os
import secrets
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedray.types import Matrix

_TOKEN_BYTES = 64  # also keeps the rows aligned to cache lines
MOST_BYTES = 1 << 29


class Handle(NamedTuple):
    """How another process finds an arena."""

    pid: int
    fd: int
    token: bytes
    rows: int
    size: int
    dtype: str


class Arena:
    """Rows for updates, shape (rows, P), handed out and taken back by the server."""

    def __init__(self, rows: int, size: int, dtype: np.dtype[Any]) -> None:
        token = secrets.token_bytes(_TOKEN_BYTES)
        self._fd = os.memfd_create("fedray-updates", os.MFD_CLOEXEC)
        os.ftruncate(self._fd, _TOKEN_BYTES + rows * size * dtype.itemsize)
        self.handle = Handle(os.getpid(), self._fd, token, rows, size, dtype.str)
        memory = mmap.mmap(self._fd, 0)
        memory[:_TOKEN_BYTES] = token
        self.rows = _rows(memory, self.handle)
        self._free = np.ones(rows, bool)

    def close(self) -> None:
        """No other process finds this arena any more; the memory goes with its last user."""
        os.close(self._fd)

    def take(self, count: int) -> NDArray[np.int64] | None:
        """The first `count` free rows, in order; None if there are not enough."""
        found = np.flatnonzero(self._free)[:count]
        if len(found) < count:
            return None
        self._free[found] = False
        return found

    def take_last(self) -> int | None:
        """One free row from the far end, where it does not part the others."""
        found = np.flatnonzero(self._free)[-1:]
        self._free[found] = False
        return int(found[0]) if len(found) else None

    def give_back(self, row: int) -> None:
        """This row may be handed out again."""
        self._free[row] = True


def make(rows: int, size: int, dtype: np.dtype[Any]) -> Arena | None:
    """An arena with so many rows, or as many as are sensible; None where there can be none."""
    if not hasattr(os, "memfd_create") or size == 0:
        return None
    rows = min(rows, MOST_BYTES // (size * dtype.itemsize))
    try:
        return Arena(rows, size, dtype) if rows else None
    except OSError:
        return None


def attach(handle: Handle) -> Matrix | None:
    """The rows of an arena of another process; None if it is out of reach."""
    try:
        with Path(f"/proc/{handle.pid}/fd/{handle.fd}").open("r+b") as file:
            memory = mmap.mmap(file.fileno(), 0)
    except (OSError, ValueError):
        return None
    # On another machine the same numbers may mean another process's file.
    return _rows(memory, handle) if memory[:_TOKEN_BYTES] == handle.token else None


def _rows(memory: mmap.mmap, handle: Handle) -> Matrix:
    flat = np.frombuffer(memory, np.dtype(handle.dtype), offset=_TOKEN_BYTES)
    return flat.reshape(handle.rows, handle.size)
