"""Rules for what may be changed about a run, each worked out from its settings and its trace.

A rule is a function (Situation) -> values by dotted key, or None where it does not apply:
already so, without effect, or refused by the configuration's checks. `remedies` is the
table that gives them names and reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from fedray.config import schema
from fedray.diagnosis.counterfactual.study import Study
from fedray.learning.local import local_steps
from fedray.parts.aggregators.pairwise import Pairwise
from fedray.parts.methods import METHODS
from fedray.parts.selection.plain import Uniform
from fedray.simulation.policies import staleness
from fedray.types import Ints

Settings: TypeAlias = Mapping[str, Any]
"""Values by dotted key."""

OPTIMIZER, SCHEDULE = "server.optimizer", "server.schedule"
DISCOUNT = f"{SCHEDULE}.staleness_weight"


@dataclass(frozen=True)
class Situation:
    """What is known about a run before it is changed: its settings and its trace."""

    study: Study

    @property
    def config(self) -> schema.Config:
        return self.study.plan.config

    @property
    def server(self) -> schema.Server:
        return self.config.server

    @property
    def clients(self) -> int:
        return self.study.plan.population.clients

    @property
    def cohort(self) -> int | None:
        """Clients of a sync round; None in the other modes."""
        sync = isinstance(self.server.schedule, schema.SyncSchedule)
        return self.study.plan.cohort if sync else None

    @property
    def sizes(self) -> Ints:
        return self.study.plan.sizes

    @cached_property
    def ages(self) -> Ints:
        """Staleness of every update that went in."""
        trace = self.study.trace
        return np.array([staleness(j, g.version - 1) for g in trace for j in g.jobs], np.int64)

    @property
    def stale(self) -> bool:
        return bool(self.ages.any())

    @property
    def loses_late(self) -> bool:
        """Whether a deadline or over-selection throws arrivals away."""
        return any(not job.lost for group in self.study.trace for job in group.lost)

    @property
    def partial(self) -> bool:
        """Whether some clients sit out while others train."""
        schedule = self.server.schedule
        if isinstance(schedule, schema.SyncSchedule):
            return self.study.plan.cohort < self.clients
        return schedule.concurrency < self.clients

    def steps(self, client: schema.Client) -> int:
        """Local steps of the largest shard under other `client` settings."""
        return local_steps(client, int(self.sizes.max()))


Rule: TypeAlias = Callable[[Situation], Settings | None]
"""The values that a remedy sets; None where it does not apply."""


def retimes(settings: Settings) -> bool:
    """Whether settings change who trains when, and not only what is made of it."""
    keeps = ("client.lr", "client.lr_decay", "client.prox_mu", "server.weighting",
             "server.aggregator.kind", f"{SCHEDULE}.mixing")  # fmt: skip
    return any(key not in keeps and not key.startswith((OPTIMIZER, DISCOUNT)) for key in settings)


def about(settings: Settings) -> set[str]:
    """What settings are about: keys that only mean something together count as one."""
    pacing = ("mode", "concurrency", "buffer_size", "every_s", "max_staleness", "on_stale",
              "mixing")  # fmt: skip
    timing = {f"{SCHEDULE}.{name}" for name in pacing} | {"server.clients_per_round"}
    found = set()
    for key in settings:
        whole = next((part for part in (OPTIMIZER, DISCOUNT) if key.startswith(f"{part}.")), key)
        found.add(SCHEDULE if key in timing else whole)
    return found


# --- the server's step --------------------------------------------------------------------


def momentum(share: float) -> Rule:
    """Momentum 0.9 over the plain server step; in the steady state its step is 10 lr."""

    def rule(run: Situation) -> Settings | None:
        now = run.server.optimizer
        if not isinstance(now, schema.SgdOptimizer):
            return None
        return _optimizer("momentum", lr=_round(now.lr * share), momentum=0.9)

    return rule


def adaptive(kind: str, lr: float) -> Rule:
    def rule(run: Situation) -> Settings | None:
        now = run.server.optimizer
        return None if (now.kind, now.lr) == (kind, lr) else _optimizer(kind, lr=lr)

    return rule


def plain(run: Situation) -> Settings | None:
    plain = isinstance(run.server.optimizer, schema.SgdOptimizer)
    return None if plain else _optimizer("sgd", lr=1.0)


def _optimizer(kind: str, **values: float) -> Settings:
    return {f"{OPTIMIZER}.kind": kind} | {f"{OPTIMIZER}.{k}": v for k, v in values.items()}


def server_step(factor: float) -> Rule:
    """The server's step size; in async mode the mixing weight, which is at most 1."""

    def rule(run: Situation) -> Settings | None:
        schedule = run.server.schedule
        if isinstance(schedule, schema.AsyncSchedule):
            mixing = min(1.0, _round(schedule.mixing * factor))
            return None if mixing == schedule.mixing else {f"{SCHEDULE}.mixing": mixing}
        return {f"{OPTIMIZER}.lr": _round(run.server.optimizer.lr * factor)}

    return rule


