"""q-FedAvg and AFL, which look after those with high losses, against their papers."""

from __future__ import annotations

import numpy as np
import pytest
from quadratics import LR, A, M, close, flown, walk

from fedray.config import schema
from fedray.config.load import load
from fedray.errors import InputError
from fedray.parts.methods.afl import Afl, on_simplex
from fedray.parts.methods.qfedavg import QFedAvg


def loss(i: int, w: float) -> float:
    return A[i] * (w - M[i]) ** 2 / 2


def q_reference(
    rounds: int, steps: int, q: float, start=5.0, chosen=None, p=(1, 1, 1)
) -> list[float]:
    """q-FedAvg, algorithm 2."""
    w, found, L = start, [], 1 / LR
    for r in range(rounds):
        up = down = 0.0
        for i in chosen[r] if chosen else range(3):
            F, D = loss(i, w), L * (w - walk(i, w, steps))
            up += p[i] * F**q * D
            down += p[i] * (q * F ** (q - 1) * D**2 + L * F**q)
        w -= up / down
        found.append(w)
    return found


@pytest.mark.parametrize("q", [0.1, 2.0])
def test_qfedavg_is_the_paper_step_by_step(toy, tmp_path, q):
    found = flown(toy, tmp_path, QFedAvg(q=q), 4, start=5.0)
    close(found, q_reference(4, 5, q))


def test_qfedavg_with_part_of_the_clients_sums_over_them(toy, tmp_path):
    server = schema.Server(weighting="uniform", clients_per_round=2, selection="round_robin")
    found = flown(toy, tmp_path, QFedAvg(q=2.0), 4, steps=3, server=server, start=5.0)
    cohorts = [[0, 1], [2, 0], [1, 2], [0, 1]]
    close(found, q_reference(4, 3, 2.0, chosen=cohorts))


def test_qfedavg_by_examples_weighs_both_sums(toy, tmp_path):
    server = schema.Server(weighting="examples")
    more = {"server": server, "start": 5.0, "samples": (1, 5, 2)}
    found = flown(toy, tmp_path, QFedAvg(q=1.0), 3, **more)
    close(found, q_reference(3, 5, 1.0, p=(1, 5, 2)))


def test_qfedavg_without_fairness_is_fedavg(toy, tmp_path):
    expected, w = [], 5.0
    for _ in range(3):
        w = float(np.mean([walk(i, w, 5) for i in range(3)]))
        expected.append(w)
    close(flown(toy, tmp_path, QFedAvg(q=0.0), 3, start=5.0), expected)


def test_qfedavg_settles_at_the_optimum_of_powered_losses(toy, tmp_path):
    """One step each: sum_i F_i grad F_i = sum_i a_i^2 (w - m_i)^3 / 2 = 0."""
    client = schema.Client(steps=1, batch_size="full", lr=LR)
    server = schema.Server(rounds=400, weighting="uniform")
    w = toy(A, M, client=client, server=server, method=QFedAvg(q=1.0)).final(tmp_path)
    assert sum(a**2 * (w - m) ** 3 for a, m in zip(A, M, strict=True)) == pytest.approx(0, abs=1e-9)


def test_a_loss_of_zero_is_no_accident(toy, tmp_path):
    """q < 1 takes F^(q - 1) of it."""
    client = schema.Client(steps=2, batch_size="full", lr=LR)
    server = schema.Server(rounds=3, weighting="uniform")
    made = toy((1.0, 4.0), (0.0, 1.0), client=client, server=server, method=QFedAvg(q=0.5))
    assert 0 < made.final(tmp_path) < 1


def a_reference(rounds: int, steps: int, gamma: float) -> list[float]:
    """AFL: descent and ascent from the same point."""
    w, lam, found = 5.0, np.full(3, 1 / 3), []
    for _ in range(rounds):
        losses = np.array([loss(i, w) for i in range(3)])
        w = float(w + sum(lam[i] * (walk(i, w, steps) - w) for i in range(3)))
        v = lam + gamma * losses
        low, high = v.min() - 1, v.max()  # sum max(v - theta, 0) = 1, by bisection
        for _ in range(200):
            theta = (low + high) / 2
            low, high = (theta, high) if np.maximum(v - theta, 0).sum() > 1 else (low, theta)
        lam = np.maximum(v - theta, 0)
        found.append(w)
    return found


def test_afl_is_the_paper_step_by_step(toy, tmp_path):
    close(flown(toy, tmp_path, Afl(lambda_lr=0.01), 5, start=5.0), a_reference(5, 5, 0.01))


def test_afl_reports_the_mean_of_its_models_where_asked(toy, tmp_path):
    expected = a_reference(4, 5, 0.01)
    found = flown(toy, tmp_path, Afl(lambda_lr=0.01, report="average"), 4, start=5.0)
    close(found, [float(np.mean(expected[: t + 1])) for t in range(4)])


def test_afl_comes_to_the_minimum_of_the_largest_loss(toy, tmp_path):
    """w^2 / 2 and 2 (w - 1)^2 are both largest, and equal, at 2/3; their mean is least at 0.8."""
    client = schema.Client(steps=1, batch_size="full", lr=0.05)
    server = schema.Server(rounds=500, weighting="uniform")
    method = Afl(lambda_lr=0.05, report="average")
    made = toy((1.0, 4.0), (0.0, 1.0), client=client, server=server, method=method)
    assert made.final(tmp_path) == pytest.approx(2 / 3, abs=0.02)


def test_afl_without_some_clients_weighs_the_others_alike(toy, tmp_path):
    """Client 2 never is on time: lambda 1/3 each becomes 1/2 each, and his never rises."""
    schedule = schema.SyncSchedule(deadline_s=2.0)
    server = schema.Server(rounds=1, weighting="uniform", schedule=schedule)
    client = schema.Client(steps=2, batch_size="full", lr=LR)
    made = toy(A, M, client=client, server=server, method=Afl(), duration_s=[1.0, 1.0, 9.0])
    close([made.final(tmp_path)], [(walk(0, 0.0, 2) + walk(1, 0.0, 2)) / 2])


def test_the_closest_point_of_the_simplex():
    """No step from it, within the simplex, comes closer."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        v = rng.normal(size=6)
        found = on_simplex(v)
        assert found.sum() == pytest.approx(1.0)
        assert (found >= 0).all()
        for other in rng.dirichlet(np.ones(6), size=50):
            assert (v - found) @ (other - found) <= 1e-12
    assert on_simplex(np.array([0.2, 0.8])).tolist() == pytest.approx([0.2, 0.8])


@pytest.mark.parametrize(("name", "settings", "key"), [
    ("qfedavg", {"server": {"schedule": {"mode": "async"}}}, "server.schedule.mode"),
    ("qfedavg", {"eval": {"local_losses": False}}, "eval.local_losses"),
    ("afl", {"server": {"schedule": {"mode": "buffered"}}}, "server.schedule.mode"),
    ("afl", {"server": {"clients_per_round": 5}}, "server.clients_per_round"),
    ("afl", {"server": {"weighting": "examples"}}, "server.weighting"),
    ("afl", {"server": {"selection": "tiers"}}, "server.selection"),
])  # fmt: skip
def test_refuses_what_they_do_not_go_with(name, settings, key):
    with pytest.raises(InputError) as caught:
        load({"algorithm": name, **settings})
    assert caught.value.key == key
