"""How the parameters of a version get to an actor, at the least cost.

A row of the shared arena where the actor can reach it: the call then holds one number.
Elsewhere small parameters travel inside the call, large ones once per version and node
through the object store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from typing import Any

import ray

from fedray.distributed.arena import Arena
from fedray.types import Vector

_INLINE_BYTES = 90_000


class Parameters:
    """Keeps the parameters of every version that a call under way needs."""

    def __init__(self, arena: Arena | None) -> None:
        self._arena = arena
        self._uses: Counter[int] = Counter()
        self._rows: dict[tuple[int, int], int] = {}
        self._refs: dict[tuple[int, int], Any] = {}

    def borrow(self, version: int) -> None:
        """A call will need this version until it is answered: see `give_back`."""
        self._uses[version] += 1

    def named(self, version: int, ws: tuple[Vector, ...], *, attached: bool) -> tuple[Any, ...]:
        """For each of a version's vectors a row, a reference, or the vector itself."""
        return tuple(self._named((version, i), w, attached) for i, w in enumerate(ws))

    def _named(self, version: tuple[int, int], w: Vector, attached: bool) -> Any:
        if attached and self._arena is not None:
            if version not in self._rows and (row := self._arena.take_last()) is not None:
                self._rows[version] = row
                self._arena.rows[row] = w
            if version in self._rows:
                return self._rows[version]
        if w.nbytes < _INLINE_BYTES:
            return w
        if version not in self._refs:
            self._refs[version] = ray.put(w)
        return self._refs[version]

    def give_back(self, version: int) -> None:
        """A call that borrowed this version is answered."""
        self._uses[version] -= 1

    def forget(self, needed: Container[int]) -> None:
        """Drops versions that no call uses, unless they are still `needed`."""
        for version in [v for v, uses in self._uses.items() if not uses and v not in needed]:
            del self._uses[version]
            for name in [name for name in self._refs if name[0] == version]:
                del self._refs[name]
            for name in [name for name in self._rows if name[0] == version]:
                row = self._rows.pop(name)
                if self._arena is not None:
                    self._arena.give_back(row)
