"""What updates are worth: asked of the workers, applied as weights, and kept for the audit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.learning import work as worker
from fedray.learning.weights import staleness_factor
from fedray.learning.work import Results, Work
from fedray.models.scoring import add_scores, metrics
from fedray.parts import summation
from fedray.parts.quality.base import Subset, Verdict
from fedray.simulation.events import Aggregate, Job, clients_of
from fedray.simulation.executor import Executor
from fedray.simulation.plan import Plan
from fedray.simulation.policies import staleness
from fedray.simulation.server import GlobalModel
from fedray.simulation.step import Step
from fedray.types import Federation, Floats, Ints, Matrix, Vector

_MODELS = 4
"""Per question: few enough to spread over workers. Every model is scored on its own."""


@dataclass(frozen=True)
class Validate:
    """Models on the validation samples, one by one."""

    models: tuple[Vector, ...]
    samples: int

    @property
    def examples(self) -> int:
        return self.samples * len(self.models)

    def __call__(self, work: Work, federation: Federation) -> list[Verdict]:
        X, y = federation.X_validation, federation.y_validation
        assert X is not None
        assert y is not None
        pieces = np.arange(worker.eval_pieces(len(y)))
        found = [metrics(add_scores(worker.evaluate(work, w, X, y, pieces))) for w in self.models]
        return [
            Verdict(
                m.loss if math.isfinite(m.loss) else math.inf,
                math.nan if m.accuracy is None else m.accuracy,
            )
            for m in found
        ]


def whole(results: Results) -> Results:
    """With the updates themselves here, wherever they were made."""
    return results._replace(deltas=np.asarray(results.deltas))


class Judge:
    """Scores the updates of every version, and knows what the weights brought."""

    def __init__(self, plan: Plan, executor: Executor, model: GlobalModel, samples: int) -> None:
        self._plan, self._executor, self._model = plan, executor, model
        self._quality, self._samples = plan.config.server.quality, samples
        self._unweighted: Vector | None = None
        self._shares: Floats = np.empty(0)
        self._pending: dict[int, dict[str, Any]] = {}

    def scores(self, jobs: Sequence[Job], results: Results, examples: Ints) -> Floats:
        """Of a group that the next version is to be made from, (K,); NaN for who is left out.

        Notes what the version would be with all scores equal.
        """
        found, self._unweighted = np.full(len(jobs), math.nan), None
        results = self._model.gate.colluded(jobs, results)
        accepted = np.isfinite(results.norm)
        if accepted.any():
            bench = _Bench(self, jobs, results, examples, accepted)
            found[accepted] = self._quality.scores(bench)
            everybody = tuple(range(len(bench.shares)))
            self._unweighted, self._shares = bench.version_of(everybody), bench.shares
        return found

    def made(self, command: Aggregate, step: Step, scores: Floats) -> None:
        """The version is made: asks how much better it is than with all scores equal."""
        if self._unweighted is None:
            return
        kept = step.accepted
        jobs = [job for job, ok in zip(command.jobs, kept.tolist(), strict=True) if ok]
        weights = step.weights[kept]
        total = weights.sum()
        self._pending[command.version] = {
            "version": np.full(len(jobs), command.version),
            "client": [job.client for job in jobs],
            "dispatch": [job.dispatch for job in jobs],
            "examples": step.examples[kept],
            "staleness": step.staleness[kept],
            "score": scores[kept],
            "share_before": self._shares,
            "share_after": weights / total if total > 0 else weights,
        }
        self.ask(("bought", command.version), [self._model.w, self._unweighted])

    def rows(self, version: int) -> dict[str, Any] | None:
        """The audit of a version, as columns; None where it was made from nothing."""
        columns = self._pending.pop(version, None)
        if columns is None:
            return None
        with_it, without = self.answers(("bought", version))
        count = len(columns["client"])
        for name, verdict in (("", with_it), ("_unweighted", without)):
            columns[f"validation_loss{name}"] = np.full(count, verdict.loss)
            columns[f"validation_accuracy{name}"] = np.full(count, verdict.accuracy)
        return columns

    def ask(self, key: tuple[str, int], models: Sequence[Vector]) -> None:
        groups = [tuple(models[i : i + _MODELS]) for i in range(0, len(models), _MODELS)]
        self._executor.ask(key, [Validate(group, self._samples) for group in groups])

    def answers(self, key: tuple[str, int]) -> list[Verdict]:
        return [verdict for group in self._executor.answers(key) for verdict in group]


class _Bench:
    """One group: see `parts.quality.base.Bench`."""

    def __init__(
        self, judge: Judge, jobs: Sequence[Job], results: Results, examples: Ints,
        accepted: NDArray[np.bool_],
    ) -> None:  # fmt: skip
        self._judge, self._model = judge, judge._model
        plan = judge._plan
        self.classification, self.seed = plan.classification, plan.config.seed
        self.version = self._model.version + 1
        self._jobs = [job for job, ok in zip(jobs, accepted.tolist(), strict=True) if ok]
        self._clients = clients_of(self._jobs)
        self.updates: Matrix = results.deltas if accepted.all() else results.deltas[accepted]
        ages = np.array([staleness(job, self._model.version) for job in self._jobs], np.int64)
        self._factors = staleness_factor(plan.config.server.schedule.staleness_weight, ages)
        self._q = self._model.shares(examples[accepted])
        weights = self._q * self._factors
        self.shares = weights / weights.sum() if weights.sum() > 0 else self._q

    def own(self) -> list[Verdict]:
        versions = self._model.versions
        return self._asked(
            [
                versions[job.base_version] + delta
                for job, delta in zip(self._jobs, self.updates, strict=True)
            ]
        )

    def of(self, subsets: Sequence[Subset]) -> list[Verdict]:
        return self._asked([self.version_of(subset) for subset in subsets])

    def version_of(self, subset: Subset) -> Vector:
        """What the server would make of these updates, weighted without quality."""
        if not subset:
            return self._model.w
        places = list(subset)
        q = self._q[places]
        weights = np.zeros(len(self._q))
        weights[places] = q / q.sum() * self._factors[places]
        return self._model.moved(summation.total(self.updates, weights, self._clients))[0]

    def _asked(self, models: list[Vector]) -> list[Verdict]:
        key = ("worth", self.version)
        self._judge.ask(key, models)
        return self._judge.answers(key)
