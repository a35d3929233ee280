"""Partial work: jobs that get through only part of what they should."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from fedray.parts.fields import Doc, Severity, Strict


@dataclass(frozen=True, kw_only=True)
class Stragglers(Strict):
    """Jobs that get through only part of their work, as FedProx was tried on (Li et al. 2020).

    Of E epochs (or steps) a straggler does a number drawn from 1 to E, which also takes less
    time.
    """

    share: Annotated[Severity, Doc("chance that a job is a straggler's, drawn for every job")] = 0.0
    partial: Annotated[
        Literal["keep", "drop"],
        Doc("what the server does with their updates: keep (FedProx), or drop (FedAvg there)"),
    ] = "keep"
