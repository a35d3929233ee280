"""What a guarantee of privacy would not be true with."""

from __future__ import annotations

from collections.abc import Iterator

from fedray.config import schema
from fedray.errors import InputError
from fedray.parts.aggregators.mean import Mean
from fedray.parts.compression.nothing import Nothing
from fedray.parts.methods.base import Method
from fedray.parts.privacy.base import Noised
from fedray.parts.privacy.central import Central
from fedray.parts.privacy.clipping import Adaptive
from fedray.parts.privacy.local import LocalNoise
from fedray.parts.secure.bonawitz import Bonawitz
from fedray.parts.selection.plain import Uniform
from fedray.parts.selection.poisson import Poisson

Conflict = tuple[str, str]
"""A dotted key, and why it does not go."""


def check(config: schema.Config) -> None:
    """Raises InputError on the first contradiction."""
    parts = [_of_poisson(config)]
    if isinstance(config.secure_aggregation, Bonawitz):
        parts += [_of_sums(config.server), _of_messages(config), _of_method(config)]
    if isinstance(config.privacy, Noised):
        parts += [_of_noise(config.privacy), _of_users(config), _of_method(config)]
    if isinstance(config.privacy, LocalNoise):
        parts.append(_of_target(config, config.privacy))
    if isinstance(config.privacy, Central):
        parts += [_of_server(config, config.privacy), _of_claims(config, config.privacy)]
    for part in parts:
        for key, reason in part:
            raise InputError(reason, key=key)


def _of_sums(server: schema.Server) -> Iterator[Conflict]:
    """Where the server would need more than the sum of a cohort's updates."""
    schedule = server.schedule
    if not isinstance(schedule, schema.SyncSchedule):
        yield (
            "server.schedule.mode",
            f"{schedule.mode} does not go with secure_aggregation: masks cancel within a cohort "
            "that starts and ends together",
        )
    elif schedule.late == "carry":
        yield (
            "server.schedule.late",
            "carry does not go with secure_aggregation: a late update's masks belong to its round",
        )
    if not isinstance(server.aggregator, Mean):
        yield (
            "server.aggregator.kind",
            f"{server.aggregator.kind} looks at single updates, and secure_aggregation has their "
            "sum alone; use mean",
        )
    if server.clients_per_round == 1:
        yield (
            "server.clients_per_round",
            "must be 2 or more with secure_aggregation: the sum of one update is that update",
        )
    if server.selection.looks or server.selection.needs_losses:
        yield (
            "server.selection",
            f"{server.selection.kind} asks single clients for their losses, and secure_aggregation "
            "has sums alone",
        )
    if server.quality.active:
        yield (
            "server.quality",
            f"{server.quality.kind} looks at single updates, and secure_aggregation has their sum "
            "alone",
        )
    if server.weighting != "uniform":
        yield (
            "server.weighting",
            "examples are not told under secure_aggregation; use uniform",
        )


def _of_messages(config: schema.Config) -> Iterator[Conflict]:
    """What cannot be done to a masked update, nor be seen of it."""
    if config.compression.up != Nothing():
        yield (
            "compression.up.kind",
            "must be none with secure_aggregation, whose messages are elements of a field",
        )
    if isinstance(config.privacy, Central) and isinstance(config.privacy.clipping, Adaptive):
        yield (
            "privacy.clipping.kind",
            "adaptive asks who fits, and secure_aggregation tells nothing of single updates; use "
            "flat, which clients see to themselves",
        )
    if config.diagnosis.decompose != "off":
        yield "diagnosis.decompose", "looks at single updates; use off with secure_aggregation"


def _of_poisson(config: schema.Config) -> Iterator[Conflict]:
    schedule = config.server.schedule
    if not isinstance(config.server.selection, Poisson):
        return
    if isinstance(schedule, schema.SyncSchedule) and schedule.over_select != 1:
        yield (
            "server.schedule.over_select",
            "must be 1 with server.selection poisson, whose cohorts have no size to exceed",
        )
    if not isinstance(config.devices.availability, schema.AlwaysAvailable):
        yield (
            "devices.availability",
            "must be always with server.selection poisson: who is off cannot join by chance",
        )


