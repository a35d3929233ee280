"""Who a server step was made of, and what each of them counts in its decomposition.

The notation is that of `learning.decomposition`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from fedray import rng
from fedray.config import schema
from fedray.types import Floats, Ints, Matrix, Vector


class Job(Protocol):
    """What is known of a job, see `simulation.events.Job`."""

    @property
    def client(self) -> int: ...
    @property
    def dispatch(self) -> int: ...
    @property
    def base_version(self) -> int: ...


class Member(NamedTuple):
    """One update of a group: weight d, share q of the step, and its client's weight in F."""

    client: int
    dispatch: int
    base_version: int
    weight: float
    q: float
    p: float
    """p_i, divided by the number of the client's updates in the group."""
    walk: float
    """Factor on its drift: 1; with `diagnosis.clients` 0, or for n of M members M / n."""


class Group(NamedTuple):
    """What all members of a group have in common."""

    w: Vector
    """The newest version, which the step was made from."""
    bases: Mapping[int, Vector]
    version: int
    """The number of the newest version."""
    gradient: Floats
    """grad F(w)."""
    test_gradient: Floats
    scale: float
    """S."""
    server_lr: float
    mixing: bool
    """Mode async: not the deltas were weighted, but the clients' models minus w."""
    extras: Mapping[int, tuple[Vector, ...]] = {}
    """What was sent with the bases."""
    states: Mapping[int, Matrix] = {}
    """What clients remembered (S, P) before each job, by dispatch."""


def members_of(
    jobs: Sequence[Job], weights: Floats, steps: Ints, client: schema.Client, p: Floats,
    walks: Floats,
) -> tuple[list[Member], float]:  # fmt: skip
    """The members of a group and S, from the updates that went in and their weights d (M,).

    steps: K_i (M,). p: weights of all clients in F (N,). walks: factors on drift (M,). Nobody
    is a member where S is zero: nothing was walked, or nothing counted.
    """
    lengths = weights * steps
    lengths *= [client.lr * client.lr_decay**job.base_version for job in jobs]
    scale = float(lengths.sum())
    if not scale:
        return [], scale
    times = Counter(job.client for job in jobs)
    shares = zip(weights.tolist(), (lengths / scale).tolist(), walks.tolist(), strict=True)
    return [
        Member(
            job.client, job.dispatch, job.base_version, weight, q,
            float(p[job.client]) / times[job.client], walk,
        )
        for job, (weight, q, walk) in zip(jobs, shares, strict=True)
    ], scale  # fmt: skip


def group_of(
    w: Vector, bases: Mapping[int, Vector], version: int, gradient: Floats,
    test_gradient: Floats, scale: float, server: schema.Server,
) -> Group:  # fmt: skip
    """What a server's members have in common; the arguments are those of `Group`."""
    mixing = isinstance(server.schedule, schema.AsyncSchedule)
    lr = server.optimizer.lr
    return Group(w, bases, version, gradient, test_gradient, scale, lr, mixing)


def target_weights(sizes: Ints, drawn: int | None, seed: int, version: int) -> Floats:
    """Weights (N,) of the clients in the target gradient; p_i = n_i / n if `drawn` is None.

    Else so many clients are drawn with replacement, with chance p_i each, and the weights
    are their counts over `drawn`: the weighted gradient is then an unbiased estimate of the
    exact one. Draws of as many clients as there are, or more, are not worth it: exact.
    """
    p = sizes / sizes.sum()
    if drawn is None or drawn >= len(p):
        return np.asarray(p, np.float64)
    generator = rng.generator(seed, rng.Stream.TARGET, version)
    picked = generator.choice(len(p), size=drawn, p=p)
    return np.bincount(picked, minlength=len(p)) / drawn


def walk_weights(members: int, drawn: int | None, seed: int, version: int) -> Floats:
    """Factors (M,) on the members' drift; 1 if `drawn` is None or not below M.

    Else M / n for n members drawn without replacement and 0 for the others, so that the
    weighted sum of drifts is an unbiased estimate of the exact one. Drift and noise
    together are always exact; noise is what is left of them.
    """
    if drawn is None or drawn >= members:
        return np.ones(members)
    generator = rng.generator(seed, rng.Stream.WALKS, version)
    weights = np.zeros(members)
    weights[generator.choice(members, size=drawn, replace=False)] = members / drawn
    return weights
