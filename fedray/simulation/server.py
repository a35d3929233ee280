"""The server's learning rule: from a group of updates to the next version."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from functools import partial

import numpy as np

from fedray.config import schema
from fedray.learning.optimizers import OPTIMIZERS, State
from fedray.learning.weights import shares, staleness_factor
from fedray.learning.work import Results
from fedray.parts.aggregators.distances import lengths
from fedray.parts.aggregators.mean import Mean
from fedray.parts.arrivals import Arrivals, Combined, Memory, PerClient, ServerView
from fedray.parts.methods.plain import Plain
from fedray.parts.quality.base import reweighed
from fedray.simulation.checkpoint import Snapshot
from fedray.simulation.downlink import sent
from fedray.simulation.events import Job, clients_of
from fedray.simulation.frequencies import frequency, per_version
from fedray.simulation.gate import Admitted, Gate
from fedray.simulation.plan import Plan
from fedray.simulation.policies import staleness
from fedray.simulation.step import Step
from fedray.types import Floats, Ints, Matrix, Vector


class GlobalModel:
    """The newest version, what the server remembers, and every version still in use."""

    def __init__(
        self, plan: Plan, w: Vector, version: int = 0, *, optimizer: State | None = None,
        versions: Mapping[int, Vector] | None = None, table: PerClient | None = None,
    ) -> None:  # fmt: skip
        self.config, self.w, self.version = plan.config.server, w, version
        self.method, self._client = plan.work.method, plan.config.client
        self._sizes, self._seed = plan.sizes, plan.config.seed
        self._p = plan.sizes / plan.sizes.sum()
        self._buffer = per_version(plan)
        self._frequency = frequency(plan) if self.method.needs_frequency else np.empty(0)
        self._cohort, self.gate = plan.cohort, Gate(plan)
        self.optimizer: State = optimizer or {}
        self.memory: Memory = self.method.start(plan.work.model, plan.config.seed)
        """What the method remembers."""
        self.pool: Memory = {}
        """What the aggregator remembers."""
        self._table = table
        self._wire = plan.config.compression
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
        results = self.gate.seen(jobs, results)
        ages = np.array([staleness(job, self.version) for job in jobs], np.int64)
        weights, bound = np.zeros(len(jobs)), self.gate.bound
        admitted = self.gate.admitted(jobs, results, gone, self.version)
        if not self._sums_suffice:
            admitted = admitted._replace(vectors=np.asarray(admitted.vectors))
        vectors, norms, accepted, _ = admitted
        if accepted.any():
            arrivals = self._arrivals(jobs, results, examples, ages, admitted, scores)
            vectors, norms = arrivals.updates, arrivals.norms
            found = self.method.combine(arrivals, self._view(), self.memory)
            update, weights[accepted], self.memory = found
        else:
            update = np.zeros_like(self.w)
        update, weights, moves = self.gate.released(update, weights, admitted, self.version + 1)
        if moves:
            self.move(update)
        self.version += 1
        self._publish()
        clients = clients_of(jobs)[accepted]
        return Step(
            ages, examples, weights, accepted, vectors, norms, update, results, clients, bound
        )

    @property
    def _sums_suffice(self) -> bool:
        """Whether sums of the updates, cut or not, are all that a version is made from."""
        sums = isinstance(self.method, Plain) and isinstance(self.config.aggregator, Mean)
        mixes = isinstance(self.config.schedule, schema.AsyncSchedule)
        return sums and not mixes and self.gate.vault is None

    @property
    def _sums_only(self) -> bool:
        """Whether nobody else looks at the updates either, so that they may stay elsewhere."""
        return self._sums_suffice and not self.config.quality.active and self.gate.open

    def _arrivals(
        self, jobs: Sequence[Job], results: Results, examples: Ints, ages: Ints,
        admitted: Admitted, scores: Floats | None,
    ) -> Arrivals:  # fmt: skip
        """The admitted updates with all that is known of them; in mode async, as moves from the
        newest version."""
        walks, norms, accepted, _ = admitted
        of = examples[accepted]
        worth = None if scores is None else scores[accepted]
        client, method, updates = self._client, self.method, walks
        bases = np.array([job.base_version for job in jobs])[accepted]
        if isinstance(self.config.schedule, schema.AsyncSchedule):
            updates = self._from_here(walks, bases)
            norms = lengths(updates)
        more = results.uploads if accepted.all() else results.uploads[accepted]
        return Arrivals(
            updates=updates,
            weights=self.weigh(ages[accepted], of, worth),
            clients=clients_of(jobs)[accepted],
            staleness=ages[accepted],
            examples=of,
            steps=results.steps[accepted],
            lr=client.lr * np.power(client.lr_decay, bases),
            losses=results.loss_before[accepted],
            norms=norms,
            uploads=tuple(more[:, i] for i in range(method.uploads)),
            shares=self.shares(of, worth),
            labels=results.labels[accepted],
            walks=walks,
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
        if self.gate.vault:
            mean = self.gate.vault.mean(len(arrivals.updates), arrivals.updates.dtype)
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
        named = {"method": self.memory, "aggregator": self.pool, "privacy": self.gate.memory}
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
        self.gate.restore(of("privacy"))

    def _from_here(self, deltas: Matrix, bases: Ints) -> Matrix:
        """Clients' own models minus the newest version, instead of minus their base."""
        found = np.empty_like(deltas)
        for row, delta, base in zip(found, deltas, bases.tolist(), strict=True):
            np.subtract(self.versions[base], self.w, out=row)
            row += delta
        return found

    def keep(self, bases: Container[int]) -> None:
        """Drops all versions but the newest and those that jobs in flight started from."""
        for old in [v for v in self.versions if v not in bases and v != self.version]:
            del self.versions[old]
            self.extras.pop(old, None)
