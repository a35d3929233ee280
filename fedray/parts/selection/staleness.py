"""Selection by age: whoever was last heard of long ago, and will not be late again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt

from fedray.parts.fields import Count, Doc
from fedray.parts.selection.base import Pool, Selection, Selector

_SMOOTH = 0.2
"""Weight of the newest interval between versions in the running mean."""


@dataclass(frozen=True, kw_only=True)
class StalenessAware(Selection):
    """Of some uniform candidates, those whose last update is oldest.

    Age is the number of versions since the last one that the client had part in, and from the
    beginning for who had none. With `max_expected`, clients whose update is expected to be
    staler than that are taken only if no others are free: E[tau_i] = seconds of a job of i /
    seconds per version, which is learned on the way.
    """

    kind: Literal["staleness"] = "staleness"
    candidates: Annotated[Count, Doc("candidates per client that is picked; 1: uniform")] = 4
    max_expected: Annotated[
        float | None, Gt(0), Doc("versions that an update may be expected to miss; none: any")
    ] = None

    def selector(self, clients: int, seed: int) -> Selector:
        return _Ages(rule=self)


@dataclass(kw_only=True)
class _Ages(Selector):
    """Remembers, by client, the last version that it had part in, and the pace of versions."""

    rule: StalenessAware

    def pick(self, pool: Pool, count: int) -> list[int]:
        found: list[int] = []
        while len(found) < count:
            client = self._one(pool)
            if client is None:
                break
            found.append(client)
        return found

    def _one(self, pool: Pool) -> int | None:
        accept = None
        pace = self.memory.get("pace_s")
        if self.rule.max_expected is not None and pace:
            longest_s = self.rule.max_expected * pace
            accept = lambda client: bool(pool.duration_s[client] <= longest_s)  # noqa: E731
        drawn: list[int] = []
        while len(drawn) < self.rule.candidates:
            client = pool.draw("uniform", accept)
            if client is None:
                break
            drawn.append(client)
        if not drawn:
            return pool.draw() if accept else None
        chosen = min(drawn, key=lambda client: self.memory.get(str(client), -1))
        for client in drawn:
            if client != chosen:
                pool.give_back(client)
        return chosen

    def made(self, version: int, at_s: float, clients: Sequence[int]) -> None:
        for client in clients:
            self.memory[str(client)] = version
        interval_s = at_s - self.memory.get("made_s", 0.0)
        pace = self.memory.get("pace_s", interval_s)
        self.memory["made_s"] = at_s
        self.memory["pace_s"] = pace + _SMOOTH * (interval_s - pace)
