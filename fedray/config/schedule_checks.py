"""What the schema cannot say about `server.schedule`."""

from __future__ import annotations

from fedray.config import schema
from fedray.errors import InputError
from fedray.parts.aggregators.pairwise import Pairwise


def check(config: schema.Config, known: tuple[int, str] | None) -> None:
    """Raises InputError on the first contradiction.

    known: the number of clients and the key that sets it, where the data need not be read.
    """
    server, schedule = config.server, config.server.schedule
    clients, where = known or (None, "")
    if isinstance(schedule, schema.SyncSchedule):
        count = server.clients_per_round
        if clients is not None and isinstance(count, int) and count > clients:
            raise InputError(
                f"{count} is more than the {clients} clients ({where})",
                key="server.clients_per_round",
            )
    else:
        _check_in_flight(schedule, clients, where)
    if isinstance(server.aggregator, Pairwise) and schedule.mode != "sync":
        raise InputError(
            f"aggregator pairwise needs sync, not {schedule.mode!r}", key="server.schedule.mode"
        )


def _check_in_flight(
    schedule: schema.BufferedSchedule | schema.AsyncSchedule, clients: int | None, where: str
) -> None:
    concurrency = schedule.concurrency
    if clients is not None and concurrency > clients:
        raise InputError(
            f"{concurrency} jobs at a time need as many clients, there are {clients} ({where})",
            key="server.schedule.concurrency",
        )
    if schedule.on_stale != "wait":
        return
    if schedule.max_staleness is None:
        raise InputError(
            "missing: on_stale wait needs a bound", key="server.schedule.max_staleness"
        )
    if not isinstance(schedule, schema.BufferedSchedule):
        return
    if schedule.every_s is not None:
        raise InputError(
            "wait is not allowed with every_s, which holds no version back; allowed: drop, keep",
            key="server.schedule.on_stale",
        )
    if schedule.buffer_size > concurrency:
        raise InputError(
            f"{schedule.buffer_size} is more than the concurrency {concurrency}, "
            "so that on_stale wait could wait forever",
            key="server.schedule.buffer_size",
        )
