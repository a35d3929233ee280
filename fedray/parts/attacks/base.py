"""What an attack is: what malicious clients do instead of what they should."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Gt, Lt, MinLen
from numpy.typing import NDArray

from fedray import rng
from fedray.errors import InputError
from fedray.parts.fields import Doc, Index, Strict
from fedray.types import Ints, Matrix, Vector

SHARE = 0.2
"""Malicious clients where nothing is said of them."""

ALONE = "it is made from the honest updates of a version, and async makes versions of one update"
"""Why omniscient attacks refuse mode async."""


@dataclass(frozen=True, kw_only=True)
class Attack(Strict):
    """Pure functions, each of which leaves things as they are where an attack says nothing else.

    Labels and updates are spoilt where the client trains, before anything is clipped or
    compressed; omniscient attacks act at the server, in place of what arrived, just before it is
    aggregated. What a method sends besides the update is never touched.
    """

    kind: str
    PAPER: ClassVar[str] = ""
    omniscient: ClassVar[bool] = False
    """Whether it sees the honest updates of a version and replaces the malicious ones."""
    refuses: ClassVar[Mapping[str, str]] = {}
    """Modes that it does not work in, each with the reason."""

    def conflict(self, classes: int) -> tuple[str, str] | None:
        """A key of it that does not go with data of so many classes (0: a regression), and why."""
        return None

    def labels(self, y: NDArray[Any], classes: int) -> NDArray[Any]:
        """The labels that a malicious client trains on, instead of its own y (n,)."""
        return y

    def update(self, delta: Vector, generator: np.random.Generator) -> Vector:
        """What it sends instead of its update (P,)."""
        return delta

    def collude(self, honest: Matrix, malicious: int) -> Vector:
        """What every one of `malicious` clients sends, given the honest updates (H, P), H >= 1."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class ByClients(Attack):
    """An attack by some clients: named, or a share of all that is drawn from the seed."""

    share: Annotated[
        float | None, Gt(0), Lt(1), Doc("share of malicious clients, drawn from the seed; 0.2")
    ] = None
    clients: Annotated[
        Annotated[tuple[Index, ...], MinLen(1)] | None,
        Doc("the malicious clients by number, instead of a share"),
    ] = None

    def members(self, clients: int, seed: int) -> Ints:
        """The malicious ones of so many clients, in rising order.

        Raises InputError where a client is named that there is none of, or nobody is left.
        """
        if self.clients is not None:
            if max(self.clients) >= clients:
                raise InputError(
                    f"there is no client {max(self.clients)}; allowed: 0 to {clients - 1}",
                    key="attack.clients",
                )
            found = np.unique(np.array(self.clients, np.int64))
        else:
            share = SHARE if self.share is None else self.share
            count = math.floor(share * clients + 0.5)
            generator = rng.generator(seed, rng.Stream.ATTACKERS)
            found = np.sort(generator.choice(clients, size=count, replace=False))
        key = "attack.share" if self.clients is None else "attack.clients"
        if len(found) in (0, clients):
            who = "nobody" if not len(found) else "everybody"
            raise InputError(f"makes {who} of {clients} clients malicious", key=key)
        return np.asarray(found, np.int64)


@dataclass(frozen=True)
class Crew:
    """The malicious clients of a run and what they do. Picklable."""

    attack: Attack
    clients: Ints
    """Rising."""
    classes: int
    seed: int

    @cached_property
    def _known(self) -> frozenset[int]:
        return frozenset(self.clients.tolist())

    def __contains__(self, client: int) -> bool:
        return client in self._known

    def labels(self, client: int, y: NDArray[Any]) -> NDArray[Any]:
        """The labels that a client trains on."""
        return self.attack.labels(y, self.classes) if client in self else y

    def spoil(self, delta: Vector, client: int, dispatch: int) -> None:
        """Makes of a client's update (P,) what it sends, in place."""
        if client in self and not self.attack.omniscient:
            generator = rng.generator(self.seed, rng.Stream.ATTACK, client, dispatch)
            delta[:] = self.attack.update(delta, generator)

    def among(self, clients: Ints) -> NDArray[np.bool_]:
        """Which of some clients are malicious, (A,)."""
        return np.isin(clients, self.clients)


def crew(attack: Attack, clients: int, classes: int, seed: int) -> Crew | None:
    """The malicious ones of so many clients; None without an attack.

    classes: of the data, 0 for a regression. Raises InputError for what cannot be.
    """
    if not isinstance(attack, ByClients):
        return None
    if found := attack.conflict(classes):
        raise InputError(found[1], key=f"attack.{found[0]}")
    return Crew(attack, attack.members(clients, seed), classes, seed)
