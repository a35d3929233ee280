"""Runs beside the factorial: pooled training without any federation, and full participation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fedray.diagnosis.counterfactual import walks
from fedray.diagnosis.counterfactual.curve import Curve, curve_of
from fedray.diagnosis.counterfactual.study import Study
from fedray.diagnosis.counterfactual.trace import Group
from fedray.learning import work as worker
from fedray.learning.local import local_steps
from fedray.learning.pooled import pooled_steps
from fedray.learning.weights import shares
from fedray.simulation.events import Job
from fedray.simulation.executor import stack
from fedray.simulation.server import GlobalModel
from fedray.types import Vector

_EVERYONE = 1 << 40
"""Dispatch numbers of clients that the run did not ask: beyond all that a run can have."""


def fly_reference(study: Study) -> Curve:
    """Minibatch SGD on the pooled samples, written without groups and clients.

    Per version as many minibatches as the all-off arm takes, of batches as large as the
    clients'; an estimator without gradients is fitted to all samples instead. What the
    all-off arm must equal within seed noise.
    """
    return curve_of(study, _pooled(study), _everybody_dispatched)


def _everybody_dispatched(group: Group) -> Sequence[Job]:
    return [*group.jobs, *group.lost]


def _pooled(study: Study) -> Iterator[Vector]:
    plan, w = study.plan, study.plan.initial()
    client = plan.config.client
    for group in study.trace:
        jobs = _everybody_dispatched(group)
        if jobs and study.gradients:
            steps = sum(local_steps(client, int(plan.sizes[job.client])) for job in jobs)
            lr = client.lr * client.lr_decay ** (group.version - 1)
            w = pooled_steps(plan.work, study.federation, w, steps, lr, group.version)
        elif jobs:
            all_clients = [_job(c, group) for c in range(study.federation.clients)]
            members = [walks.member(plan.work, study.federation.shards, j, w) for j in all_clients]
            w = w + walks.at_once(plan.work, members)
        yield w


def participation_cost(study: Study) -> float:
    """What `fly_participation` costs, in runs: clients over the mean group."""
    members = sum(len(group.jobs) for group in study.trace)
    return study.federation.clients * len(study.trace) / max(members, 1)


def fly_participation(study: Study) -> Curve:
    """The run's trace with every client in every version, each from the newest one.

    Weights are the shares of all clients; mixing and staleness factors are left out, as
    nobody is stale. The server's optimizer is the run's.
    """
    return curve_of(study, _full(study), lambda group: _all(study, group))


def _all(study: Study, group: Group) -> list[Job]:
    return [_job(client, group) for client in range(study.federation.clients)]


def _full(study: Study) -> Iterator[Vector]:
    plan = study.plan
    server = GlobalModel(plan, plan.initial())
    weights = shares(plan.config.server.weighting, plan.sizes)
    clients = np.arange(study.federation.clients)
    for group in study.trace:
        results = stack(
            [
                worker.train(
                    plan.work, study.federation.shards, server.w, job.base_version,
                    np.array([job.client]), np.array([job.dispatch]),
                )
                for job in _all(study, group)
            ]
        )  # fmt: skip
        finite = np.isfinite(results.norm)
        if finite.any():
            kept = weights[finite] / weights[finite].sum()
            server.move(server.average(results.deltas[finite], kept, clients[finite])[0])
        yield server.w


def _job(client: int, group: Group) -> Job:
    return Job(client, _EVERYONE + group.version, group.version - 1, group.at_s, group.at_s)
