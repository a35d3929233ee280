"""What Tune drives: an actor that runs trials one after the other, see `trial.TrialRun`."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from threadpoolctl import threadpool_limits

from fedray.config import schema
from fedray.config.sweep import SweepFile
from fedray.data.shards import ArrayShards
from fedray.distributed import arena
from fedray.distributed.actors import ClientActor
from fedray.distributed.backend import arena_for
from fedray.distributed.executor import RayExecutor
from fedray.distributed.spread import teams
from fedray.distributed.trial import Alone, Cast, Library, Metric, Spec, TrialRun
from fedray.distributed.troupe import Troupe
from fedray.errors import FedrayError
from fedray.simulation.executor import Executor
from fedray.simulation.plan import Plan
from fedray.types import Federation


@dataclass(frozen=True)
class Common:
    """What all trials of a sweep share. In Ray's store once.

    `specs` by id; trials whose settings are not known beforehand carry them in Tune's
    configuration. `data`: references to data sets by `trial.data_key`.
    """

    folder: Path
    file: SweepFile
    specs: Mapping[str, Spec]
    data: Mapping[str, Any]
    metric: Metric
    marks: frozenset[int]
    news: bool
    replay: bool
    actors: int


class Crew:
    """`actors` client actors in the trial's own placement group, kept from trial to trial."""

    def __init__(self, actors: int, runtime: schema.Runtime) -> None:
        self._runtime = runtime
        group = get_current_placement_group()
        assert group is not None
        self._group = group
        self._actors: list[Any] = [None] * actors
        self._arena: arena.Arena | None = None
        self._data: tuple[Federation, Any] | None = None

    def executor(self, plan: Plan, federation: Federation) -> Executor:
        if self._arena is not None:
            self._arena.close()
        self._arena = arena_for(plan)
        if self._data is None or self._data[0] is not federation:
            self._data = federation, ray.put(federation)
        data = self._data[1]

        def create(place: int) -> Any:
            actor = self._start(place, plan, data)
            self._actors[place] = actor
            return actor

        known = [actor for actor in self._actors if actor is not None]
        try:
            self._wait([actor.take.remote(plan.work, data) for actor in known])
        except FedrayError:
            self.close()
            known = []
        if not known:
            actors = [create(place) for place in range(len(self._actors))]
            self._wait([actor.ready.remote() for actor in actors])
        troupe = Troupe(
            create,
            self._actors,
            restarts=self._runtime.actor_restarts,
            timeout_s=self._runtime.start_timeout_s,
            arena=self._arena,
        )
        return RayExecutor(
            troupe,
            work=plan.work,
            sizes=plan.sizes,
            teams=teams(
                ["here"] * len(self._actors), alone=not isinstance(federation.shards, ArrayShards)
            ),
            test_samples=len(federation.y_test),
            evaluators=len(self._actors),
            arena=self._arena,
        )

    def facts(self, clients: int) -> dict[str, Any]:
        count = len(self._actors)
        return {"kind": "ray", "actors": count, "clients_per_actor": -(-clients // count)}

    def close(self) -> None:
        """Ends the actors."""
        for actor in self._actors:
            if actor is not None:
                ray.kill(actor)
        self._actors = [None] * len(self._actors)

    def _start(self, place: int, plan: Plan, data: Any) -> Any:
        bundle = place + 1  # the first one is the server's, this actor's
        here = PlacementGroupSchedulingStrategy(self._group, bundle)
        return ClientActor.options(
            num_cpus=self._group.bundle_specs[bundle]["CPU"],
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy=here,
        ).remote(plan.work, data)

    def _wait(self, refs: list[Any]) -> None:
        limit_s = self._runtime.start_timeout_s
        done, late = ray.wait(refs, num_returns=len(refs), timeout=limit_s) if refs else ([], [])
        if late:
            raise FedrayError(
                f"{len(late)} of {len(refs)} client actors are not up after {limit_s:g} s "
                "(runtime.start_timeout_s)"
            )
        try:
            ray.get(done)
        except Exception as error:
            raise FedrayError(f"a client actor did not start: {error}") from error


class Trial(tune.Trainable):
    """Tune's view of a trial. The actor, and what it has loaded, serve one after the other."""

    def setup(self, config: dict[str, Any], common: Common | None = None) -> None:
        assert common is not None
        self._limits = threadpool_limits(limits=1)
        gc.freeze()
        self._common = common
        if not (common.folder / "trials").is_dir():
            raise FedrayError(
                f"{common.folder} is not there on {ray.util.get_node_ip_address()}; a sweep over "
                "several machines needs storage that they share, for --out or, where that is a "
                "URI, for TMPDIR"
            )
        self._library = Library(common.data, common.file.base.base_dir)
        runtime = common.file.base.config.runtime
        self._cast: Cast = Crew(common.actors, runtime) if common.actors else Alone()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Another trial, or the same one with other settings."""
        self._run.leave()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Flies to the next report. `value` is comparable; `finished` not if ended early."""
        report = self._run.advance()
        return {
            "version": report.version,
            "value": self._common.metric.comparable(report.value),
            "known": report.value is not None,
            "finished": report.finished,
            "early": report.early,
            "done": report.finished,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """fedray's own checkpoint and tables, see `TrialRun.save`."""
        self._run.save(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Goes on from a checkpoint of this trial or another."""
        self._run.load(Path(checkpoint))

    def cleanup(self) -> None:
        """The actor is not needed any more."""
        self._run.leave()
        if isinstance(self._cast, Crew):
            self._cast.close()

    def _begin(self, config: dict[str, Any]) -> None:
        common = self._common
        given = config["trial"]
        if "settings" in given:
            settings = given["settings"]
            # The name stays its own when Tune gives it another trial's settings.
            name, seed = self.trial_name, settings["seed"]
            number = given["setting"] if given["id"] == name else int(name[1:])
            spec = Spec(name, settings, number, seed, common.file.resolve(settings))
        else:
            spec = common.specs[given["id"]]
        self._run = TrialRun(
            common.folder / "trials" / spec.id,
            spec,
            common.metric,
            library=self._library,
            cast=self._cast,
            marks=common.marks,
            news=common.news,
            replay=common.replay,
        )
