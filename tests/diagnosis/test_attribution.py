"""What causes cost: games with known values, curves small enough to weigh by hand."""

from __future__ import annotations

from itertools import product
from math import fsum, inf, nan, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fedray.diagnosis.attribution.shares import (
    Cost,
    attribute,
    cost,
    costs,
    diverged,
    estimate,
    horizon,
    interactions,
    shapley,
)
from fedray.diagnosis.counterfactual.arms import ARMS, CAUSES, POOLED, RUN, Arm
from fedray.diagnosis.counterfactual.curve import Curve


def curve(figures, *, updates=None, times=None, loss=None):
    """Accuracies (or with `loss` losses) at versions 0, 1, ...; one update and 1 s each."""
    n = len(figures)
    versions = np.arange(n)
    return Curve(
        version=versions,
        virtual_time_s=np.asarray(versions if times is None else times, dtype=float),
        updates=versions if updates is None else np.asarray(updates),
        steps=versions,
        samples=versions,
        bytes=versions,
        accuracy=np.full(n, nan) if loss else np.asarray(figures, dtype=float),
        loss=np.asarray(figures if loss else np.ones(n), dtype=float),
        final=np.zeros(1),
    )


def game(value, players):
    """A game on sets of player numbers, as costs of all arms."""
    return {
        on: value({i for i, there in enumerate(on) if there})
        for on in product((True, False), repeat=players)
    }


numbers = st.floats(-1, 1, allow_subnormal=False)
tables = st.lists(numbers, min_size=16, max_size=16).map(lambda v: dict(zip(ARMS, v, strict=True)))


# --- Shapley values ------------------------------------------------------------------------


def test_causes_that_only_add_up_get_their_own_effects():
    effects = dict(zip(CAUSES, (0.5, 0.25, -0.125, 0.0), strict=True))
    table = {arm: 0.25 + fsum(effects[c] for c in arm.on) for arm in ARMS}
    assert shapley(table) == pytest.approx(effects, abs=1e-15)
    assert interactions(table) == pytest.approx(dict.fromkeys(interactions(table), 0.0), abs=1e-15)


def test_the_glove_game():
    # One left glove (0) and two right ones (1, 2); a pair is worth 1 (Shapley 1953: 2/3, 1/6, 1/6).
    gloves = game(lambda s: float(0 in s and len(s) > 1), 3)
    assert shapley(gloves, "abc") == pytest.approx({"a": 2 / 3, "b": 1 / 6, "c": 1 / 6})
    # I_ab = 1/2 (v(ab) - v(a) - v(b)) + 1/2 (v(abc) - v(ac) - v(bc) + v(c)) = 1/2 (1) + 1/2 (0);
    # I_bc = 1/2 (0) + 1/2 (1 - 1 - 1 + 0).
    assert interactions(gloves, "abc") == pytest.approx({"a*b": 0.5, "a*c": 0.5, "b*c": -0.5})


@pytest.mark.parametrize("needed", [{0}, {1, 3}, {0, 1, 2}, {0, 1, 2, 3}])
def test_those_who_are_all_needed_share_evenly_and_others_get_exactly_nothing(needed):
    unanimity = game(lambda s: float(needed <= s), 4)
    even = {c: 1 / len(needed) if i in needed else 0.0 for i, c in enumerate("abcd")}
    shares = shapley(unanimity, "abcd")
    assert shares == pytest.approx(even)
    assert [shares[c] for c in even if even[c] == 0] == [0.0] * (4 - len(needed))


def test_two_that_matter_only_together_interact_by_all_of_it():
    pairs = interactions({arm: 3.0 * (arm.non_iid and arm.drift) for arm in ARMS})
    assert pairs.pop("non_iid*drift") == pytest.approx(3.0)
    assert set(pairs.values()) == {0.0}
    assert len(pairs) == 5


def test_interactions_of_three_that_matter_only_together():
    # S without a, b: the only sets with a difference hold c; their chances are 1!1!/3! + 2!0!/3!.
    pairs = interactions({arm: float(arm.non_iid and arm.drift and arm.averaging) for arm in ARMS})
    together = {"non_iid*drift", "non_iid*averaging", "drift*averaging"}
    assert pairs == pytest.approx({p: 0.5 if p in together else 0.0 for p in pairs})


@settings(deadline=None)
@given(tables)
def test_shares_sum_to_the_gap(table):
    assert fsum(shapley(table).values()) == pytest.approx(table[RUN] - table[POOLED], abs=1e-14)


