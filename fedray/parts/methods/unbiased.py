"""Unbiased weights: who is heard often counts less each time (Async-FedAvg, FedFix)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from fedray.parts.arrivals import Arrivals, Combined, Memory, ServerView
from fedray.parts.cards import Algorithm
from fedray.parts.fields import Doc
from fedray.parts.methods.base import Method, unlike
from fedray.types import Floats

Target = Annotated[
    Literal["examples", "uniform"],
    Doc("what clients shall count in the long run, p_i: n_i / n, or 1 / N"),
]


@dataclass(frozen=True, kw_only=True)
class Unbiased(Method):
    """w <- w + sum_i d_i s(tau_i) delta_i with d_i = p_i / (updates of i per version)."""

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="unbiased",
        family="asynchronous",
        title="Unbiased asynchronous averaging (Async-FedAvg)",
        paper="Fraboni et al. 2023, A General Theory for Federated Optimization with Asynchronous "
        "and Heterogeneous Clients Updates, section 4 (arXiv 2206.10189)",
        rule="Fast clients are heard more often, so that averages of what arrives are drawn to "
        "them. Here an update counts d_i = p_i / f_i, with f_i the updates that a client is "
        "expected to bring in per version: w <- w + lr sum_i d_i delta_i, and in the long run "
        "every client counts p_i. f_i follows from the devices' nominal durations T_i and the "
        "schedule: with everybody at work and one update per version it is "
        "(1 / T_i) / sum_j 1 / T_j, so that d_i = (sum_j 1 / T_j) T_i p_i; with buffer_size K, K "
        "times that; with every_s (FedFix) 1 / ceil(T_i / every_s). With fewer clients at work "
        "than there are, the time that they wait to be drawn is added to T_i.",
        values={
            "method": {"kind": "unbiased", "target": "examples"},
            "server": {
                "weighting": "uniform",
                "optimizer": {"kind": "sgd", "lr": 1.0},
                "schedule": {
                    "mode": "buffered",
                    "buffer_size": 1,
                    "staleness_weight": {"kind": "constant"},
                },
            },
        },
        proof="Where FedAsync settles at .18381 between a fast and a slow client, it settles at "
        "FedAvg's .6925; the weights equal those of the paper's formulas; the expected "
        "frequencies agree with those of replayed timelines; equal to an independent reference "
        "step by step.",
        differs="The paper's clients all work at all times, here `concurrency` of them may. In "
        "mode async updates count from the model that each client was sent, as in the paper, "
        "times mixing. Staleness weights, which the paper does not have, are a bias against "
        "the slow again. Durations are nominal: jitter is taken to have mean 1 and "
        "client.stragglers to work in full, which matters where every_s or "
        "deadline_s cuts time into periods.",
    )
    needs_frequency: ClassVar[bool] = True
    kind: Literal["unbiased"] = "unbiased"
    target: Target = "examples"

    def conflict(self, config: Any) -> tuple[str, str] | None:
        return steady(config)

    def combine(self, arrivals: Arrivals, server: ServerView, memory: Memory) -> Combined:
        """Equation 4 with the d_i of section 4."""
        d = targets(self.target, arrivals, server) / server.frequency[arrivals.clients]
        return server.scaled(arrivals.from_base(), d / arrivals.shares)


def targets(target: str, arrivals: Arrivals, server: ServerView) -> Floats:
    """p_i (A,) of the arrivals' clients."""
    if target == "uniform":
        return np.full(len(arrivals.clients), 1.0 / server.clients)
    return server.p[arrivals.clients]


def steady(config: Any) -> tuple[str, str] | None:
    """What keeps frequencies from following from durations and schedule."""
    server, schedule = config.server, config.server.schedule
    if found := unlike(config, "method.target says what clients count"):
        return found
    if server.selection.kind not in ("uniform", "poisson"):
        return "server.selection", "must be uniform: how often others draw is not known"
    if config.clock == "wall":
        return "clock", "must be virtual: how often clients are heard follows from devices"
    if config.devices.availability.kind != "always":
        return "devices.availability", "must be always: durations alone say how often one is heard"
    if schedule.mode == "sync" and (schedule.over_select > 1 or schedule.deadline_s):
        if schedule.over_select > 1:
            return "server.schedule.over_select", "must be 1: the slowest would never count"
        if schedule.late == "drop":
            return "server.schedule.late", "must be carry: the slowest would never count"
    if schedule.max_staleness is not None and getattr(schedule, "on_stale", "drop") != "keep":
        return "server.schedule.max_staleness", "must be none: the slowest would not count"
    return None
