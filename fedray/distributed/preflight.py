"""What a run needs of a machine, and whether the machine has it: before anything starts.

Estimates are of the right size, not exact: of memory and disk to within a half, of time to
within a factor of two on a machine that is otherwise idle.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from fedray.config import schema
from fedray.distributed import arena, machine
from fedray.distributed.placement import MEMORIES_BYTES, place, update_rows
from fedray.errors import FedrayError, InputError
from fedray.learning.work import EVAL_ROWS, evaluate, train
from fedray.simulation.forecast import Forecast
from fedray.simulation.frequencies import per_version
from fedray.simulation.plan import Plan
from fedray.simulation.server import GlobalModel
from fedray.types import Federation

# Private memory, measured with Ray 2.60 on Linux.
SKLEARN_ACTOR_BYTES = 140 << 20
"""An actor that has imported scikit-learn."""
SERVER_BYTES = 130 << 20
DRIVER_BYTES = 190 << 20
"""The process of `fedray launch`, without the data."""
RAY_BYTES = 320 << 20
"""A private Ray's own processes."""
_SHARD_CACHE_BYTES = 128 << 20  # of Parquet shards, per actor
UPDATE_ROW_BYTES, ROUND_ROW_BYTES = 90, 400
"""On disk, compressed."""
RAY_START_S, ACTOR_START_S, VERSION_S = 4.0, 0.3, 0.0015
"""Seconds: a private Ray, an actor on a core, and the server's own work per version."""
TIMING_S = 0.3
"""How long `duration` may train."""