@settings(deadline=None)
@given(tables, tables)
def test_shares_of_a_sum_are_sums_of_shares(some, others):
    both = shapley({arm: some[arm] + others[arm] for arm in ARMS})
    apart = [shapley(some), shapley(others)]
    assert both == pytest.approx({c: apart[0][c] + apart[1][c] for c in CAUSES}, abs=1e-14)


@settings(deadline=None)
@given(tables)
def test_causes_that_do_the_same_get_the_same(table):
    swapped = {arm: table[arm._replace(drift=arm.staleness, staleness=arm.drift)] for arm in ARMS}
    even = {arm: (table[arm] + swapped[arm]) / 2 for arm in ARMS}
    shares, pairs = shapley(even), interactions(even)
    assert shares["drift"] == pytest.approx(shares["staleness"], abs=1e-14)
    assert pairs["non_iid*drift"] == pytest.approx(pairs["non_iid*staleness"], abs=1e-14)


@settings(deadline=None)
@given(tables, st.sets(st.sampled_from(CAUSES)))
def test_a_cause_whose_arms_coincide_gets_exactly_zero(table, inert):
    table = {arm: table[arm.computed_as(inert)] for arm in ARMS}
    shares, pairs = shapley(table), interactions(table)
    assert [shares[c] for c in inert] == [0.0] * len(inert)
    assert {v for pair, v in pairs.items() if set(pair.split("*")) & inert} <= {0.0}


@settings(deadline=None)
@given(tables)
def test_an_interaction_is_what_the_other_one_changes_in_a_share(table):
    """I_ab = share of a in the game where b is always on, minus where it is always off."""
    on, off = (
        {arm[1:]: table[arm] for arm in ARMS if arm.non_iid is there} for there in (True, False)
    )
    shares = [shapley(sub, CAUSES[1:]) for sub in (on, off)]
    pairs = interactions(table)
    for c in CAUSES[1:]:
        assert pairs[f"non_iid*{c}"] == pytest.approx(shares[0][c] - shares[1][c], abs=1e-14)


# --- costs of curves -------------------------------------------------------------------------


def all_arms(run, pooled=None, others=None):
    """Curves of all arms: the run's, the pooled one's, and one for those between."""
    between = run if others is None else others
    arms = dict.fromkeys(ARMS, between)
    return {**arms, RUN: run, POOLED: run if pooled is None else pooled}


def test_level_fall_and_area_of_an_accuracy():
    values = [0.1, 0.5, 0.4, 0.7, 0.5, 0.6, 0.8, 0.7, 0.75, 0.9, 0.8, *[0.85] * 7, 0.9, 0.6]
    assert len(values) == 20  # so that the last tenth are the last two
    found = costs(all_arms(curve(values)), "accuracy", "updates")[RUN]
    assert found == pytest.approx(Cost(-0.75, 0.3, -sum(values) / 20))


def test_a_loss_falls_upwards():
    found = costs(all_arms(curve([4, 1, 3, 2, 0.5, 1], loss=True)), "loss", "updates")[RUN]
    assert found == pytest.approx(Cost(1.0, 2.0, 11.5 / 6))


def test_a_curve_that_only_gets_better_has_no_fall():
    assert costs(all_arms(curve([0.1, 0.2, 0.2, 0.3])), "accuracy", "updates")[RUN].fall == 0.0


def test_an_arm_that_takes_in_what_the_run_lost_is_compared_over_the_whole_trace():
    # The others take in three updates a version where the run takes in two: both trained three.
    run = curve([0.0, 0.2, 0.4, 0.6, 0.5], updates=[0, 2, 4, 6, 8])
    more = curve([0.0, 0.3, 0.7, 0.1, 0.9], updates=[0, 3, 6, 9, 12])
    found = costs(all_arms(run, pooled=more), "accuracy", "updates")
    assert tuple(found[POOLED]) == pytest.approx((-0.9, 0.6, -0.4))
    assert tuple(found[RUN]) == pytest.approx((-0.5, 0.1, -0.34))


def test_at_equal_time_an_evaluation_counts_for_the_time_its_model_took():
    # Of 100 s the last tenth begins at 90 s: 2 s of the one at 92 s, 8 s of the last one.
    run = curve([0.0, 0.5, 0.6, 0.4], times=[0, 40, 92, 100])
    found = costs(all_arms(run), "accuracy", "time")[RUN]
    assert found.level == pytest.approx(-(2 * 0.6 + 8 * 0.4) / 10)
    assert found.area == pytest.approx(-(40 * 0.5 + 52 * 0.6 + 8 * 0.4) / 100)
    assert found.fall == pytest.approx(0.2)


