"""How many actors, and what each asks of Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fedray.config import schema

if TYPE_CHECKING:
    from fedray.simulation.plan import Plan

DEDICATED_UP_TO = 24
"""Clients that `auto` gives an actor each: an actor takes 0.3 s and 60 MB to start."""


class Placement(NamedTuple):
    """The client actors of a run."""

    actors: int
    clients_per_actor: int
    shared: bool
    """Hosts of all clients: any of them may train any client."""
    reason: str


def place(runtime: schema.Runtime, clients: int, cpus: int) -> Placement:
    """Decides how clients share actors; the reason is for the user to read."""
    asked = runtime.clients_per_actor
    if asked == "auto":
        if clients <= DEDICATED_UP_TO:
            return Placement(clients, 1, False, f"one per client, {clients} being few")
        hosts = max(1, min(cpus, clients))
        each = -(-clients // hosts)
        return Placement(
            hosts, each, True, f"one per core, up to {each:,} of the {clients:,} clients each"
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
