"""What an autopsy says, and what it advises, from figures made up for the purpose."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from fedray.diagnosis.autopsy.mitigations import causes
from fedray.diagnosis.autopsy.terms import NAMES, OTHERS, Term, compared, shares_of_harm
from fedray.diagnosis.autopsy.words import in_words

SAMPLE = json.loads((Path(__file__).parent / "autopsy_sample.json").read_text())


def fall(**changes: Any) -> dict[str, Any]:
    """The sample's first fall, with some of its entries changed or updated."""
    one = copy.deepcopy(SAMPLE["falls"][0])
    for key, value in changes.items():
        one[key] = {**one[key], **value} if isinstance(one[key], dict) and value else value
    return one


def said(one: dict[str, Any], **found: Any) -> str:
    return " ".join(in_words(one, {**SAMPLE, **found}))


def step(**effects: float) -> dict[str, Term]:
    """The terms of a step, by their effects."""
    return {name: Term(1.0, 0.0, effects.get(name, 0.0)) for name in NAMES}


def usual_steps(count: int = 9) -> list[dict[str, Term]]:
    """As in most runs: drift takes back half of what the gradient gains."""
    return [step(gradient=-1.0, drift=0.5 + 0.01 * k, noise=-0.05) for k in range(count)]


def terms(others: list[dict[str, Term]] | None = None, **effects: float) -> dict[str, Any]:
    others = usual_steps() if others is None else others
    shares = compared(step(**effects), others)
    return {
        "worst": {name: one._asdict() for name, one in step(**effects).items()},
        "usual": None,
        "steps": len(others),
        "shares": None if shares is None else {k: one._asdict() for k, one in shares.items()},
    }


def test_a_fall_says_how_deep_it_was_and_when_it_was_over():
    assert "From version 38 to 41 accuracy fell by 8.6 points (89.7% to 81.1%)" in said(fall())
    assert "it had recovered by version 46" in said(fall())
    assert "it never recovered" in said(fall(recovered=None))


def test_a_shift_and_a_step_are_called_what_they_are():
    shift = said(fall(kind="shift"))
    assert "From version 41 on, mean accuracy was 8.6 points lower, until version 46" in shift
    text = said(fall(kind="step", lost=-0.01))
    assert text.startswith("The step to version 41 raised accuracy by 1.0 points")


def test_a_step_that_gained_says_what_the_updates_did():
    effect = {"actual": -0.1, "first_order": -0.2, "left_over": 0.1}
    text = said(fall(kind="step", lost=-0.003, effect=effect))
    assert "The test loss fell by 0.1" in said(
        fall(kind="step", lost=-0.05, steps=1, effect=effect)
    )
    assert "fell by 0.1; to first order the updates lowered it by 0.2." in text
    assert "nevertheless" not in text
    assert "chance" not in text  # however small the gain is
    uphill = said(fall(kind="step", lost=-0.05, effect={**effect, "first_order": 0.2}))
    assert "the updates would have raised it by 0.2" in uphill


def test_a_step_that_changed_nothing_says_so():
    text = said(fall(kind="step", lost=0.0, to={"value": 0.8972}))
    assert text.startswith("The step to version 41 left accuracy at 89.7%.")


def test_where_accuracy_was_lost_but_the_loss_fell_nobody_is_named():
    text = said(fall(effect={"actual": -0.1, "first_order": -0.2, "left_over": 0.1}))
    assert "the test loss nevertheless fell by 0.1" in text
    assert "so no update is blamed" in text
    assert "of the harm" not in text
    assert "made up" not in text
    assert "Classes hit hardest: 8" in text


def test_what_may_be_noise_is_said_to_be():
    assert "it may be chance" in said(fall(), noise=0.05)
    assert "it may be chance" not in said(fall(), noise=0.01)


@pytest.mark.parametrize(
    ("effect", "words"),
    [
        ({"actual": 0.1, "first_order": -0.2, "left_over": 0.3}, "the steps were too long"),
        ({"actual": 0.1, "first_order": -0.001, "left_over": 0.101}, "the updates cancel out"),
        ({"actual": 0.1, "first_order": 0.02, "left_over": 0.08}, "the rest is curvature"),
        (
            {"actual": 0.1, "first_order": 0.09, "left_over": 0.01, "memory": 0.05},
            "0.05 of which is the server optimizer's memory",
        ),
        ({"actual": 0.1, "first_order": 0.09, "left_over": 0.01}, "the updates raised it by 0.09."),
    ],
)
def test_first_order_and_what_is_left_over(effect, words):
    assert words in said(fall(effect=effect))


