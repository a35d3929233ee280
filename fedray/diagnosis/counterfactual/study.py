"""What all arms of one seed have in common: the plan, the data, and one event trace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedray.config import schema
from fedray.data.federate import reshuffle
from fedray.diagnosis.counterfactual.arms import Cause
from fedray.diagnosis.counterfactual.trace import Group, groups
from fedray.errors import InputError
from fedray.learning.local import local_steps
from fedray.parts.methods.plain import Plain
from fedray.parts.personal.off import Off
from fedray.simulation.plan import Plan, build_plan
from fedray.types import Federation


@dataclass(frozen=True)
class Study:
    """One seed of a diagnosis. Picklable; the data in it is shared, not copied, on Ray."""

    plan: Plan
    federation: Federation
    reshuffled: Federation | None
    """The same samples reshuffled over clients of the same sizes."""
    trace: list[Group]

    @property
    def window(self) -> int | None:
        """Arrivals that stand for a group where the server takes updates one by one.

        `concurrency` of them; None where versions are made from groups anyway, or where
        clients train one at a time.
        """
        schedule = self.plan.config.server.schedule
        if not self.one_by_one or isinstance(schedule, schema.SyncSchedule):
            return None
        return schedule.concurrency if schedule.concurrency > 1 else None

    @property
    def one_by_one(self) -> bool:
        """Whether every arrival makes a version of its own."""
        match self.plan.config.server.schedule:
            case schema.AsyncSchedule() | schema.BufferedSchedule(buffer_size=1, every_s=None):
                return True
        return False

    @property
    def gradients(self) -> bool:
        """Whether local steps can be taken apart: not those of a scikit-learn estimator."""
        return hasattr(self.plan.work.model, "gradient")


def build_study(
    config: schema.Config,
    base_dir: Path,
    *,
    reshuffled: bool = True,
    trace: list[Group] | None = None,
) -> Study:
    """Loads and splits the data, and works out the trace unless it is given.

    Raises InputError that names the key for whatever could not be launched either.
    """
    for key, what in _beyond(config):
        raise InputError(f"a study knows {what}", key=key)
    plan, federation = build_plan(config, base_dir)
    return Study(
        plan,
        federation,
        reshuffle(federation, config.seed) if reshuffled else None,
        groups(plan) if trace is None else trace,
    )


def _beyond(config: schema.Config) -> Iterator[tuple[str, str]]:
    """What the arms cannot do without: keys that ask for more, and what to diagnose instead."""
    server, stragglers = config.server, config.client.stragglers
    if not isinstance(config.method, Plain):
        kind = config.method.kind
        yield (
            "method.kind",
            f"local SGD and averaging, not {kind}; diagnose the same run with plain",
        )
    if stragglers.share and stragglers.partial == "keep":
        yield "client.stragglers.share", "whole jobs; diagnose the same run with 0"
    if config.compression != schema.Compression():
        yield "compression", "updates as they were trained; diagnose the same run without"
    if not isinstance(config.personal, Off):
        kind = config.personal.kind
        yield "personal.kind", f"one model for all, not {kind}; diagnose the same run with none"
    if config.secure_aggregation.kind != "none":
        yield "secure_aggregation.kind", "single updates; diagnose the same run with none"
    if config.privacy.kind != "none":
        yield "privacy.kind", "updates as they were trained; diagnose the same run with none"
    if server.quality.active:
        what = f"weights before it knows updates, not {server.quality.kind}; diagnose with none"
        yield "server.quality.kind", what
    if not server.aggregator.linear:
        what = f"weights, which {server.aggregator.kind} has none of; diagnose with mean"
        yield "server.aggregator.kind", what
    if config.attack.kind != "none":
        kind = config.attack.kind
        yield "attack.kind", f"honest clients only, not {kind}; diagnose the same run with none"


def inert(study: Study) -> dict[Cause, str]:
    """The causes that cannot make a difference on this trace, each with the reason.

    Their arms coincide, so they are computed once, and their shares are exactly 0.
    """
    found: dict[Cause, str] = {}
    if study.federation.clients == 1:
        found["non_iid"] = "there is one client"
    if reason := _no_drift(study):
        found["drift"] = reason
    if _nothing_late(study):
        found["staleness"] = (
            "every update was trained from the newest version, and none was late or lost"
        )
    if _nothing_averaged(study):
        found["averaging"] = "every version is one client's own model"
    return found


def _no_drift(study: Study) -> str | None:
    if not study.gradients:
        return (
            "a scikit-learn estimator trains in one piece, so that its steps cannot be shared; "
            "what drift costs is part of non_iid and averaging"
        )
    if study.window is None and all(len(group.jobs + group.lost) <= 1 for group in study.trace):
        return "every version is made from one client, which has nobody to drift apart from"
    client, sizes = study.plan.config.client, study.plan.sizes
    taking_part = {job.client for group in study.trace for job in group.jobs + group.lost}
    if all(local_steps(client, int(sizes[c])) == 1 for c in taking_part):
        return "every update is a single local step"
    return None


def _nothing_late(study: Study) -> bool:
    return not any(
        group.lost or any(job.base_version != group.version - 1 for job in group.jobs)
        for group in study.trace
    )


def _nothing_averaged(study: Study) -> bool:
    """One fresh update per version, and the server takes it over as it is."""
    server = study.plan.config.server
    return (
        not isinstance(server.schedule, schema.AsyncSchedule)
        and study.window is None
        and all(len(group.jobs + group.lost) <= 1 for group in study.trace)
        and _nothing_late(study)
        and server.optimizer == schema.SgdOptimizer(lr=1.0)
    )
