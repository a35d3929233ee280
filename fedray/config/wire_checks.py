"""Contradictions in what happens to a vector between a client and the server."""

from __future__ import annotations

from collections.abc import Iterator

from fedray.config import schema
from fedray.errors import InputError
from fedray.parts.compression.base import Feedback
from fedray.parts.compression.nothing import Nothing
from fedray.parts.selection.tiers import Tiers

Idle = tuple[str, str]


def idle(config: schema.Config) -> Iterator[Idle]:
    """Keys that would do nothing, each with the reason."""
    if isinstance(config.compression.down, Nothing):
        yield "compression.down_of", "has no effect while compression.down.kind is none"


def check(config: schema.Config) -> None:
    """Raises InputError on the first contradiction."""
    _check_down(config)


def _check_down(config: schema.Config) -> None:
    wire = config.compression
    kind = wire.down.kind
    if wire.down_of == "model":
        if not wire.down.keeps:
            raise InputError(
                f"{kind} leaves no model to train from: use float16, bfloat16, int8 or qsgd, or "
                "compression.down_of change",
                key="compression.down.kind",
            )
        return
    if not wire.down.contracts:
        raise InputError(
            f"the differences that {kind} leaves would add up; with compression.down_of change "
            "use topk, randomk, sign, float16, bfloat16 or int8",
            key="compression.down.kind",
        )
    if isinstance(wire.down, Feedback) and not wire.down.error_feedback:
        raise InputError(
            "must be true: with compression.down_of change, what is left out is in the next "
            "difference in any case",
            key="compression.down.error_feedback",
        )
    method = config.personal.method(config.method)
    if method.broadcasts:
        raise InputError(
            f"change is for the model alone, and more is sent with method.kind {method.kind}; "
            "use model",
            key="compression.down_of",
        )
    if reason := _someone_misses(config):
        raise InputError(
            f"change needs clients that have the version before, but {reason}; use model",
            key="compression.down_of",
        )


def _someone_misses(config: schema.Config) -> str | None:
    """Why not every client gets every version, if so."""
    server, schedule = config.server, config.server.schedule
    if not isinstance(schedule, schema.SyncSchedule):
        return f"in mode {schedule.mode} they skip versions"
    if server.clients_per_round != "all":
        return "server.clients_per_round is not all"
    if isinstance(server.selection, Tiers):
        return "server.selection tiers asks one tier a round"
    if schedule.deadline_s is not None:
        return "server.schedule.deadline_s leaves some behind"
    if config.devices.dropout:
        return "devices.dropout loses some"
    if not isinstance(config.devices.availability, schema.AlwaysAvailable):
        return "devices.availability has them off at times"
    return None
