"""The event trace that all arms share: which updates made which version, and which were lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from fedray.config import schema
from fedray.parts.selection import selection
from fedray.simulation.events import Job
from fedray.simulation.legs import legs

if TYPE_CHECKING:
    from fedray.report.run import Run
    from fedray.simulation.plan import Plan


class Group(NamedTuple):
    """How one version came about."""

    version: int
    at_s: float
    jobs: list[Job]
    """Whose updates went in, in order of arrival."""
    lost: list[Job]
    """Whose updates were not used since the version before: dropped out, late, too stale."""
    bytes: int
    """Moved since the version before, both directions."""


def groups(plan: Plan) -> list[Group]:
    """The trace of a plan in virtual time, from its timeline alone: nothing is trained.

    `stop.virtual_time_s` and `stop.bytes` end it as they end the run; rules that look at
    scores do not.
    """
    return list(walk(plan))


def walk(plan: Plan) -> Iterator[Group]:
    """`groups`, one after the other, for whoever may want to stop early."""
    limit, moved = plan.config.stop.bytes, 0
    for leg in legs(plan.timeline(), keep_state=lambda _: False):
        made = leg.aggregate
        if made is None:
            return
        lost = [discard.job for discard in leg.discards]
        group = Group(made.version, made.at_s, made.jobs, lost, made.bytes_down + made.bytes_up)
        yield group
        moved += group.bytes
        if limit is not None and moved >= limit:
            return


def only_recorded(config: schema.Config) -> str | None:
    """Why the trace of a run can only be read from what it recorded, if it can not be worked
    out from its timeline alone."""
    if config.clock == "wall":
        return "the run went by the wall clock"
    chosen = selection(config.server.selection)
    if chosen.looks:
        return f"server.selection {chosen.kind} depends on what clients compute"
    return None


def recorded_groups(run: Run) -> list[Group]:
    """The trace of a run as its flight recorder has it: the only one where `only_recorded`."""
    jobs: dict[int, list[Job]] = {}
    lost: dict[int, list[Job]] = {}
    for row in run.updates.to_pylist():
        used = row["status"] in ("applied", "rejected")
        job = Job(
            row["client"], row["dispatch"], row["base_version"],
            row["dispatched_at_s"], row["arrived_at_s"], row["status"] == "dropped_out",
        )  # fmt: skip
        made = row["base_version"] + row["staleness"] + 1
        (jobs if used else lost).setdefault(made, []).append(job)
    return [
        Group(
            row["version"], row["virtual_time_s"],
            jobs.get(row["version"], []), lost.get(row["version"], []),
            row["bytes_up"] + row["bytes_down"],
        )
        for row in run.rounds.to_pylist()
        if row["version"] > 0
    ]  # fmt: skip


def windows(trace: Sequence[Group], members: int) -> list[list[Group]]:
    """The trace in runs of groups that have `members` jobs together; the last may have fewer."""
    counts, window = 0, []
    for group in trace:
        window.append(counts // members)
        counts += len(group.jobs)
    return [
        [group for _, group in block]
        for _, block in groupby(zip(window, trace, strict=True), key=lambda pair: pair[0])
    ]
