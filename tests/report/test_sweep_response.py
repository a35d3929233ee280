"""Crossings and importance of sweeps whose answers are known by construction."""

from __future__ import annotations

import numpy as np
import pytest
from sweep_folder import GRID, by_severity, write_sweep

from fedray.report.diagnosis.effects import Effect
from fedray.report.sweep.importance import ANOVA, FOREST, importance
from fedray.report.sweep.merits import interval
from fedray.report.sweep.response import axes_of, crossing, curves, pairs, told
from fedray.report.sweep.settings import open_trials
from fedray.report.sweep.tables import summarise
from fedray.rng import Stream, generator

TWO = {"partition.severity": [0.0, 0.5, 1.0], "algorithm": ["fedavg", "fedprox"]}
NOISE = {7: 0.0, 8: 0.06, 9: -0.06}
"""Of a seed, the same for all settings, as partitions and delays are."""


def sweep_of(tmp_path, final, **more):
    return open_trials(write_sweep(tmp_path / "s", final, **more))


def lines(at, *, jitter=0.0, mode=1.0):
    """FedAvg is flat at 0.8; FedProx climbs through it at severity `at`, by 0.2 per unit.

    `jitter`: how much the difference of the two varies over seeds 7, 8, 9.
    """

    def final(settings, seed):
        value = 0.8 + NOISE[seed]
        if settings["algorithm"] == "fedprox":
            value += mode * 0.2 * (settings["partition.severity"] - at) + jitter * (seed - 8)
        return value

    return final


@pytest.mark.parametrize(
    ("y", "at"),
    [
        ([-1, 1, 2], 0.5), ([-1, -1, 3], 1.25), ([1, 2, 3], None), ([-2, 0, 2], 1.0),
        ([1, -1, 1], 1.5), ([0, 1, 2], None),
    ],
)  # fmt: skip
def test_lines_cross_where_they_change_sign_last(y, at):
    assert crossing([0.0, 1.0, 2.0], y) == at


def test_the_interval_is_students():
    # s = 1, n = 4: half = t(3, 0.975) / 2 = 3.18245 / 2.
    values = [float(v) for v in np.array([-1, -1, 1, 1]) * 0.75**0.5]
    found = interval(values)
    assert (found.low, found.high) == pytest.approx((-1.59122, 1.59122), abs=1e-5)
    assert interval([2.0]) == Effect(2.0)


def test_a_crossing_is_found_at_measured_severity(tmp_path):
    """Severity s measures 0.05 + 0.9 s; the curves meet at s = 0.6, so at 0.59."""
    of = sweep_of(tmp_path, lines(0.6), grid=TWO)
    axes = axes_of(of)
    assert (axes.key, axes.measured, axes.series) == ("partition.severity", True, "algorithm")
    (pair,) = pairs(of, axes)
    assert (pair.verdict, pair.below, pair.above) == ("crosses", "fedavg", "fedprox")
    assert pair.at == pytest.approx(0.05 + 0.9 * 0.6)
    assert pair.words == "FedProx overtakes FedAvg above measured severity 0.59"


def test_common_random_numbers_tell_what_the_curves_own_intervals_do_not(tmp_path):
    of = sweep_of(tmp_path, lines(0.6), grid=TWO)
    fedavg, fedprox = curves(of, axes_of(of))
    assert fedavg.x == pytest.approx([0.05, 0.5, 0.95])
    assert fedavg.y[0].low < fedprox.y[0].value < fedavg.y[0].high
    assert fedprox.y[2].value == pytest.approx(0.88)
    assert pairs(of, axes_of(of))[0].verdict == "crosses"


def test_a_crossing_that_could_be_chance_is_not_told(tmp_path):
    """Differences of up to 0.12 that vary by 0.2 over seeds."""
    of = sweep_of(tmp_path, lines(0.6, jitter=0.1), grid=TWO)
    (pair,) = pairs(of, axes_of(of))
    assert (pair.verdict, pair.below, pair.above) == ("open", None, None)
    assert "cannot be told apart at any measured severity" in pair.words
    assert "mean curves cross at 0.59" in pair.words


def test_sure_on_one_side_only_is_ahead_and_no_crossing(tmp_path):
    """-0.12, -0.02 and +0.08, with a half width of 4.3 * 0.04 / sqrt(3) = 0.099."""
    of = sweep_of(tmp_path, lines(0.6, jitter=0.04), grid=TWO)
    (pair,) = pairs(of, axes_of(of))
    assert (pair.verdict, pair.above) == ("ahead", "fedavg")
    assert pair.words == (
        "FedAvg is ahead of FedProx at measured severity 0.05; elsewhere they cannot be told apart"
    )


def test_one_seed_tells_nothing(tmp_path):
    of = sweep_of(tmp_path, lines(0.6), grid=TWO, seeds=1)
    (pair,) = pairs(of, axes_of(of))
    assert pair.verdict == "open"
    assert "on one seed" in pair.words
    assert told(Effect(1.0)) == 0


def test_less_is_better_where_the_metric_says_so(tmp_path):
    """Loss is 1.2 minus accuracy here, so that the same curve wins."""
    of = sweep_of(tmp_path, lines(0.6), grid=TWO, metric="loss")
    (pair,) = pairs(of, axes_of(of))
    assert (pair.below, pair.above) == ("fedavg", "fedprox")


