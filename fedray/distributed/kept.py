"""Updates that stay with the hosts that made them: the server asks for sums instead.

For every version each host adds up what it has (`parts.summation`), so that what travels grows
with the number of hosts, not with the cohort. The sums have the bits of the server's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import ray
from numpy.typing import NDArray

from fedray.distributed.troupe import Call, Troupe
from fedray.parts import summation
from fedray.types import Floats, Ints, Matrix, Vector


class Place(NamedTuple):
    """Where an update is."""

    client: int
    dispatch: int
    call: Call
    """That it came of; asked again where its actor has been lost since."""


class KeptRows:
    """A group of updates (K, P), in order; an `summation.Elsewhere`."""

    def __init__(
        self, troupe: Troupe, places: Sequence[Place], size: int, dtype: np.dtype[Any]
    ) -> None:
        self._troupe, self._places = troupe, list(places)
        self.shape, self.dtype = (len(places), size), dtype

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, which: NDArray[Any] | slice) -> KeptRows:
        chosen = np.arange(len(self._places))[which].tolist()
        return KeptRows(self._troupe, [self._places[i] for i in chosen], self.shape[1], self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Matrix:
        rows = np.empty(self.shape, self.dtype)
        for places, found in self._asked(lambda *_: ("rows",)):
            rows[places] = found
        return rows if dtype is None else rows.astype(dtype)

    def total(self, weights: Floats) -> Vector:
        """sum_i weights_i updates_i (P,)."""
        clients = np.array([place.client for place in self._places], np.int64)
        parts: dict[summation.Node, Vector] = {}

        def more(actor: int, chosen: Ints) -> tuple[Any, ...]:
            leaves = summation.leaves_of(actor, len(self._troupe))
            return ("parts", weights[chosen], clients[chosen], *leaves)

        for _, found in self._asked(more):
            parts |= found
        total = summation.merge(parts)
        return np.zeros(self.shape[1], self.dtype) if total is None else total

    def dots(self, vector: Vector) -> Floats:
        """The inner product of each update with a vector, (K,)."""
        products = np.empty(len(self._places), vector.dtype)
        sent = ray.put(vector)
        for places, found in self._asked(lambda *_: ("dots", sent)):
            products[places] = found
        return products  # type: ignore[return-value]

    def _asked(self, more: Callable[[int, Ints], tuple[Any, ...]]) -> list[tuple[Ints, Any]]:
        """What every host says of its own, with their places in the group."""
        hosts: dict[int, list[int]] = {}
        for i, place in enumerate(self._places):
            hosts.setdefault(place.call.actor, []).append(i)
        open_ = {actor: np.array(chosen) for actor, chosen in hosts.items()}
        answers = []
        while open_:
            calls = [
                self._errand(actor, which, *more(actor, which)) for actor, which in open_.items()
            ]
            self._troupe.send(calls)
            self._troupe.answer(calls)
            missing = {}
            for (actor, chosen), call in zip(open_.items(), calls, strict=True):
                if call.answer is None:
                    missing[actor] = chosen
                else:
                    answers.append((chosen, call.answer))
            for chosen in missing.values():
                self._again(chosen)
            open_ = missing
        return answers

    def _errand(self, actor: int, chosen: Ints, what: str, *more: Any) -> Call:
        dispatches = [self._places[i].dispatch for i in chosen.tolist()]
        return self._troupe.errand(actor, "kept", what, dispatches, *more)

    def _again(self, chosen: Ints) -> None:
        """Lets a new actor make the updates that died with an old one, and no others."""
        by_call: dict[int, list[int]] = {}
        for i in chosen.tolist():
            by_call.setdefault(id(self._places[i].call), []).append(i)
        new = {key: self._part_of(members) for key, members in by_call.items()}
        self._troupe.send(list(new.values()))
        self._troupe.answer(list(new.values()))
        for key, members in by_call.items():
            for i in members:
                self._places[i] = self._places[i]._replace(call=new[key])

    def _part_of(self, members: list[int]) -> Call:
        """The call that some updates came of, for these alone."""
        old = self._places[members[0]].call
        version, table, memo, _ = old.more
        wanted = np.isin(table[:, 1], [self._places[i].dispatch for i in members])
        return self._troupe.call(
            old.actor, old.method, version, old.w, version, table[wanted], memo, []
        )
