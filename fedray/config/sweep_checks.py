"""What a sweep's keys mean together: settings of it that contradict or would do nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fedray.config import checks, schema
from fedray.config.load import Loaded
from fedray.config.problems import show
from fedray.config.sweep_axes import Choice
from fedray.errors import InputError

if TYPE_CHECKING:
    from fedray.config.sweep import Sweep, SweepFile

ON_THE_WAY = ("accuracy", "loss", "r2")
"""Metrics that a trial has while it runs; the others are known at its end."""
_LARGER_IS_BETTER = ("accuracy", "r2", "worst_decile_accuracy")
_OF_CLASSES = ("accuracy", "worst_decile_accuracy")
_PBT_MAY_CHANGE = ("client.", "server.optimizer.")


def size(file: SweepFile, most: int) -> None:
    """Refuses sweeps that nobody can mean."""
    if file.total > most:
        factors = [str(len(values)) for values in file.grid.values()]
        if file.space:
            factors.append(f"{file.sweep.samples} samples")
        if file.sweep.seeds > 1:
            factors.append(f"{file.sweep.seeds} seeds")
        raise InputError(
            f"{' x '.join(factors)} are {file.total:,} trials; at most {most:,}", key="sweep"
        )


def distinct(file: SweepFile, loaded: Sequence[tuple[dict[str, Any], Loaded]]) -> None:
    """Refuses settings of a grid that turn out to be the same run."""
    if file.space:
        return
    seen: dict[str, dict[str, Any]] = {}
    for settings, each in loaded:
        other = seen.setdefault(repr(each.config), settings)
        if other is not settings:
            differ = [key for key in settings if settings[key] != other[key]]
            pairs = [
                " ".join(f"{key}={show(which[key])}" for key in differ)
                for which in (other, settings)
            ]
            raise InputError(f"{pairs[0]} and {pairs[1]} are the same run", key="sweep.grid")


def decided(file: SweepFile, configs: Sequence[schema.Config]) -> Sweep:
    """The section with its metric and mode decided. Raises InputError on what contradicts."""
    sweep = file.sweep
    for config in configs:
        _check_runs(config)
    _check_actors(sweep, configs)
    metric = sweep.metric or ("r2" if checks.regression(configs[0]) else "accuracy")
    sweep = replace(
        sweep,
        metric=metric,
        mode=sweep.mode or ("max" if metric in _LARGER_IS_BETTER else "min"),
    )
    _check_metric(sweep, configs)
    _check_search(file)
    _check_scheduler(file, sweep, configs)
    return sweep


def _check_runs(config: schema.Config) -> None:
    if config.clock == "wall":
        raise InputError(
            "must be virtual in a sweep: trials share cores, so that arrivals by the wall "
            "clock would be those of whatever ran beside them",
            key="clock",
        )
    if config.runtime.executor == "local":
        raise InputError("must be ray in a sweep, whose trials are Ray's", key="runtime.executor")
    if config.runtime.clients_per_actor != "auto":
        raise InputError(
            "has no effect in a sweep; use sweep.actors_per_trial", key="runtime.clients_per_actor"
        )


def _check_actors(sweep: Sweep, configs: Sequence[schema.Config]) -> None:
    """Refuses actors that no trial has a client for, where the files tell."""
    known = [_clients(config) for config in configs]
    most = max((each for each in known if each is not None), default=0)
    if None not in known and sweep.actors_per_trial > most:
        raise InputError(
            f"{sweep.actors_per_trial:,} is more than there are clients, {most:,}",
            key="sweep.actors_per_trial",
        )


def _clients(config: schema.Config) -> int | None:
    """As far as the configuration says it."""
    for part in (config.partition, config.data):
        found = getattr(part, "clients", None)
        if found is not None:
            return int(found)
    return None


def _check_metric(sweep: Sweep, configs: Sequence[schema.Config]) -> None:
    metric = sweep.metric or ""
    for config in configs:
        regression = checks.regression(config)
        if metric in _OF_CLASSES and regression:
            raise InputError(
                f"no run reports {metric}, since the data is a regression; use r2 or loss",
                key="sweep.metric",
            )
        unknown = getattr(config.data, "task", "") == "auto"
        if metric == "r2" and not regression and not unknown:
            raise InputError(
                "no run reports r2, since the data is a classification; use accuracy or loss",
                key="sweep.metric",
            )
        if metric == "epsilon" and config.privacy.kind == "none":
            raise InputError(
                "no run reports epsilon, since privacy.kind is none", key="sweep.metric"
            )
    waits = metric.endswith("_to_target")
    if waits and sweep.target is None:
        raise InputError(f"missing: metric {metric} needs one, e.g. 0.9", key="sweep.target")
    if sweep.target is not None and not waits:
        raise InputError(
            f"has no effect with metric {metric}; it is for bytes_to_target and "
            "virtual_time_to_target",
            key="sweep.target",
        )


def _check_search(file: SweepFile) -> None:
    if not file.space:
        for key in ("samples", "searcher"):
            if key in file.given:
                raise InputError("has no effect without sweep.search", key=f"sweep.{key}")
        return
    if file.sweep.searcher != "optuna":
        return
    if file.grid:
        raise InputError(
            "optuna cannot learn beside a grid; write its keys as {choice: [...]} in "
            "sweep.search, or use random",
            key="sweep.searcher",
        )
    for key, space in file.space.items():
        if isinstance(space, Choice) and any(isinstance(v, list | dict) for v in space.values):
            raise InputError(
                "optuna chooses between numbers and words only, not lists or mappings",
                key=f"sweep.search.{key}",
            )


def _check_scheduler(file: SweepFile, sweep: Sweep, configs: Sequence[schema.Config]) -> None:
    scheduler = sweep.scheduler
    if scheduler == "none":
        if "grace" in file.given:
            raise InputError("has no effect with scheduler none", key="sweep.grace")
        return
    if sweep.metric not in ON_THE_WAY:
        raise InputError(
            f"{scheduler} compares trials while they run, but {sweep.metric} is known at their "
            f"end; use none, or metric {', '.join(ON_THE_WAY)}",
            key="sweep.scheduler",
        )
    rounds = max(config.server.rounds for config in configs)
    if sweep.grace >= rounds:
        raise InputError(
            f"{sweep.grace} is not below server.rounds {rounds}: {scheduler} would have nothing "
            "to do",
            key="sweep.grace",
        )
    if scheduler == "pbt":
        _check_pbt(file, sweep)


def _check_pbt(file: SweepFile, sweep: Sweep) -> None:
    why = None
    if not file.space or file.grid:
        why = "pbt changes what sweep.search draws while trials run; it needs that and no grid"
    elif sweep.searcher != "random":
        why = "pbt changes settings by itself; use searcher random"
    elif sweep.seeds > 1:
        why = "pbt copies models between trials, which must share data and so the seed; use seeds 1"
    if why:
        raise InputError(why, key="sweep.scheduler")
    for key in file.space:
        if not key.startswith(_PBT_MAY_CHANGE) or key.endswith(".kind"):
            raise InputError(
                "pbt can change keys of client and server.optimizer only, as a model goes on "
                "with the same data, clients and schedule",
                key=f"sweep.search.{key}",
            )
