"""The selections that look at nothing: uniformly, by size, in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedray.parts.selection.base import By, Pool, Selection, Selector


@dataclass
class Draws(Selector):
    """Independent draws among the free clients."""

    by: By = "uniform"

    def pick(self, pool: Pool, count: int) -> list[int]:
        return draws(pool, count, self.by)


@dataclass
class Turns(Selector):
    """One after the other."""

    def pick(self, pool: Pool, count: int) -> list[int]:
        found: list[int] = []
        while len(found) < count:
            client = pool.in_turn(self.memory.get("next", 0))
            if client is None:
                break
            self.memory["next"] = (client + 1) % pool.clients
            found.append(client)
        return found


def draws(pool: Pool, count: int, by: By) -> list[int]:
    """Takes up to `count` free clients by `count` draws without replacement."""
    found: list[int] = []
    while len(found) < count:
        client = pool.draw(by)
        if client is None:
            break
        found.append(client)
    return found


@dataclass(frozen=True, kw_only=True)
class Uniform(Selection):
    """All free clients have the same chance."""

    kind: Literal["uniform"] = "uniform"

    def selector(self, clients: int, seed: int) -> Selector:
        return Draws()


@dataclass(frozen=True, kw_only=True)
class BySize(Selection):
    """Chances proportional to the samples of a client."""

    kind: Literal["size"] = "size"

    def selector(self, clients: int, seed: int) -> Selector:
        return Draws(by="size")


@dataclass(frozen=True, kw_only=True)
class RoundRobin(Selection):
    """In turn, in order of client number."""

    kind: Literal["round_robin"] = "round_robin"

    def selector(self, clients: int, seed: int) -> Selector:
        return Turns()