def test_who_did_the_harm():
    text = said(fall())
    assert "Stale updates did 85% of the harm with 66% of the weight" in text
    assert "the updates of client 3 (labels 7: 71%, 1: 20%, 4: 5%) did 60% of the harm" in text
    assert "Classes hit hardest: 8 (down 51.5 points, 58% of the fall), 3 (down" in text
    assert (
        "At the worst step, to version 40, participation made up +46% (median of 8 other steps "
        "+13%, all but one at most +21%) and staleness made up +24%"
    ) in text


def test_classes_that_nobody_had_are_said_to_be_absent():
    lost = SAMPLE["falls"][0]["classes_lost"]
    assert "None of the clients in these steps has a sample of class 8." in said(fall())
    both = [{**one, "trained": 0.0} for one in lost]
    assert "a sample of class 8 or 3." in said(fall(classes_lost=both))
    unknown = [{**one, "trained": None} for one in lost]
    assert "None of the clients" not in said(fall(classes_lost=unknown))


def test_stale_updates_are_blamed_for_more_than_their_weight_only():
    even = {"updates": 1, "effect": 0.1, "harm": 0.1, "weight": 1.0, "share": 0.5}
    assert "tale updates" not in said(fall(groups={"stale": even, "fresh": even}))


def test_terms_share_the_harm():
    found = shares_of_harm(step(gradient=-4.0, participation=3.0, drift=1.0, noise=-2.0))
    assert found["participation"] == 0.75
    assert found["drift"] == 0.25
    assert found["noise"] == found["gradient"] == 0.0


@pytest.mark.parametrize("name", ["participation", "staleness", "drift", "noise"])
def test_the_term_that_did_unusual_harm_is_the_cause(name):
    one = fall(terms=terms(gradient=-1.0, residual=0.1, **{name: 1.4}))
    assert [cause.name for cause in causes(one)] == [name]
    assert f"At the worst step, to version 40, {name} made up +56%" in said(one)


def test_what_drift_usually_does_is_no_cause():
    one = fall(terms=terms(gradient=-1.0, drift=0.6, noise=0.05))  # 92% of the harm
    assert causes(one) == []
    assert "No term of the decomposition did unusually much harm at the worst step" in said(one)
    assert "drift" not in said(one)


def test_a_culprit_beats_all_other_steps_but_one():
    worst = step(gradient=-1.0, participation=1.0)  # a share of one half
    others = usual_steps(7)

    def unusual(*shares: float) -> bool:
        more = [step(gradient=share - 1, participation=share) for share in shares]
        found = compared(worst, [*others, *more])
        assert found is not None
        assert found["participation"].bar == pytest.approx(sorted(shares)[-2])
        return found["participation"].unusual

    assert unusual(0.9, 0.39)
    assert not unusual(0.9, 0.41)  # not clearly more than that
    assert not unusual(0.9, 0.8)


def test_a_culprit_did_a_quarter_of_the_harm():
    small = terms(gradient=-0.1, participation=0.7, noise=0.2)
    assert not small["shares"]["noise"]["unusual"]  # a fifth of the effects, usually none
    assert small["shares"]["participation"]["unusual"]


def test_where_there_is_too_little_to_compare_with_no_term_is_named():
    few = terms(usual_steps(OTHERS - 1), gradient=-1.0, participation=2.0)
    assert few["shares"] is None
    assert causes(fall(terms=few)) == []
    assert "term" not in said(fall(terms=few))
    enough = terms(usual_steps(OTHERS), gradient=-1.0, participation=2.0)
    assert [cause.name for cause in causes(fall(terms=enough))] == ["participation"]


def test_causes_come_by_what_they_did():
    one = fall(
        effect={"updates": 0.04, "memory": 0.06, "first_order": 0.1, "actual": 0.1, "left_over": 0},
        terms=terms(staleness=0.5, participation=0.3, noise=0.2),
    )
    assert [cause.name for cause in causes(one)] == ["optimizer", "staleness", "participation"]


def test_curvature_calls_for_shorter_steps():
    one = fall(effect={"actual": 0.1, "left_over": 0.09}, terms=terms(gradient=-1.0))
    assert [cause.name for cause in causes(one)] == ["step"]


def test_without_terms_staleness_is_judged_by_its_weight():
    assert [cause.name for cause in causes(fall(terms=None))] == ["staleness"]
    even = {"updates": 1, "effect": 0.1, "harm": 0.1, "weight": 1.0, "share": 0.5}
    assert causes(fall(terms=None, groups={"stale": even, "fresh": even})) == []


def test_where_the_loss_did_not_rise_nothing_is_advised():
    assert causes(fall(effect={"actual": -0.01})) == []


def test_a_model_that_diverged_is_said_to_have():
    one = fall(effect={"actual": float("nan"), "first_order": float("nan")})
    assert "the model has diverged" in said(one)
    assert [cause.name for cause in causes(one)] == ["step"]
