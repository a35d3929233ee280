"""What a sweep asks of Tune: its schedulers, room for every trial, and to run them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import schedulers

from fedray.config.sweep import SweepFile
from fedray.config.sweep_axes import Choice, RandInt, Space
from fedray.distributed.placement import ACTOR_CPUS
from fedray.distributed.session import Session
from fedray.distributed.sweep_watch import Brake, Listener
from fedray.distributed.trainable import Common, Trial
from fedray.errors import FedrayError, InputError

TUNE = ".tune"
"""Tune's own folder in the sweep's: nothing of it is for anybody else."""
REPORTS = 20
"""Reports of a trial that a scheduler decides by, about; more of them only cost time."""
_REDUCTION = 4
"""Of the trials that reach a rung of asha's, the best one in so many goes on."""
_MOST_ON_A_CORE = 1000
"""Client actors; Ray counts in steps of 1/10,000."""
_KEPT_OF_A_POPULATION = 10
"""Checkpoints per trial that others may still have to go on from."""


def report_versions(file: SweepFile) -> frozenset[int]:
    """The versions at which a scheduler decides about a trial; all of them are evaluated.

    asha: its rungs, grace * 4^k; median: from grace on, about `REPORTS` in all; pbt: every
    `grace`. Where one is not evaluated (`eval.every`) it is the next one that is.
    """
    sweep, config = file.sweep, file.base.config
    rounds = 1 + _most_rounds(file)
    rungs: Iterable[int] = ()
    if sweep.scheduler == "asha":
        rungs = takewhile(lambda v: v < rounds, (sweep.grace * _REDUCTION**k for k in count()))
    elif sweep.scheduler == "median":
        rungs = range(sweep.grace, rounds, max(1, rounds // REPORTS))
    elif sweep.scheduler == "pbt":
        rungs = range(sweep.grace, rounds, sweep.grace)
    every = config.eval.every
    return frozenset(-(-version // every) * every for version in rungs)


def _most_rounds(file: SweepFile) -> int:
    """The longest that a trial can be."""
    swept: list[int] = [int(value) for value in file.grid.get("server.rounds", ())]
    space = file.space.get("server.rounds")
    if space is not None:
        swept += [int(value) for value in space.probes()]
    return max(swept, default=file.base.config.server.rounds)


def scheduler(file: SweepFile, asks: bool, mode: str) -> Any:
    sweep = file.sweep
    metric: dict[str, Any] = {"metric": "value", "mode": mode} if asks else {}
    if sweep.scheduler == "asha":
        return schedulers.ASHAScheduler(
            time_attr="version",
            grace_period=sweep.grace,
            max_t=_most_rounds(file) + 1,
            reduction_factor=_REDUCTION,
            **metric,
        )
    if sweep.scheduler == "median":
        return schedulers.MedianStoppingRule(
            time_attr="version", grace_period=sweep.grace, hard_stop=True, **metric
        )
    if sweep.scheduler == "pbt":
        changes = {key: _mutation(space) for key, space in file.space.items()}
        return schedulers.PopulationBasedTraining(
            time_attr="version",
            perturbation_interval=sweep.grace,
            hyperparam_mutations={"trial": {"settings": changes}},
            custom_explore_fn=_within(file.space),
            log_config=False,
        )
    return None


def _mutation(space: Space) -> Any:
    if isinstance(space, Choice):
        return list(space.values)
    if isinstance(space, RandInt):
        return tune.randint(space.low, space.high + 1)
    if space.kind == "lograndint":
        return tune.lograndint(int(space.low), int(space.high) + 1)
    draw = tune.loguniform if space.kind == "loguniform" else tune.uniform
    return draw(space.low, space.high)


def _within(space: Mapping[str, Space]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def clipped(config: dict[str, Any]) -> dict[str, Any]:
        settings = config["trial"]["settings"]
        for key, each in space.items():
            if not isinstance(each, Choice):
                settings[key] = min(max(settings[key], each.low), each.high)
        return config

    return clipped


def trial_bundles(cpus: Sequence[float], file: SweepFile) -> list[dict[str, float]]:
    """What a trial asks of Ray, on nodes with so many CPUs: the server's bundle first.

    Always less than there is, so that a trial never waits for what cannot come: client
    actors get a core each, or equal parts of one where there are more of them than cores.
    Raises InputError where not even that is possible.
    """
    actors = file.sweep.actors_per_trial
    if not actors:
        if max(cpus, default=0.0) < 1:
            raise InputError(f"a Ray whose nodes have {max(cpus, default=0.0):g} CPUs at most; "
                             "a trial needs a whole one", key="runtime.address")  # fmt: skip
        return [{"CPU": 1.0}]
    first, *others = sorted(cpus, reverse=True) or [0.0]
    for parts in range(1, 1 + min(actors, _MOST_ON_A_CORE)):
        share = math.floor(0.99 / parts * 1e4) / 1e4
        room = [first - ACTOR_CPUS, *others]
        if sum(math.floor(each / share + 1e-9) for each in room) >= actors:
            return [{"CPU": ACTOR_CPUS}, *({"CPU": share} for _ in range(actors))]
    raise InputError(
        f"{actors} client actors and a server do not fit into a Ray with {sum(cpus):g} CPUs",
        key="sweep.actors_per_trial",
    )


def slots(ray_session: Session, bundles: list[dict[str, float]], most: int | None) -> int:
    """How many trials may run at a time."""
    each = sum(bundle["CPU"] for bundle in bundles)
    most_here = max(1, math.floor(ray_session.cpus / each + 1e-6))
    return min(most_here, most) if most else most_here


def trainable(common: Common, bundles: list[dict[str, float]]) -> Any:
    """What Tune starts for a trial: an actor in a placement group of such bundles."""
    return tune.with_resources(
        tune.with_parameters(Trial, common=common), tune.PlacementGroupFactory(bundles)
    )


def run_config(file: SweepFile, folder: Path, listener: Listener, brake: Brake) -> Any:
    """Where Tune writes, whom it tells, and what ends or repeats its trials."""
    return tune.RunConfig(
        name=TUNE,
        storage_path=str(folder),
        callbacks=[listener],
        stop=brake,
        failure_config=tune.FailureConfig(max_failures=file.sweep.retries),
        checkpoint_config=tune.CheckpointConfig(
            num_to_keep=_KEPT_OF_A_POPULATION, checkpoint_at_end=False
        ),
        verbose=0,
    )


def fit(tuner: Any) -> None:
    """Runs it. Raises FedrayError where Tune itself fails, with the last line that it says."""
    try:
        tuner.fit()
    except FedrayError:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, FedrayError):
            raise cause from None
        line = str(cause).strip().splitlines() or [type(cause).__name__]
        raise FedrayError(f"Tune failed: {line[-1]}") from error