def mean(run: Situation) -> Settings | None:
    naive = isinstance(run.server.aggregator, Pairwise)
    return {"server.aggregator.kind": "mean"} if naive else None


def weighting(weighting: str) -> Rule:
    def rule(run: Situation) -> Settings | None:
        server = run.server
        alone = isinstance(server.schedule, schema.AsyncSchedule)
        fixed = isinstance(server.aggregator, Pairwise)
        same = server.weighting == weighting or (run.sizes == run.sizes[0]).all()
        return None if alone or fixed or same else {"server.weighting": weighting}

    return rule


# --- local training -------------------------------------------------------------------------


def prox(mu: float) -> Rule:
    """Of no effect on a single step, which is taken at the downloaded model itself."""

    def rule(run: Situation) -> Settings | None:
        client = run.config.client
        moot = not run.study.gradients or run.steps(client) == 1 or client.prox_mu == mu
        return None if moot else {"client.prox_mu": mu}

    return rule


def method(kind: str, *, drifting: bool = True, **server: Any) -> Rule:
    """Another method in the place of plain averaging; `drifting`: one against drift, so of no
    effect on single steps, and whose rule assumes plain local SGD."""

    refused = next(m.ALGORITHM.refuses for m in METHODS if m.ALGORITHM and m.ALGORITHM.name == kind)

    def rule(run: Situation) -> Settings | None:
        client = run.config.client
        moot = not run.study.gradients or (
            drifting and (run.steps(client) == 1 or client.momentum or client.prox_mu)
        )
        naive = isinstance(run.server.aggregator, Pairwise)
        if moot or naive or run.server.schedule.mode in refused:
            return None
        alone = isinstance(run.server.schedule, schema.AsyncSchedule)  # which weighs one by one
        more = {} if alone else {f"server.{key}": value for key, value in server.items()}
        return {"method.kind": kind, **more}

    return rule


def normalised(run: Situation) -> Settings | None:
    """FedNova, where clients take unequal numbers of steps."""
    client = run.config.client
    taken = {local_steps(client, int(n)) for n in np.unique(run.sizes).tolist()}
    return method("fednova", drifting=False)(run) if len(taken) > 1 else None


def client_lr(factor: float) -> Rule:
    def rule(run: Situation) -> Settings | None:
        return {"client.lr": _round(run.config.client.lr * factor)} if run.study.gradients else None

    return rule


def lr_decay(run: Situation) -> Settings | None:
    if not run.study.gradients or run.config.client.lr_decay != 1:
        return None
    return {"client.lr_decay": float(f"{0.1 ** (1 / len(run.study.trace)):.6f}")}


def fewer_steps(divisor: int) -> Rule:
    """`steps` or `epochs` over `divisor`, where that leaves whole steps, or whole passes."""

    def rule(run: Situation) -> Settings | None:
        client = run.config.client
        if not run.study.gradients:
            passes, rest = divmod(int(client.epochs), divisor)
            fits_whole = getattr(run.study.plan.work.model, "fit", None) == "full"
            return None if fits_whole or rest else {"client.epochs": float(passes)}
        if client.steps is not None:
            fewer = client.steps // divisor
            return {"client.steps": fewer} if fewer else None
        epochs = _round(client.epochs / divisor)
        return {"client.epochs": epochs} if run.steps(client) >= divisor else None

    return rule


# --- staleness --------------------------------------------------------------------------------


def bound(quantile: float, on_stale: str) -> Rule:
    """A bound at a quantile of the staleness that the run has, if it is below what occurs."""

    def rule(run: Situation) -> Settings | None:
        schedule = run.server.schedule
        if not run.stale:
            return None
        bound = max(1, int(np.quantile(run.ages, quantile, method="lower")))
        if bound >= run.ages.max():
            return None
        settings = {f"{SCHEDULE}.max_staleness": bound}
        if isinstance(schedule, schema.SyncSchedule):
            return settings if on_stale == "drop" else None
        by_clock = getattr(schedule, "every_s", None) is not None
        if on_stale == "wait" and (by_clock or _buffer(schedule) > schedule.concurrency):
            return None
        return settings | {f"{SCHEDULE}.on_stale": on_stale}

    return rule


