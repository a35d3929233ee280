"""The questions of the decomposition: estimators without bias, walks without surprises."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from fedray import rng
from fedray.config import schema
from fedray.data.shards import ArrayShards
from fedray.learning import decomposition
from fedray.learning import work as worker
from fedray.learning.decomposition import HeldOutBlock, MemberBlock, TargetBlock
from fedray.learning.members import (
    Group,
    Member,
    group_of,
    members_of,
    target_weights,
    walk_weights,
)
from fedray.learning.work import Work
from fedray.models.softmax import SoftmaxModel
from fedray.simulation.events import Job
from fedray.types import Federation

SIZES = np.array([7, 20, 3, 40, 12])


@pytest.fixture
def federation() -> Federation:
    draw = np.random.default_rng(0)
    X, y = draw.normal(size=(82, 3)), draw.integers(0, 3, 82)
    shards = ArrayShards(X, y, np.concatenate(([0], np.cumsum(SIZES))))
    X_test, y_test = draw.normal(size=(2500, 3)), draw.integers(0, 3, 2500)
    return Federation(shards, X_test, y_test, ("a", "b", "c"), ("0", "1", "2"), None, None)


@pytest.fixture
def work() -> Work:
    model = SoftmaxModel(3, 3, l2=0.1, dtype=np.dtype(np.float64))
    client = schema.Client(epochs=2, batch_size=4, lr=0.2, momentum=0.5, weight_decay=0.05)
    return Work(model, client, seed=9, local_losses=False)


W = np.linspace(-0.5, 0.5, 12)


def block(walks: list[float], *, mixing: bool = False) -> MemberBlock:
    """Clients 0 to 3, of which 1 and 2 started from an older model."""
    bases = {4: W, 2: W[::-1].copy()}
    group = Group(W, bases, 4, np.cos(W), np.sin(W), 3.0, 1.0, mixing)
    members = [
        Member(c, 10 + c, 2 if c in (1, 2) else 4, 0.25, 0.2 + 0.1 * c, 0.2, walk)
        for c, walk in enumerate(walks)
    ]
    return MemberBlock(group, members, 1)


def test_the_target_of_all_clients_is_the_gradient_of_the_pooled_loss(federation, work) -> None:
    p = target_weights(SIZES, None, 0, 1)
    found = TargetBlock(W, np.arange(5), p, 1)(work, federation)
    expected = np.empty_like(W)
    shards: Any = federation.shards
    work.model.gradient(W, shards.X, shards.y, expected)  # type: ignore[attr-defined]
    np.testing.assert_allclose(found.gradient, expected + 0.05 * W, rtol=1e-12)
    each = [TargetBlock(W, np.array([c]), np.ones(1), 1)(work, federation) for c in range(5)]
    assert found.squares == pytest.approx(p @ [e.gradient @ e.gradient for e in each])


def test_the_test_gradient_is_that_of_the_test_loss_without_regularisation(
    federation, work
) -> None:
    total = HeldOutBlock(W, np.arange(3), 1)(work, federation)
    halves = HeldOutBlock(W, np.arange(2), 1)(work, federation)
    np.testing.assert_allclose(
        total, halves + HeldOutBlock(W, np.array([2]), 1)(work, federation), rtol=1e-12
    )
    for k, eps in ((0, 1e-6), (7, 1e-6)):
        ahead, behind = W.copy(), W.copy()
        ahead[k] += eps
        behind[k] -= eps
        up, down = (
            work.model.score(w, federation.X_test, federation.y_test).loss_sum
            for w in (ahead, behind)
        )
        assert total[k] == pytest.approx((up - down) / (2 * eps), rel=1e-4)


def test_members_share_the_step_by_how_far_they_were_let_walk() -> None:
    """q_i = d_i eta_i K_i / S; a client with two updates is half of its weight each time."""
    jobs = [Job(c, 20 + c, base, 0.0, 0.0) for c, base in ((3, 1), (0, 2), (3, 2))]
    d, steps = np.array([0.5, 0.3, 0.2]), np.array([4, 2, 6])
    client = schema.Client(lr=0.2, lr_decay=0.5)
    p, walks = target_weights(SIZES, None, 0, 1), np.array([1.0, 0.0, 2.0])
    members, scale = members_of(jobs, d, steps, client, p, walks)
    lengths = np.array([0.5 * 0.1 * 4, 0.3 * 0.05 * 2, 0.2 * 0.05 * 6])
    assert scale == pytest.approx(lengths.sum())
    assert [m.q for m in members] == pytest.approx((lengths / lengths.sum()).tolist())
    assert [m.p for m in members] == pytest.approx([20 / 82, 7 / 82, 20 / 82])
    assert [m[:4] for m in members] == [(3, 23, 1, 0.5), (0, 20, 2, 0.3), (3, 23, 2, 0.2)]
    assert [m.walk for m in members] == [1.0, 0.0, 2.0]
    assert members_of(jobs, 0 * d, steps, client, p, walks) == ([], 0.0)


@pytest.mark.parametrize("mixing", [False, True])
def test_a_group_knows_how_its_server_counts(mixing: bool) -> None:
    schedule: Any = schema.AsyncSchedule() if mixing else schema.SyncSchedule()
    server = schema.Server(schedule=schedule, optimizer=schema.SgdOptimizer(lr=0.7))
    group = group_of(W, {4: W}, 4, np.cos(W), np.sin(W), 3.0, server)
    assert (group.mixing, group.server_lr, group.scale, group.version) == (mixing, 0.7, 3.0, 4)


def test_models_are_scored_only_where_scores_are_asked_for(federation, work, monkeypatch) -> None:
    asked = block([1.0, 1.0])
    sums, figures = asked(work, federation)

    def never(*_: Any) -> None:
        raise AssertionError("the test set was scored")

    monkeypatch.setattr(decomposition, "everyone", never)
    again, unscored = replace(asked, score=False)(work, federation)
    assert np.array_equal(sums, again)
    assert np.array_equal(figures.dots, unscored.dots)
    assert np.isfinite(figures.test_accuracy).all()
    for name in ("accuracy_before", "accuracy_after", "test_accuracy"):
        assert np.isnan(getattr(unscored, name)).all()


def test_drawn_target_weights_are_unbiased() -> None:
    p, versions, drawn = SIZES / SIZES.sum(), 4000, 3
    found = np.array([target_weights(SIZES, drawn, 5, v) for v in range(versions)])
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert np.all(found * drawn == np.round(found * drawn))
    error = np.sqrt(p * (1 - p) / (drawn * versions))  # of a mean of binomial counts
    assert np.all(np.abs(found.mean(axis=0) - p) < 4 * error)
    # As many draws as clients would cost as much as the exact gradient.
    assert np.array_equal(target_weights(SIZES, 5, 5, 1), p)
    assert not np.array_equal(found[0], found[1])


def test_drawn_walks_are_unbiased() -> None:
    found = np.array([walk_weights(4, 2, 5, v) for v in range(2000)])
    assert set(found.ravel()) == {0.0, 2.0}
    assert np.all(found.sum(axis=1) == 4.0)
    assert np.all(np.abs(found.mean(axis=0) - 1.0) < 4 / np.sqrt(2000))
    assert walk_weights(4, 4, 5, 0).tolist() == [1.0] * 4
    assert walk_weights(4, None, 5, 0).tolist() == [1.0] * 4


def test_the_drift_of_some_members_averages_to_that_of_all(federation, work) -> None:
    """Over every way to draw two of four members; with the noise it is the same each time."""
    exact, _ = block([1.0] * 4)(work, federation)
    ways = []
    for pair in combinations(range(4), 2):
        walks = [2.0 if c in pair else 0.0 for c in range(4)]
        sums, figures = block(walks)(work, federation)
        np.testing.assert_allclose(sums[2] + sums[3], exact[2] + exact[3], atol=1e-12)
        np.testing.assert_array_equal(sums[[0, 1, 4]], exact[[0, 1, 4]])
        assert np.isnan(figures.test_accuracy).tolist() == [c not in pair for c in range(4)]
        ways.append(sums)
    np.testing.assert_allclose(np.mean(ways, axis=0), exact, atol=1e-12)
    assert np.abs(ways[0][2] - exact[2]).max() > 1e-3


@pytest.mark.parametrize("mixing", [False, True])
def test_members_add_up_to_what_their_updates_are(federation, work, mixing) -> None:
    """The sum of all parts is minus the weighted updates over S, whatever they consist of."""
    asked = block([1.0] * 4, mixing=mixing)
    sums, figures = asked(work, federation)
    expected = np.zeros(12)
    for member in asked.members:
        base = asked.group.bases[member.base_version]
        done = worker.train(
            work, federation.shards, base, member.base_version,
            np.array([member.client]), np.array([member.dispatch]),
        )  # fmt: skip
        delta = done.deltas[0] + (base - W if mixing else 0.0)
        expected -= member.weight * delta / 3.0
        place = asked.members.index(member)
        assert figures.test_effect[place] == pytest.approx(member.weight * delta @ np.sin(W))
    np.testing.assert_allclose(sums.sum(axis=0), expected, atol=1e-12)
    dots = sums @ np.cos(W)
    np.testing.assert_allclose(figures.dots[:, 1:].sum(axis=0), dots[1:], atol=1e-12)


def test_a_walk_is_the_job_done_again(federation, work) -> None:
    seen: list[np.ndarray] = []

    class Spy(decomposition.Walk):
        def _see(self, w: Any, gradient: Any) -> None:
            seen.append(w.copy())
            super()._see(w, gradient)

    X, y = federation.shards.load(3)
    walk = Spy(work, W, X, y, watched=True)
    member = Member(3, 17, 0, 1.0, 1.0, 1.0, 1.0)
    trained, sent = walk.run(member, block([1.0]).group)
    done = worker.train(work, federation.shards, W, 0, np.array([3]), np.array([17]))
    assert np.array_equal(trained.w - W, done.deltas[0])
    assert np.array_equal(sent, done.deltas[0])
    assert trained.steps == len(seen) == 20
    expected, out = np.zeros(12), np.empty(12)
    for w in seen:
        decomposition.shard_gradient(work, w, X, y, out)
        expected += out
    np.testing.assert_allclose(walk.shard, expected, rtol=1e-13)
    assert rng.Stream.TRAIN not in (rng.Stream.TARGET, rng.Stream.WALKS, rng.Stream.POOLED)


def test_questions_travel(federation, work) -> None:
    asked = block([1.0] * 4)
    sums, _ = asked(work, federation)
    again, _ = pickle.loads(pickle.dumps(asked))(work, federation)
    assert np.array_equal(sums, again)
