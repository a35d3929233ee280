"""How long jobs take in virtual time, and who is there: `devices`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from fedray.config.schema.distributions import Constant, Distribution, LogNormal
from fedray.parts.fields import Doc, Fraction, Name, OneOf, Positive, Strict


@dataclass(frozen=True, kw_only=True)
class Network(Strict):
    """Links, drawn once per client."""

    down_bytes_per_s: Annotated[Distribution, Doc("download rate")] = field(
        default_factory=lambda: LogNormal(median=1e6, sigma=0.5)
    )
    up_bytes_per_s: Annotated[Distribution, Doc("upload rate")] = field(
        default_factory=lambda: LogNormal(median=2.5e5, sigma=0.5)
    )
    latency_s: Annotated[Distribution, Doc("added once to the download and once to the upload")] = (
        field(default_factory=lambda: Constant(value=0.05))
    )


@dataclass(frozen=True, kw_only=True)
class AlwaysAvailable(Strict):
    """Clients can be asked at any time."""

    kind: Literal["always"] = "always"


@dataclass(frozen=True, kw_only=True)
class CycleAvailability(Strict):
    """Each client is on for `on_s`, off for `off_s`, and so on, from a random phase."""

    kind: Literal["cycle"] = "cycle"
    on_s: Positive
    off_s: Positive


@dataclass(frozen=True, kw_only=True)
class TraceAvailability(Strict):
    """On-windows from a CSV or Parquet file with the columns client, start_s, end_s."""

    kind: Literal["trace"] = "trace"
    path: Annotated[Name, Doc("relative to this file")]


DEFAULT_COMPUTE = LogNormal(median=2000.0, sigma=0.5)
"""What `config.load` writes into devices with neither table, duration nor compute."""

Availability = Annotated[AlwaysAvailable | CycleAvailability | TraceAvailability, OneOf("kind")]


@dataclass(frozen=True, kw_only=True)
class Devices(Strict):
    """How long a job takes in virtual time: download + compute + upload.

    Either a `table`, or a `duration` per job, or `compute` and `network`.
    """

    table: Annotated[
        Name | None,
        Doc(
            "CSV or Parquet with a row per client: client, and duration_s, or samples_per_s, "
            "down_bytes_per_s, up_bytes_per_s, latency_s"
        ),
    ] = None
    duration: Annotated[
        Distribution | None, Doc("seconds per job, drawn once per client, network included")
    ] = None
    compute: Annotated[
        Distribution | None,
        Doc("samples per second, drawn once per client; default lognormal(2000, 0.5)"),
    ] = None
    network: Annotated[Network | None, Doc("default: the defaults of its keys")] = None
    jitter: Annotated[
        Distribution, Doc("factor on the compute time (or on duration), drawn anew for every job")
    ] = field(default_factory=lambda: Constant(value=1.0))
    availability: Availability = field(default_factory=AlwaysAvailable)
    dropout: Annotated[Fraction, Doc("chance that a job is lost; noticed when it was due")] = 0.0
