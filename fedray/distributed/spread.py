"""Client actors over the nodes of a cluster, and every node's part of the data.

On one machine all actors look at the same memory. On several, the samples are cut by the
actor that owns them: a node that hosts the actor fetches its part once, through the object
store, and no node holds what nobody on it trains. Files on shared storage are not sent at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.util.placement_group import PlacementGroup, placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from fedray.config import schema
from fedray.data.shards import ArrayShards
from fedray.distributed.actors import deal
from fedray.distributed.session import Session
from fedray.parts import summation
from fedray.parts.aggregators.mean import Mean
from fedray.parts.methods.plain import Plain
from fedray.simulation.plan import Plan
from fedray.types import Federation, Ints, Matrix


class PartShards:
    """Samples in the object store, in parts; a part comes to a node when somebody there asks."""

    def __init__(self, sizes: Ints, owner: Ints, parts: Sequence[Any]) -> None:
        self._sizes, self._owner, self._refs = sizes, owner, list(parts)
        order = np.argsort(owner, kind="stable")
        first = np.searchsorted(owner[order], np.arange(len(parts)))
        self._place = np.empty(len(owner), np.int64)
        self._place[order] = np.arange(len(owner)) - first[owner[order]]
        self._parts: dict[int, ArrayShards] = {}

    @property
    def sizes(self) -> Ints:
        """Samples per client, shape (clients,)."""
        return self._sizes

    def load(self, client: int) -> tuple[Matrix, NDArray[Any]]:
        """The client's X (n, d) and y (n,), read-only views of this node's memory."""
        part = int(self._owner[client])
        if part not in self._parts:
            self._parts[part] = ray.get(self._refs[part])
        return self._parts[part].load(int(self._place[client]))

    def __getstate__(self) -> tuple[Ints, Ints, list[Any]]:
        return self._sizes, self._owner, self._refs

    def __setstate__(self, state: tuple[Ints, Ints, list[Any]]) -> None:
        self.__init__(*state)  # type: ignore[misc]


def parted(federation: Federation, actors: int, *, by_leaf: bool) -> Federation:
    """The same federation with its samples in the object store, in a part for every actor.

    Clients belong to actors as `deal` has it.
    """
    shards = federation.shards
    if not isinstance(shards, ArrayShards):
        return federation
    owner = deal(federation.clients, actors, by_leaf=by_leaf)
    parts = [ray.put(_part(shards, np.flatnonzero(owner == actor))) for actor in range(actors)]
    return replace(federation, shards=PartShards(shards.sizes, owner, parts))


def _part(shards: ArrayShards, clients: Ints) -> ArrayShards:
    sizes = shards.sizes[clients]
    ranges = [np.arange(shards.offsets[c], shards.offsets[c + 1]) for c in clients.tolist()]
    rows = np.concatenate([np.empty(0, np.int64), *ranges])
    return ArrayShards(shards.X[rows], shards.y[rows], np.concatenate(([0], np.cumsum(sizes))))


@dataclass(frozen=True)
class Seats:
    """Where client actors go: a bundle each, spread over the nodes; None on a single node."""

    group: PlacementGroup | None

    def options(self, actor: int) -> dict[str, Any]:
        """Ray's options for the actor's place."""
        if self.group is None:
            return {"scheduling_strategy": "SPREAD"}
        strategy = PlacementGroupSchedulingStrategy(self.group, placement_group_bundle_index=actor)
        return {"scheduling_strategy": strategy}

    def give_up(self) -> None:
        """Gives the bundles back."""
        if self.group is not None:
            ray.util.remove_placement_group(self.group)


def take_seats(
    ray_session: Session, actors: int, bundle: dict[str, float], timeout_s: float
) -> Seats:
    """Bundles for all client actors, alternating over the nodes.

    Raises FedrayError with what is asked and what there is where they do not fit in time.
    """
    if len(ray_session.nodes) < 2:
        return Seats(None)
    group = placement_group([bundle] * actors, strategy="SPREAD")
    try:
        ray_session.wait_ready(
            [group.ready()],
            timeout_s=timeout_s,
            what="room for the client actors (runtime.start_timeout_s)",
            need={name: amount * actors for name, amount in bundle.items()},
            names=["the placement group"],
        )
    except BaseException:
        ray.util.remove_placement_group(group)
        raise
    return Seats(group)


def adds_up(plan: Plan, nodes: int, actors: int) -> bool:
    """Whether hosts keep updates and send sums: where a sum is all that the server asks for,
    on several nodes, and for models that are long enough."""
    config, model = plan.config, plan.work.model
    plain = isinstance(config.method, Plain) and isinstance(config.server.aggregator, Mean)
    one_by_one = isinstance(config.server.schedule, schema.AsyncSchedule)
    return (
        nodes > 1
        and actors <= summation.LEAVES
        and plain
        and not one_by_one
        and not plan.work.sends_more
        and model.size >= summation.LONG
    )


def teams(nodes: Sequence[str], *, alone: bool) -> Ints:
    """The team of every actor: those of a node are one, unless everybody works `alone`."""
    if alone:
        return np.arange(len(nodes))
    known = {node: i for i, node in enumerate(dict.fromkeys(nodes))}
    return np.array([known[node] for node in nodes], np.int64)