def discount(kind: str, **values: float) -> Rule:
    def rule(run: Situation) -> Settings | None:
        if not run.stale:
            return None
        now = run.server.schedule.staleness_weight
        if now.kind == kind and all(getattr(now, name) == v for name, v in values.items()):
            return None
        return {f"{DISCOUNT}.kind": kind} | {f"{DISCOUNT}.{k}": v for k, v in values.items()}

    return rule


def hinge(run: Situation) -> Settings | None:
    """Full weight up to the median staleness, then 1 / (10 (tau - b) + 1), Xie et al.'s a."""
    middle = float(np.quantile(run.ages, 0.5, method="lower")) if run.stale else 0.0
    return discount("hinge", a=10.0, b=middle)(run)


def larger_buffer(factor: int) -> Rule:
    def rule(run: Situation) -> Settings | None:
        schedule = run.server.schedule
        if not isinstance(schedule, schema.BufferedSchedule) or schedule.every_s is not None:
            return None
        size = schedule.buffer_size * factor
        stuck = schedule.on_stale == "wait" and size > schedule.concurrency
        too_few = 2 * size > len(run.ages)
        return None if stuck or too_few else {f"{SCHEDULE}.buffer_size": size}

    return rule


def fewer_at_a_time(run: Situation) -> Settings | None:
    schedule = run.server.schedule
    if isinstance(schedule, schema.SyncSchedule) or not run.stale or schedule.concurrency == 1:
        return None
    fewer = schedule.concurrency // 2
    stuck = schedule.on_stale == "wait" and _buffer(schedule) > fewer
    return None if stuck else {f"{SCHEDULE}.concurrency": fewer}


def buffered(run: Situation) -> Settings | None:
    schedule = run.server.schedule
    if not isinstance(schedule, schema.AsyncSchedule) or schedule.concurrency == 1:
        return None
    size = max(2, schedule.concurrency // 2)
    uniform = {} if run.server.weighting == "uniform" else {"server.weighting": "uniform"}
    return {f"{SCHEDULE}.mode": "buffered", f"{SCHEDULE}.buffer_size": size} | uniform


def rounds(run: Situation) -> Settings | None:
    """Rounds whose cohort is the buffer, or in async mode as many as train at a time."""
    schedule = run.server.schedule
    if isinstance(schedule, schema.SyncSchedule):
        return None
    wanted = _buffer(schedule) if _buffer(schedule) > 1 else schedule.concurrency
    cohort = wanted if wanted < run.clients else "all"
    return {f"{SCHEDULE}.mode": "sync", "server.clients_per_round": cohort}


def _buffer(schedule: schema.BufferedSchedule | schema.AsyncSchedule) -> int:
    """Updates per version; by the clock, at most that many."""
    if isinstance(schedule, schema.AsyncSchedule):
        return 1
    return schedule.buffer_size if schedule.every_s is None else schedule.concurrency


# --- who takes part -----------------------------------------------------------------------------


def cohort(factor: int | None) -> Rule:
    """The cohort times `factor`; None: everyone."""

    def rule(run: Situation) -> Settings | None:
        if run.cohort is None or not run.partial:
            return None
        if factor is None:
            return {"server.clients_per_round": "all"}
        larger = run.cohort * factor
        return {"server.clients_per_round": larger} if larger < run.clients else None

    return rule


def more_at_a_time(run: Situation) -> Settings | None:
    schedule = run.server.schedule
    if isinstance(schedule, schema.SyncSchedule) or not run.partial:
        return None
    return {f"{SCHEDULE}.concurrency": min(2 * schedule.concurrency, run.clients)}


def in_turn(run: Situation) -> Settings | None:
    moot = not run.partial or not isinstance(run.server.selection, Uniform)
    return None if moot else {"server.selection": "round_robin"}


def carry(run: Situation) -> Settings | None:
    schedule = run.server.schedule
    if not isinstance(schedule, schema.SyncSchedule) or schedule.late == "carry":
        return None
    return {f"{SCHEDULE}.late": "carry"} if run.loses_late else None


def over_select(run: Situation) -> Settings | None:
    """Only where a deadline costs updates that more clients could make up for."""
    schedule = run.server.schedule
    if not isinstance(schedule, schema.SyncSchedule) or schedule.deadline_s is None:
        return None
    moot = not run.loses_late or not run.partial or schedule.over_select >= 1.3
    return None if moot else {f"{SCHEDULE}.over_select": 1.3}


def _round(value: float) -> float:
    """Without the last digits of binary arithmetic: 0.1 * 0.5 as 0.05, for the command line."""
    return float(f"{value:.6g}")
