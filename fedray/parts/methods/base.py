"""What a method is: what clients and server do beyond local SGD and averaging."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from fedray.parts.arrivals import Arrivals, Combined, Memory, ServerView
from fedray.parts.cards import Algorithm
from fedray.parts.fields import Strict
from fedray.parts.local import Local, Outcome
from fedray.types import Model, Vector


@dataclass(frozen=True, kw_only=True)
class Method(Strict):
    """Pure functions, with FedAvg's behaviour where a method says nothing else.

    Of a client's own memory, and of what travels besides model and update, only sizes are
    declared here; fedray keeps, ships, checkpoints and accounts for it.
    """

    kind: str
    ALGORITHM: ClassVar[Algorithm | None] = None
    """How users pick it by name."""
    state_vectors: ClassVar[int] = 0
    """S: vectors (P,) that a client keeps from job to job."""
    broadcasts: ClassVar[int] = 0
    """Vectors sent with every model."""
    uploads: ClassVar[int] = 0
    """Vectors returned with every update."""
    server_vectors: ClassVar[int] = 0
    """Vectors that the server keeps in `memory`."""
    table: ClassVar[bool] = False
    """Whether the server keeps a vector per client."""
    needs_losses: ClassVar[bool] = False
    """Whether `combine` reads the losses of the downloaded model (`eval.local_losses`)."""
    needs_frequency: ClassVar[bool] = False
    """Whether `combine` reads how often clients are heard."""
    one_walk: ClassVar[bool] = True
    """Whether `train` is one call of `job.sgd`, whose steps `diagnosis.decompose` looks at."""
    cohort_gradient: ClassVar[bool] = False
    """Whether the cohort's mean gradient at a model, each client's over the whole shard, is
    worked out before it trains from it: the last of the broadcasts. In mode sync only."""
    extra_passes: ClassVar[float] = 0.0
    """Passes over the shard per job besides training, each a gradient: they take time."""
    step_gradients: ClassVar[float] = 1.0
    """Gradients per local step: they take time, too."""

    def conflict(self, config: Any) -> tuple[str, str] | None:
        """A dotted key of the whole configuration that the method does not go with, and why."""
        return None

    def start(self, model: Model, seed: int) -> Memory:
        """What the server remembers at version 0."""
        return {}

    def train(self, job: Local) -> Outcome:
        """The client's work."""
        walked = job.sgd()
        return Outcome(walked.w, walked.steps)

    def broadcast(self, w: Vector, memory: Memory) -> tuple[Vector, ...]:
        """What is sent with model w (P,), `broadcasts` vectors."""
        return ()

    def combine(self, arrivals: Arrivals, server: ServerView, memory: Memory) -> Combined:
        """From the arrivals to the update that the server optimizer takes in, which ADDS."""
        return server.average(arrivals)

    def readout(self, w: Vector, memory: Memory) -> Vector:
        """The model that is evaluated and kept at the end, for the server's w."""
        return w

    def others(self, w: Vector, memory: Memory) -> Mapping[str, Vector]:
        """Models (P,) that are kept at the end beside that one, by name."""
        return {}


def unlike(config: Any, why: str) -> tuple[str, str] | None:
    """The conflict of a method whose clients count alike, with shares by examples.

    Mode async has none: every version is made of one update.
    """
    if config.server.weighting == "uniform" or config.server.schedule.mode == "async":
        return None
    return "server.weighting", f"must be uniform: {why}"
