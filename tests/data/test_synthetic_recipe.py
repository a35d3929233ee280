"""Synthetic(alpha, beta) and the three regression scenarios: what their recipes imply."""

from pathlib import Path

import numpy as np
import pytest

from fedray.config import schema
from fedray.data.sources import load_dataset


def load(config, seed=0):
    return load_dataset(config, seed, base_dir=Path("/"))


def test_shapes_and_split():
    data = load(schema.SyntheticData())
    sizes = np.bincount(data.client)
    assert len(sizes) == 30
    assert data.X.shape[1] == 60
    assert data.classes == tuple("0123456789")
    # floor(0.9 n) with n >= 50.
    assert sizes.min() >= 45
    assert len(data.y_test) >= 30 * 5
    np.testing.assert_array_equal(data.client, np.sort(data.client))


def test_sizes_are_lognormal():
    """log(n_k - 50) ~ N(4, 2^2), up to the rounding; n_k from the 90 % that train."""
    data = load(schema.SyntheticData(clients=2000, dimensions=1, classes=2))
    n = np.bincount(data.client) / 0.9
    logs = np.log(np.maximum(n - 50, 0.5))
    assert np.median(logs) == pytest.approx(4, abs=0.25)
    assert np.std(logs) == pytest.approx(2, abs=0.25)


def test_inputs_have_the_recipe_s_spread():
    """Within a client Var x_j = j^-1.2; IID inputs are centred at 0."""
    data = load(schema.SyntheticData(alpha=0, beta=0, iid=True, dimensions=8))
    j = np.arange(1, 9)
    np.testing.assert_allclose(data.X.var(axis=0), j**-1.2, rtol=0.1)
    np.testing.assert_allclose(data.X.mean(axis=0), 0, atol=0.05)
    own = load(schema.SyntheticData(alpha=0, beta=0, dimensions=8))
    big = np.argmax(np.bincount(own.client))
    np.testing.assert_allclose(own.X[own.client == big].var(axis=0), j**-1.2, rtol=0.25)


@pytest.mark.parametrize("beta", [0.0, 3.0])
def test_beta_spreads_the_clients_centres(beta):
    """v_kj = B_k + N(0, 1): the mean of v_k over j has variance beta^2 + 1/d."""
    data = load(schema.SyntheticData(alpha=0, beta=beta, clients=400, dimensions=40, classes=2))
    starts = np.flatnonzero(np.diff(data.client, prepend=-1))
    centres = np.add.reduceat(data.X, starts, axis=0) / np.bincount(data.client)[:, None]
    spread = centres.mean(axis=1).var()
    assert spread == pytest.approx(beta**2 + 1 / 40, rel=0.25)


def test_iid_clients_share_one_model_and_the_others_do_not():
    def fit_errors(iid):
        data = load(schema.SyntheticData(alpha=1, beta=0, iid=iid, dimensions=5, classes=3))
        one_hot = np.eye(3)[data.y]
        X = np.column_stack([data.X, np.ones(len(data.X))])
        # A linear fit on the pooled data predicts well only if there is one model.
        W = np.linalg.lstsq(X, one_hot, rcond=None)[0]
        return np.mean(np.argmax(X @ W, axis=1) != data.y)

    assert fit_errors(True) < 0.2 < fit_errors(False)


def test_seeds():
    config = schema.SyntheticData(clients=5)
    np.testing.assert_array_equal(load(config, 1).X, load(config, 1).X)
    assert not np.array_equal(load(config, 1).X[:50], load(config, 2).X[:50])


def test_linear_regression_scenarios():
    config = schema.LinearRegressionData(scenario="non_iid", clients=3, points=4000)
    data = load(config)
    for k in range(3):
        i = k + 1
        x, y = data.X[data.client == k, 0], data.y[data.client == k]
        assert 0 <= x.min() < 0.05
        assert 4.95 * i < x.max() <= 5 * i
        slope, intercept = np.polyfit(x, y, 1)
        # Standard errors are below 0.02 and 0.04.
        assert slope == pytest.approx(i, abs=0.06)
        assert intercept == pytest.approx(i, abs=0.12)
        assert np.std(y - i * x - i) == pytest.approx(1, abs=0.05)
    assert len(data.y_test) == 3 * 2000
    assert not data.classification


def test_linear_regression_iid_and_its_test_set():
    data = load(schema.LinearRegressionData())
    assert len(data.y) == 300
    assert len(data.y_test) == 150
    assert len(load(schema.LinearRegressionData(points=4)).y_test) == 60
    assert not np.intersect1d(data.X, data.X_test).size
    np.testing.assert_allclose(np.polyfit(data.X[:, 0], data.y, 1), [2, 1], atol=0.5)
