"""Sums that have the same bits whoever adds up which part."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from fedray.parts import summation


def group(seed: int, count: int, size: int = summation.LONG, dtype: type = np.float32):
    rng = np.random.default_rng(seed)
    updates = (rng.normal(size=(count, size)) * rng.lognormal(0, 3, (count, 1))).astype(dtype)
    return updates, rng.random(count), rng.integers(0, 10_000, count)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, summation.LEAVES))
def test_parts_by_any_number_of_hosts_make_the_whole_bit_for_bit(seed, count, hosts):
    updates, weights, clients = group(seed, count)
    parts = {}
    for host in range(hosts):
        first, last = summation.leaves_of(host, hosts)
        leaves = summation.leaf(clients)
        own = np.flatnonzero((leaves >= first) & (leaves < last))
        own_parts = summation.part_sums(updates[own], weights[own], clients[own], first, last)
        assert len(own_parts) <= 2 * summation.LEVELS
        parts |= own_parts
    whole = summation.total(updates, weights, clients)
    assert np.array_equal(summation.merge(parts), whole)
    exact = weights @ updates.astype(np.float64)
    scale = weights @ np.abs(updates).astype(np.float64)
    assert (np.abs(whole - exact) <= 1e-5 * scale).all()


def test_who_adds_up_what_would_matter_otherwise():
    """The same rows, added one after the other, come to other bits: the order is not idle."""
    updates, weights, clients = group(3, 40)
    plain = np.zeros(updates.shape[1], np.float32)
    for row, weight in zip(updates, weights, strict=True):
        plain += np.float32(weight) * row
    assert not np.array_equal(plain, summation.total(updates, weights, clients))


@pytest.mark.parametrize("hosts", [1, 2, 3, 5, 7, 16])
def test_every_leaf_has_one_host(hosts):
    ranges = [summation.leaves_of(host, hosts) for host in range(hosts)]
    assert [leaf for first, last in ranges for leaf in range(first, last)] == list(range(16))
    for host, (first, last) in enumerate(ranges):
        assert all(leaf * hosts // summation.LEAVES == host for leaf in range(first, last))


@pytest.mark.parametrize("size", [5, summation.LONG])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_and_products_keep_the_precision_and_their_inputs(size, dtype):
    updates, weights, clients = group(1, 9, size, dtype)
    kept = updates.copy()
    total = summation.total(updates, weights, clients)
    assert total.dtype == dtype
    np.testing.assert_allclose(total, weights @ updates, rtol=1e-3 if dtype == np.float32 else 1e-9)
    np.testing.assert_allclose(summation.dots(updates, total), updates @ total, rtol=1e-3)
    assert np.array_equal(updates, kept)


def test_sums_take_one_thread_of_whichever_blas_and_give_the_others_back(monkeypatch):
    """scipy has a BLAS of its own, which is loaded at the first sum: limits set before miss it."""
    seen, below = [], summation._below

    def threads():
        return {of["num_threads"] for of in threadpool_info() if of["user_api"] == "blas"}

    def watched(*args):
        seen.append(threads())
        return below(*args)

    monkeypatch.setattr(summation, "_below", watched)
    updates = np.ones((3, summation.LONG), np.float32)
    summation.total(updates, np.ones(3), np.arange(3))
    with threadpool_limits(limits=2):
        before = threads()
        summation.total(updates, np.ones(3), np.arange(3))
        assert threads() == before
    assert set.union(*seen) == {1}


@pytest.mark.parametrize("size", [5, summation.LONG])
def test_groups_are_sums_of_their_own_and_zero_where_nobody_is(size):
    rng = np.random.default_rng(0)
    updates, weights = rng.normal(size=(7, size)).astype(np.float32), rng.random(7)
    labels = np.array([2, 0, 2, 3, 0, 2, 3])
    found = summation.groups(updates, weights, labels, 4)
    expected = (labels == np.arange(4)[:, None]) * weights @ updates.astype(np.float64)
    assert found.dtype == np.float32
    assert not found[1].any()
    np.testing.assert_allclose(found, expected, atol=1e-5)
