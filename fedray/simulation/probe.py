"""Looks into versions as they are made: the decomposition of their steps, and a companion.

Everything that costs is asked of the executor and answered while the run goes on: the
gradients at the old model right after a version is made (`made`), the members one version
later (`look`), and the figures when the version is recorded (`finish`). The mathematics is
in `learning.decomposition`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedray.learning import decomposition
from fedray.learning.decomposition import TERMS, Figures
from fedray.learning.local import local_steps
from fedray.learning.members import Member, group_of, members_of, target_weights, walk_weights
from fedray.learning.pooled import batch_size
from fedray.learning.work import EVAL_ROWS, eval_pieces
from fedray.simulation.events import Job
from fedray.simulation.executor import Executor
from fedray.simulation.plan import Plan
from fedray.simulation.step import Step
from fedray.types import Floats, Ints, Matrix, Metrics, Vector

CLIENTS_PER_BLOCK = 64
MEMBERS_PER_BLOCK = 8
PIECES_PER_BLOCK = 4
"""Fixed: what a worker adds up by itself, so that sums do not depend on workers."""


@dataclass
class _Look:
    """A version that is being looked into."""

    version: int
    before: Vector
    after: Vector
    jobs: list[Job]
    bases: Mapping[int, Vector]
    weights: Floats
    """(M,): what the updates counted."""
    steps: Ints
    extras: Mapping[int, tuple[Vector, ...]]
    states: Mapping[int, Matrix]
    update: Floats = field(default_factory=lambda: np.empty(0))
    """U (P,): the weighted updates, as a direction."""
    target: Floats = field(default_factory=lambda: np.empty(0))
    """grad F at `before`."""
    squares: float = 0.0
    members: list[Member] = field(default_factory=list)
    scale: float = 0.0
    test_gradient: Floats = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class Findings:
    """Columns for `rounds`, and a table's worth of rows for `decomposition`."""

    round: dict[str, Any]
    members: dict[str, list[Any]]


