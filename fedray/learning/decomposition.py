"""Why a server step is not a gradient step: an identity that holds for every version.

Version t + 1 was made from members i (a client may be several of them): model b_i was
downloaded, K_i local steps of size eta_i = lr lr_decay^base were taken at y_i1, y_i2, ...
with minibatch gradients g_ik, and the update counted d_i. The objective is
F = sum_i p_i F_i with p_i = n_i / n over ALL clients: the mean loss on all training samples
(plus weight_decay / 2 |w|^2), which training on the pooled data would minimise. With

    S = sum_j d_j eta_j K_j,  q_i = d_i eta_i K_i / S,  c = server_lr S,  v = -(w' - w) / c

the step is w' = w - c v, and what is wrong with its direction v adds up exactly:

    v - grad F(w) =
      participation  sum_i q_i grad F_i(w) - grad F(w)
    + staleness      sum_i q_i (grad F_i(b_i) - grad F_i(w));  in mode async also the pull
                     back to the old model, -sum_i d_i (b_i - w) / S
    + drift          sum_i q_i (mean_k grad F_i(y_ik) - grad F_i(b_i))
    + noise          sum_i q_i mean_k (g_ik - grad F_i(y_ik))
    + residual       local: what the members' updates are beyond their minibatch gradients
                     (a method's correction, proximal term, local momentum, compression,
                     rounding), and server: what an optimizer, a method, or an aggregator
                     that is not linear made of the updates

Drift is not zero where clients agree: with one client and full batches it is
mean_k grad F(y_k) - grad F(w), the curvature along the client's own walk. Gradients shrink while
training makes progress, so its inner product with grad F(w) is negative for any K > 1. Compare
it with other versions of the run, not with zero.

It telescopes, after ACE (arXiv 2511.19066), which has noise, participation and delay; the
step sizes may differ, and drift, the local and the server part are ours. A term whose inner
product with grad F(w) is positive helped to go down.

The classes are questions to an executor, see `simulation.executor.Question`: a worker
answers a whole block, and blocks are added up in order, so that sums do not depend on
workers. Sums are in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedray import rng
from fedray.learning import work as worker
from fedray.learning.job import Job
from fedray.learning.members import Group, Member
from fedray.learning.pooled import pooled_steps
from fedray.learning.work import EVAL_ROWS, Work, eval_pieces
from fedray.models.scoring import add_scores, metrics
from fedray.parts.local import Outcome
from fedray.parts.transforms import Sender
from fedray.types import Federation, Floats, Ints, Matrix, Score, Vector

TERMS = ("participation", "staleness", "drift", "noise", "residual")

PARTS = (*TERMS[:4], "local")
"""Rows of the sums over members; participation without its -grad F(w)."""


class Target(NamedTuple):
    """Part of a target gradient: sum p_i grad F_i (P,), and sum p_i |grad F_i|^2."""

    gradient: Floats
    squares: float


@dataclass(frozen=True)
class TargetBlock:
    """Asks for the part that some clients have in the gradient of F at w."""

    w: Vector
    clients: Ints
    p: Floats
    """Their weights in F."""
    examples: int

    def __call__(self, work: Work, federation: Federation) -> Target:
        total, squares = np.zeros(len(self.w)), 0.0
        gradient = np.empty_like(self.w)
        with np.errstate(all="ignore"):
            for client, p in zip(self.clients.tolist(), self.p.tolist(), strict=True):
                shard_gradient(work, self.w, *federation.shards.load(client), gradient)
                wide = gradient.astype(np.float64)
                total += p * wide
                squares += p * float(wide @ wide)
        return Target(total, squares)


@dataclass(frozen=True)
class HeldOutBlock:
    """Asks for the gradient of the test loss at w, summed over the samples of some pieces.

    The test loss has no regularisation in it, so neither has its gradient.
    """

    w: Vector
    pieces: Ints
    examples: int

    def __call__(self, work: Work, federation: Federation) -> Floats:
        total, gradient = np.zeros(len(self.w)), np.empty_like(self.w)
        model: Any = work.model
        if getattr(model, "l2", 0.0):
            model = replace(model, l2=0.0)
        with np.errstate(all="ignore"):
            for piece in self.pieces.tolist():
                rows = slice(piece * EVAL_ROWS, (piece + 1) * EVAL_ROWS)
                y = federation.y_test[rows]
                model.gradient(self.w, federation.X_test[rows], y, gradient)
                total += len(y) * gradient.astype(np.float64)
        return total


class Figures(NamedTuple):
    """What is known of each member of a block, arrays (B,).

    `dots` (B, 5) are the members' parts of the terms' inner products with grad F(w), and
    `test_effect` is the first-order effect of the weighted update on the test loss.
    Accuracy (regression: R^2) before and after training on the client's own shard, and of
    the client's model on the test set.
    """

    dots: Matrix
    test_effect: Floats
    accuracy_before: Floats
    accuracy_after: Floats
    test_accuracy: Floats


@dataclass(frozen=True)
class MemberBlock:
    """Asks for the parts of some members: sums (5, P), see PARTS, and Figures."""

    group: Group
    members: Sequence[Member]
    examples: int
    score: bool = True
    """False: models are not scored, accuracies are NaN."""

    def __call__(self, work: Work, federation: Federation) -> tuple[Matrix, Figures]:
        sums = np.zeros((len(PARTS), len(self.group.w)))
        figures = []
        with np.errstate(all="ignore"):
            for member in self.members:
                parts, own = self._member(work, federation, member)
                sums += parts
                figures.append(own)
        return sums, Figures(*(np.array(column) for column in zip(*figures, strict=True)))

    def _member(
        self, work: Work, federation: Federation, member: Member
    ) -> tuple[Matrix, tuple[Any, ...]]:
        group, q = self.group, member.q
        base = group.bases[member.base_version]
        X, y = federation.shards.load(member.client)
        walk = Walk(work, base, X, y, watched=member.walk > 0)
        trained, sent = walk.run(member, group)
        here = walk.start
        if member.base_version != group.version:
            here = np.empty_like(base)
            shard_gradient(work, group.w, X, y, here)
        wide, start = here.astype(np.float64), walk.start.astype(np.float64)
        update, back = sent.copy(), np.zeros(len(base))
        if group.mixing:  # added up as the server does it, in the same precision
            update += base - group.w
            back += base
            back -= group.w
        counted = update.astype(np.float64)
        raw = walk.minibatch / trained.steps
        drift = member.walk * (walk.shard / trained.steps - start) if member.walk else 0.0
        parts = np.empty((len(PARTS), len(base)))
        parts[0] = q * wide
        parts[1] = q * (start - wide) - (member.weight / group.scale) * back
        parts[2] = q * drift
        parts[3] = q * (raw - start - drift)
        parts[4] = -(member.weight / group.scale) * (counted - back) - q * raw
        dots = parts @ group.gradient
        dots[0] = (q - member.p) * float(wide @ group.gradient)
        effect = group.server_lr * member.weight * float(counted @ group.test_gradient)
        before = after = tested = np.nan
        if self.score:
            before, after = (accuracy(work.model.score(w, X, y)) for w in (base, trained.w))
            tested = accuracy(everyone(work, federation, trained.w)) if member.walk else np.nan
        return parts, (dots, effect, before, after, tested)


class Walk:
    """A job done again, with the gradients that it saw and, if `watched`, those of its shard.

    `start` (P,) is grad F_i at the base; `minibatch` and `shard` (P,) are the sums of
    g_ik and of grad F_i(y_ik) over the steps.
    """

    def __init__(
        self, work: Work, base: Vector, X: Matrix, y: NDArray[Any], *, watched: bool
    ) -> None:
        self._work, self._base, self._X, self._y = work, base, X, y
        self.start, self._scratch = np.empty_like(base), np.empty_like(base)
        shard_gradient(work, base, X, y, self.start)
        self.minibatch = np.zeros(len(base))
        size = work.client.batch_size
        whole = size == "full" or size >= len(y)
        # A minibatch that is the shard has the shard's gradient, in the same bits.
        self.shard = self.minibatch if whole else np.zeros(len(base))
        self._extra = watched and not whole
        self._first = True

    def run(self, member: Member, group: Group) -> tuple[Outcome, Vector]:
        """Trains as the client did; to be called once. Also the update as it was sent (P,)."""
        work, version = self._work, member.base_version
        job = Job(
            work.model, work.client_of(member.dispatch), self._base, self._X, self._y,
            work.client.lr * work.client.lr_decay**version,
            rng.generator(work.seed, rng.Stream.TRAIN, member.client, member.dispatch),
            broadcast=group.extras.get(version, ()), state=group.states.get(member.dispatch),
            vectors=work.state_vectors, watch=self._see, initial=work.initial,
        )  # fmt: skip
        trained = work.method.train(job)
        update = trained.w - (self._base if trained.start is None else trained.start)
        if work.transforms:
            sender = Sender(member.client, member.dispatch, version, work.seed)
            uploads = np.empty((work.method.uploads, len(update)), update.dtype)
            after = np.empty((work.state_vectors, len(update)), update.dtype)
            worker.send(work, job, trained, update, sender, uploads, after)
        return trained, update

    def _see(self, w: Vector, gradient: Vector) -> None:
        self.minibatch += gradient
        if self._extra:
            if self._first:
                self.shard += self.start
            else:
                shard_gradient(self._work, w, self._X, self._y, self._scratch)
                self.shard += self._scratch
            self._first = False


@dataclass(frozen=True)
class PooledBlock:
    """Asks for the pooled companion: its next model (P,), and that model's test score.

    `stretches` are (steps, step size, version) of the versions made since the last one.
    """

    w: Vector
    stretches: Sequence[tuple[int, float, int]]
    examples: int

    def __call__(self, work: Work, federation: Federation) -> tuple[Vector, Score]:
        w = self.w
        for steps, lr, version in self.stretches:
            w = pooled_steps(work, federation, w, steps, lr, version)
        return w, everyone(work, federation, w)


def shard_gradient(work: Work, w: Vector, X: Matrix, y: NDArray[Any], out: Vector) -> None:
    """Writes grad F_i(w) into out (P,): mean loss on the shard + weight_decay / 2 |w|^2."""
    model: Any = work.model
    model.gradient(w, X, y, out)
    if work.client.weight_decay:
        out += work.client.weight_decay * w


def everyone(work: Work, federation: Federation, w: Vector) -> Score:
    """The score of a model on the whole test set."""
    pieces = np.arange(eval_pieces(len(federation.y_test)))
    return add_scores(worker.evaluate(work, w, federation.X_test, federation.y_test, pieces))


def accuracy(score: Score) -> float:
    """Accuracy, or R^2 for a regression."""
    found = metrics(score)
    value = found.r2 if found.accuracy is None else found.accuracy
    return float("nan") if value is None else value
