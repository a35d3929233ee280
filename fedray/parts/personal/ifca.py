"""IFCA: a model per cluster of clients, who find their cluster themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge

from fedray import rng
from fedray.parts import summation
from fedray.parts.arrivals import Arrivals, Combined, Memory, ServerView
from fedray.parts.cards import Algorithm
from fedray.parts.fields import Doc, NonNegative
from fedray.parts.local import Local, Outcome
from fedray.parts.methods.base import Method
from fedray.parts.personal.base import FEDAVG, OwnModels, passes
from fedray.types import Floats, Ints, Model, Vector


@dataclass(frozen=True, kw_only=True)
class Ifca(OwnModels):
    """The server keeps `clusters` models; every client trains, and uses, the one that suits it.

    That is the one with the least loss on the client's training samples. A cluster's model
    moves by the mean update of those who chose it, and stays where nobody did.
    """

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="ifca",
        title="Clusters of clients, each with a model",
        paper="Ghosh et al. 2020, An Efficient Framework for Clustered Federated Learning, "
        "algorithm 1 with option II (arXiv 2006.04088)",
        rule="The server sends all k models. A client takes the one with the least loss on its "
        "samples, trains it, and says which it was. Each model moves by the weighted mean of its "
        "own updates, theta_j <- theta_j + lr sum_i p_i delta_i / sum_i p_i over the clients of "
        "the cohort that chose j.",
        values={**FEDAVG, "personal": {"kind": "ifca", "clusters": 2, "spread": 0.1}},
        proof="On quadratics in two planted groups every client finds its own and the models "
        "settle at the groups' optima; equal to an independent reference, step by step.",
        differs="The first model is the run's initial one and the others are further draws of "
        "it, with noise of `spread` on top; the paper draws all at random and advises several "
        "attempts, as clusters may merge. The test set is scored on the model with most updates.",
        family="personalisation",
        refuses={
            "async": "it mixes each arrival into the newest model, and clusters have several; "
            "use buffered"
        },
    )
    replaces: ClassVar[bool] = True
    shared_model: ClassVar[bool] = False
    groups: ClassVar[bool] = True
    kind: Literal["ifca"] = "ifca"
    clusters: Annotated[int, Ge(2), Doc("k: models at the server, all sent to every client")] = 2
    spread: Annotated[
        NonNegative,
        Doc("standard deviation of the noise that tells the clusters' first models apart"),
    ] = 0.1

    def conflict(self, config: Any) -> tuple[str, str] | None:
        """What knows of one model only."""
        server = config.server
        if server.aggregator.kind != "mean":
            return "server.aggregator.kind", "must be mean: every cluster takes its own"
        if server.optimizer.kind != "sgd":
            return "server.optimizer.kind", "must be sgd: it remembers nothing of any cluster"
        if config.client.prox_mu:
            return "client.prox_mu", "must be 0: its steps are its own"
        return None

    def method(self, configured: Method) -> Method:
        return Clusters(kind=self.kind, clusters=self.clusters, spread=self.spread)

    def more_samples(self, walk: Floats, sizes: Ints) -> Floats:
        return passes(self.clusters / 3, sizes)

    def own(self, job: Local) -> Vector:
        models = (job.base, *job.broadcast)
        return models[self.label(job)]

    def label(self, job: Local) -> int:
        return choice(job)


def choice(job: Local) -> int:
    """argmin_j of the loss of model j on the client's samples; the first of equals."""
    losses = [job.loss(w) for w in (job.base, *job.broadcast)]
    return int(np.argmin(np.nan_to_num(losses, nan=np.inf)))


@dataclass(frozen=True, kw_only=True)
class Clusters(Method):
    """The rule of clients and server: model 0 is the server's own, the others its memory."""

    one_walk: ClassVar[bool] = False
    clusters: int
    spread: float

    @property
    def broadcasts(self) -> int:  # type: ignore[override]
        """All models but the first."""
        return self.clusters - 1

    @property
    def server_vectors(self) -> int:  # type: ignore[override]
        """The same."""
        return self.clusters - 1

    def start(self, model: Model, seed: int) -> Memory:
        """Models 1, 2, ... of version 0, and how many updates each model has had."""
        memory: dict[str, Vector] = {"updates": np.zeros(self.clusters)}
        for j in range(1, self.clusters):
            draws = rng.generator(seed, rng.Stream.INIT, j)
            w = model.init(draws)
            memory[f"cluster_{j}"] = w + (self.spread * draws.standard_normal(len(w))).astype(
                w.dtype
            )
        return memory

    def train(self, job: Local) -> Outcome:
        """Algorithm 1, lines 6 to 9."""
        label = choice(job)
        start = (job.base, *job.broadcast)[label]
        walked = job.tune(start)
        return Outcome(walked.w, walked.steps, start=start, label=label)

    def broadcast(self, w: Vector, memory: Memory) -> tuple[Vector, ...]:
        return tuple(memory[f"cluster_{j}"] for j in range(1, self.clusters))

    def combine(self, arrivals: Arrivals, server: ServerView, memory: Memory) -> Combined:
        """Line 12, option II, cluster by cluster; staleness weights shorten a cluster's step."""
        of, kept = arrivals.labels, dict(memory)
        weights = arrivals.weights / np.bincount(of, arrivals.shares, self.clusters)[of]
        moved = summation.groups(arrivals.updates, weights, of, self.clusters)
        lr = server.w.dtype.type(server.server_lr)
        for j in range(1, self.clusters):
            kept[f"cluster_{j}"] = memory[f"cluster_{j}"] + lr * moved[j]
        kept["updates"] = memory["updates"] + np.bincount(of, minlength=self.clusters)
        return Combined(moved[0], weights, kept)

    def readout(self, w: Vector, memory: Memory) -> Vector:
        """The model that most updates went into."""
        return (w, *self.broadcast(w, memory))[int(np.argmax(memory["updates"]))]

    def others(self, w: Vector, memory: Memory) -> dict[str, Vector]:
        models = (w, *self.broadcast(w, memory))
        return {f"cluster_{j}": each for j, each in enumerate(models)}
