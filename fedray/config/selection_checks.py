"""What the schema cannot say about `server.selection`."""

from __future__ import annotations

from collections.abc import Iterator

from fedray.config import schema
from fedray.errors import InputError
from fedray.parts.selection.availability import AvailabilityAware
from fedray.parts.selection.staleness import StalenessAware
from fedray.parts.selection.tiers import Tiers


def idle(config: schema.Config) -> Iterator[tuple[str, str]]:
    """Keys that do nothing, each with the reason."""
    chosen, sync = config.server.selection, isinstance(config.server.schedule, schema.SyncSchedule)
    if isinstance(chosen, AvailabilityAware):
        if isinstance(config.devices.availability, schema.AlwaysAvailable):
            yield "server.selection", "has no effect while devices.availability is always"
    elif isinstance(chosen, StalenessAware) and sync:
        yield (
            "server.selection.max_expected",
            "has no effect in mode sync, whose rounds wait for those who were asked",
        )
    elif isinstance(chosen, Tiers) and not chosen.adaptive:
        for key in ("interval", "evaluated"):
            yield f"server.selection.{key}", "has no effect with server.selection.adaptive false"


def check(config: schema.Config) -> None:
    """Raises InputError where mode or evaluation do not go with the selection."""
    chosen, mode = config.server.selection, config.server.schedule.mode
    if mode in chosen.refuses:
        raise InputError(
            f"{mode} does not go with server.selection {chosen.kind}: {chosen.refuses[mode]}",
            key="server.schedule.mode",
        )
    if chosen.needs_losses and not config.eval.local_losses:
        raise InputError(
            f"false is not allowed: server.selection {chosen.kind} needs the losses",
            key="eval.local_losses",
        )