def memory(plan: Plan, federation: Federation, actors: int) -> dict[str, Any]:
    """Estimated bytes on this machine, and what it has; `warning` where that is short.

    The object store holds the data once for all actors, and the versions of the model that
    are still in use: at most one per job in flight, and the newest.
    """
    data, shared, each, config = federation.nbytes, 0, 0, plan.config
    if actors:
        schedule = config.server.schedule
        versions = 2 if isinstance(schedule, schema.SyncSchedule) else schedule.concurrency + 1
        shared = data + versions * plan.population.payload.bytes_down
        sklearn = isinstance(config.model, schema.SklearnModel)
        each = SKLEARN_ACTOR_BYTES if sklearn else machine.ACTOR_BYTES
        each += min(_SHARD_CACHE_BYTES, _shard_bytes(plan, federation) // actors)
        jobs = config.server.rounds * per_version(plan)
        held = _remembered_bytes(plan, plan.work.state_vectors, jobs)
        each += min(MEMORIES_BYTES, 2 * held // actors)
    private_ray = actors and config.runtime.address is None
    parts = {
        "driver_bytes": DRIVER_BYTES + data,
        "object_store_bytes": shared,
        "actors_bytes": each * actors,
        "server_bytes": SERVER_BYTES + _updates_bytes(plan) if actors else 0,
        "ray_bytes": RAY_BYTES if private_ray else 0,
    }
    total, have = sum(parts.values()), machine.available_bytes()
    return {
        **parts,
        "total_bytes": total,
        "available_bytes": have,
        "warning": _warning(plan, total, have, shared, actors),
    }


def _warning(plan: Plan, total: int, have: int, shared: int, actors: int) -> str | None:
    if plan.config.runtime.address is not None and actors:
        return None  # the cluster's memory counts, not ours
    if total > have:
        hint = "; put more clients into each actor (runtime.clients_per_actor)"
        return f"about {total >> 20:,} MiB are needed and {have >> 20:,} MiB are available" + (
            hint if actors > 1 else ""
        )
    if actors:
        try:
            machine.store_bytes(shared)
        except FedrayError as error:
            return str(error)
    return None


def _shard_bytes(plan: Plan, federation: Federation) -> int:
    """What actors read from files themselves, all together."""
    if hasattr(federation.shards, "X"):
        return 0
    width = federation.X_test.itemsize * (len(federation.features) + 1)
    return int(plan.sizes.sum()) * width


def _updates_bytes(plan: Plan) -> int:
    """The memory that the server shares with actors of its machine, see `arena`."""
    return min(arena.MOST_BYTES, update_rows(plan) * plan.population.payload.bytes_down)


def room(plan: Plan, known: Forecast | None) -> int:
    """Bytes of disk that the run folder comes to, at its largest.

    Tables (twice, while they are made into one file), checkpoints, what clients remember.
    """
    each, config = plan.population.payload.bytes_down, plan.config
    schedule = config.server.schedule
    in_use = 2 if isinstance(schedule, schema.SyncSchedule) else schedule.concurrency + 1
    versions = known.versions if known else config.server.rounds
    jobs = known.dispatched if known else versions * per_version(plan)
    tables = jobs * UPDATE_ROW_BYTES + versions * ROUND_ROW_BYTES
    vectors = plan.work.state_vectors + int(plan.work.method.table)
    remembered = _remembered_bytes(plan, vectors, jobs)
    kept = config.checkpoint.keep + 1
    return 2 * tables + kept * (in_use + 3) * each + 3 * remembered + (1 << 20)


def _remembered_bytes(plan: Plan, vectors: int, jobs: int) -> int:
    """So many vectors of every client that trains: who never does remembers nothing."""
    model = plan.work.model
    return vectors * model.size * model.dtype.itemsize * min(plan.population.clients, jobs)


def duration(
    plan: Plan, federation: Federation, known: Forecast | None, actors: int
) -> dict[str, float | None]:
    """Seconds on this machine: of a job, of an evaluation, and of the run.

    From a few jobs and one evaluation, timed here on one core; None for the run where nobody
    knows how many jobs it has.
    """
    job_s, evaluation_s = _timed(plan, federation)
    total = None
    if known is not None:
        cores = plan.config.runtime.cpus or machine.cores()
        at_a_time = max(1, min(actors, cores)) if actors else 1
        evaluations = known.versions // plan.config.eval.every + 2
        total = (known.dispatched * job_s + evaluations * evaluation_s) / at_a_time
        total += known.versions * VERSION_S
        total += RAY_START_S + actors * ACTOR_START_S / at_a_time if actors else 0.0
    return {"job_s": job_s, "evaluation_s": evaluation_s, "total_s": total}


def _timed(plan: Plan, federation: Federation) -> tuple[float, float]:
    """Seconds of a job of mean size, and of one evaluation."""
    w, clients = plan.initial(), np.argsort(plan.sizes, kind="stable")
    some = clients[np.linspace(0, len(clients) - 1, min(9, len(clients))).astype(int)]
    extras = GlobalModel(plan, w).extras.get(0, ())
    if plan.work.method.cohort_gradient:
        extras = (*extras, np.zeros_like(w))
    spent_s, samples, began = 0.0, 0, time.perf_counter()
    with threadpool_limits(limits=1):
        for i, client in enumerate([some[0], *some]):
            start = time.perf_counter()
            train(
                plan.work, federation.shards, w, 0, np.array([client]), np.array([i]),
                broadcast=extras,
            )  # fmt: skip
            if i:  # the first one finds everything cold
                spent_s += time.perf_counter() - start
                samples += int(plan.sizes[client])
            if i and time.perf_counter() - began > TIMING_S:
                break
        start = time.perf_counter()
        pieces = np.arange(-(-len(federation.y_test) // EVAL_ROWS))
        evaluate(plan.work, w, federation.X_test, federation.y_test, pieces)
        evaluation_s = time.perf_counter() - start
    return spent_s / max(samples, 1) * float(plan.sizes.mean()), evaluation_s


def refuse(plan: Plan, federation: Federation, folder: Path) -> None:
    """Raises InputError, one line with the numbers, for a run that this machine cannot hold.

    What a cluster offers is not looked at.
    """
    runtime = plan.config.runtime
    if runtime.executor == "ray" and runtime.address is None:
        actors = place(runtime, federation.clients, runtime.cpus or machine.cores()).actors
        _check_memory(memory(plan, federation, actors))
    _check_disk(plan, folder)


def _check_memory(known: dict[str, Any]) -> None:
    """This process has its own part already."""
    names = {
        "actors_bytes": "client actors",
        "server_bytes": "server",
        "object_store_bytes": "object store",
        "ray_bytes": "Ray",
    }
    parts = {name: known[key] >> 20 for key, name in names.items()}
    need, have = sum(parts.values()), known["available_bytes"] >> 20
    if need <= have:
        return
    named = ", ".join(f"{name} {size:,}" for name, size in parts.items())
    key, advice = _ADVICE[max(("actors_bytes", "object_store_bytes"), key=lambda k: known[k])]
    raise InputError(
        f"about {need:,} MiB of memory are needed ({named}) and {have:,} MiB are available; "
        f"{advice}",
        key=key,
    )


_ADVICE = {
    "actors_bytes": (
        "runtime.clients_per_actor",
        "put more clients into each actor, or compute in one process (runtime.executor=local)",
    ),
    "object_store_bytes": (
        "data",
        "take less data, a smaller model, or less work in flight (server.schedule.concurrency)",
    ),
}


def _check_disk(plan: Plan, folder: Path) -> None:
    need, have = room(plan, None), shutil.disk_usage(_standing(folder)).free
    if need > have:
        raise InputError(
            f"about {need >> 20:,} MiB are needed and {have >> 20:,} MiB are free in {folder}; "
            "write elsewhere, or keep fewer checkpoints (checkpoint.keep)",
            key="output.dir",
        )


def _standing(folder: Path) -> Path:
    """The folder, or the first above it that is there."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder
