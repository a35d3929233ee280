"""One try of a changed configuration: on a seed's own data, up to a number of updates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedray.config import schema
from fedray.diagnosis.counterfactual.arms import RUN
from fedray.diagnosis.counterfactual.curve import Curve
from fedray.diagnosis.counterfactual.replay import fly
from fedray.diagnosis.counterfactual.study import Study
from fedray.diagnosis.counterfactual.trace import Group, only_recorded, walk
from fedray.learning.local import samples_per_job
from fedray.simulation.plan import plan_for

VERSIONS_PER_UPDATE = 20
"""A timeline that makes more versions than this for every update that goes in is given up."""


class Spent(NamedTuple):
    """What a trace costs; `samples` counts work whose update was not used, too."""

    versions: int
    updates: int
    virtual_time_s: float
    bytes: int
    samples: int


class Trial(NamedTuple):
    """What came of a try."""

    curve: Curve | None
    """None where nothing was trained."""
    spent: Spent


def trial(
    study: Study, config: schema.Config | None, updates: int, train: bool = True
) -> Trial | None:
    """Runs `config` with the study's seed and data until `updates` updates have gone in.

    Exactly so many: a last group that is larger counts up to there, and its version is made
    when the last of those arrived, with its bytes in proportion. Rules of `stop` do not
    apply. Without a `config`, or without `train`, only the price is worked out, for the
    study's own trace or the changed one. None where that never comes to so many updates.

    Evaluated about as often per update as the study's run, so that the largest fall is
    looked for in as many places.
    """
    own = list(_up_to(study.trace, updates))
    if config is None:
        return Trial(None, spent(replace(study, trace=own)))
    changed = _changed(study, config, updates)
    if sum(len(group.jobs) for group in changed.trace) < updates:
        return None
    if not train:
        return Trial(None, spent(changed))
    every = config.eval.every * len(changed.trace) / max(len(own), 1)
    settings = replace(changed.plan.config, eval=schema.Eval(every=max(1, round(every))))
    changed = replace(changed, plan=replace(changed.plan, config=settings))
    return Trial(fly(changed, RUN), spent(changed))


def spent(study: Study) -> Spent:
    """Adds up what a trace costs."""
    plan, trace = study.plan, study.trace
    samples = np.rint(samples_per_job(plan.config.client, plan.sizes)).astype(np.int64)
    asked = [job.client for group in trace for job in (*group.jobs, *group.lost)]
    return Spent(
        versions=len(trace),
        updates=sum(len(group.jobs) for group in trace),
        virtual_time_s=trace[-1].at_s if trace else 0.0,
        bytes=sum(group.bytes for group in trace),
        samples=int(samples[asked].sum()),
    )


def _changed(study: Study, config: schema.Config, updates: int) -> Study:
    """The study under other settings. A trace that was recorded stays: it cannot be made anew."""
    config = replace(
        config,
        seed=study.plan.config.seed,
        server=replace(config.server, rounds=VERSIONS_PER_UPDATE * updates),
        stop=schema.Stop(),
        eval=schema.Eval(local_losses=False),
    )
    plan = plan_for(study.federation, config, Path.cwd())
    trace = study.trace if only_recorded(config) else walk(plan)
    return Study(plan, study.federation, None, list(_up_to(trace, updates)))


def _up_to(trace: Iterable[Group], updates: int) -> Iterator[Group]:
    """The trace until `updates` updates have gone in, the last group cut to what is left."""
    for group in trace:
        if len(group.jobs) >= updates:
            yield _first(group, updates)
            return
        yield group
        updates -= len(group.jobs)


def _first(group: Group, count: int) -> Group:
    """The first `count` arrivals of a group."""
    if count == len(group.jobs):
        return group
    jobs = group.jobs[:count]
    return group._replace(
        jobs=jobs,
        at_s=min(group.at_s, jobs[-1].due_s),
        bytes=round(group.bytes * count / len(group.jobs)),
    )
