"""The cohort's mean gradient at a model, worked out before the cohort trains from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedray.learning.cohort_gradient import GradientBlock
from fedray.learning.weights import shares
from fedray.simulation.events import Job
from fedray.simulation.executor import Executor
from fedray.simulation.plan import Plan
from fedray.simulation.server import GlobalModel

CLIENTS_PER_BLOCK = 4
"""Fixed: what a worker adds up by itself, so that sums do not depend on workers."""


def submit(plan: Plan, executor: Executor, model: GlobalModel, jobs: Sequence[Job]) -> None:
    """Sends jobs out, with all that belongs to the model that they start from."""
    if model.wants_gradient:
        _gather(plan, executor, model, jobs)
    executor.submit(jobs)


def _gather(plan: Plan, executor: Executor, model: GlobalModel, jobs: Sequence[Job]) -> None:
    """Lets the newest model be sent with its cohort's mean gradient.

    `jobs` are the cohort: everyone who is asked to train from it, but for those whose job will
    be lost. Clients count by `server.weighting`, in order of their numbers. The gradients are at
    the model as it is sent.
    """
    cohort = {j.client for j in jobs if j.base_version == model.version and not j.lost}
    if not cohort:
        return
    clients = np.array(sorted(cohort), np.int64)
    sizes = plan.sizes[clients]
    counted = shares(plan.config.server.weighting, sizes)
    blocks = range(0, len(clients), CLIENTS_PER_BLOCK)
    key, w = ("cohort gradient", model.version), model.versions[model.version]
    executor.ask(
        key,
        [
            GradientBlock(w, clients[part], counted[part], int(sizes[part].sum()))
            for part in (slice(at, at + CLIENTS_PER_BLOCK) for at in blocks)
        ],
    )
    total = np.sum(executor.answers(key), axis=0)
    model.attach(total.astype(w.dtype))
