"""The server's learning rule: from a group of updates to the next version."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from functools import partial
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from fedray.config import schema
from fedray.learning.optimizers import OPTIMIZERS, State
from fedray.learning.weights import shares, staleness_factor
from fedray.learning.work import Results
from fedray.parts import summation
from fedray.parts.aggregators.mean import Mean
from fedray.parts.arrivals import Arrivals, Combined, Memory, PerClient, ServerView
from fedray.parts.methods.plain import Plain
from fedray.parts.quality.base import reweighed
from fedray.parts.secure.bonawitz import Bonawitz
from fedray.simulation.checkpoint import Snapshot
from fedray.simulation.downlink import sent
from fedray.simulation.events import Job
from fedray.simulation.frequencies import frequency, per_version
from fedray.simulation.guard import Guard, silenced
from fedray.simulation.plan import Plan
from fedray.simulation.policies import staleness
from fedray.simulation.vault import Vault
from fedray.types import Floats, Ints, Matrix, Vector


class Step(NamedTuple):
    """How one version came about: what the flight recorder needs, kept until it has time.

    Arrays are (K,) over the group, in order of arrival; `vectors` (A, P) are the
    accepted updates as they were averaged and `accepted` (K,) says which those are.
    """

    staleness: Ints
    examples: Ints
    weights: Floats
    accepted: NDArray[np.bool_]
    vectors: Matrix
    lengths: Floats
    """(A,): norms of `vectors`."""
    update: Vector
    results: Results
    clients: Ints
    """(A,)"""
    bound: float | None = None
    """C: no user's updates were longer, where that is looked after."""


