"""What the schema cannot say about `server.quality`."""

from __future__ import annotations

from collections.abc import Iterator

from fedray.config import schema
from fedray.errors import InputError
from fedray.parts.aggregators.mean import Mean
from fedray.parts.methods.plain import Plain
from fedray.parts.personal.off import Off


def idle(config: schema.Config) -> Iterator[tuple[str, str]]:
    """Keys that do nothing, each with the reason."""
    if not config.server.quality.active:
        for key in ("gamma", "validation_fraction"):
            yield f"server.quality.{key}", "has no effect while server.quality.kind is none"


def check(config: schema.Config) -> None:
    """Raises InputError where updates cannot be weighed by their quality."""
    server = config.server
    quality, schedule = server.quality, server.schedule
    if not quality.active:
        return
    alone = "every update makes a version of its own, and has no others to be weighed against"
    if isinstance(schedule, schema.AsyncSchedule):
        raise InputError(
            f"async does not go with server.quality {quality.kind}: {alone}; use buffered",
            key="server.schedule.mode",
        )
    by_count = schedule if isinstance(schedule, schema.BufferedSchedule) else None
    if by_count and by_count.every_s is None and by_count.buffer_size == 1:
        raise InputError(
            f"1 does not go with server.quality {quality.kind}: {alone}",
            key="server.schedule.buffer_size",
        )
    if not isinstance(server.aggregator, Mean):
        raise InputError(
            f"server.quality {quality.kind} weighs the updates of a mean; use mean",
            key="server.aggregator.kind",
        )
    if not isinstance(config.method, Plain):
        raise InputError(
            f"server.quality {quality.kind} is for plain averages; use plain, not "
            f"{config.method.kind}",
            key="method.kind",
        )
    if not isinstance(config.personal, Off):
        raise InputError(
            f"server.quality {quality.kind} scores one model for all; use none, not "
            f"{config.personal.kind}",
            key="personal.kind",
        )
    if config.privacy.kind == "central":
        raise InputError(
            "the noise is for equal weights, and scores would tell of updates that no noise hides; "
            f"use none or local, or server.quality none instead of {quality.kind}",
            key="privacy.kind",
        )
    if config.diagnosis.decompose != "off":
        raise InputError(
            "the terms of a step are about weights that do not depend on the updates, as those "
            f"of server.quality {quality.kind} do; use off",
            key="diagnosis.decompose",
        )
