"""Conformance: every aggregator, held to what all of them promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.parts.aggregators import AGGREGATORS
from fedray.parts.aggregators.base import Aggregator
from fedray.parts.aggregators.bucketing import Bucketing
from fedray.parts.aggregators.krum import Krum
from fedray.parts.aggregators.majority import Majority
from fedray.parts.aggregators.norm_bound import NormBound
from fedray.parts.aggregators.pairwise import Pairwise, pairwise_weights
from fedray.parts.arrivals import Arrivals, Combined


def arrivals(seed: int = 0, count: int = 7, size: int = 5, **changes) -> Arrivals:
    rng = np.random.default_rng(seed)
    none = np.zeros(count, np.int64)
    return Arrivals(
        updates=rng.normal(size=(count, size)), weights=np.full(count, 1 / count),
        clients=rng.permutation(count), staleness=none, examples=none + 3, steps=none + 2,
        lr=np.full(count, 0.1), losses=np.full(count, 1.0), shares=np.full(count, 1 / count),
        version=1, seed=seed,
    )._replace(**changes)  # fmt: skip


def reordered(group: Arrivals, order: np.ndarray) -> Arrivals:
    """The same updates, arriving in another order."""
    return Arrivals(*(v[order] if isinstance(v, np.ndarray) and len(v) else v for v in group))


def combined(kind: type[Aggregator], group: Arrivals) -> Combined:
    return kind().combine(group, {})


class Wrapped(NormBound):
    """Wrappers within each other, as `Aggregator` is called in the tests below."""

    def __init__(self) -> None:
        super().__init__(inner=Bucketing(size=2, inner=Krum(f=0)), bound=1.5)


class Several(Krum):
    """Multi-Krum."""

    def __init__(self) -> None:
        super().__init__(f=2, m="auto")


@pytest.mark.parametrize("kind", [*AGGREGATORS, Wrapped, Several])
class TestEveryAggregator:
    def test_does_not_change_its_inputs(self, kind):
        group = arrivals()
        kept = [np.copy(x) for x in group[:4]]
        combined(kind, group)
        assert all(np.array_equal(a, b) for a, b in zip(group, kept, strict=False))

    def test_does_not_depend_on_the_order_of_arrival(self, kind):
        group = arrivals()
        order = np.random.default_rng(1).permutation(len(group.clients))
        one, other = combined(kind, group), combined(kind, reordered(group, order))
        np.testing.assert_allclose(one.update, other.update, rtol=1e-12)
        np.testing.assert_allclose(one.weights[order], other.weights, rtol=1e-12)

    def test_the_weights_it_reports_are_those_it_used(self, kind):
        group = arrivals()
        found = combined(kind, group)
        assert found.weights.shape == (7,)
        assert np.isfinite(found.weights).all()
        if kind.linear:
            np.testing.assert_allclose(found.weights @ group.updates, found.update, rtol=1e-12)

    def test_of_equal_updates_is_that_update(self, kind):
        group = arrivals()
        one = group.updates[0]
        group.updates[:] = 0.3 * np.sign(one) if kind is Majority else one  # its are all as long
        np.testing.assert_allclose(combined(kind, group).update, group.updates[0], rtol=1e-12)

    @pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
    def test_makes_something_of_fewer_updates_than_it_asked_for(self, kind, count):
        """Dropouts and deadlines may leave any number: within the updates' range, no failure."""
        group = arrivals(count, count)
        found = combined(kind, group)
        low, high = (
            np.minimum(group.updates.min(axis=0), 0),
            np.maximum(group.updates.max(axis=0), 0),
        )
        if kind is not Majority:  # how far it goes is no coordinate's own
            assert ((low - 1e-12 <= found.update) & (found.update <= high + 1e-12)).all()
        assert np.isfinite(found.weights).all()

    def test_refuses_groups_that_are_too_small_with_a_key_of_its_own(self, kind):
        for count in (1, 2):
            if (found := kind().conflict(count)) is not None:
                record = kind()
                for name in found[0].split("."):
                    record = getattr(record, name)
                assert str(count) in found[1] or "of 1 updates" in found[1]

    def test_goes_on_from_what_it_remembers_in_the_updates_precision(self, kind):
        group = arrivals()
        group = group._replace(updates=group.updates.astype(np.float32))
        first = kind().combine(group, {})
        assert all(v.dtype == np.float32 and v.shape == (5,) for v in first.memory.values())
        assert len(first.memory) == kind().server_vectors
        assert kind().combine(group, first.memory).update.dtype == np.float32

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_keeps_shape_and_precision(self, kind, dtype):
        group = arrivals()
        found = combined(kind, group._replace(updates=group.updates.astype(dtype)))
        assert found.update.dtype == dtype
        assert found.update.shape == (5,)


def test_pairwise_weighs_three_clients_a_quarter_a_quarter_a_half():
    assert pairwise_weights(np.array([2, 0, 1])).tolist() == [0.5, 0.25, 0.25]
    assert pairwise_weights(np.array([4])).tolist() == [1.0]


@given(st.integers(1, 12), st.integers(0, 2**32))
def test_pairwise_is_the_running_average_itself(count, seed):
    group = arrivals(seed, count)
    running = None
    for k in np.argsort(group.clients):
        running = group.updates[k] if running is None else (running + group.updates[k]) / 2
    np.testing.assert_allclose(combined(Pairwise, group).update, running, rtol=1e-9)
