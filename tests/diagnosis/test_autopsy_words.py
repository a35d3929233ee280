"""What an autopsy says, and what it advises, from figures made up for the purpose."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from fedray.diagnosis.autopsy.mitigations import causes
from fedray.diagnosis.autopsy.words import in_words, shares_of_harm

SAMPLE = json.loads((Path(__file__).parent / "autopsy_sample.json").read_text())


def fall(**changes: Any) -> dict[str, Any]:
    """The sample's first fall, with some of its entries changed or updated."""
    one = copy.deepcopy(SAMPLE["falls"][0])
    for key, value in changes.items():
        one[key] = {**one[key], **value} if isinstance(one[key], dict) and value else value
    return one


def said(one: dict[str, Any], **found: Any) -> str:
    return " ".join(in_words(one, {**SAMPLE, **found}))


def term(effect: float) -> dict[str, float]:
    return {"norm": 1.0, "dot": 0.0, "effect": effect}


def terms(**effects: float) -> dict[str, Any]:
    names = ("gradient", "participation", "staleness", "drift", "noise", "residual")
    row = {name: term(effects.get(name, 0.0)) for name in names}
    return {"worst": row, "usual": None, "steps": 0}


def test_a_fall_says_how_deep_it_was_and_when_it_was_over():
    assert "From version 38 to 41 accuracy fell by 8.6 points (89.7% to 81.1%)" in said(fall())
    assert "it was back at version 46" in said(fall())
    assert "it never came back" in said(fall(recovered=None))


def test_a_shift_and_a_step_are_called_what_they_are():
    assert "level of accuracy went down by 8.6 points, until version 46" in said(fall(kind="shift"))
    step = said(fall(kind="step", lost=-0.01))
    assert step.startswith("The step to version 41 raised accuracy by 1.0 points")


def test_what_may_be_noise_is_said_to_be():
    assert "may be nothing to explain" in said(fall(), noise=0.05)
    assert "may be nothing to explain" not in said(fall(), noise=0.01)


@pytest.mark.parametrize(
    ("effect", "words"),
    [
        ({"actual": -0.1, "first_order": -0.2, "left_over": 0.1}, "no worse on average"),
        ({"actual": 0.1, "first_order": -0.2, "left_over": 0.3}, "the steps went too far"),
        ({"actual": 0.1, "first_order": 0.02, "left_over": 0.08}, "the rest is curvature"),
        (
            {"actual": 0.1, "first_order": 0.09, "left_over": 0.01, "memory": 0.05},
            "of which the server optimizer's memory did 0.05",
        ),
        ({"actual": 0.1, "first_order": 0.09, "left_over": 0.01}, "the updates raise it by 0.09."),
    ],
)
def test_first_order_and_what_is_left_over(effect, words):
    assert words in said(fall(effect=effect))


def test_who_did_the_harm():
    text = said(fall())
    assert "Stale updates did 85% of the harm with 66% of the weight" in text
    assert "client 3 (labels 7 71%, 1 20%, 4 5%) did 60% of the harm" in text
    assert "class 8 (down 51.5 points, 58% of the fall)" in text
    assert "At the worst step, to version 40, participation was 65% of the harm" in text


def test_terms_share_the_harm():
    found = shares_of_harm(terms(gradient=-4.0, participation=3.0, drift=1.0, noise=-2.0)["worst"])
    assert found["participation"] == 0.75
    assert found["drift"] == 0.25
    assert found["noise"] == found["gradient"] == 0.0


@pytest.mark.parametrize("name", ["participation", "staleness", "drift", "noise"])
def test_the_term_that_did_the_harm_is_the_cause(name):
    one = fall(terms=terms(gradient=-1.0, residual=0.1, **{name: 0.9}))
    assert [cause.name for cause in causes(one)] == [name]


def test_causes_come_by_their_part_in_the_harm():
    one = fall(
        effect={"updates": 0.04, "memory": 0.06, "first_order": 0.1, "actual": 0.1, "left_over": 0},
        terms=terms(staleness=0.5, drift=0.3, noise=0.2),
    )
    assert [cause.name for cause in causes(one)] == ["optimizer", "staleness", "drift"]


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
