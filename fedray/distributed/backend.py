"""A run on Ray: starts the actors, runs the server, streams its progress back."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from threadpoolctl import threadpool_limits

from fedray.data.shards import ArrayShards
from fedray.distributed import arena
from fedray.distributed.actors import ClientActor
from fedray.distributed.executor import RayExecutor
from fedray.distributed.metrics import metered
from fedray.distributed.placement import (
    ACTOR_CPUS,
    Placement,
    actor_options,
    bundle,
    place,
    update_rows,
)
from fedray.distributed.session import Session, own_processes, session
from fedray.distributed.spread import adds_up, parted, take_seats, teams
from fedray.distributed.troupe import DIED, Troupe
from fedray.errors import FedrayError
from fedray.simulation.checkpoint import Snapshot, load_newest
from fedray.simulation.flight import Flight
from fedray.simulation.lock import only_writer
from fedray.simulation.plan import Plan
from fedray.simulation.progress import Progress
from fedray.types import Federation, Ints

_PROGRESS_EVERY_S = 0.1
_LOOK_EVERY_S = 0.5
_PARTING_S = 3.0
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
        replacement: dict[str, Any],
        team: Ints,
        evaluators: int,
        folder: Path,
        snapshot: Snapshot | None,
        run: str | None,
        adds_up: bool,
    ) -> None:
        self._limits = threadpool_limits(limits=1)
        gc.freeze()
        room = arena_for(plan)
        troupe = Troupe(
            lambda _: ClientActor.options(**replacement).remote(plan.work, data[0]),
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
            teams=team,
            test_samples=len(federation.y_test),
            evaluators=evaluators,
            arena=room,
            keeps=adds_up,
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
        free = ray_session.cpus if ray_session.local else _free_cpus()
        cores = max(1, int(free))
        placement = place(runtime, federation.clients, cores, ray.cluster_resources())
        say(f"starting {placement.actors} client actor{'s' * (placement.actors > 1)}: "
            f"{placement.reason}")  # fmt: skip
        stage = _Stage(plan, federation, folder, ray_session, placement, cores)
        facts = {
            "kind": "ray",
            "actors": placement.actors,
            "clients_per_actor": placement.clients_per_actor,
            "cpus": cores,
            "nodes": len(ray_session.nodes),
        }
        go_on = partial(_after, plan=plan, folder=folder, say=say)
        try:
            yield from _performed(stage, facts, snapshot, started, go_on)
        finally:
            stage.seats.give_up()
        if not ray_session.local:
            _wait_until_free(free)


def _performed(
    stage: _Stage,
    facts: dict[str, Any],
    snapshot: Snapshot | None,
    started: Callable[[int, int], None],
    go_on: Callable[[RayError, int], Snapshot | None],
) -> Iterator[Progress]:
    """The whole run, set up anew where the server actor dies: `go_on` says what from, or raises."""
    for restarts in count():
        try:
            server = stage.set(snapshot, started)
            yield from _stream(server, server.run.remote(facts))
            return
        except RayTaskError as error:
            if isinstance(error.cause, FedrayError):
                raise error.cause from None
            raise
        except DIED as error:
            died: RayError = error
        finally:
            stage.strike()
        snapshot = go_on(died, restarts)


def _after(
    error: RayError, restarts: int, plan: Plan, folder: Path, say: Callable[[str], None]
) -> Snapshot | None:
    """What to go on from after the server actor's death; raises FedrayError after too many."""
    why = str(error).splitlines()[0]
    allowed = plan.config.runtime.actor_restarts
    if restarts >= allowed or plan.config.clock == "wall" or not ray.is_initialized():
        raise FedrayError(
            f"the server actor died: {why}; continue with: fedray launch --resume {folder}"
        ) from None
    with only_writer(folder):
        pass  # who is only out of reach may still write, and remove what we go on from
    snapshot, complaints = load_newest(folder / "checkpoints")
    version = snapshot.version if snapshot else 0
    for line in (*complaints, f"the server actor died; going on from version {version}"):
        say(line)
    return snapshot