def test_at_equal_time_all_end_when_the_quickest_does():
    # At 100 s the slow one is on the way to its third model, which counts for that.
    slow = curve([0.0, 0.8, 0.3, 0.9], times=[0, 80, 150, 200])
    found = costs(all_arms(curve([0.0, 0.5], times=[0, 100]), pooled=slow), "accuracy", "time")
    assert found[POOLED] == pytest.approx(Cost(-0.3, 0.5, -(80 * 0.8 + 20 * 0.3) / 100))


def test_of_models_made_at_one_time_the_last_one_counts():
    run = curve([0.0, 0.9, 0.5, 0.1, 0.7], times=[0, 50, 50, 100, 100])
    found = costs(all_arms(run), "accuracy", "time")[RUN]
    assert found == pytest.approx(Cost(-0.7, 0.8, -0.6))


def test_without_virtual_time_both_views_are_one():
    run = curve([0.0, 0.4, 0.3], times=[0, 0, 0])
    views = [costs(all_arms(run), "accuracy", view)[RUN] for view in ("updates", "time")]
    assert views[0] == views[1]


@pytest.mark.parametrize("broken", [nan, inf, 1e200])
def test_a_loss_that_is_not_finite_counts_as_the_worst_of_any_arm(broken):
    worst = curve([2.0, 7.0, 3.0, 3.0], loss=True)
    gone = curve([2.0, 1.0, broken, broken], loss=True)
    found = costs(all_arms(gone, others=worst), "loss", "updates")[RUN]
    assert found == pytest.approx(Cost(7.0, 6.0, (2 + 1 + 7 + 7) / 4))
    assert (diverged(gone), diverged(worst)) == (True, False)


def test_a_diverged_model_keeps_its_accuracy():
    gone = curve([0.1, 0.6, 0.1])
    gone.loss[1:] = nan
    assert costs(all_arms(gone), "accuracy", "updates")[RUN].level == -0.1


def test_equal_curves_cost_the_same_to_the_bit():
    figures = np.random.default_rng(5).uniform(size=777)
    times = np.cumsum(np.random.default_rng(6).uniform(size=777))
    one, within = curve(figures, times=times), None
    for _ in range(8):  # fresh memory, so other alignments
        other = curve(figures.copy(), times=times.copy())
        within = within or horizon([one], "accuracy")
        for view in ("updates", "time"):
            pair = [cost(c, "accuracy", view, within) for c in (one, other)]
            assert pair[0] == pair[1]


# --- over seeds --------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [[0.2, 0.5], [1.0, 2.0, 4.0], [3.0, -1.0, 0.5, 0.25, 7.0]])
def test_the_interval_is_students(values):
    n, mean = len(values), float(np.mean(values))
    se = float(np.std(values, ddof=1)) / sqrt(n)
    found = estimate(values)
    assert found.value == pytest.approx(mean)
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, n - 1, mean, se))


def test_one_seed_has_no_interval():
    assert estimate([0.25]) == (0.25, None, None)


def test_what_is_known_has_no_width():
    assert estimate([0.0], exact=True) == (0.0, 0.0, 0.0)


def test_the_interval_covers_as_often_as_it_says():
    """Three seeds without an effect exclude zero 5 times in 100, not 25 as a percentile would."""
    draws = np.random.default_rng(0).normal(size=(4000, 3))
    excluded = np.mean([low > 0 or high < 0 for _, low, high in map(estimate, draws.tolist())])
    assert abs(excluded - 0.05) < 4 * sqrt(0.05 * 0.95 / 4000)


@settings(deadline=None)
@given(st.lists(tables, min_size=1, max_size=4), st.sets(st.sampled_from(CAUSES)))
def test_the_means_sum_to_the_mean_gap(seeds, inert):
    seeds = [{arm: table[arm.computed_as(inert)] for arm in ARMS} for table in seeds]
    found = attribute(seeds, inert)
    assert fsum(s.value for s in found.shares.values()) == pytest.approx(found.gap.value, abs=1e-14)
    assert found.gap.value == pytest.approx(np.mean([s[RUN] - s[POOLED] for s in seeds]), abs=1e-14)
    assert all(found.shares[cause] == (0.0, 0.0, 0.0) for cause in inert)
    assert len(found.interactions) == 6
    for pair, index in found.interactions.items():
        if set(pair.split("*")) & inert:
            assert index == (0.0, 0.0, 0.0)


def test_a_negative_share_is_kept():
    effects = dict(zip(CAUSES, (0.3, 0.1, 0.0, -0.2), strict=True))
    table = {arm: fsum(effects[c] for c in arm.on) for arm in ARMS}
    found = attribute([table, table], ())
    assert found.shares["averaging"].value == pytest.approx(-0.2)
    assert found.gap.value == pytest.approx(0.2)
    assert Arm(False, False, False, True) in table
