"""Conformance: every registered part, held to what all parts of its kind promise."""

from __future__ import annotations

import numpy as np
import pytest

from fedray.config import schema
from fedray.learning.local import local_steps, samples_per_job
from fedray.learning.optimizers import OPTIMIZERS
from fedray.learning.weights import shares, staleness_factor

LAWS = [
    schema.ConstantWeight(),
    schema.PolynomialWeight(exponent=0.5),
    schema.HingeWeight(a=10.0, b=4.0),
    schema.ExponentialWeight(rate=0.3),
    schema.InverseWeight(),
]


@pytest.mark.parametrize("kind", OPTIMIZERS)
class TestOptimizers:
    def test_is_pure_and_keeps_shape_and_precision(self, kind):
        config, step = kind(), OPTIMIZERS[kind]
        for dtype in (np.float32, np.float64):
            w, update = np.ones(5, dtype), np.linspace(-1, 1, 5).astype(dtype)
            kept = w.copy(), update.copy()
            once, state = step(config, w, update, {})
            again, _ = step(config, w, update, {})
            assert once.dtype == dtype
            assert once.shape == w.shape
            assert all(v.dtype == dtype and v.shape == w.shape for v in state.values())
            assert np.array_equal(once, again)
            assert np.array_equal(w, kept[0])
            assert np.array_equal(update, kept[1])

    def test_adds_in_the_direction_of_the_update(self, kind):
        w, _ = OPTIMIZERS[kind](kind(), np.zeros(3), np.array([1.0, -2.0, 0.0]), {})
        assert w[0] > 0
        assert w[1] < 0
        assert w[2] == 0

    def test_walks_a_quadratic_to_its_minimum(self, kind):
        config, w, state = kind(), np.array([5.0]), {}
        for _ in range(4000):
            w, state = OPTIMIZERS[kind](config, w, 0.1 * (2.0 - w), state)
        assert w[0] == pytest.approx(2.0, abs=0.05)


def test_adaptive_steps_by_hand():
    """Two steps of Reddi et al. 2021, algorithm 2: v_0 = tau^2, no bias correction."""
    d, tau = (0.3, -0.5), 1e-3
    m = w = 0.0
    adam, yogi, adagrad = schema.AdamOptimizer(), schema.YogiOptimizer(), schema.AdagradOptimizer()
    cases = {
        adam: lambda v, x: 0.99 * v + 0.01 * x * x,
        yogi: lambda v, x: v - 0.01 * x * x * np.sign(v - x * x),
        adagrad: lambda v, x: v + x * x,
    }
    for config, second in cases.items():
        m, w, v = 0.0, 0.0, tau**2
        got, state = np.zeros(1), {}
        for x in d:
            m = config.beta1 * m + (1 - config.beta1) * x
            v = second(v, x)
            w += config.lr * m / (np.sqrt(v) + tau)
            got, state = OPTIMIZERS[type(config)](config, got, np.array([x]), state)
        assert got[0] == pytest.approx(w, rel=1e-12), type(config)


def test_momentum_and_nesterov_by_hand():
    plain, nesterov = (schema.MomentumOptimizer(lr=0.5, momentum=0.9, nesterov=n) for n in (0, 1))
    w, state = np.zeros(1), {}
    for d in (1.0, 2.0):
        w, state = OPTIMIZERS[type(plain)](plain, w, np.array([d]), state)
    assert w[0] == pytest.approx(0.5 * 1.0 + 0.5 * (0.9 * 1.0 + 2.0))
    w, state = np.zeros(1), {}
    for d in (1.0, 2.0):
        w, state = OPTIMIZERS[type(nesterov)](nesterov, w, np.array([d]), state)
    assert w[0] == pytest.approx(0.5 * (1.0 + 0.9) + 0.5 * (2.0 + 0.9 * 2.9))


@pytest.mark.parametrize("law", LAWS)
def test_staleness_factors_start_at_one_and_never_rise(law):
    factors = staleness_factor(law, np.arange(50))
    assert factors[0] == 1.0
    assert (np.diff(factors) <= 0).all()
    assert (factors > 0).all()


def test_staleness_factors_by_formula():
    tau = np.array([0, 3, 7])
    expected = {
        0: [1, 1, 1],
        1: [1, 0.5, 8**-0.5],
        2: [1, 1, 1 / 31],
        3: [1, np.exp(-0.9), np.exp(-2.1)],
        4: [1, 1 / 4, 1 / 8],
    }
    for i, law in enumerate(LAWS):
        np.testing.assert_allclose(staleness_factor(law, tau), expected[i], rtol=1e-12)


def test_shares_sum_to_one_and_follow_examples():
    n = np.array([1, 2, 5])
    np.testing.assert_allclose(shares("examples", n), n / 8)
    np.testing.assert_allclose(shares("uniform", n), [1 / 3] * 3)


@pytest.mark.parametrize(
    ("client", "examples", "steps"),
    [
        (schema.Client(epochs=1, batch_size=32), 60, 2),
        (schema.Client(epochs=2, batch_size=32), 64, 4),
        (schema.Client(epochs=0.5, batch_size=10), 100, 5),
        (schema.Client(epochs=0.1, batch_size=10), 20, 1),
        (schema.Client(epochs=3, batch_size="full"), 77, 3),
        (schema.Client(steps=7, batch_size=10), 3, 7),
        (schema.Client(epochs=1, batch_size=100), 30, 1),
    ],
)
def test_local_steps_count_minibatches(client, examples, steps):
    assert local_steps(client, examples) == steps


def test_samples_per_job():
    n = np.array([10, 100])
    assert samples_per_job(schema.Client(epochs=2), n).tolist() == [20, 200]
    assert samples_per_job(schema.Client(steps=3, batch_size=20), n).tolist() == [30, 60]
    assert samples_per_job(schema.Client(steps=3, batch_size="full"), n).tolist() == [30, 300]
