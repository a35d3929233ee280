"""The timeline cut into legs, one per new version, so that it can be known ahead of the work.

In virtual time nothing depends on what clients compute, so while they compute one leg
the next one is already being worked out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from fedray.simulation.events import Aggregate, Discard, Dispatch, Job
from fedray.simulation.timeline import Timeline


@dataclass
class Leg:
    """From one version to the next: who starts from it, who is not used, what is aggregated."""

    jobs: list[Job] = field(default_factory=list)
    discards: list[Discard] = field(default_factory=list)
    aggregate: Aggregate | None = None
    """None in a last leg that ends without a version."""
    bases: frozenset[int] = frozenset()
    """The versions that jobs started from whose updates may be used after this leg."""
    in_flight: int = 0
    state: dict[str, Any] | None = None
    """The timeline after this leg, where asked for."""


def legs(
    timeline: Timeline,
    *,
    keep_state: Callable[[int], bool],
    dispatched: Callable[[Sequence[Job]], None] | None = None,
    discards: Sequence[Discard] = (),
) -> Iterator[Leg]:
    """All legs of a timeline.

    `keep_state(version)` says where a checkpoint may be wanted. `dispatched` is called
    at once with every group of jobs, for a clock that waits for them. `discards` are
    those that a checkpoint was taken after.
    """
    leg = Leg(discards=list(discards))
    for commands in timeline:
        made = None
        for command in commands:
            if isinstance(command, Dispatch):
                leg.jobs += command.jobs
                if dispatched:
                    dispatched(command.jobs)
            elif isinstance(command, Discard):
                leg.discards.append(command)
            elif isinstance(command, Aggregate):
                leg.aggregate, made = command, leg
                leg = Leg()
        if made is not None:
            _close(made, leg, timeline, keep_state)
            yield made
    if leg.discards:
        yield leg


def _close(
    made: Leg, following: Leg, timeline: Timeline, keep_state: Callable[[int], bool]
) -> None:
    fleet, version = timeline.policy.fleet, timeline.policy.version
    jobs = chain(fleet.in_flight.values(), timeline.policy.waiting)
    # One client that takes forever keeps its own version alive, not all that came since.
    made.bases = frozenset(job.base_version for job in jobs)
    made.in_flight = len(fleet.in_flight)
    if keep_state(version):
        made.state = {
            "timeline": timeline.to_json(),
            "discards": [[list(d.job), *d[1:]] for d in following.discards],
        }