def test_other_keys_are_averaged_where_both_have_them(tmp_path):
    """A failed trial of one algorithm must not shift the comparison at its severity."""

    def final(settings, seed):
        return lines(0.6)(settings, seed) - 0.3 * (settings["client.epochs"] == 9)

    grid = {**TWO, "client.epochs": [1, 9]}
    of = sweep_of(tmp_path, final, grid=grid, states={"t0000": "failed"})
    axes = axes_of(of)
    assert axes.averaged == ("client.epochs",)
    (pair,) = pairs(of, axes)
    assert pair.at == pytest.approx(0.59)


def test_without_a_partition_the_key_itself_is_the_axis(tmp_path):
    """Crossing at lr 0.1 in the middle of 0.01 and 1, as its logarithm is what is even."""

    def final(settings, seed):
        up = np.log10(settings["client.lr"]) + 1.0
        return 0.8 + NOISE[seed] + (0.1 * up if settings["algorithm"] == "fedprox" else 0)

    of = sweep_of(
        tmp_path, final, grid={"client.lr": [0.01, 1.0], "algorithm": ["fedavg", "fedprox"]}
    )
    axes = axes_of(of)
    assert (axes.key, axes.measured, axes.log) == ("client.lr", False, True)
    (pair,) = pairs(of, axes)
    assert pair.at == pytest.approx(0.1)
    assert pair.words == "FedProx overtakes FedAvg above lr 0.10"


def test_words_alone_have_no_axis(tmp_path):
    of = sweep_of(tmp_path, lambda *_: 0.5, grid={"algorithm": ["fedavg", "fedprox"]})
    assert axes_of(of) is None
    assert summarise(of.folder)["crossovers"] == []


def test_analysis_of_variance_is_exact_on_a_grid(tmp_path):
    """y = a + 2b + ab' with a, b in {-1, 1}: shares are as 1, 4 and 1, nothing for c or noise."""

    def final(settings, seed):
        a, b = settings["client.lr"], settings["client.momentum"]
        return 0.5 + 0.01 * (a + 2 * b + a * b)

    grid = {"client.lr": [-1, 1], "client.momentum": [-1, 1], "client.epochs": [1, 2, 3]}
    of = sweep_of(tmp_path, final, grid=grid, seeds=2)
    found = importance(of)
    assert found.method == ANOVA
    assert list(found.shares.values()) == pytest.approx([1 / 6, 4 / 6, 0])
    assert found.together["client.lr*client.momentum"] == pytest.approx(1 / 6)
    assert found.seeds == pytest.approx(0)
    assert found.explained == pytest.approx(1)


def test_what_seeds_do_is_not_a_keys_doing(tmp_path):
    def final(settings, seed):
        return 0.5 + 0.02 * (seed == 7) + 0.01 * (settings["client.lr"] > 0.1)

    of = sweep_of(tmp_path, final, grid={"client.lr": [0.1, 0.2], "client.epochs": [1, 2]}, seeds=2)
    found = importance(of)
    # Variances of two halves that lie 0.01 and 0.02 apart: as 1 to 4.
    assert found.shares["client.lr"] == pytest.approx(0.2)
    assert found.seeds == pytest.approx(0.8)


def test_a_grid_with_a_failed_trial_is_analysed_by_its_means(tmp_path):
    of = sweep_of(tmp_path, by_severity, grid=GRID, states={"t0004": "failed"})
    found = importance(of)
    assert (found.method, found.seeds) == (ANOVA, None)
    assert found.shares["partition.severity"] > found.shares["algorithm"]
    assert found.explained == pytest.approx(1)


def test_a_search_asks_a_forest(tmp_path):
    """y depends on lr, a little on the algorithm, and not on momentum."""
    rng = generator(1, Stream.DATA)
    draws = [
        {"client.lr": float(10 ** rng.uniform(-3, 0)), "client.momentum": float(rng.uniform()),
         "algorithm": str(rng.choice(["fedavg", "fedprox"]))}
        for _ in range(40)
    ]  # fmt: skip

    def final(settings, seed):
        return (
            0.9
            - 0.1 * (np.log10(settings["client.lr"]) + 1) ** 2
            + 0.05 * (settings["algorithm"] == "fedprox")
        )

    search = {key: {"uniform": [0, 1]} for key in draws[0]}
    of = sweep_of(tmp_path, final, search=search, draws=draws, seeds=1)
    found = importance(of)
    assert found.method == FOREST
    assert found.shares["client.lr"] > 0.5
    assert found.shares["client.lr"] > found.shares["algorithm"] > found.shares["client.momentum"]
    assert found.explained > 0.6
    assert axes_of(of) is None


def test_a_forest_that_predicts_nothing_says_nothing(tmp_path):
    rng = generator(2, Stream.DATA)
    draws = [{"a.x": float(rng.uniform()), "a.y": float(rng.uniform())} for _ in range(24)]
    noise = {draw["a.x"]: float(rng.normal(0.5, 0.1)) for draw in draws}
    search = {"a.x": {"uniform": [0, 1]}, "a.y": {"uniform": [0, 1]}}
    of = sweep_of(tmp_path, lambda s, _: noise[s["a.x"]], search=search, draws=draws, seeds=1)
    assert importance(of) is None
    few = open_trials(
        write_sweep(tmp_path / "few", lambda s, _: s["a.x"], search=search, draws=draws[:5])
    )
    assert importance(few) is None


def test_intervals_stay_within_what_can_be(tmp_path):
    of = sweep_of(tmp_path, lambda _, seed: {7: 0.99, 8: 0.8, 9: 0.99}[seed], grid=TWO)
    assert of.settings[0].value.high == 1.0
    assert {effect.high for each in curves(of, axes_of(of)) for effect in each.y} == {1.0}
    assert of.settings[0].value.low > 0
