"""Where a run takes place and what it leaves: `runtime`, `output`, `checkpoint`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from fedray.parts.fields import Count, Doc, Duration, Index, Name, Positive, Strict


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Strict):
    """What an interrupted run resumes from."""

    every: Annotated[
        Index | Annotated[str, Duration()],
        Doc("versions between checkpoints, or wall time such as 30s; 0: only when interrupted"),
    ] = 10
    keep: Annotated[Count, Doc("newest checkpoints that are kept")] = 2


@dataclass(frozen=True, kw_only=True)
class Output(Strict):
    """Where the run folder goes, and what is drawn."""

    dir: Annotated[
        Name,
        Doc("<name>-<timestamp> is made in it; also s3://..., gs://...; --out names one exactly"),
    ] = "runs"
    report: Annotated[bool, Doc("build report.html and plots/ at the end")] = True


@dataclass(frozen=True, kw_only=True)
class Runtime(Strict):
    """Where the arithmetic runs. Nothing here changes a bit of the result."""

    executor: Annotated[
        Literal["ray", "local"], Doc("ray: actors; local: the same loop in this process")
    ] = "ray"
    clients_per_actor: Annotated[
        Literal["auto"] | Count,
        Doc("auto: an actor each up to 24 clients, beyond that one host actor per core"),
    ] = "auto"
    address: Annotated[
        Name | None, Doc("none: a private Ray on this machine; auto or HOST:PORT: that cluster")
    ] = None
    cpus: Annotated[Count | None, Doc("cores for the private Ray; default: all")] = None
    client_resources: Annotated[
        dict[Name, Positive],
        Doc(
            "what a client actor asks of Ray, by name: CPU, GPU, memory (bytes), or a resource of "
            "the cluster's own; default: a small share of a CPU"
        ),
    ] = field(default_factory=dict)
    start_timeout_s: Annotated[Positive, Doc("give up when the actors are not up by then")] = 120.0
    actor_restarts: Annotated[Index, Doc("lost actors that are replaced before giving up")] = 20
