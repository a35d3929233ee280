"""Whole runs against results that are known on paper.

Clients f_i(w) = a_i (w - m_i)^2 / 2 with E full-batch steps of size lr: one round takes
w to w + (1 - rho_i)(m_i - w) at client i, with rho_i = (1 - lr a_i)^E.
"""

from __future__ import annotations

from dataclasses import replace
from math import pi, sin

import numpy as np
import pytest

from fedray.config import schema

A, M, LR = (1.0, 4.0), (0.0, 1.0), 0.1


def client(steps: int, lr: float = LR, **more: float) -> schema.Client:
    return schema.Client(steps=steps, batch_size="full", lr=lr, **more)


def fixed_point(steps: int) -> float:
    """Where sum_i p_i (1 - rho_i)(m_i - w) = 0, p_i equal."""
    pull = [1 - (1 - LR * a) ** steps for a in A]
    return sum(p * m for p, m in zip(pull, M, strict=True)) / sum(pull)


@pytest.mark.parametrize(("steps", "expected"), [(1, 0.8), (5, 0.692502), (20, 0.532352)])
def test_fedavg_settles_at_its_biased_fixed_point(toy, tmp_path, steps, expected):
    final = toy(A, M, client=client(steps), server=schema.Server(rounds=120)).final(tmp_path)
    assert final == pytest.approx(fixed_point(steps), abs=1e-12)
    assert final == pytest.approx(expected, abs=1e-6)


def test_one_full_batch_client_is_gradient_descent(toy, tmp_path):
    run = toy([2.0], [3.0], client=client(1), server=schema.Server(rounds=7)).fly(tmp_path)
    assert run.model["w"][0] == pytest.approx(3.0 * (1 - (1 - LR * 2.0) ** 7), rel=1e-14)


def test_fedprox_step_pulls_back_to_the_downloaded_model(toy, tmp_path):
    # Two steps by hand from w = 0 with gradient a (w - m) + mu (w - 0).
    mu, a, m = 0.7, 2.0, 3.0
    first = LR * a * m
    second = first - LR * (a * (first - m) + mu * first)
    final = toy([a], [m], client=client(2, prox_mu=mu), server=schema.Server(rounds=1)).final(
        tmp_path
    )
    assert final == pytest.approx(second, rel=1e-14)


def test_local_momentum_weight_decay_and_lr_decay_by_hand(toy, tmp_path):
    a, m, beta, decay, shrink = 2.0, 3.0, 0.9, 0.3, 0.5
    w = 0.0
    for version in range(2):
        lr, v = LR * shrink**version, 0.0
        for _ in range(3):
            v = beta * v + a * (w - m) + decay * w
            w -= lr * v
    training = client(3, momentum=beta, weight_decay=decay, lr_decay=shrink)
    final = toy([a], [m], client=training, server=schema.Server(rounds=2)).final(tmp_path)
    assert final == pytest.approx(w, rel=1e-14)


def test_fedasync_with_a_fast_and_a_slow_client_settles_at_the_biased_point(toy, tmp_path):
    """Arrival shares f = (10/11, 1/11), mixing -> 0: sum_i f_i (1 - rho_i)(m_i - w) = 0.

    The limit is .18381; at mixing .01 the cycle's mean is within a mixing of it.
    """
    server = schema.Server(
        rounds=11 * 120,
        schedule=schema.AsyncSchedule(
            concurrency=2, mixing=0.01, staleness_weight=schema.ConstantWeight()
        ),
    )
    share = (10 / 11, 1 / 11)
    pull = [f * (1 - (1 - LR * a) ** 5) for f, a in zip(share, A, strict=True)]
    limit = pull[1] / sum(pull)
    assert limit == pytest.approx(0.18381, abs=1e-5)
    # Durations 1 and 10.05 avoid ties; the shares are those of 10 : 1 to half a per cent.
    run = toy(A, M, client=client(5), server=server, duration_s=[1.0, 10.05]).fly(tmp_path)
    assert run.model["w"][0] == pytest.approx(limit, abs=0.01)


def test_async_mixes_in_the_clients_own_model_not_its_delta(toy, tmp_path):
    """Clients 0 and 1 both start from version 0 = w0; client 0 arrives first.

    w1 = w0 + a (x0 - w0); then FedAsync's w2 = (1 - a) w1 + a x1 with x1 trained from w0.
    Adding client 1's delta to w1 instead would give w1 + a (x1 - w0).
    """
    mixing, w0 = 0.5, 2.0
    server = schema.Server(
        rounds=2,
        schedule=schema.AsyncSchedule(
            concurrency=2, mixing=mixing, staleness_weight=schema.PolynomialWeight(exponent=1.0)
        ),
    )
    x = [w0 - LR * a * (w0 - m) for a, m in zip(A, M, strict=True)]
    w1 = (1 - mixing) * w0 + mixing * x[0]
    stale = mixing * 0.5  # (1 + 1)^-1
    expected = (1 - stale) * w1 + stale * x[1]
    final = toy(A, M, client=client(1), server=server, duration_s=[1.0, 1.5], start=w0).final(
        tmp_path
    )
    assert final == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("tau", [0, 1, 2, 5, 10])
