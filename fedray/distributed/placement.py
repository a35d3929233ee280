"""How many actors, and what each asks of Ray."""

from __future__ import annotations

from typing import NamedTuple

from fedray.config import schema

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
