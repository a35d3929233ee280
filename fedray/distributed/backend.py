"""A run on Ray: starts the actors, runs the server, streams its progress back."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from threadpoolctl import threadpool_limits

from fedray.data.shards import ArrayShards
from fedray.distributed import arena
from fedray.distributed.actors import ClientActor
from fedray.distributed.executor import RayExecutor
from fedray.distributed.metrics import metered
from fedray.distributed.placement import Placement, place, update_rows
from fedray.distributed.session import Session, own_processes, session
from fedray.distributed.troupe import Troupe
from fedray.errors import FedrayError
from fedray.simulation.checkpoint import Snapshot
from fedray.simulation.flight import Flight
from fedray.simulation.loop import Progress
from fedray.simulation.plan import Plan
from fedray.types import Federation

_PROGRESS_EVERY_S = 0.1
_LOOK_EVERY_S = 0.5
_PATIENCE_S = 20.0
"""How long the version at hand may take once the run is to end; who asks waits for 30 s."""


class Server:
    """The server actor: owns the global model and the timeline, orchestrates the clients.

    `run` is the run's name in Ray's metrics; None: nobody collects them.
    """

    def __init__(
        self,
        plan: Plan,
        federation: Federation,
        data: list[Any],
        clients: list[Any],
        options: dict[str, Any],
        balanced: bool,
        evaluators: int,
        folder: Path,
        snapshot: Snapshot | None,
        run: str | None,
    ) -> None:
        self._limits = threadpool_limits(limits=1)
        gc.freeze()
        room = arena_for(plan)
        troupe = Troupe(
            lambda _: ClientActor.options(**options).remote(plan.work, data[0]),
            clients,
            restarts=plan.config.runtime.actor_restarts,
            timeout_s=plan.config.runtime.start_timeout_s,
            arena=room,
        )
        self._run, self._troupe = run, troupe
        self._executor = RayExecutor(
            troupe,
            work=plan.work,
            sizes=plan.sizes,
            balanced=balanced,
            test_samples=len(federation.y_test),
            evaluators=evaluators,
            arena=room,
        )
        self._flight = Flight(plan, federation, self._executor, folder, snapshot=snapshot)

    def ready(self) -> bool:
        """Answers once the actor is up."""
        return True

    def run(self, facts: dict[str, Any]) -> Iterator[Progress]:
        """Flies, and yields where it is a few times a second."""
        told_at, progress, told = 0.0, None, None
        flight: Iterator[Progress] = self._flight.run(facts)
        if self._run is not None:
            flight = metered(flight, self._run, retries=lambda: self._troupe.lost)
        for progress in flight:
            if time.monotonic() - told_at > _PROGRESS_EVERY_S:
                told_at, told = time.monotonic(), progress
                yield progress
        if progress is not None and progress is not told:
            yield progress

    def interrupt(self) -> None:
        """Ends the run after the version at hand, with a checkpoint."""
        self._flight.interrupt()


ServerActor: Any = ray.remote(Server)


def arena_for(plan: Plan) -> arena.Arena | None:
    """Room for all updates that can be under way at a time, where memory allows."""
    model = plan.work.model
    return arena.make(update_rows(plan), model.size, model.dtype)


def fly(
    plan: Plan,
    federation: Federation,
    folder: Path,
    *,
    snapshot: Snapshot | None,
    verbose: bool,
    say: Callable[[str], None],
    started: Callable[[int, int], None],
) -> Iterator[Progress]:
    """Runs a plan on the Ray that `runtime` asks for and yields its progress.

    `say` gets a line about what starts and why, `started(ready, all)` follows the
    actors coming up. A KeyboardInterrupt ends the run with a checkpoint, a second one at
    once. Raises FedrayError when actors do not come up or are lost for good.
    """
    runtime = plan.config.runtime
    expected = place(runtime, federation.clients, runtime.cpus or 1)
    with session(
        runtime,
        verbose=verbose,
        actors=expected.actors + 1,
        needed_bytes=federation.nbytes,
    ) as ray_session:
        cores = max(1, int(ray_session.cpus if ray_session.local else _free_cpus()))
        placement = place(runtime, federation.clients, cores)
        say(f"starting {placement.actors} client actor{'s' * (placement.actors > 1)}: "
            f"{placement.reason}")  # fmt: skip
        actors = _start(plan, federation, folder, snapshot, ray_session, placement, cores, started)
        server = actors[-1]
        facts = {
            "kind": "ray",
            "actors": placement.actors,
            "clients_per_actor": placement.clients_per_actor,
            "cpus": cores,
            "nodes": len(ray_session.nodes),
        }
        try:
            yield from _stream(server, server.run.remote(facts))
        except RayTaskError as error:
            if isinstance(error.cause, FedrayError):
                raise error.cause from None
            raise
        except RayActorError as error:
            raise FedrayError(
                f"the server actor died: {str(error).splitlines()[0]}; "
                f"continue with: fedray launch --resume {folder}"
            ) from None
        finally:
            for actor in actors:  # a Ray that is not ours lives on; they must not
                with suppress(RayError, RuntimeError):  # one that died took them along
                    ray.kill(actor)


def _free_cpus() -> float:
    return float(ray.available_resources().get("CPU", 0.0))


def _cpus_each(ray_session: Session, actors: int, cores: int) -> float:
    """What a client actor asks of Ray: next to nothing of our own Ray, and of somebody
    else's what it will use, so that others' work is not crowded out."""
    if ray_session.local:
        return ray_session.actor_cpus(actors)
    return max(1e-4, int(0.9 * min(1.0, cores / actors) * 1e4) / 1e4)


def _start(
    plan: Plan,
    federation: Federation,
    folder: Path,
    snapshot: Snapshot | None,
    ray_session: Session,
    placement: Placement,
    cores: int,
    started: Callable[[int, int], None],
) -> list[Any]:
    """All actors, up and answering; the server is the last one."""
    runtime = plan.config.runtime
    data = ray.put(federation)
    share = _cpus_each(ray_session, placement.actors, cores)
    options = {
        "num_cpus": share,
        "max_restarts": 0,
        "max_task_retries": 0,
        "scheduling_strategy": "SPREAD",
    }
    clients = [
        ClientActor.options(**options).remote(plan.work, data) for _ in range(placement.actors)
    ]
    # Hosts of an `auto` placement share the data, so that any of them can train any client;
    # a shard in a file is better read by one host only, which then has it at hand.
    balanced = placement.shared and isinstance(federation.shards, ArrayShards)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    server = ServerActor.options(  # where the run folder is
        num_cpus=0, max_concurrency=2, max_restarts=0, scheduling_strategy=here
    ).remote(
        plan, federation, [data], clients, options, balanced, min(placement.actors, cores),
        folder, snapshot, None if ray_session.local else folder.name,
    )  # fmt: skip
    actors = [*clients, server]
    ray_session.wait_ready(
        [actor.ready.remote() for actor in actors],
        timeout_s=runtime.start_timeout_s,
        what="actors (runtime.start_timeout_s)",
        need={"CPU": placement.actors * share},
        names=[f"client actor {i}" for i in range(len(clients))] + ["the server actor"],
        progress=started,
    )
    return actors


def _stream(server: Any, progress: Any) -> Iterator[Progress]:
    """The server's progress; passes a first Ctrl-C on to it and goes on to the end.

    Where the signal has hit the actors too (Slurm sends it to all processes of a job), the
    run ends without another checkpoint.
    """
    asked: KeyboardInterrupt | None = None
    while True:
        try:
            if asked and not _answers(progress):
                raise asked
            report: Progress = ray.get(next(progress))
            yield report
        except StopIteration:
            return
        except KeyboardInterrupt as signalled:
            if asked:
                raise
            asked = signalled
            server.interrupt.remote()
        except (RayError, FedrayError):
            if asked:
                raise asked from None
            raise


def _answers(progress: Any) -> bool:
    """Whether there is news of the server in time.

    Where Ray is ours and one of its processes is dead, that one has got the signal, too.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        if ray.wait([progress], timeout=_LOOK_EVERY_S)[0]:
            return True
        if any(process.poll() is not None for process in own_processes()):
            return False
    return False
