"""What a launch is about to do, in plain values: for a display, here or at the end of a wire."""

from __future__ import annotations

from dataclasses import dataclass

from fedray.report import words
from fedray.simulation.plan import Plan


@dataclass(frozen=True)
class Outlook:
    """A launch that begins. `what` is the run in a phrase, `limit_s` its end in virtual time."""

    name: str
    what: str
    metric: str
    limit_s: float | None
    executor: str
    folder: str


def outlook(plan: Plan, folder: str) -> Outlook:
    """Of a plan, and of where its results will be."""
    config = plan.config
    return Outlook(
        name=config.name,
        what=(
            f"{config.algorithm}, {config.server.schedule.mode}, {config.server.rounds:,} "
            f"versions; {words.data_name({'data': vars(config.data)})}, "
            f"{int(plan.sizes.sum()):,} samples on {len(plan.sizes):,} clients; "
            f"{config.model.kind}, {plan.work.model.size:,} parameters"
        ),
        metric="accuracy" if plan.classification else "r2",
        limit_s=config.stop.virtual_time_s,
        executor=config.runtime.executor,
        folder=folder,
    )
