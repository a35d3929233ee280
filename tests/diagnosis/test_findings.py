"""diagnosis.json, arms.parquet and the paragraphs, from curves made by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from math import fsum, nan

import numpy as np
import pyarrow.parquet as pq
import pytest

from fedray.config import schema
from fedray.diagnosis.attribution.findings import findings, table
from fedray.diagnosis.attribution.phrases import Phrasing
from fedray.diagnosis.attribution.words import words
from fedray.diagnosis.counterfactual.arms import ARMS, CAUSES, POOLED, RUN
from fedray.diagnosis.counterfactual.curve import Curve
from fedray.report import tables

FRESH = {"staleness": "every update was trained from the newest version"}
VERSIONS = 40


def curve(level, *, fall=0.0, per_version=10, loss=None):
    """Rises to `level` within 4 versions and stays, but for one fall at version 20."""
    version = np.arange(VERSIONS + 1)
    accuracy = np.minimum(level, 0.1 + 0.25 * version)
    accuracy[20] -= fall
    return Curve(
        version=version,
        virtual_time_s=2.0 * version,
        updates=per_version * version,
        steps=100 * version,
        samples=1000 * version,
        bytes=5000 * version,
        accuracy=accuracy if loss is None else np.full(VERSIONS + 1, nan),
        loss=1 - accuracy if loss is None else loss - accuracy,
        final=np.zeros(2),
    )


def study(
    effects, *, seeds=3, together=0.0, falls=None, inert=(), sway=0.001, pooled=0.9,
    controls=True, full=0.8, full_fall=0.01, loss=None,
):  # fmt: skip
    """Curves of all computed arms: the level loses `effects` of what is on, and so with falls.

    `together` is lost where non-IID data and drift are both on. Seeds sway about 0.
    """
    curves = {}
    for seed in range(seeds):
        off = sway * (seed - (seeds - 1) / 2)
        by_name = {}
        for arm in {arm.computed_as(inert) for arm in ARMS}:
            on = [cause for cause in arm.on if cause not in inert]
            level = pooled - fsum(effects.get(c, 0) + off for c in on)
            level -= together * (arm.non_iid and arm.drift)
            fall = 0.01 + fsum((falls or {}).get(c, 0) + off / 10 for c in on)
            by_name[arm.name] = curve(level, fall=fall, loss=loss)
        if controls:
            by_name["reference"] = curve(pooled + 0.002 + off, fall=0.01, loss=loss)
            by_name["participation"] = curve(full + off, fall=full_fall + off / 10, loss=loss)
        curves[7 + seed] = by_name
    return curves


def found_in(curves, *, inert=None, classification=True, window=None, notes=()):
    found = findings(
        schema.Config(name="mine"), 30, curves, inert or {},
        window=window, notes=notes, classification=classification,
    )  # fmt: skip
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert 2 <= len(found["words"]) <= 4
    for paragraph in found["words"]:
        assert not {"nan", "None", "none", "-0.0"} & set(paragraph.replace(",", " ").split())
        assert "  " not in paragraph
        assert ".." not in paragraph
        assert paragraph.endswith(".")
    return found


BAD = {"non_iid": 0.06, "drift": 0.05, "averaging": -0.02}
FALLS = {"non_iid": 0.05, "averaging": 0.03}


# --- diagnosis.json ----------------------------------------------------------------------------


def test_every_key_is_there_and_says_what_it_should():
    found = found_in(study(BAD, falls=FALLS, inert=FRESH), inert=FRESH, notes=["A limit."])
    assert (found["name"], found["algorithm"], found["mode"]) == ("mine", "fedavg", "sync")
    assert (found["clients"], found["seeds"], found["metric"]) == (30, [7, 8, 9], "accuracy")
    assert (found["versions"], found["updates"], found["virtual_time_s"]) == (40, 400, 80.0)
    assert (found["window"], found["inert"], found["notes"]) == (None, FRESH, ["A limit."])
    assert found["arms"] == {"all": 48, "computed": 24}
    assert found["run"]["level"]["value"] == pytest.approx(0.81)
    assert found["run"]["fall"]["value"] == pytest.approx(0.09)
    assert found["pooled"]["level"]["value"] == pytest.approx(0.9)
    for part in (found, found["by_time"]):
        level, fall = part["level"], part["fall"]
        assert level["gap"]["value"] == pytest.approx(0.09)
        assert fall["gap"]["value"] == pytest.approx(0.08)
        for cause in CAUSES:
            assert level["shares"][cause]["value"] == pytest.approx(BAD.get(cause, 0), abs=1e-12)
            assert fall["shares"][cause]["value"] == pytest.approx(FALLS.get(cause, 0), abs=1e-12)
        assert level["shares"]["staleness"] == {"value": 0.0, "low": 0.0, "high": 0.0}
        assert list(level["interactions"]) == [
            "non_iid*drift", "non_iid*staleness", "non_iid*averaging",
            "drift*staleness", "drift*averaging", "staleness*averaging",
        ]  # fmt: skip


@pytest.mark.parametrize("classification", [True, False])
def test_shares_sum_to_the_gap_and_the_gap_is_the_difference_of_the_two(classification):
    curves = study(BAD, falls=FALLS, together=0.03, loss=None if classification else 5.0)
    found = found_in(curves, classification=classification)
    sign = -1 if classification else 1
    for view in (found, found["by_time"]):
        for measure in ("level", "fall", "area"):
            shares = [share["value"] for share in view[measure]["shares"].values()]
            assert fsum(shares) == pytest.approx(view[measure]["gap"]["value"], abs=1e-12)
    for measure, way in (("level", sign), ("fall", 1), ("area", sign)):
        difference = found["run"][measure]["value"] - found["pooled"][measure]["value"]
        assert found[measure]["gap"]["value"] == pytest.approx(way * difference)


def test_controls_are_set_against_the_run_and_the_pooled_arm():
    found = found_in(study(BAD, falls=FALLS, full=0.83, full_fall=0.02))
    full, reference = found["participation"], found["reference"]
    assert full["clients"] == 30
    assert full["level"]["value"] == pytest.approx(0.83)
    assert full["level_gain"]["value"] == pytest.approx(0.02)  # the run ends at 0.81
    assert full["fall_gain"]["value"] == pytest.approx(0.07)  # the run falls by 0.09
    assert reference["difference"]["value"] == pytest.approx(-0.002)
    without = found_in(study(BAD, controls=False))
    assert without["participation"] is None
    assert without["reference"] is None


def test_a_loss_is_worse_upwards():
    found = found_in(study(BAD, full=0.83, loss=2.0), classification=False)
    assert found["metric"] == "loss"
    assert found["run"]["level"]["value"] == pytest.approx(1.19)
    assert found["level"]["gap"]["value"] == pytest.approx(0.09)
    assert found["participation"]["level_gain"]["value"] == pytest.approx(0.02)
    assert found["reference"]["difference"]["value"] == pytest.approx(0.002)


def test_full_participation_is_compared_at_equal_versions():
    """All 30 clients take in as many updates in 14 versions as 10 do in 40."""
    curves = study(BAD, falls=FALLS)
    for by_name in curves.values():
        by_name["participation"] = curve(0.83, fall=0.05, per_version=30)
    assert found_in(curves)["participation"]["fall"]["value"] == pytest.approx(0.05)


def test_equal_time_weighs_by_time():
    """The last 4 evaluations count the same, but all of the last tenth of time is the last one."""
    curves = study(BAD, sway=0.0)
    for by_name in curves.values():
        by_name["run"].accuracy[-1] = 0.5
        for c in by_name.values():
            c.virtual_time_s[-1] = 1000.0
    found = found_in(curves)
    assert found["level"]["gap"]["value"] == pytest.approx(0.9 - (3 * 0.81 + 0.5) / 4)
    assert found["by_time"]["level"]["gap"]["value"] == pytest.approx(0.9 - 0.5)


def test_one_seed_has_no_intervals_but_what_is_known():
    found = found_in(study(BAD, seeds=1, inert=FRESH), inert=FRESH)
    assert found["level"]["gap"] == {"value": pytest.approx(0.09), "low": None, "high": None}
    assert found["level"]["shares"]["staleness"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_arms_that_diverge_are_said_and_leave_only_finite_figures():
    curves = study(BAD, loss=2.0)
    for by_name in curves.values():
        by_name["drift"].loss[5:] = nan
        by_name["run"].loss[30:] = np.inf
    found = found_in(curves, classification=False)
    assert found["run"]["level"]["value"] == pytest.approx(1.9)  # the worst: all start there
    assert any("drift, run" in note and "largest finite" in note for note in found["notes"])
    curves = study(BAD)
    curves[9]["drift"].loss[5:] = nan
    kept = found_in(curves)
    assert any("its accuracy counts as it is" in note for note in kept["notes"])


def test_refused_updates_are_said():
    curves = study(BAD)
    curves[7]["run"] = replace(curves[7]["run"], rejected=np.array([0, 40]))
    (note,) = [n for n in found_in(curves)["notes"] if "not finite" in n]
    assert "The run refused 40 of 1,240 updates" in note


def test_few_evaluations_are_said():
    short = {
        seed: {
            name: Curve(*(value[:15] for value in vars(c).values()))
            for name, c in by_name.items()
        }
        for seed, by_name in study(BAD).items()
    }  # fmt: skip
    assert any("15 evaluations the level is the mean of 1" in n for n in found_in(short)["notes"])


# --- arms.parquet --------------------------------------------------------------------------------


def test_all_arms_have_rows_and_coinciding_ones_are_repeated(tmp_path):
    curves = study(BAD, inert=FRESH)
    made = table(curves, FRESH)
    assert made.schema == tables.ARMS
    assert made.num_rows == 3 * (16 + 2) * (VERSIONS + 1)
    tables.write_table(made, tmp_path / "arms.parquet")
    rows = pq.read_table(tmp_path / "arms.parquet").to_pylist()
    for arm in ARMS:
        of = [row for row in rows if row["arm"] == arm.name and row["seed"] == 8]
        as_if = arm.computed_as(FRESH).name
        assert [row["accuracy"] for row in of] == curves[8][as_if].accuracy.tolist()
        assert {row["computed_as"] for row in of} == {as_if}
        assert {tuple(row[cause] for cause in CAUSES) for row in of} == {tuple(arm)}
    control = [row for row in rows if row["arm"] == "participation"]
    assert {row[cause] for row in control for cause in CAUSES} == {None}
    assert control[-1]["bytes"] == 5000 * VERSIONS


def test_a_regression_has_no_accuracies():
    made = table(study(BAD, loss=2.0), {})
    assert made["accuracy"].null_count == made.num_rows
    assert made["loss"].null_count == 0


# --- words ------------------------------------------------------------------------------


def test_level_and_falls_are_answered_apart():
    level, falls, *_ = found_in(study(BAD, falls=FALLS, full=0.79, inert=FRESH), inert=FRESH)[
        "words"
    ]
    assert "The run ends 9.0 points (95% interval 8.3 to 9.7) below pooled training" in level
    assert "81.0% against 90.0%" in level
    assert "Most of the gap, 6.0 points (5.8 to 6.2), is due to non-IID data" in level
    assert "client drift cost 5.0 points (4.8 to 5.2)." in level
    assert "Averaging helped by 2.0 points (1.8 to 2.2)." in level
    assert "staleness is exactly zero: every update was trained from the newest version." in level
    assert "so partial participation does not explain the level" in level
    assert "it is 9.0 points (8.9 to 9.1) in the run and 1.0 points in pooled training" in falls
    assert "Most of the difference, 5.0 points (5.0 to 5.0), is due to non-IID data" in falls
    assert "averaging added 3.0 points" in falls
    assert "Not distinguishable from zero: client drift (0.0 points" in falls
    assert (
        "largest fall would be 1.0 points, so falls come mostly from partial participation" in falls
    )


def test_a_share_beyond_the_gap_is_said_to_be():
    level = found_in(study({"non_iid": 0.1, "averaging": -0.04}))["words"][0]
    assert "Non-IID data cost 10.0 points (9.8 to 10.2), more than the whole gap." in level


def test_the_largest_of_many_small_shares_is_not_most_of_it():
    level = found_in(study(dict(zip(CAUSES, (0.03, 0.02, 0.02, 0.02), strict=True))))["words"][0]
    assert "The largest share, 3.0 points" in level


def lopsided(effects, doubtful):
    """Every seed has these effects, but for a share that is larger, and about zero or above."""
    curves = study({**effects, doubtful: 0.0}, sway=0.0)
    for by_name, extra in zip(curves.values(), (-0.07, 0.05, 0.2), strict=True):
        for name, c in by_name.items():
            if name == "run" or doubtful in name.split("+"):
                c.accuracy[:] -= extra
    return curves


@pytest.mark.parametrize("cost", [0.03, 0.05])
def test_only_what_leads_over_all_causes_is_called_the_largest(cost):
    """Averaging costs 6 points on average, from -7 to 20, so 3 or 5 that are sure lead nobody."""
    found = found_in(lopsided({"staleness": cost}, "averaging"))
    assert found["level"]["shares"]["averaging"]["value"] == pytest.approx(0.06)
    assert found["level"]["shares"]["averaging"]["low"] < 0
    found["level"]["gap"] = {"value": 0.09, "low": 0.08, "high": 0.1}
    level = words(found)[0]
    assert f"Staleness cost {100 * cost:.1f} points" in level
    assert "Not distinguishable from zero: averaging (6.0 points" in level
    assert "largest" not in level
    assert "Most of" not in level


def test_a_wall_clock_has_no_more_seeds():
    found = found_in(study(BAD, seeds=1))
    said = words({**found, "clock": "wall"})[-1]
    assert "a run by the wall clock has only the seed that it was recorded with" in said
    assert "--seeds" not in said


def test_more_gradients_of_full_participation_are_said():
    found = found_in(study(BAD, full=0.85))
    assert "times the gradient" not in found["words"][0]
    found["participation"]["compute_ratio"] = 7.51
    assert (
        "in every version, and 7.5 times the gradient evaluations, the run would end at 85.0%"
        in words(found)[0]
    )


def test_a_run_without_a_gap_has_nothing_to_explain():
    found = found_in(study({}, sway=0.0005))
    explained = "so there is no loss of accuracy to explain."
    assert f"is not distinguishable from zero, {explained}" in found["words"][0]
    assert "due to" not in found["words"][0]
    equal = found_in(study({}, sway=0.0))
    assert f"is negligible, {explained}" in equal["words"][0]


def test_a_gap_that_so_few_seeds_cannot_tell_is_not_called_nothing():
    found = found_in(study({"non_iid": 0.03}, sway=0.02, falls=FALLS, full_fall=0.05))
    level = found["words"][0]
    assert "is not distinguishable from zero with 3 seeds, but may be as large as" in level
    assert "to explain" not in level
    assert (
        "No single cause is distinguishable from zero: non-IID data (3.0 points, -2.0 to 8.0)"
        in level
    )


def test_falls_that_so_few_seeds_cannot_tell_are_not_called_nothing():
    curves = study(BAD)
    for by_name, fall in zip(curves.values(), (0.01, 0.03, 0.2), strict=True):
        by_name["run"] = curve(0.81, fall=fall)
    found = found_in(curves)
    assert found["run"]["fall"]["low"] == 0.0  # what no fall is below
    falls = found["words"][1]
    assert "that is not distinguishable from zero" in falls
    assert "No single cause is distinguishable from zero" in falls
    assert falls.endswith("more seeds would tell.")


def test_causes_that_cancel_are_still_named():
    level = found_in(study({"non_iid": 0.04, "averaging": -0.04}))["words"][0]
    assert "no loss of accuracy to explain" in level
    assert "Non-IID data cost 4.0 points" in level
    assert "Averaging helped by 4.0 points" in level


def test_a_run_above_pooled_training_is_said_to_be():
    level = found_in(study({"averaging": -0.05}))["words"][0]
    assert "(95% interval 4.0 to 6.0) above pooled training: 95.0% against 90.0%" in level
    assert "Averaging helped by 5.0 points" in level


def test_one_seed_is_said_to_be_one():
    found = found_in(study(BAD, seeds=1))
    assert (
        "On this seed, the run ends 9.0 points below pooled training: 81.0% against 90.0%."
        in found["words"][0]
    )
    assert "Averaging helped by 2.0 points." in found["words"][0]
    assert "Negligible: staleness (0.0 points)." in found["words"][0]
    assert all(paragraph.startswith("On this seed, ") for paragraph in found["words"][:-1])
    assert "one seed (7)" in found["words"][-1]
    assert "diagnose with --seeds 3 or more" in found["words"][-1]
    assert not any("interval " in paragraph for paragraph in found["words"])


def test_causes_that_work_together_are_explained():
    found = found_in(study({"non_iid": 0.01, "drift": 0.01}, together=0.06))
    (said,) = [p for p in found["words"] if "amplify each other" in p]
    assert "Non-IID data and client drift amplify each other: each costs 6.0 points" in said
    assert "largely because clients drift" in said
    assert not any("amplify each other" in p for p in found_in(study(BAD, together=0.02))["words"])


def test_causes_that_offset_each_other_are_explained():
    found = found_in(study({"non_iid": 0.08, "drift": 0.08}, together=-0.07))
    (said,) = [p for p in found["words"] if "offset each other" in p]
    assert "each costs 7.0 points (7.0 to 7.0) less where the other is present" in said


@pytest.mark.parametrize(
    ("full_fall", "said"),
    [
        (0.01, "so falls come mostly from partial participation"),
        (0.06, "so falls come in part from partial participation"),
        (0.085, "so partial participation explains little of it"),
        (0.15, "even more, so partial participation does not explain it"),
        (0.09, "the difference from the run's (0.0 points"),
    ],
)
def test_what_full_participation_says_of_falls(full_fall, said):
    curves = study(BAD, falls=FALLS, inert=FRESH, full_fall=full_fall, sway=0.002)
    assert said in found_in(curves, inert=FRESH)["words"][1]


def test_full_participation_takes_staleness_away_too():
    falls = found_in(study(BAD, falls=FALLS))["words"][1]
    assert "so falls come mostly from partial participation or staleness" in falls


@pytest.mark.parametrize(
    ("full", "said"),
    [
        (0.85, "4.0 points (3.3 to 4.7) higher: the price of partial participation"),
        (0.78, "3.0 points (2.3 to 3.7) lower, so partial participation"),
        (0.81, "the difference (0.0 points"),
    ],
)
def test_what_full_participation_says_of_the_level(full, said):
    curves = study(BAD, full=full, inert=FRESH, sway=0.0007)
    level = found_in(curves, inert=FRESH)["words"][0]
    assert "With all 30 clients in every version the run would end at" in level
    assert said.split("(")[0] in level


def test_a_run_that_does_not_fall_is_said_not_to():
    curves = study(BAD, falls={"averaging": -0.01}, sway=0.0)
    assert found_in(curves)["words"][1].startswith(
        "Falls are no issue: the run never noticeably falls"
    )


def test_a_fall_like_that_of_pooled_training_is_not_explained():
    falls = found_in(study(BAD, falls={}))["words"][1]
    assert "that is not distinguishable from zero" in falls
    assert "single cause" not in falls
    assert "due to" not in falls


def test_a_regression_speaks_of_its_loss():
    found = found_in(study(BAD, falls=FALLS, loss=2.0), classification=False)
    level, falls, *_ = found["words"]
    assert "The run ends with a loss of 1.19, 0.09 (95% interval 0.08 to 0.10) above" in level
    assert "Averaging helped by 0.02" in level
    assert "The largest rise above the lowest loss so far is a separate question" in falls
    everything = " ".join(found["words"]).replace("95% interval", "")
    assert "points" not in everything
    assert "%" not in everything


def test_the_pooled_arm_is_held_against_independent_pooled_training():
    said = found_in(study(BAD, sway=0.002))["words"][-1]
    assert "the difference from the arm with all causes off (" in said
    assert "is not distinguishable from zero" in said
    curves = study(BAD, pooled=0.9)
    for by_name in curves.values():
        by_name["reference"] = curve(0.95)
    assert "differs from it by -5.0 points" in found_in(curves)["words"][-1]


def test_windows_are_said():
    assert "windows of 8 arrivals" in found_in(study(BAD), window=8)["words"][-1]


def test_equal_time_is_answered_where_it_differs():
    found = found_in(study(BAD))
    found["by_time"]["level"] = {
        **found["level"],
        "gap": {"value": 0.0, "low": -0.01, "high": 0.01},
    }
    assert any("time the gap at the end is not distinguishable from" in p for p in words(found))


@pytest.mark.parametrize(
    ("scale", "value", "said"),
    [(0.5, 0.0314, "0.031"), (12.0, 3.14, "3.1"), (0.5, -0.0001, "0.000"), (1.0, 3e30, "3e+30")],
)
def test_differences_of_losses_have_digits_that_matter(scale, value, said):
    assert Phrasing("loss", scale).amount(value) == said


def test_arms_are_named_as_the_table_names_them():
    assert {RUN.name, POOLED.name} <= set(study(BAD)[7])
