"""Poisson sampling: everybody joins by chance, which is what private accounting is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from fedray import rng
from fedray.parts.selection.base import Pool, Selection, Selector
from fedray.parts.selection.plain import draws


@dataclass
class Joins(Selector):
    """How many join is binomial, and given that, all sets of so many are as likely.

    That is the same law as a coin for every client, without a look at each of them.
    """

    seed: int = 0

    def pick(self, pool: Pool, count: int) -> list[int]:
        turn = self.memory.get("turn", 0)
        self.memory["turn"] = turn + 1
        drawn = rng.generator(self.seed, rng.Stream.POISSON, turn)
        return draws(pool, int(drawn.binomial(pool.clients, count / pool.clients)), "uniform")


@dataclass(frozen=True, kw_only=True)
class Poisson(Selection):
    """Every client joins every round by itself, with chance q = clients_per_round / clients.

    The size of a cohort varies, and may be 0: then the version is made without updates.
    """

    by_chance: ClassVar[bool] = True
    kind: Literal["poisson"] = "poisson"

    @property
    def refuses(self) -> Mapping[str, str]:
        why = "clients are asked one by one there, not in rounds that they may join"
        return {"buffered": why, "async": why}

    def selector(self, clients: int, seed: int) -> Selector:
        return Joins(seed=seed)
