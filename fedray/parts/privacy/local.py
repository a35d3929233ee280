"""Local differential privacy: every client adds its own noise, the server need not be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Gt

from fedray import rng
from fedray.parts.cards import Algorithm
from fedray.parts.fields import Doc
from fedray.parts.privacy.base import Noised
from fedray.parts.privacy.clipping import clip
from fedray.parts.transforms import Sender, Transform
from fedray.types import Matrix, Vector

_CARD = Algorithm(
    name="ldp_fedavg",
    title="Local differential privacy, noise by the clients",
    paper="Kasiviswanathan et al. 2011, What Can We Learn Privately? (arXiv 0803.0924); Gaussian "
    "noise on clipped updates as in Truex et al. 2020, LDP-Fed (arXiv 2006.03637)",
    rule="A client cuts its update to length C and adds N(0, (z C)^2) to every coordinate before "
    "it is sent. Two updates differ by 2 C at the most, so that each costs what a Gaussian "
    "mechanism of multiplier z / 2 does, and they add up over the jobs of a client.",
    values={
        "privacy": {"kind": "local", "clip_norm": 1.0, "noise_multiplier": 1.0},
        "server": {"weighting": "uniform", "optimizer": {"kind": "sgd", "lr": 1.0}},
    },
    proof="What arrives has the right mean and variance; epsilon is that of one Gaussian "
    "mechanism of multiplier z / (2 sqrt(n)) for the client with the most jobs, n.",
    differs="No amplification by shuffling or sampling is claimed: the server knows who sends.",
    family="privacy",
)


@dataclass(frozen=True, kw_only=True)
class LocalNoise(Noised):
    """Clients clip to length C and add N(0, (z C)^2) themselves; epsilon is per client."""

    ALGORITHMS: ClassVar[tuple[Algorithm, ...]] = (_CARD,)
    kind: Literal["local"] = "local"
    clip_norm: Annotated[float, Gt(0), Doc("C: bound on the length of an update")] = 1.0


@dataclass(frozen=True, kw_only=True)
class ClipAndNoise(Transform):
    """What a client does to its update: v min(1, C / |v|) + N(0, deviation^2).

    One that is not finite counts as 0: that a client has diverged must not be told without noise.
    """

    norm: float
    deviation: float

    def apply(self, vector: Vector, memory: Matrix, sender: Sender) -> tuple[Vector, Matrix]:
        known = vector if np.isfinite(vector).all() else np.zeros_like(vector)
        cut, _, _ = clip(known[None], np.zeros(1, np.int64), self.norm)
        noise = sender.rng(rng.Stream.NOISE).normal(0.0, self.deviation, len(vector))
        return (np.asarray(cut)[0] + noise).astype(vector.dtype), memory
