"""Falls and shifts of level, on curves whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from fedray.diagnosis.autopsy.falls import (
    PENALTY,
    change_points,
    losses,
    noise,
    shifts,
    worst_steps,
)
from fedray.report.figures import Curve, falls
from fedray.rng import Stream, generator


def curve(values, versions=None, higher=True) -> Curve:
    values = np.asarray(values, float)
    at = np.arange(len(values)) if versions is None else np.asarray(versions)
    best = np.maximum.accumulate(values) if higher else np.minimum.accumulate(values)
    return Curve("accuracy", at, at.astype(float), values, best, higher, 0)


def jitter(n: int, seed: int) -> np.ndarray:
    return generator(seed, Stream.DATA).standard_normal(n)


def by_hand(values, penalty):
    """The best split, by trying all of them."""
    n, best = len(values), (np.inf, ())
    for mask in range(2 ** (n - 1)):
        starts = [i + 1 for i in range(n - 1) if mask >> i & 1]
        cost = penalty * len(starts) + sum(
            np.square(p - p.mean()).sum() for p in np.split(np.asarray(values), starts)
        )
        best = min(best, (cost, tuple(starts)))
    return list(best[1])


@pytest.mark.parametrize("seed", range(8))
def test_the_split_is_the_best_of_all_splits(seed):
    values = jitter(9, seed) + np.repeat([0.0, 3.0, 1.0], [3, 2, 4])
    for penalty in (0.5, 2.0, 7.0):
        assert change_points(values, penalty).tolist() == by_hand(values, penalty)


def test_change_points_of_a_constructed_series_are_where_they_were_put():
    levels = np.repeat([0.2, 0.7, 0.6, 0.85], [30, 50, 40, 60])
    values = levels + 0.01 * jitter(180, 1)
    sigma = noise(values)
    assert sigma == pytest.approx(0.01, rel=0.3)
    assert change_points(values, PENALTY * sigma**2 * np.log(180)).tolist() == [30, 80, 120]


def test_noise_alone_gives_few_false_alarms():
    series = [curve(0.8 + 0.01 * jitter(100, 100 + seed)) for seed in range(200)]
    alarms = sum(bool(shifts(one)) for one in series)
    # About n P(chi2_1 > 3 log n) / 2 = 1% go down, and the noise level is itself estimated.
    assert alarms <= 12


def test_a_curve_that_stands_still_has_no_shift():
    assert shifts(curve(np.full(40, 0.9))) == []
    steady = np.full(60, 0.9)
    steady[[10, 30]] += 0.001  # one test sample more, now and then
    assert shifts(curve(steady)) == []


def test_only_shifts_that_go_down_count_and_they_say_when_the_level_was_back():
    levels = np.repeat([0.5, 0.8, 0.7, 0.82, 0.75], 20)
    found = shifts(curve(levels + 0.004 * jitter(100, 3), versions=np.arange(0, 200, 2)))
    assert [(s.from_version, s.to_version, s.recovered_version) for s in found] == [
        (78, 80, 120), (158, 160, None),
    ]  # fmt: skip
    assert [s.lost for s in found] == pytest.approx([0.1, 0.07], abs=0.006)


def test_where_low_is_good_a_shift_up_is_the_loss():
    levels = np.repeat([2.0, 1.0, 1.5], 20) + 0.01 * jitter(60, 4)
    (found,) = shifts(curve(levels, higher=False))
    assert (found.from_version, found.to_version) == (39, 40)
    assert found.lost == pytest.approx(0.5, abs=0.02)


def test_falls_are_those_of_the_report():
    of = curve([0.1, 0.5, 0.4, 0.2, 0.6, 0.9, 0.7, 0.8, 0.95, 0.94])
    found = losses(of, top=3)
    assert [(f.kind, f.from_version, f.to_version, f.recovered_version) for f in found] == [
        ("fall", 1, 3, 4), ("fall", 5, 6, 8),
    ]  # fmt: skip
    assert [f.lost for f in found] == [fall.lost for fall in falls(of)[:2]]  # 0.01: not worth it
    assert losses(of, top=1) == found[:1]


def test_the_largest_fall_is_looked_at_however_small():
    (found,) = losses(curve([0.1, 0.9, 0.899, 0.91, 0.9095]), top=3)
    assert (found.from_version, found.to_version) == (1, 2)


def test_a_shift_within_a_fall_is_that_fall_and_others_are_listed():
    levels = np.repeat([0.6, 0.9, 0.5, 0.7, 0.62], 25) + 0.003 * jitter(125, 6)
    of = curve(levels)
    found = losses(of, top=3)
    assert [loss.kind for loss in found] == ["fall", "shift"]
    fall, shift = found
    assert fall.from_version < 50 <= fall.to_version < 75
    assert (shift.from_version, shift.to_version) == (99, 100)


def test_the_steps_to_look_at_are_the_worst_ones():
    of = curve([0.9, 0.8, 0.79, 0.5, 0.49])
    (fall,) = losses(of, 1)
    assert worst_steps(of, fall, 9) == [1, 2, 3, 4]
    assert worst_steps(of, fall, 2) == [1, 3]


def test_steps_between_evaluations_share_what_was_lost_over_them():
    of = curve([0.9, 0.84, 0.7], versions=[0, 2, 6])
    (fall,) = losses(of, 1)  # 3 points per step, then 3.5
    assert worst_steps(of, fall, 4) == [3, 4, 5, 6]


def test_a_curve_of_one_point_is_no_trouble():
    assert losses(curve([0.5]), 3) == []
    assert losses(curve([]), 3) == []
    assert noise(np.array([1.0])) == 0.0
