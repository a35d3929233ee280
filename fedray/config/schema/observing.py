"""What is measured on the way, and what that ends: `eval`, `diagnosis`, `stop`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt, Le

from fedray.parts.fields import Count, Doc, FalseIsOff, Index, Strict


@dataclass(frozen=True, kw_only=True)
class Eval(Strict):
    """What is measured on the way."""

    every: Annotated[Count, Doc("evaluate on the test set every so many versions")] = 1
    clients_every: Annotated[
        Index,
        Doc("accuracy on every client's own shard, every so many versions; 0: at the end only"),
    ] = 0
    local_losses: Annotated[
        bool, Doc("loss on the shard before and after each job: two more forward passes")
    ] = True


@dataclass(frozen=True, kw_only=True)
class Diagnosis(Strict):
    """Why a version is what it is, worked out while the run goes: see docs/run-folder.md.

    A decomposed version costs the gradients of its group once more, and those of all shards
    at every local step of the group; `clients` bounds both.
    """

    decompose: Annotated[
        Literal["off"] | Count,
        FalseIsOff(),
        Doc(
            "split the step to every so many-th version into participation, staleness, drift, "
            "noise and residual"
        ),
    ] = "off"
    clients: Annotated[
        Literal["all"] | Count,
        Doc(
            "so many clients, drawn by their samples, stand for all in the target gradient, and "
            "so many of a group for its drift: unbiased, and cheaper"
        ),
    ] = "all"
    pooled: Annotated[
        bool,
        Doc(
            "also train on the pooled data, as many minibatches as the clients, and record how "
            "far the model is from that one"
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class Stop(Strict):
    """Ends a run before `server.rounds`; whichever comes first."""

    accuracy: Annotated[float | None, Gt(0), Le(1), Doc("test accuracy reached")] = None
    loss: Annotated[float | None, Gt(0), Doc("test loss fallen to")] = None
    virtual_time_s: Annotated[float | None, Gt(0), Doc("virtual seconds elapsed")] = None
    bytes: Annotated[float | None, Gt(0), Doc("bytes moved, both directions")] = None
    patience: Annotated[
        Count | None, Doc("evaluations without a better accuracy (regression: loss)")
    ] = None