def _free_cpus() -> float:
    return float(ray.available_resources().get("CPU", 0.0))


def _wait_until_free(cpus: float) -> None:
    """Until what the actors had is free again, or somebody else has it: the next run in this
    process counts free cores, and Ray takes a moment to notice that actors are gone."""
    deadline = time.monotonic() + _PARTING_S
    with suppress(RayError, RuntimeError):
        while _free_cpus() < cpus and time.monotonic() < deadline:
            time.sleep(0.05)


def _cpus_each(ray_session: Session, actors: int, cores: int) -> float:
    """What a client actor asks of Ray: next to nothing of our own Ray, and of somebody
    else's what it will use, so that others' work is not crowded out."""
    if ray_session.local:
        return ray_session.actor_cpus(actors)
    return max(1e-4, int(0.9 * min(1.0, cores / actors) * 1e4) / 1e4)


class _Stage:
    """All actors of a run: set up, and struck when it is over or the server is lost."""

    def __init__(
        self, plan: Plan, federation: Federation, folder: Path, ray_session: Session,
        placement: Placement, cores: int,
    ) -> None:  # fmt: skip
        self._plan, self._folder, self._session = plan, folder, ray_session
        self._count = placement.actors
        self._evaluators = min(placement.actors, cores)
        # Hosts of an `auto` placement share the data of their node, so that any of them can
        # train any client of it; a shard in a file is better read by one host only.
        self._alone = not (placement.shared and isinstance(federation.shards, ArrayShards))
        nodes = len(ray_session.nodes)
        self._adds_up = placement.shared and adds_up(plan, nodes, placement.actors)
        if nodes > 1:
            federation = parted(federation, placement.actors, by_leaf=self._adds_up)
        self._data = ray.put(federation)
        runtime = plan.config.runtime
        share = _cpus_each(ray_session, placement.actors, cores)
        self._bundle = bundle(runtime, share)
        self.seats = take_seats(
            ray_session, placement.actors, self._bundle, runtime.start_timeout_s
        )
        self._actors: list[Any] = []

    def set(self, snapshot: Snapshot | None, started: Callable[[int, int], None]) -> Any:
        """Starts all actors and waits until they answer; returns the server."""
        plan, runtime = self._plan, self._plan.config.runtime
        options = {**actor_options(self._bundle), "max_restarts": 0, "max_task_retries": 0}
        clients = [
            ClientActor.options(**options, **self.seats.options(i)).remote(plan.work, self._data)
            for i in range(self._count)
        ]
        self._actors = list(clients)
        nodes = self._wait([client.node.remote() for client in clients], started)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        asked = {**self._bundle, "CPU": min(self._bundle["CPU"], ACTOR_CPUS)}
        replacement = {**options, **actor_options(asked), "scheduling_strategy": "SPREAD"}
        server = ServerActor.options(  # where the run folder is
            num_cpus=0, max_concurrency=2, max_restarts=0, scheduling_strategy=here
        ).remote(
            plan, self._data, [self._data], clients, replacement,
            teams(nodes, alone=self._alone), self._evaluators, self._folder, snapshot,
            None if self._session.local else self._folder.name, self._adds_up,
        )  # fmt: skip
        self._actors.append(server)
        self._session.wait_ready(
            [server.ready.remote()],
            timeout_s=runtime.start_timeout_s,
            what="the server actor (runtime.start_timeout_s)",
        )
        return server

    def _wait(self, refs: list[Any], started: Callable[[int, int], None]) -> list[Any]:
        return self._session.wait_ready(
            refs,
            timeout_s=self._plan.config.runtime.start_timeout_s,
            what="actors (runtime.start_timeout_s)",
            need={name: amount * self._count for name, amount in self._bundle.items()},
            names=[f"client actor {i}" for i in range(self._count)],
            progress=started,
        )

    def strike(self) -> None:
        """Ends the actors; on a Ray that is not ours they would live on."""
        for actor in self._actors:
            with suppress(RayError, RuntimeError):  # one that died took them along
                ray.kill(actor)
        self._actors = []


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
