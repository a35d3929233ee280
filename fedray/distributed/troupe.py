"""Calls to a group of actors that may die: made in batches, answered whatever happens.

A lost actor is replaced and what it had not answered is asked again; answers cannot
change, because they are pure functions of what is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from ray.exceptions import (
    GetTimeoutError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
)

from fedray.distributed.arena import Arena
from fedray.distributed.parameters import Parameters
from fedray.errors import FedrayError
from fedray.types import Ints, Vector

DIED = (RayActorError, OutOfMemoryError)
"""An actor died; Ray has a name of its own for one that it ended for want of memory."""
_LOST = (*DIED, ObjectLostError)
"""An actor died, or the node that held its answer."""


@dataclass
class Call:
    """Something asked of an actor, and all that it takes to ask again."""

    actor: int
    version: int | None
    w: tuple[Vector, ...]
    """The vectors of the version: parameters, and what is sent with them; () for none."""
    method: str
    more: tuple[Any, ...]
    """Its other arguments."""
    examples: int = 0
    """Given to the actor so far, this call's included."""
    ref: Any = None
    place: int = 0
    """Its answer is at this place of the list that `ref` will be."""
    answer: Any = None
    answered: bool = False
    renew: Callable[[], tuple[Any, ...]] | None = None
    """Works `more` out anew, for an actor that has lost what it remembered."""


class Troupe:
    """The client actors. `create(i)` starts the i-th; it is called again when that one is
    lost, at most `restarts` times in all. Parameters travel through the arena if possible."""

    def __init__(
        self,
        create: Callable[[int], Any],
        actors: Sequence[Any],
        *,
        restarts: int,
        timeout_s: float,
        arena: Arena | None,
    ) -> None:
        self.parameters = Parameters(arena)
        self._create, self._actors = create, list(actors)
        self._arena, self._timeout_s = arena, timeout_s
        self._restarts, self._lost = restarts, 0
        self._open: dict[int, Call] = {}
        """Calls without an answer, by identity."""
        self._given = np.zeros(len(actors), np.int64)
        self._finished = np.zeros(len(actors), np.int64)
        """Examples given to each actor, and those that it is known to be through with."""
        self._attached = [self._introduce(actor) for actor in self._actors]
        self.replaced: Callable[[int], None] | None = None
        """Told of every actor that a new one took the place of."""

    def __len__(self) -> int:
        return len(self._actors)

    @property
    def lost(self) -> int:
        """Actors that were lost so far; each was replaced."""
        return self._lost

    @property
    def load(self) -> Ints:
        """Examples that each actor has yet to go through, as far as is known."""
        return self._given - self._finished

    def give(self, actor: int, examples: int) -> None:
        """Adds to an actor's load; the next call to it carries that."""
        self._given[actor] += examples

    def call(
        self, actor: int, method: str, version: int, w: Vector | tuple[Vector, ...], *more: Any
    ) -> Call:
        """A call to be sent."""
        self.parameters.borrow(version)
        w = w if isinstance(w, tuple) else (w,)
        return self._opened(Call(actor, version, w, method, more, int(self._given[actor])))

    def errand(self, actor: int, method: str, *more: Any) -> Call:
        """A call to be sent that takes no parameters of a version."""
        return self._opened(Call(actor, None, (), method, more, int(self._given[actor])))

    def _opened(self, call: Call) -> Call:
        self._open[id(call)] = call
        return call

    def send(self, calls: Sequence[Call]) -> None:
        """Makes calls, those to one actor together."""
        by_actor: dict[int, list[Call]] = {}
        for call in calls:
            by_actor.setdefault(call.actor, []).append(call)
        for actor, group in by_actor.items():
            attached = self._attached[actor]
            items = [(c.method, *self._parameters_of(c, attached), *c.more) for c in group]
            ref = self._actors[actor].perform.remote(items)
            for place, call in enumerate(group):
                call.ref, call.place = ref, place

    def _parameters_of(self, call: Call, attached: bool) -> tuple[Any, ...]:
        if call.version is None:
            return ()
        names = self.parameters.named(call.version, call.w, attached=attached)
        return (names if len(names) > 1 else names[0],)

    def answer(self, calls: Sequence[Call]) -> None:
        """Waits until these calls are answered, replacing actors that are lost on the way.

        Raises FedrayError when too many are lost, or what the client itself raised.
        """
        waiting = [call for call in calls if not call.answered]
        while waiting:
            refs = list({call.ref for call in waiting})
            try:
                answers = dict(zip(refs, ray.get(refs), strict=True))
            except _LOST as error:
                self._replace_lost(waiting, error)
                continue
            except RayTaskError as error:
                raise _as_ours(error) from None
            for call in waiting:
                self._close(call, answers[call.ref][call.place])
            return

    def dismiss(self, call: Call) -> None:
        """The answer to this call, which is over, will never be asked for."""
        if not call.answered:
            self._close(call, None)

    def _close(self, call: Call, answer: Any) -> None:
        call.answer, call.answered = answer, True
        del self._open[id(call)]
        if call.version is not None:
            self.parameters.give_back(call.version)
        # Calls to an actor are run in order, so all that came before is done, too.
        self._finished[call.actor] = max(self._finished[call.actor], call.examples)

    def _introduce(self, actor: Any) -> bool:
        """Whether the actor can reach the arena."""
        if self._arena is None:
            return False
        try:
            return bool(ray.get(actor.attach.remote(self._arena.handle), timeout=self._timeout_s))
        except DIED:  # lost again, which its next call will show
            return False
        except GetTimeoutError:
            raise FedrayError(
                f"a client actor that replaces a lost one is not up after {self._timeout_s:g} s "
                "(runtime.start_timeout_s)"
            ) from None

    def _replace_lost(self, waiting: Sequence[Call], error: Exception) -> None:
        lost = {call.actor for call in waiting if _is_lost(call.ref)}
        for actor in lost:
            self._lost += 1
            if self._lost > self._restarts:
                raise FedrayError(
                    f"lost {self._lost} actors, more than runtime.actor_restarts = "
                    f"{self._restarts}; the last one: {str(error).splitlines()[0]}"
                ) from None
            ray.kill(self._actors[actor])  # so that it can not answer twice
            self._actors[actor] = self._create(actor)
            self._attached[actor] = self._introduce(self._actors[actor])
            if self.replaced is not None:
                self.replaced(actor)
        again = [call for call in self._open.values() if call.actor in lost and call.ref]
        for call in again:
            if call.renew is not None:
                call.more = call.renew()
        self.send(again)


def _is_lost(ref: Any) -> bool:
    done, _ = ray.wait([ref], timeout=0)
    if not done:
        return False
    try:
        ray.get(ref)
    except _LOST:
        return True
    except RayTaskError:
        return False
    return False


def _as_ours(error: RayTaskError) -> Exception:
    cause = error.cause
    if isinstance(cause, FedrayError):
        return cause
    return FedrayError(f"a client failed: {type(cause).__name__}: {cause}")
