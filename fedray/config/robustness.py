"""What aggregators and attacks ask of the rest of a configuration."""

from __future__ import annotations

from collections.abc import Iterator

from fedray.config import schema
from fedray.errors import InputError
from fedray.parts.aggregators.base import check_size
from fedray.parts.attacks.base import ByClients
from fedray.parts.attacks.label_flip import LabelFlip
from fedray.parts.privacy.central import Central


def check(config: schema.Config, clients: int | None, regression: bool) -> None:
    """Raises InputError on the first contradiction.

    clients: how many there are, where the data need not be read to know.
    """
    _check_aggregator(config, clients)
    _check_attack(config, clients, regression)


def _check_aggregator(config: schema.Config, clients: int | None) -> None:
    server = config.server
    aggregator, schedule = server.aggregator, server.schedule
    kind = aggregator.kind
    if isinstance(schedule, schema.AsyncSchedule):
        if reason := aggregator.needs_company:
            raise InputError(
                f"async does not go with server.aggregator.kind {kind}: {reason}",
                key="server.schedule.mode",
            )
        return
    if server.weighting != "uniform" and not aggregator.weighted:
        raise InputError(
            f"aggregator {kind} needs uniform, not {server.weighting!r}: it counts every update "
            "as one",
            key="server.weighting",
        )
    if (count := _group_size(server, clients)) is not None:
        check_size(aggregator, count)


def _group_size(server: schema.Server, clients: int | None) -> int | None:
    """Updates that a version is made from, unless clients or clocks have a part in it."""
    if isinstance(server.schedule, schema.BufferedSchedule):
        return None if server.schedule.every_s is not None else server.schedule.buffer_size
    if server.clients_per_round == "all":
        return clients
    return server.clients_per_round if isinstance(server.clients_per_round, int) else None


def _check_attack(config: schema.Config, clients: int | None, regression: bool) -> None:
    attack, mode = config.attack, config.server.schedule.mode
    if not isinstance(attack, ByClients):
        return
    if mode in attack.refuses:
        raise InputError(
            f"{mode} does not go with attack.kind {attack.kind}: {attack.refuses[mode]}",
            key="server.schedule.mode",
        )
    if attack.omniscient and isinstance(config.privacy, Central):
        raise InputError(
            f"{attack.kind} makes malicious updates from honest ones, so that a user changes more "
            "than its own, which privacy.kind central does not count",
            key="attack.kind",
        )
    if isinstance(attack, LabelFlip) and regression:
        raise InputError(
            "label_flip needs class labels, but the data is a regression", key="attack.kind"
        )
    if clients is not None:
        attack.members(clients, config.seed)


def idle(config: schema.Config) -> Iterator[tuple[str, str]]:
    """Keys that can do nothing with an attack, and why."""
    if config.attack.kind != "none":
        yield (
            "diagnosis.decompose",
            "can do nothing with malicious updates, which are no walks of local SGD "
            f"(attack.kind {config.attack.kind}); use off",
        )
