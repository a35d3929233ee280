"""How many actors, and what each asks of Ray."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from fedray.config import schema

if TYPE_CHECKING:
    from fedray.simulation.plan import Plan

ACTOR_CPUS = 0.01
"""Never 0: Ray places actors that ask for no CPU at random, deaf to any strategy."""
DEDICATED_UP_TO = 24
"""Clients that `auto` gives an actor each: an actor takes 0.3 s and 60 MB to start."""

MEMORIES_BYTES = 1 << 28
"""What clients remember that an actor may keep; that of jobs under way comes on top."""


class Placement(NamedTuple):
    """The client actors of a run."""

    actors: int
    clients_per_actor: int
    shared: bool
    """Hosts of all clients: any of them may train any client."""
    reason: str


def place(
    runtime: schema.Runtime, clients: int, cpus: int, have: Mapping[str, float] | None = None
) -> Placement:
    """Decides how clients share actors; the reason is for the user to read.

    `have`: what the cluster has of the resources that an actor asks for, where known.
    """
    asked = runtime.clients_per_actor
    if asked == "auto":
        room = _room(runtime, have or {})
        if clients <= min(DEDICATED_UP_TO, room):
            return Placement(clients, 1, False, f"one per client, {clients} being few")
        hosts = max(1, min(cpus, clients, room))
        each = -(-clients // hosts)
        why = "one per core" if hosts < room else "as many as runtime.client_resources leaves room"
        return Placement(
            hosts, each, True, f"{why}, up to {each:,} of the {clients:,} clients each"
        )
    actors = -(-clients // asked)
    why = "one per client" if asked == 1 else f"{asked} clients each"
    return Placement(actors, asked, False, f"{why}, as runtime.clients_per_actor asks")


def update_rows(plan: Plan) -> int:
    """Vectors (P,) that server and actors have to share for all that can be under way."""
    schedule = plan.config.server.schedule
    if isinstance(schedule, schema.SyncSchedule):
        at_a_time = int(plan.cohort * schedule.over_select) + 1
    elif isinstance(schedule, schema.BufferedSchedule):
        at_a_time = schedule.concurrency + schedule.buffer_size
    else:
        at_a_time = schedule.concurrency
    # Twice: the updates that the server reads, and those of the next version; and some
    # rows for the parameters of the versions that are trained from.
    beside = plan.work.method.uploads + plan.work.state_vectors
    return 2 * at_a_time * (1 + beside) + 64


def _room(runtime: schema.Runtime, have: Mapping[str, float]) -> int:
    """Actors that fit, as far as the resources that each asks for go."""
    asked = runtime.client_resources.items()
    return min(
        (int(have[name] / amount) for name, amount in asked if name in have), default=1 << 30
    )


def bundle(runtime: schema.Runtime, cpu_share: float) -> dict[str, float]:
    """What a client actor asks of Ray, by resource.

    Where resources are named, they decide who fits where, and CPU hardly counts unless named.
    """
    if runtime.client_resources:
        return {"CPU": min(cpu_share, ACTOR_CPUS), **runtime.client_resources}
    return {"CPU": cpu_share}


def actor_options(asked: Mapping[str, float]) -> dict[str, Any]:
    """The same in Ray's words for an actor."""
    words = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
    options: dict[str, Any] = {words[n]: amount for n, amount in asked.items() if n in words}
    own = {name: amount for name, amount in asked.items() if name not in words}
    return {**options, "resources": own} if own else options
