"""AREA: clients send how far they went since the last time, and all count the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from fedray.parts.arrivals import Arrivals, Combined, Memory, ServerView
from fedray.parts.cards import Algorithm
from fedray.parts.local import Local, Outcome
from fedray.parts.methods.base import Method


@dataclass(frozen=True, kw_only=True)
class Area(Method):
    """r_i = y_i^new - y_i^old, with y_i the model that client i came to; w <- w + 1/N sum_i r_i.

    y_i starts at version 0, so that w = 1/N sum_i y_i over all clients, always.
    """

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="area",
        family="asynchronous",
        title="Asynchronous exact averaging",
        paper="Iakovidou and Kim 2024, Asynchronous Federated Stochastic Optimization for "
        "Heterogeneous Objectives Under Arbitrary Delays, algorithm 1 (arXiv 2405.10123)",
        rule="A client trains from the model w that it is sent to y_new, sends the residual "
        "r = y_new - y_old, where y_old is where it came to the last time (the initial model "
        "before that), and remembers y_new. After every buffer_size arrivals the server moves to "
        "w + (1 / N) sum r, with N the number of all clients. So w is the mean of the last models "
        "of all clients: one that is heard more often does not count more.",
        values={
            "method": {"kind": "area"},
            "server": {
                "weighting": "uniform",
                "optimizer": {"kind": "sgd", "lr": 1.0},
                "schedule": {
                    "mode": "buffered",
                    "buffer_size": 4,
                    "staleness_weight": {"kind": "constant"},
                },
            },
        },
        proof="The model is the mean of what all clients remember, at every version, whatever the "
        "order of arrival and with updates lost; it comes to rest exactly where synchronous "
        "FedAvg with all clients does; equal to an independent reference step by step; dividing "
        "by the buffer in place of N is a test that fails.",
        differs="APPFL has the server's side only. The paper's clients are initialised with the "
        "server's model, which here costs no bytes. A client whose update is lost or refused goes "
        "back to what it remembered, so that nothing is missing from the mean.",
        refuses={
            "async": "mixing keeps part of every residual back, but they only add up whole; use "
            "buffered with buffer_size 1"
        },
    )
    state_vectors: ClassVar[int] = 1
    kind: Literal["area"] = "area"

    def conflict(self, config: Any) -> tuple[str, str] | None:
        """Whatever makes w something else than the mean of y."""
        server, schedule = config.server, config.server.schedule
        whole = "residuals only add up whole"
        if server.weighting != "uniform":
            return "server.weighting", "must be uniform: all clients count the same"
        if server.aggregator.kind != "mean":
            return "server.aggregator.kind", f"must be mean: {whole}"
        if server.optimizer.kind != "sgd" or server.optimizer.lr != 1.0:
            return "server.optimizer", f"must be sgd with lr 1: {whole}"
        wire = config.compression.up
        if wire.kind != "none" and not getattr(wire, "error_feedback", False):
            return "compression.up.kind", (
                f"{whole}: use none, or topk, randomk or sign with error_feedback"
            )
        if schedule.staleness_weight.kind != "constant":
            return "server.schedule.staleness_weight.kind", f"must be constant: {whole}"
        return None

    def train(self, job: Local) -> Outcome:
        """Algorithm 1, the client's part."""
        walked = job.sgd()
        before = job.initial if job.fresh else job.state[0]
        return Outcome(walked.w, walked.steps, state=walked.w[None], start=before)

    def combine(self, arrivals: Arrivals, server: ServerView, memory: Memory) -> Combined:
        """Algorithm 1, the server's part: over all clients, not over those in the group."""
        return server.scaled(arrivals, 1.0 / (server.clients * arrivals.shares))
