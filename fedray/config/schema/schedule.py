"""When a new version is made: `server.schedule`, by its `mode`, and what old updates count."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from fedray.parts.fields import Count, Doc, Index, NonNegative, OneOf, Positive, Strict


@dataclass(frozen=True, kw_only=True)
class ConstantWeight(Strict):
    """s(tau) = 1."""

    kind: Literal["constant"] = "constant"


@dataclass(frozen=True, kw_only=True)
class PolynomialWeight(Strict):
    """s(tau) = (1 + tau)^-exponent (Xie et al. 2019; FedBuff uses 0.5)."""

    kind: Literal["polynomial"] = "polynomial"
    exponent: NonNegative = 0.5


@dataclass(frozen=True, kw_only=True)
class HingeWeight(Strict):
    """s(tau) = 1 if tau <= b else 1 / (a (tau - b) + 1) (Xie et al. 2019)."""

    kind: Literal["hinge"] = "hinge"
    a: Positive = 10.0
    b: NonNegative = 4.0


@dataclass(frozen=True, kw_only=True)
class ExponentialWeight(Strict):
    """s(tau) = exp(-rate tau)."""

    kind: Literal["exponential"] = "exponential"
    rate: NonNegative = 0.1


@dataclass(frozen=True, kw_only=True)
class InverseWeight(Strict):
    """s(tau) = 1 / (1 + tau) (DynSGD, Jiang et al. 2017)."""

    kind: Literal["inverse"] = "inverse"


StalenessWeight = Annotated[
    ConstantWeight | PolynomialWeight | HingeWeight | ExponentialWeight | InverseWeight,
    OneOf("kind"),
]
MaxStaleness = Annotated[
    Index | None, Doc("bound on (server version - version trained from); none: unbounded")
]
OnStale = Annotated[
    Literal["drop", "wait", "keep"],
    Doc(
        "beyond max_staleness: drop the update; wait: hold back new versions until the oldest "
        "work in flight has arrived, so that none gets beyond; keep: only down-weight it"
    ),
]
Concurrency = Annotated[Count, Doc("clients training at any time")]


@dataclass(frozen=True, kw_only=True)
class SyncSchedule(Strict):
    """Rounds: draw a cohort, wait for it, aggregate."""

    mode: Literal["sync"] = "sync"
    over_select: Annotated[
        float,
        Ge(1),
        Doc("draw so many times the cohort and keep the first arrivals (1.3 is usual)"),
    ] = 1.0
    deadline_s: Annotated[
        float | None, Gt(0), Doc("close the round after so many virtual seconds")
    ] = None
    late: Annotated[
        Literal["drop", "carry"],
        Doc("updates after the round closed: drop, or carry into the version being made"),
    ] = "drop"
    max_staleness: MaxStaleness = None
    staleness_weight: StalenessWeight = field(default_factory=ConstantWeight)


@dataclass(frozen=True, kw_only=True)
class BufferedSchedule(Strict):
    """FedBuff (Nguyen et al. 2022): aggregate every `buffer_size` arrivals.

    w <- w + server_lr / K * sum_i s(tau_i) delta_i. An arrival is replaced at once with
    the then current version, the one that completes the buffer with the new version. With
    `every_s` versions come by the clock instead (FedFix, Fraboni et al. 2023), and whoever has
    arrived meanwhile is replaced when the version is made.
    """

    mode: Literal["buffered"] = "buffered"
    concurrency: Concurrency = 8
    buffer_size: Annotated[Count, Doc("K: arrivals per new version")] = 4
    every_s: Annotated[
        float | None,
        Gt(0),
        Doc("a new version every so many virtual seconds, instead of every buffer_size arrivals"),
    ] = None
    max_staleness: MaxStaleness = None
    on_stale: OnStale = "drop"
    staleness_weight: StalenessWeight = field(default_factory=PolynomialWeight)


@dataclass(frozen=True, kw_only=True)
class AsyncSchedule(Strict):
    """FedAsync (Xie et al. 2019): every arrival mixes in at once.

    w <- (1 - a) w + a w_i with the client's own model w_i and a = mixing * s(tau).
    """

    mode: Literal["async"] = "async"
    concurrency: Concurrency = 8
    mixing: Annotated[float, Gt(0), Le(1), Doc("a for a fresh update")] = 0.6
    max_staleness: MaxStaleness = None
    on_stale: OnStale = "drop"
    staleness_weight: StalenessWeight = field(default_factory=PolynomialWeight)


Schedule = Annotated[SyncSchedule | BufferedSchedule | AsyncSchedule, OneOf("mode")]