class Probe:
    """Looks into every `diagnosis.decompose`-th version.

    `companion` is the model trained on the pooled data, None without `diagnosis.pooled`;
    it and `stretches`, what it has yet to catch up with, belong into checkpoints.
    """

    def __init__(self, plan: Plan, executor: Executor, test_samples: int) -> None:
        config = plan.config.diagnosis
        assert config.decompose != "off"
        self._plan, self._executor, self._every = plan, executor, config.decompose
        self._drawn = None if config.clients == "all" else config.clients
        self._test_samples = test_samples
        self._looks: dict[int, _Look] = {}
        self.companion = plan.initial() if config.pooled else None
        self.stretches: list[tuple[int, float, int]] = []
        self._followed: int | None = None
        """The version whose companion is being trained."""
        self._pooled: dict[int, tuple[Vector, float, float]] = {}

    def due(self, version: int) -> bool:
        """Whether this version is looked into."""
        return version > 0 and version % self._every == 0

    def restore(self, companion: Vector | None, stretches: list[tuple[int, float, int]]) -> None:
        """Takes up what a checkpoint kept."""
        self.companion, self.stretches = companion, stretches

    # --- when a version is made ---------------------------------------------------------

    def made(
        self, version: int, jobs: Sequence[Job], step: Step, before: Vector, after: Vector,
        versions: Mapping[int, Vector], extras: Mapping[int, tuple[Vector, ...]],
        states: Mapping[int, Matrix],
    ) -> None:  # fmt: skip
        """Takes note of a version; asks for the gradients at the old model where it is due."""
        steps = step.results.steps[step.accepted]
        if self.companion is not None:
            lr = self._lr(version - 1)
            self.stretches.append((int(steps.sum()), lr, version - 1))
        if not self.due(version):
            return
        kept = [job for job, ok in zip(jobs, step.accepted.tolist(), strict=True) if ok]
        bases = {job.base_version: versions[job.base_version] for job in kept}
        weights = step.weights[step.accepted]
        sent = {v: extras[v] for v in bases if v in extras}
        look = _Look(version, before, after, kept, bases, weights, steps, sent, states)
        self._looks[version] = look
        sizes = self._plan.sizes
        p = target_weights(sizes, self._drawn, self._plan.config.seed, version)
        self._set_out(look, p)
        clients = np.flatnonzero(p)
        targets = [
            decomposition.TargetBlock(before, block, p[block], int(sizes[block].sum()))
            for block in _blocks(clients, CLIENTS_PER_BLOCK)
        ]
        self._executor.ask(("target", version), targets)
        held_out = [
            decomposition.HeldOutBlock(before, block, len(block) * EVAL_ROWS)
            for block in _blocks(np.arange(eval_pieces(self._test_samples)), PIECES_PER_BLOCK)
        ]
        self._executor.ask(("test", version), held_out)

    def _set_out(self, look: _Look, p: Floats) -> None:
        """Shares of the members, once it is known what each of them counts."""
        config = self._plan.config
        walks = walk_weights(len(look.jobs), self._drawn, config.seed, look.version)
        look.members, look.scale = members_of(
            look.jobs, look.weights, look.steps, config.client, p, walks
        )

    def _lr(self, version: int) -> float:
        client = self._plan.config.client
        return client.lr * client.lr_decay**version

    # --- one version later --------------------------------------------------------------

    def look(self, version: int, step: Step) -> None:
        """Collects the gradients and asks what each member had to do with them."""
        look = self._looks.get(version)
        if look is None:
            return
        if self.companion is not None:
            self._follow(look.version)
        targets = self._executor.answers(("target", version))
        look.target = _sum([part.gradient for part in targets])
        look.squares = float(sum(part.squares for part in targets))
        look.test_gradient = _sum(self._executor.answers(("test", version))) / self._test_samples
        if not look.members:
            self._executor.flush()
            return
        look.update = -_weighted(look.weights, np.asarray(step.vectors)) / look.scale
        group = group_of(
            look.before, look.bases, version - 1, look.target, look.test_gradient, look.scale,
            self._plan.config.server,
        )._replace(extras=look.extras)  # fmt: skip
        blocks = [
            decomposition.MemberBlock(
                group._replace(states=_of(block, look.states)), block, self._examples(block)
            )
            for block in _blocks(look.members, MEMBERS_PER_BLOCK)
        ]
        self._executor.ask(("members", version), blocks)
        self._executor.flush()

    def _examples(self, members: Sequence[Member]) -> int:
        """About how many samples a block goes through."""
        client, total = self._plan.config.client, 0.0
        for member in members:
            n = int(self._plan.sizes[member.client])
            walked = local_steps(client, n) if member.walk else client.epochs
            total += n * (4 + walked) + (self._test_samples if member.walk else 0)
        return int(total)

    # --- the companion ------------------------------------------------------------------

    def _follow(self, version: int) -> None:
        """Sends the companion as far as the run has come."""
        self._catch()
        assert self.companion is not None
        size = batch_size(self._plan.config.client, self._plan.sizes)
        steps = sum(stretch[0] for stretch in self.stretches)
        asked = decomposition.PooledBlock(
            self.companion, self.stretches, steps * size + self._test_samples
        )
        self._executor.ask(("pooled", version), [asked])
        self.stretches, self._followed = [], version

    def _catch(self) -> None:
        """Waits for the companion, if it is on its way."""
        if self._followed is None:
            return
        version, self._followed = self._followed, None
        self.companion, score = self._executor.answers(("pooled", version))[0]
        found = decomposition.accuracy(score)
        self._pooled[version] = (self.companion, found, score.loss_sum / score.samples)

    # --- when a version is recorded -----------------------------------------------------

    def finish(self, version: int, scores: Metrics | None) -> Findings | None:
        """All figures of a version that is due; `scores` are its own test scores, if any."""
        look = self._looks.pop(version, None)
        if look is None:
            return None
        norm = _norm(look.target)
        row: dict[str, Any] = {
            "gradient_norm": norm,
            "gradient_dissimilarity": _ratio(look.squares, norm**2),
        }
        if self.companion is not None:
            self._catch()
            w, found, loss = self._pooled.pop(version)
            distance = _norm(np.subtract(look.after, w, dtype=np.float64))
            row |= {"divergence": _ratio(distance, _norm(w.astype(np.float64)))}
            row |= {"pooled_accuracy": found, "pooled_loss": loss}
        if not look.members:
            return Findings(row, {})
        answers = self._executor.answers(("members", version))
        figures = Figures(*map(np.concatenate, zip(*(f for _, f in answers), strict=True)))
        parts = _sum([sums for sums, _ in answers])
        moved = np.subtract(look.after, look.before, dtype=np.float64)
        server = self._terms(look, parts, moved, row)
        self._accuracies(look, figures, scores, row)
        return Findings(row, self._members(look, figures, row, server, moved))

    def _terms(self, look: _Look, parts: Floats, moved: Floats, row: dict[str, Any]) -> float:
        """Writes norms and inner products; returns the server's part of the residual's."""
        c = self._plan.config.server.optimizer.lr * look.scale
        v, gradient = -moved / c, look.target
        parts[0] -= gradient
        local, server = parts[4], v - look.update
        terms = {**dict(zip(TERMS, parts[:4], strict=False)), "residual": local + server}
        row |= {
            "direction_norm": _norm(v),
            "direction_dot": float(v @ gradient),
            "step_size": c,
            "local_norm": _norm(local),
            "server_norm": _norm(server),
        }
        with np.errstate(all="ignore"):
            for name, term in terms.items():
                row |= {f"{name}_norm": _norm(term), f"{name}_dot": float(term @ gradient)}
            wrong = v - gradient
            missing = _norm(wrong - np.add.reduce(list(terms.values())))
        row["identity_error"] = _ratio(missing, _norm(wrong))
        return float(server @ gradient)

    def _accuracies(
        self,
        look: _Look,
        figures: Figures,
        scores: Metrics | None,
        row: dict[str, Any],
    ) -> None:
        weights, seen = look.weights, np.array([member.walk > 0 for member in look.members])
        tested = float(np.average(figures.test_accuracy[seen], weights=weights[seen]))
        row |= {
            "accuracy_before": float(np.average(figures.accuracy_before, weights=weights)),
            "accuracy_after": float(np.average(figures.accuracy_after, weights=weights)),
            "client_accuracy": tested,
        }
        if scores is not None:
            own = scores.r2 if scores.accuracy is None else scores.accuracy
            assert own is not None
            row["aggregation_gap"] = tested - own

    def _members(
        self, look: _Look, figures: Figures, row: Mapping[str, Any], server: float,
        moved: Floats,
    ) -> dict[str, list[Any]]:  # fmt: skip
        """A row per member, and one for the clients that were not there and the server."""
        members, count = look.members, len(look.members)
        effect = float(moved @ look.test_gradient)
        rest = [row[f"{name}_dot"] for name in TERMS] - figures.dots.sum(axis=0)
        rest[1:] = 0.0  # but for the first term, members have it all
        rest[4] = server
        dots = np.vstack((figures.dots, rest))
        columns: dict[str, list[Any]] = {
            "version": [look.version] * (count + 1),
            "client": [*(m.client for m in members), None],
            "dispatch": [*(m.dispatch for m in members), None],
            "staleness": [*(look.version - 1 - m.base_version for m in members), None],
            "q": [*(m.q for m in members), 0.0],
            "p": [*(m.p for m in members), max(0.0, 1.0 - sum(m.p for m in members))],
            "test_effect": [*figures.test_effect.tolist(), effect - figures.test_effect.sum()],
        }
        columns |= {f"{n}_dot": dots[:, i].tolist() for i, n in enumerate(TERMS)}
        for name in ("accuracy_before", "accuracy_after", "test_accuracy"):
            found = getattr(figures, name).tolist()
            columns[name] = [*(None if np.isnan(value) else value for value in found), None]
        return columns


def _blocks(items: Any, size: int) -> list[Any]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _of(members: Sequence[Member], states: Mapping[int, Matrix]) -> dict[int, Matrix]:
    """What these members remembered before."""
    return {m.dispatch: states[m.dispatch] for m in members if m.dispatch in states}


def _sum(parts: Sequence[Floats]) -> Floats:
    """The sum in the order given, whoever worked the parts out."""
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total


def _weighted(weights: Floats, vectors: Any) -> Floats:
    """sum_i weights_i vectors_i in float64."""
    total = np.zeros(vectors.shape[1])
    for weight, vector in zip(weights.tolist(), vectors, strict=True):
        total += weight * vector.astype(np.float64)
    return total


def _norm(vector: Floats) -> float:
    with np.errstate(all="ignore"):
        return float(np.sqrt(vector @ vector))


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
