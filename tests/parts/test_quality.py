"""Qualities: closed forms, and Shapley values against their definition over all subsets."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from fedray.config.load import load
from fedray.errors import InputError
from fedray.parts.quality.base import Verdict, reweighed
from fedray.parts.quality.plain import Cosine, Loss, Validation
from fedray.parts.quality.shapley import Shapley


class Table:
    """A bench whose versions are worth what a table says; counts what is asked."""

    classification, version, seed = True, 3, 0

    def __init__(self, worth, count: int) -> None:
        self._worth, self.asked = worth, []
        self.shares = np.full(count, 1 / count)
        self.updates = np.eye(count)

    def of(self, subsets):
        self.asked += subsets
        return [Verdict(0.0, self._worth(s)) for s in subsets]

    def own(self):
        return [Verdict(0.1 * i, 1 - 0.1 * i) for i in range(len(self.shares))]


def random_game(count: int, seed: int = 0):
    """Any number for every subset."""
    rng = np.random.default_rng(seed)
    worth = {
        s: float(v)
        for size in range(count + 1)
        for s, v in zip(
            combinations(range(count), size), rng.normal(size=math.comb(count, size)), strict=True
        )
    }
    return worth.__getitem__


def exact(worth, count: int) -> np.ndarray:
    """phi_i = sum over S without i of |S|! (N - |S| - 1)! / N! (V(S + i) - V(S))."""
    found = np.zeros(count)
    for i in range(count):
        others = [j for j in range(count) if j != i]
        for size in range(count):
            weight = math.factorial(size) * math.factorial(count - size - 1)
            for s in combinations(others, size):
                gain = worth(tuple(sorted((*s, i)))) - worth(s)
                found[i] += weight / math.factorial(count) * gain
    return found


WHOLE = {"between": 0.0, "within": 0.0, "tolerance": 0.0}


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_untruncated_values_of_few_are_exactly_the_shapley_values(count):
    worth = random_game(count)
    bench = Table(worth, count)
    found = Shapley(**WHOLE).values(bench)
    np.testing.assert_allclose(found, exact(worth, count), rtol=1e-12, atol=1e-14)
    assert len(bench.asked) == len(set(bench.asked)) == 2**count  # everything asked for once


def test_sampled_values_sum_to_the_gain_and_come_near_the_exact_ones():
    """Each of 8 x 40 orders adds V(all) - V(none); values are means of 320 draws."""
    worth = random_game(8)
    found = Shapley(sweeps=40, **WHOLE).values(Table(worth, 8))
    everything, nothing = worth(tuple(range(8))), worth(())
    assert found.sum() == pytest.approx(everything - nothing)
    # A marginal of two independent N(0, 1) has variance 2.
    np.testing.assert_allclose(found, exact(worth, 8), atol=5 * math.sqrt(2 / 320))


def test_dummies_add_nothing_and_twins_the_same():
    """Update 2 adds nothing to any subset; 0 and 1 are exchangeable."""

    def worth(s):
        return 0.2 * len({0, 1} & set(s)) ** 2

    found = Shapley(**WHOLE).values(Table(worth, 3))
    assert found[2] == 0.0
    assert found[0] == pytest.approx(found[1]) == pytest.approx(0.4)


def test_guided_orders_put_everybody_first_equally_often():
    """Where only the first of an order adds anything, two sweeps already tell it exactly."""
    found = Shapley(sweeps=2, **WHOLE).values(Table(lambda s: float(len(s) > 0), 8))
    np.testing.assert_allclose(found, np.full(8, 1 / 8))


def test_a_version_that_gains_little_is_not_looked_into():
    bench = Table(lambda s: 0.009 * (len(s) == 5), 5)
    assert not Shapley(between=0.01).values(bench).any()
    assert len(bench.asked) == 2


def test_an_order_ends_when_nothing_is_left_to_gain():
    """Anyone brings all but 0.0005: after the first, the others of an order add nothing."""
    bench = Table(lambda s: 0.0 if not s else 1.0 if len(s) == 4 else 0.9995, 4)
    found = Shapley(within=0.001).values(bench)
    np.testing.assert_allclose(found, np.full(4, 0.9995 / 4))
    assert {len(s) for s in bench.asked} == {0, 1, 4}


def test_sweeps_end_when_values_have_settled():
    asked = {}
    for sweeps in (3, 30):
        bench = Table(lambda s: 0.1 * len(s), 9)
        Shapley(sweeps=sweeps).values(bench)
        asked[sweeps] = len(bench.asked)
    assert asked[3] == asked[30]  # additive: the second sweep says what the first did


def test_scores_by_hand():
    bench = Table(None, 3)
    np.testing.assert_allclose(Validation().scores(bench), [1.0, 0.9, 0.8])
    np.testing.assert_allclose(Loss().scores(bench), np.exp([0.0, -0.1, -0.2]))
    bench.updates = np.array([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
    bench.shares = np.array([0.5, 0.25, 0.25])  # mean (-0.25, 0.5)
    length = math.hypot(0.25, 0.5)
    np.testing.assert_allclose(Cosine().scores(bench), [0.0, 0.5 / length, 0.25 / length])


def test_weights_go_as_shares_times_powers_of_scores():
    shares = np.array([0.5, 0.3, 0.2])
    np.testing.assert_allclose(
        reweighed(shares, np.array([1.0, 2.0, 0.0]), 2.0), np.array([0.5, 1.2, 0.0]) / 1.7
    )
    assert reweighed(shares, np.array([0.3, 0.1, 0.9]), 0.0) is shares
    assert reweighed(shares, np.zeros(3), 1.0) is shares
    assert reweighed(shares, np.array([np.nan, 1.0, 1.0]), 1.0)[0] == 0.0


@pytest.mark.parametrize(("settings", "key"), [
    ({"server.schedule.mode": "async"}, "server.schedule.mode"),
    ({"server.schedule.mode": "buffered", "server.schedule.buffer_size": 1},
     "server.schedule.buffer_size"),
    ({"server.aggregator.kind": "median", "server.weighting": "uniform"},
     "server.aggregator.kind"),
    ({"algorithm": "scaffold"}, "method.kind"),
    ({"diagnosis.decompose": 3}, "diagnosis.decompose"),
    ({"server.quality": {"kind": "none", "gamma": 2.0}}, "server.quality.gamma"),
])  # fmt: skip
def test_what_does_not_go_with_quality_is_refused_with_its_key(settings, key):
    with pytest.raises(InputError) as caught:
        load({}, {"server.quality": "loss", **settings})
    assert caught.value.key == key
    assert "\n" not in str(caught.value)


def test_is_picked_by_name_and_by_a_word():
    assert load({"algorithm": "gtg_shapley"}).config.server.quality == Shapley()
    assert load({}, ["server.quality=cosine"]).config.server.quality == Cosine()
