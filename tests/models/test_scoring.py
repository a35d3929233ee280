"""Scores add up over chunks and come to the usual metrics."""

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error, r2_score

from fedray.models import LinearModel, MlpModel, SoftmaxModel, add_scores, metrics
from fedray.models.scoring import score_logits, score_values

F64 = np.dtype(np.float64)


@pytest.mark.parametrize(
    "model", [LinearModel(5, dtype=F64), SoftmaxModel(5, 3, dtype=F64), MlpModel(5, 3, (4,))]
)
def test_chunks_add_up(model):
    rng = np.random.default_rng(0)
    X, w = rng.standard_normal((50, 5)), rng.standard_normal(model.size).astype(model.dtype)
    y = rng.integers(0, 3, 50) if hasattr(model, "classes") else rng.standard_normal(50)
    whole = model.score(w, X, y)
    cuts = [(0, 17), (17, 17), (17, 49), (49, 50)]  # one of them is empty
    added = add_scores(model.score(w, X[a:b], y[a:b]) for a, b in cuts)
    assert added.samples == whole.samples == 50
    assert (added.per_class is None) == (whole.per_class is None)
    if whole.per_class is not None:
        np.testing.assert_array_equal(added.per_class, whole.per_class)
    for name in ("loss_sum", "squared_sum", "y_sum", "y_squared_sum"):
        assert getattr(added, name) == pytest.approx(getattr(whole, name), rel=1e-6)


def test_classification_metrics_are_scikit_learns():
    rng = np.random.default_rng(0)
    Z, y = rng.standard_normal((4, 60)), rng.integers(0, 3, 60)
    chances = np.exp(Z) / np.exp(Z).sum(axis=0)
    found = metrics(score_logits(Z.copy(), y))
    assert found.accuracy == accuracy_score(y, Z.argmax(axis=0))
    assert found.loss == pytest.approx(log_loss(y, chances.T, labels=range(4)))
    right = Z.argmax(axis=0) == y
    assert found.accuracy_per_class[:3] == [right[y == c].mean() for c in range(3)]
    assert math.isnan(found.accuracy_per_class[3])  # a class without samples
    assert found.r2 is found.mse is None


def test_ties_go_to_the_lowest_class():
    assert metrics(score_logits(np.zeros((2, 4)), np.array([0, 1, 1, 1]))).accuracy == 0.25


def test_regression_metrics_are_scikit_learns():
    rng = np.random.default_rng(0)
    y, predicted = rng.standard_normal((2, 40)) + 3
    found = metrics(score_values(predicted, y))
    assert found.mse == pytest.approx(mean_squared_error(y, predicted))
    assert found.loss == pytest.approx(found.mse / 2)
    assert found.r2 == pytest.approx(r2_score(y, predicted))
    assert found.accuracy is found.accuracy_per_class is None


@pytest.mark.parametrize("off", [0.0, 1.0])
def test_r2_of_constant_labels(off):
    y = np.full(5, 2.0)
    assert metrics(score_values(y + off, y)).r2 == r2_score(y, y + off)


def test_no_samples_come_to_nan():
    assert math.isnan(metrics(score_values(np.zeros(0), np.zeros(0))).r2)
    found = metrics(score_logits(np.zeros((2, 0)), np.zeros(0, np.int64)))
    assert math.isnan(found.loss)
    assert math.isnan(found.accuracy)
