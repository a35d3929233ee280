"""Arms and controls of a study by their names, and what computing them costs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from fedray.diagnosis.attribution.findings import PARTICIPATION, REFERENCE
from fedray.diagnosis.counterfactual.arms import ARMS, Cause
from fedray.diagnosis.counterfactual.controls import (
    fly_participation,
    fly_reference,
    participation_cost,
)
from fedray.diagnosis.counterfactual.curve import Curve
from fedray.diagnosis.counterfactual.replay import fly
from fedray.diagnosis.counterfactual.study import Study, inert
from fedray.learning.local import local_steps

AFFORDABLE = 16
"""A participation control may cost as much as so many arms."""

_BY_NAME = {arm.name: arm for arm in ARMS}


def compute_arm(study: Study, name: str) -> Curve:
    """The curve of the arm, or of the control, of that name."""
    if name == REFERENCE:
        return fly_reference(study)
    if name == PARTICIPATION:
        return fly_participation(study)
    return fly(study, _BY_NAME[name])


def distinct_arms(causes: Collection[str]) -> list[str]:
    """Names of the arms that differ where these causes are inert, the run's own first."""
    return list(dict.fromkeys(arm.computed_as(causes).name for arm in ARMS))


@dataclass(frozen=True)
class Workload:
    """The size of a study's arms, kept where the study itself is too large to keep."""

    clients: int
    versions: int
    updates: int
    classification: bool
    window: int | None
    inert: dict[Cause, str]
    nbytes: int
    steps: int
    """Minibatch gradients of one arm."""
    participation: float
    """What the participation control costs, in arms."""
    everyone: bool
    """Whether every client is in every version anyway, and up to date."""

    def cost(self, name: str) -> float:
        """Minibatch gradients of the arm or control of that name, about."""
        return max(self.steps, 1) * (self.participation if name == PARTICIPATION else 1.0)


def workload_of(study: Study) -> Workload:
    """What computing with this study comes to; the study itself can then be dropped."""
    plan, federation = study.plan, study.federation
    clients = [job.client for group in study.trace for job in group.jobs]
    steps = np.array([local_steps(plan.config.client, int(n)) for n in plan.sizes], np.int64)
    reshuffled = study.reshuffled.nbytes if study.reshuffled else 0
    found, everybody = inert(study), set(range(federation.clients))
    full = all({job.client for job in group.jobs} == everybody for group in study.trace)
    return Workload(
        clients=federation.clients,
        versions=len(study.trace),
        updates=len(clients),
        classification=federation.classification,
        window=study.window,
        inert=found,
        nbytes=federation.nbytes + reshuffled,
        steps=int(steps[clients].sum()),
        participation=participation_cost(study),
        everyone=full and "staleness" in found,
    )