def _of_noise(privacy: Noised) -> Iterator[Conflict]:
    if privacy.noise_multiplier is None and privacy.target_epsilon is None:
        yield (
            "privacy.noise_multiplier",
            "missing: how much noise, or with privacy.target_epsilon how much may be spent",
        )


def _of_target(config: schema.Config, privacy: LocalNoise) -> Iterator[Conflict]:
    """Local noise is solved for as many updates of a client as there are versions."""
    mode = config.server.schedule.mode
    if privacy.target_epsilon is not None and mode != "sync":
        yield (
            "privacy.target_epsilon",
            f"in mode {mode} a fast client may send more updates than there are versions, and with "
            "local noise each of them counts; use noise_multiplier",
        )


def _of_users(config: schema.Config) -> Iterator[Conflict]:
    """Every user counts the same, and is not looked at besides."""
    kind, server = config.privacy.kind, config.server
    if server.weighting != "uniform" and not isinstance(server.schedule, schema.AsyncSchedule):
        yield (
            "server.weighting",
            f"examples is not private, and lets some users count more; privacy.kind {kind} needs "
            "uniform",
        )
    if server.selection.looks or server.selection.needs_losses:
        yield (
            "server.selection",
            f"{server.selection.kind} asks clients for losses, which nobody noises "
            f"(privacy.kind {kind})",
        )


def _of_method(config: schema.Config) -> Iterator[Conflict]:
    method = config.personal.method(config.method)
    if method.uploads:
        yield (
            "method.kind",
            f"clients of {method.kind} send more than their update, without clipping or noise; "
            "use plain",
        )
    elif method.cohort_gradient:
        yield (
            "method.kind",
            f"clients of {method.kind} send their gradient before they train, without clipping or "
            "noise; use plain",
        )
    elif type(method).combine is not Method.combine or method.needs_losses or method.table:
        yield (
            "method.kind",
            f"the server of {method.kind} makes more of updates than their mean; use plain",
        )


def _of_server(config: schema.Config, privacy: Central) -> Iterator[Conflict]:
    server = config.server
    if not isinstance(server.aggregator, Mean):
        yield (
            "server.aggregator.kind",
            "the noise is made for a sum that one user can change by C, so for mean, not "
            f"{server.aggregator.kind}",
        )
    if config.diagnosis.decompose != "off":
        yield (
            "diagnosis.decompose",
            "the noise of a version is no client's, so its step is not taken apart; use off",
        )
    if getattr(server.schedule, "every_s", None) is not None:
        yield (
            "server.schedule.every_s",
            "the noise is made for sums over a number of updates that is known before; use "
            "buffer_size",
        )
    if isinstance(server.schedule, schema.AsyncSchedule) and isinstance(privacy.clipping, Adaptive):
        yield (
            "server.schedule.mode",
            "async does not go with privacy.clipping adaptive: the share of updates that fit "
            "means nothing for a single one",
        )


def _of_claims(config: schema.Config, privacy: Central) -> Iterator[Conflict]:
    """Amplification is claimed for the sampling that really runs, or not at all."""
    server, schedule = config.server, config.server.schedule
    sync = schedule if isinstance(schedule, schema.SyncSchedule) else None
    sampled = isinstance(server.selection, Poisson) and privacy.amplification == "auto"
    claims = sampled or privacy.amplification == "without_replacement"
    if sync and sync.late == "carry" and claims:
        yield (
            "server.schedule.late",
            "carry brings updates into versions that their users were not sampled for; use drop, "
            "or privacy.amplification none",
        )
    if privacy.amplification != "without_replacement":
        return
    key, why = "privacy.amplification", "without_replacement is of uniform cohorts of fixed size"
    if sync is None:
        yield key, f"{why}; in mode {schedule.mode} use none"
        return
    if not isinstance(server.selection, Uniform) or server.clients_per_round == "all":
        yield key, f"{why}: needs server.selection uniform and server.clients_per_round"
    if sync.over_select != 1:
        yield key, f"{why}; with over_select the fastest of them count"
    if not isinstance(config.devices.availability, schema.AlwaysAvailable):
        yield key, f"{why} of all clients, and devices.availability has some of them off"
    if privacy.accountant != "rdp":
        yield "privacy.accountant", "must be rdp with privacy.amplification without_replacement"