@pytest.mark.parametrize("side", [0.97, 1.03])
def test_pure_delay_is_stable_exactly_up_to_its_limit(toy, tmp_path, tau, side):
    """w_{t+1} = w_t - lr a w_{t-tau} is stable iff lr a < 2 sin(pi / (4 tau + 2)).

    concurrency = tau + 1 equal clients and a buffer of one make every update exactly tau
    old once the first ones are through.
    """
    limit = 2 * sin(pi / (4 * tau + 2))
    server = schema.Server(
        rounds=100 + 50 * tau,  # the nearer to the limit in steps, the slower it decides
        schedule=schema.BufferedSchedule(
            concurrency=tau + 1, buffer_size=1, staleness_weight=schema.ConstantWeight()
        ),
    )
    run = toy(
        [1.0] * (tau + 1), [0.0] * (tau + 1), client=client(1, lr=side * limit),
        server=server, start=1.0, eval_every=1,
    ).fly(tmp_path)  # fmt: skip
    ages = run.updates["staleness"].to_numpy()
    assert (ages[tau:] == tau).all()
    loss = run.rounds["loss"].to_numpy()
    some = 25 + 5 * tau  # more than a swing
    early, late = loss[some : 2 * some].max(), loss[-some:].max()
    assert (late < 0.5 * early) if side < 1 else (late > 2 * early)


@pytest.mark.parametrize("law", ["halfnormal", "exponential", "uniform"])
@pytest.mark.parametrize("buffer_size", [1, 10])
def test_mean_staleness_depends_on_concurrency_and_buffer_alone(toy, tmp_path, law, buffer_size):
    """(concurrency - 1) / K whatever the delays (Koloskova et al. 2022, remark 5, for K = 1)."""
    laws = {
        "halfnormal": schema.HalfNormal(scale=1.0),
        "exponential": schema.Exponential(mean=1.0),
        "uniform": schema.Uniform(low=0.0, high=1.0),
    }
    concurrency, clients = 20, 60
    server = schema.Server(
        rounds=6000 // buffer_size,
        schedule=schema.BufferedSchedule(concurrency=concurrency, buffer_size=buffer_size),
    )
    plan = toy(
        [1.0] * clients, [0.0] * clients, client=client(1), server=server, jitter=laws[law]
    ).plan
    ages = [
        command.version - 1 - job.base_version
        for commands in plan.timeline()
        for command in commands
        if type(command).__name__ == "Aggregate"
        for job in command.jobs
    ]
    expected = (concurrency - 1) / buffer_size
    assert np.mean(ages[concurrency * 10 :]) == pytest.approx(expected, rel=0.02)


def test_fedbuff_without_delay_is_fedavg(toy, tmp_path):
    """One client at a time, a buffer as large as the cohort: no update is ever stale, and
    the versions are those of FedAvg bit for bit."""
    a, m = [1.0, 2.0, 4.0], [0.0, 1.0, -2.0]
    in_turn = schema.Server(rounds=20, selection="round_robin")
    sync = toy(a, m, client=client(3), server=in_turn).final(tmp_path / "sync")
    schedule = schema.BufferedSchedule(concurrency=1, buffer_size=3)
    buffered = toy(a, m, client=client(3), server=replace(in_turn, schedule=schedule))
    assert buffered.final(tmp_path / "buffered") == sync


def test_waiting_with_bound_zero_never_uses_a_stale_update(toy, tmp_path):
    schedule = schema.BufferedSchedule(
        concurrency=3, buffer_size=2, max_staleness=0, on_stale="wait"
    )
    run = toy(
        [1.0] * 5, [0.0] * 5, client=client(1), duration_s=[1.0, 1.3, 1.7, 2.9, 0.4],
        server=schema.Server(rounds=50, schedule=schedule),
    ).fly(tmp_path)  # fmt: skip
    assert set(run.updates["staleness"].to_pylist()) == {0}
    assert set(run.updates["status"].to_pylist()) == {"applied"}


def test_fedbuff_divides_by_the_buffer_and_not_by_the_weights(toy, tmp_path):
    """w2 = w1 + (1/K) sum s(tau) delta (Nguyen et al. 2022, algorithm 1), K = 1, tau = 1."""
    server = schema.Server(
        rounds=2,
        schedule=schema.BufferedSchedule(
            concurrency=2, buffer_size=1, staleness_weight=schema.PolynomialWeight(exponent=0.5)
        ),
    )
    w1 = LR * A[0] * M[0]
    expected = w1 + 2**-0.5 * LR * A[1] * M[1]
    final = toy(A, M, client=client(1), server=server, duration_s=[1.0, 1.5]).final(tmp_path)
    assert final == pytest.approx(expected, rel=1e-14)


def test_equal_orthogonal_updates_cancel_by_the_square_root_law():
    from fedray.learning.work import Results
    from fedray.simulation.step import Step, describe

    count = 10
    vectors = np.eye(count)
    weights = np.full(count, 1 / count)
    results = Results(vectors, np.ones(count, np.int64), np.ones(count), *(np.ones(count),) * 2)
    ages, examples = np.zeros(count, np.int64), np.ones(count, np.int64)
    step = Step(
        ages, examples, weights, np.ones(count, bool), vectors, np.ones(count),
        weights @ vectors, results, np.arange(count),
    )  # fmt: skip
    figures = describe(step)
    assert figures["cancellation"] == pytest.approx(count**-0.5)
    assert figures["cosine_mean"] == pytest.approx(count**-0.5)
    assert figures["n_effective"] == pytest.approx(count)
    assert figures["drift_mean"] == pytest.approx(1.0)
