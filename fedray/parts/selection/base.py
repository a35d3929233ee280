"""What a selection is: who is asked to train next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias

from fedray.parts.cards import Algorithm
from fedray.parts.fields import Strict
from fedray.types import Floats

By: TypeAlias = Literal["uniform", "size", "speed"]
"""Chances of a draw: equal, proportional to n_i, or to 1 / nominal seconds per job."""


class Reply(NamedTuple):
    """What a client says about the newest model on its own shard."""

    loss: float
    """Mean over its samples; inf where it is not finite."""
    score: float
    """Accuracy; of a regression, minus the loss."""


class News(NamedTuple):
    """What the updates that made a version brought; (K,) each, in order of arrival."""

    version: int
    clients: list[int]
    applied: list[bool]
    """False where an update was not finite."""
    examples: list[int]
    losses: list[float]
    """Mean loss of the downloaded model on the shard."""
    squares: list[float]
    """Mean squared loss of it; NaN unless the selection `needs_squares`."""
    duration_s: list[float]
    """From dispatch to arrival."""


class Pool(Protocol):
    """The clients as they are when somebody is to be picked. Whoever is picked is taken."""

    version: int
    """The newest."""
    now_s: float
    sizes: Floats
    """n_i, (N,)"""
    duration_s: Floats
    """Nominal seconds per job, (N,)."""

    @property
    def clients(self) -> int:
        """N"""

    def uniform(self) -> float:
        """The next of the run's random numbers for selections, in [0, 1)."""

    def free(self, client: int) -> bool:
        """Whether it can be asked: on, not training, not taken."""

    def stays_s(self, client: int) -> float:
        """Seconds until it goes off; 0 for one that is off."""

    def take(self, client: int) -> None:
        """Nobody else may have this one."""

    def give_back(self, client: int) -> None:
        """It is not wanted after all."""

    def draw(self, by: By = "uniform", accept: Callable[[int], bool] | None = None) -> int | None:
        """Takes a random free client that is acceptable; None if there is none.

        Exactly by the chances that `by` says, among those that are free and acceptable.
        """

    def in_turn(self, start: int) -> int | None:
        """Takes the first free client from `start` on, around the circle."""

    def ask(self, clients: Sequence[int], *, wait: bool = True) -> list[Reply]:
        """Sends the newest model to clients and hears how it does on their shards.

        Counted: a model down and 8 bytes up for each. With `wait`, jobs that are picked now
        start only when the slowest has answered, and need no second download.
        """


@dataclass
class Selector:
    """A selection at work: what it remembers, as JSON. The base remembers nothing."""

    memory: dict[str, Any] = field(default_factory=dict)
    """Keys are words or client numbers written as text, so that JSON gives them back."""

    def pick(self, pool: Pool, count: int) -> list[int]:
        """Takes up to `count` clients, fewer if there are not as many to be had."""
        raise NotImplementedError

    def made(self, version: int, at_s: float, clients: Sequence[int]) -> None:
        """A version was made of the updates of these clients; nothing is known of results."""

    def learned(self, news: News) -> None:
        """The results of a version are known. Called where the selection `looks`."""


@dataclass(frozen=True, kw_only=True)
class Selection(Strict):
    """A record of parameters; `selector` puts it to work."""

    kind: str
    ALGORITHM: ClassVar[Algorithm | None] = None
    """How users pick it by name."""
    by_chance: ClassVar[bool] = False
    """Whether it may pick nobody where there are some, and more than it was asked for."""
    needs_squares: ClassVar[bool] = False
    """Whether it reads the mean squared losses of updates."""

    @property
    def looks(self) -> bool:
        """Whether it depends on what clients compute, so that nothing is known ahead."""
        return False

    @property
    def needs_losses(self) -> bool:
        """Whether it reads the losses of updates (`eval.local_losses`)."""
        return False

    @property
    def refuses(self) -> Mapping[str, str]:
        """Modes that it does not work in, each with the reason."""
        return {}

    def selector(self, clients: int, seed: int) -> Selector:
        """Starts it for so many clients."""
        raise NotImplementedError
