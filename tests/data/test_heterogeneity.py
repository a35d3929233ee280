"""Measures of a split against their definitions, written out naively."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedray.data import heterogeneity as h

tables = arrays(
    np.int64, st.tuples(st.integers(2, 7), st.integers(2, 5)), elements=st.integers(0, 20)
).map(lambda t: t + (t.sum(axis=1) == 0)[:, None])


@settings(max_examples=60)
@given(counts=tables)
def test_against_the_definitions_over_pairs(counts):
    n = len(counts)
    P = counts / counts.sum(axis=1, keepdims=True)
    q = counts.sum(axis=1) / counts.sum()
    p = q @ P
    assert h.label_emd(counts) == pytest.approx((q * np.abs(P - p).sum(axis=1)).sum(), abs=1e-9)
    pairs = sum(
        np.sum((np.sqrt(P[i]) - np.sqrt(P[j])) ** 2) for i in range(n) for j in range(n) if i != j
    )
    # The expansion has an error near 1e-16 inside of the root.
    hellinger = np.sqrt(pairs / (2 * n * (n - 1)))
    assert h.label_hellinger(counts) == pytest.approx(hellinger, abs=1e-7)

    def bits(v):
        return -sum(x * np.log2(x) for x in v if x > 0)

    js = (bits(P.mean(axis=0)) - np.mean([bits(row) for row in P])) / np.log2(n)
    assert h.label_js(counts) == pytest.approx(np.sqrt(max(js, 0)), abs=1e-7)
    sizes = counts.sum(axis=1)
    gini = np.abs(sizes[:, None] - sizes).sum() / (2 * n * sizes.sum())
    assert h.quantity_gini(sizes) == pytest.approx(gini)
    assert h.clients_effective(sizes) == pytest.approx(1 / (q**2).sum())
    assert 0 <= h.label_severity(counts) <= 1


@pytest.mark.parametrize("measure", [h.label_emd, h.label_severity, h.label_js, h.label_hellinger])
def test_zero_where_all_clients_are_alike(measure):
    assert measure(np.array([[2, 4, 6], [1, 2, 3], [3, 6, 9]])) == pytest.approx(0, abs=1e-7)


def test_one_class_per_client_is_the_upper_end():
    disjoint = np.diag([5, 1, 9])
    assert h.label_severity(disjoint) == 1
    assert h.label_js(disjoint) == pytest.approx(1)
    assert h.label_hellinger(disjoint) == pytest.approx(1)


def test_sizes_at_their_extremes():
    assert h.quantity_gini(np.full(9, 4)) == 0
    assert h.clients_effective(np.full(9, 4)) == pytest.approx(9)
    # One of N has nearly all: Gini tends to 1 - 1/N, effective clients to 1.
    lopsided = np.array([1, 1, 1, 10**9])
    assert h.quantity_gini(lopsided) == pytest.approx(0.75, abs=1e-6)
    assert h.clients_effective(lopsided) == pytest.approx(1)


def test_blocks_do_not_change_anything(monkeypatch):
    counts = np.random.default_rng(0).integers(0, 5, (300, 4)) + 1
    X = np.random.default_rng(1).normal(size=(300, 3))
    offsets = np.array([0, 1, 40, 41, 170, 300])
    whole = h.measure(counts.sum(axis=1), counts, h.feature_distance_of(X, offsets))
    monkeypatch.setattr(h, "_BLOCK", 64)
    parts = h.measure(counts.sum(axis=1), counts, h.feature_distance_of(X, offsets))
    assert parts == pytest.approx(whole)


def test_feature_distance_is_the_share_of_variance_between_clients():
    rng = np.random.default_rng(0)
    sizes = [30, 10, 60]
    X = rng.normal(size=(100, 3)) + np.repeat([[0.0], [2.0], [5.0]], sizes, axis=0)
    X[:, 2] = 7.0
    offsets = np.array([0, 30, 40, 100])
    m, var = X.mean(axis=0)[:2], X.var(axis=0)[:2]
    between = sum(
        n / 100 * (X[a : a + n, :2].mean(axis=0) - m) ** 2
        for a, n in zip(offsets, sizes, strict=False)
    )
    assert h.feature_distance_of(X, offsets) == pytest.approx(np.mean(between / var))
    apart = np.repeat([[0.0], [1.0]], 5, axis=0)
    assert h.feature_distance_of(apart, np.array([0, 5, 10])) == pytest.approx(1)
    assert h.feature_distance_of(np.ones((4, 2)), np.array([0, 2, 4])) == 0


def test_no_label_measures_for_a_regression():
    assert set(h.measure(np.array([1, 2]), None, 0.5)) == {
        "quantity_gini",
        "clients_effective",
        "feature_distance",
    }


def test_a_million_clients():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 2, (10**6, 4)) + np.eye(4, dtype=np.int64)[rng.integers(0, 4, 10**6)]
    measured = h.measure(counts.sum(axis=1), counts)
    assert all(np.isfinite(v) for v in measured.values())


def test_client_blocks_cover_all_clients_in_order():
    offsets = np.concatenate([[0], np.cumsum([5, 10**7, 1, 1, 2])])
    assert list(h.client_blocks(offsets, 1)) == [(0, 1), (1, 2), (2, 5)]