class GlobalModel:
    """The newest version, what the server remembers, and every version still in use."""

    def __init__(
        self, plan: Plan, w: Vector, version: int = 0, *, optimizer: State | None = None,
        versions: Mapping[int, Vector] | None = None, table: PerClient | None = None,
    ) -> None:  # fmt: skip
        self.config, self.w, self.version = plan.config.server, w, version
        self.method, self._client = plan.work.method, plan.config.client
        self._stays = plan.work.kept
        self._sizes, self._seed = plan.sizes, plan.config.seed
        self._p = plan.sizes / plan.sizes.sum()
        self._buffer = per_version(plan)
        self._frequency = frequency(plan) if self.method.needs_frequency else np.empty(0)
        self._cohort, self._attackers = plan.cohort, plan.work.attackers
        self.optimizer: State = optimizer or {}
        self.memory: Memory = self.method.start(plan.work.model, plan.config.seed)
        """What the method remembers."""
        self.pool: Memory = {}
        """What the aggregator remembers."""
        self._table = table
        self._wire = plan.config.compression
        central = plan.privacy is not None and plan.privacy.kind == "central"
        self._guard = Guard(plan.config, plan.privacy) if plan.privacy and central else None
        secure = plan.config.secure_aggregation
        self._vault = Vault(secure, self._seed) if isinstance(secure, Bonawitz) else None
        self.versions: dict[int, Vector] = dict(versions or {})
        self.extras: dict[int, tuple[Vector, ...]] = {}
        """What a method sends with every version still in use."""
        self._publish()

    def apply(
        self, jobs: Sequence[Job], results: Results, examples: Ints, scores: Floats | None = None,
        gone: Sequence[Job] = (),
    ) -> Step:  # fmt: skip
        """Makes the next version from a group of finished jobs, which may have `scores` (K,).

        Sync and buffered: w <- opt(w, sum_i s(tau_i) q_i delta_i) with q the shares of
        the group (1/K, or by examples). Async (FedAsync, Xie et al. 2019, algorithm 1):
        w <- opt(w, a (w_i - w)) with a = mixing s(tau), so with the plain optimizer
        w <- (1 - a) w + a w_i. A method may make something else of the updates. Updates that
        are not finite are left out; a group with none left makes a version equal to the one
        before. With central privacy updates are cut, and every version is noised. With secure
        aggregation their sum is unmasked, unless too many of the cohort are `gone`.
        """
        if not self._sums_only:
            results = results._replace(deltas=np.asarray(results.deltas))
        results = self.colluded(jobs, results)
        if self._vault and self._guard:
            results = silenced(results)
        ages = np.array([staleness(job, self.version) for job in jobs], np.int64)
        weights, update = np.zeros(len(jobs)), np.zeros_like(self.w)
        guard = self._guard
        bound = guard.bound if guard else None
        kept, lengths, accepted, given_up = self._admitted(jobs, results, gone)
        if accepted.any():
            walks = kept
            if isinstance(self.config.schedule, schema.AsyncSchedule):
                kept = self._from_here(kept, jobs, accepted)
                lengths = np.linalg.norm(kept, axis=1).astype(np.float64)
            arrivals = self._arrivals(jobs, results, examples, ages, accepted, scores)
            arrivals = arrivals._replace(updates=kept, norms=lengths, walks=walks)
            found = self.method.combine(arrivals, self._view(), self.memory)
            update, weights[accepted], self.memory = found
        if guard and not given_up:
            update = guard.release(update, len(kept), self.version + 1)
            weights *= guard.share(len(kept))
            if self._stays is not None:
                update[self._stays] = 0.0  # noise on what never travels would be a move
        if (guard and not given_up) or accepted.any():
            self.move(update)
        self.version += 1
        self._publish()
        clients = _clients(jobs)[accepted]
        return Step(
            ages, examples, weights, accepted, kept, lengths, update, results, clients, bound
        )

    @property
    def _sums_suffice(self) -> bool:
        """Whether sums of the updates, cut or not, are all that a version is made from."""
        sums = isinstance(self.method, Plain) and isinstance(self.config.aggregator, Mean)
        mixes = isinstance(self.config.schedule, schema.AsyncSchedule)
        return sums and not mixes and self._vault is None

    @property
    def _sums_only(self) -> bool:
        """Whether nobody else looks at the updates either, so that they may stay elsewhere."""
        looks = self._attackers is not None or self._guard is not None
        return self._sums_suffice and not self.config.quality.active and not looks

    def _admitted(
        self, jobs: Sequence[Job], results: Results, gone: Sequence[Job]
    ) -> tuple[Matrix, Floats, NDArray[np.bool_], bool]:
        """The updates (A, P) that count and their lengths, which of all they are, and whether the
        version is given up: the finite ones, cut for privacy, as secure aggregation sums them."""
        accepted = np.isfinite(results.norm)
        kept = results.deltas if accepted.all() else results.deltas[accepted]
        lengths, given_up = results.norm[accepted], False
        if self._guard:
            cut, lengths = self._guard.cut(kept, _clients(jobs)[accepted])
            kept = cast(Matrix, cut)
        if not self._sums_suffice:
            kept = np.asarray(kept)
        if self._vault:
            admitted = self._vault.admitted(kept, jobs, accepted, gone, self.version)
            kept, accepted, given_up = admitted
            lengths = np.linalg.norm(kept, axis=1).astype(np.float64)
        return kept, lengths, accepted, given_up

    def colluded(self, jobs: Sequence[Job], results: Results) -> Results:
        """With an omniscient attack, its updates in the place of the malicious clients' own.

        Where a group has no honest update, there is nothing to see, and it stays as it is.
        """
        crew = self._attackers
        if crew is None or not crew.attack.omniscient or not jobs:
            return results
        malicious = crew.among(_clients(jobs))
        honest = ~malicious & np.isfinite(results.norm)
        if not malicious.any() or not honest.any():
            return results
        deltas, norm = results.deltas.copy(), results.norm.copy()
        sent = crew.attack.collude(deltas[honest], int(malicious.sum()))
        deltas[malicious], norm[malicious] = sent, np.sqrt(np.dot(sent, sent))
        return results._replace(deltas=deltas, norm=norm)

    def _arrivals(
        self, jobs: Sequence[Job], results: Results, examples: Ints, ages: Ints,
        accepted: NDArray[np.bool_], scores: Floats | None = None,
    ) -> Arrivals:  # fmt: skip
        """All but the vectors themselves."""
        of = examples[accepted]
        worth = None if scores is None else scores[accepted]
        client, method = self._client, self.method
        bases = np.array([job.base_version for job in jobs])[accepted]
        more = results.uploads if accepted.all() else results.uploads[accepted]
        return Arrivals(
            updates=results.deltas[:0],
            weights=self.weigh(ages[accepted], of, worth),
            clients=_clients(jobs)[accepted],
            staleness=ages[accepted],
            examples=of,
            steps=results.steps[accepted],
            lr=client.lr * np.power(client.lr_decay, bases),
            losses=results.loss_before[accepted],
            uploads=tuple(more[:, i] for i in range(method.uploads)),
            shares=self.shares(of, worth),
            labels=results.labels[accepted],
            version=self.version + 1,
            seed=self._seed,
        )

    def _view(self) -> ServerView:
        schedule = self.config.schedule
        return ServerView(
            w=self.w,
            clients=len(self._sizes),
            p=self._p,
            average=self._average,
            table=self._table,
            frequency=self._frequency,
            buffer=self._buffer,
            concurrency=getattr(schedule, "concurrency", self._cohort),
            server_lr=self.config.optimizer.lr,
            linear=self.config.aggregator.linear,
            momentum=self._client.momentum,
            prox_mu=self._client.prox_mu,
            cohort_gradient=self._gradient(),
        )

    def _average(self, arrivals: Arrivals) -> Combined:
        """The aggregator's result; what it remembers stays here."""
        if self._vault:
            mean = self._vault.mean(len(arrivals.updates), arrivals.updates.dtype)
            return Combined(mean, arrivals.weights)
        found = self.config.aggregator.combine(arrivals, self.pool)
        self.pool = found.memory
        return Combined(found.update, found.weights)

    def shares(self, examples: Ints, scores: Floats | None = None) -> Floats:
        """Shares of a group, (K,), which sum to 1: of its examples, or equal; by quality."""
        found = shares(self.config.weighting, examples)
        return found if scores is None else reweighed(found, scores, self.config.quality.gamma)

    def weigh(self, ages: Ints, examples: Ints, scores: Floats | None = None) -> Floats:
        """What each update of a group counts, (K,), before the aggregator has its say."""
        schedule = self.config.schedule
        weights = self.shares(examples, scores)
        if isinstance(schedule, schema.AsyncSchedule):
            weights *= schedule.mixing
        return weights * staleness_factor(schedule.staleness_weight, ages)

    def average(self, updates: Matrix, weights: Floats, clients: Ints) -> tuple[Vector, Floats]:
        """The aggregate (P,) of any vectors (K, P), and what each of them weighed in it."""
        none = np.zeros(len(clients), np.int64)
        arrivals = Arrivals(
            updates, weights, clients, none, none, none, np.zeros(len(clients)),
            np.full(len(clients), np.nan), shares=weights, version=self.version + 1,
            seed=self._seed,
        )  # fmt: skip
        found = self.config.aggregator.combine(arrivals, self.pool)
        return found.update, found.weights

    def move(self, update: Vector) -> None:
        """Lets the optimizer take the aggregated update (P,) in."""
        self.w, self.optimizer = self.moved(update)

    def moved(self, update: Vector) -> tuple[Vector, State]:
        """Where `move` would lead: parameters and the optimizer's memory."""
        step = OPTIMIZERS[type(self.config.optimizer)]
        return step(self.config.optimizer, self.w, update, self.optimizer)

    @property
    def readout(self) -> Vector:
        """The model that is evaluated, and kept at the end."""
        return self.method.readout(self.w, self.memory)

    @property
    def others(self) -> Mapping[str, Vector]:
        """Models that are kept beside that one, by name."""
        return self.method.others(self.w, self.memory)

    def _publish(self) -> None:
        """What clients are sent from now on; the newest version as they decode it."""
        before = self.versions.get(self.version - 1)
        send = partial(sent, self._wire, seed=self._seed, version=self.version)
        self.versions[self.version] = send(self.w, before=before)
        if self.method.broadcasts:
            more = self.method.broadcast(self.w, self.memory)
            self.extras[self.version] = tuple(
                send(vector, place=place) for place, vector in enumerate(more, 1)
            )

    @property
    def wants_gradient(self) -> bool:
        """Whether something is still missing of what is sent with the newest model."""
        return self.method.cohort_gradient and self._gradient() is None

    def attach(self, gradient: Vector) -> None:
        """What the cohort's mean gradient (P,) at the newest model is."""
        self.extras[self.version] = (*self.extras[self.version], gradient)

    def _gradient(self) -> Vector | None:
        sent = self.extras.get(self.version, ())
        complete = self.method.cohort_gradient and len(sent) == self.method.broadcasts
        return sent[-1] if complete else None

    def rule(self) -> dict[str, Vector]:
        """All that the server's rules remember, for a checkpoint."""
        guard = self._guard.memory if self._guard else {}
        named = {"method": self.memory, "aggregator": self.pool, "privacy": guard}
        return {f"{part}.{n}": v for part, memory in named.items() for n, v in memory.items()}

    def restore(self, snapshot: Snapshot) -> None:
        """Goes on from a checkpoint."""
        self.version, self.w = snapshot.version, snapshot.w
        self.versions = {snapshot.version: snapshot.w, **snapshot.versions}
        self.extras, self.optimizer = dict(snapshot.extras), snapshot.optimizer

        def of(part: str) -> Memory:
            prefix = f"{part}."
            return {
                k.removeprefix(prefix): v for k, v in snapshot.rule.items() if k.startswith(prefix)
            }

        self.memory, self.pool = of("method"), of("aggregator")
        if self._guard:
            self._guard.memory = of("privacy")

    def _from_here(
        self, deltas: Matrix, jobs: Sequence[Job], accepted: NDArray[np.bool_]
    ) -> Matrix:
        """Clients' own models minus the newest version, instead of minus their base."""
        bases = [self.versions[job.base_version] for job in jobs]
        return np.stack(
            [
                delta + (base - self.w)
                for delta, base in zip(
                    deltas, (b for b, ok in zip(bases, accepted, strict=True) if ok), strict=True
                )
            ]
        )

    def keep(self, bases: Container[int]) -> None:
        """Drops all versions but the newest and those that jobs in flight started from."""
        for old in [v for v in self.versions if v not in bases and v != self.version]:
            del self.versions[old]
            self.extras.pop(old, None)


def _clients(jobs: Sequence[Job]) -> Ints:
    return np.array([job.client for job in jobs], np.int64)


def describe(step: Step) -> Mapping[str, object]:
    """Figures of one step, for the tables. Vectors are d_i, weights a_i, update d.

    cosine_i = d_i.d / |d_i||d|; cancellation = |sum a_i d_i| / sum a_i |d_i| (1: all
    pull the same way, 1/sqrt(K): orthogonal, 0: they cancel out);
    n_effective = (sum a_i)^2 / sum a_i^2; drift = mean |w_i - w_downloaded|.
    With c the mean cosine between two of M updates, dilution_law = sqrt((1 + (M - 1) c) / M)
    is what cancellation comes to for equally long and equally weighted ones.
    """
    norms = step.lengths
    length = float(np.sqrt(np.dot(step.update, step.update)))
    weights = step.weights[step.accepted]
    with np.errstate(all="ignore"):
        cosines = summation.dots(step.vectors, step.update) / (norms * length)
        pull = float(weights @ norms)
        cancellation = length / pull if pull else float("nan")
        n_effective = float(weights.sum() ** 2 / (weights @ weights)) if len(weights) else 0.0
    cosine = np.full(len(step.accepted), np.nan)
    cosine[step.accepted] = cosines
    some = len(weights) > 0
    return {
        "cosine": cosine,
        "update_norm": length,
        "cancellation": cancellation if some else None,
        "cosine_mean": float(cosines.mean()) if some and length else None,
        "n_effective": n_effective,
        **_pairwise(step),
        "clip_norm": step.bound,
        "drift_mean": float(step.results.norm[step.accepted].mean()) if some else None,
    }


def _pairwise(step: Step) -> dict[str, float | None]:
    """Mean cosine over pairs of updates, from the length of the sum of their directions."""
    moving = step.lengths > 0
    count = int(np.count_nonzero(moving))
    if count < 2:
        return {"cosine_pairwise": None, "dilution_law": None}
    inverse = np.divide(1.0, step.lengths, out=np.zeros(len(moving)), where=moving)
    total = summation.total(step.vectors, inverse, step.clients)
    squared = float(np.dot(total, total))
    return {
        "cosine_pairwise": (squared - count) / (count * (count - 1)),
        "dilution_law": math.sqrt(squared) / count,
    }
