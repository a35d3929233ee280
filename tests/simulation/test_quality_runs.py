"""Whole runs that weigh updates by their quality, against a few lines that do it again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import fedray
from fedray.cli import cli
from fedray.config.load import load
from fedray.errors import InputError
from fedray.report.audit import audit, sentences
from fedray.report.page import render
from fedray.simulation.plan import build_plan

SMALL = {
    "data": {"source": "digits"},
    "partition": {"scheme": "iid", "clients": 5},
    "client": {"epochs": 1, "lr": 0.05},
    "runtime": {"executor": "local"},
    "output": {"report": False},
}


def run(folder, quality, **more):
    asked = {**SMALL, **more}
    server = {"rounds": 4, "quality": quality, **more.get("server", {})}
    return fedray.launch({**asked, "server": server}, out=folder)


def test_validation_samples_are_test_samples_that_are_not_tested_on():
    def federation(quality):
        return build_plan(load({**SMALL, "server": {"quality": quality}}).config, Path())[1]

    plain, split = federation("none"), federation({"kind": "loss", "validation_fraction": 0.25})
    count = len(plain.y_test)
    assert len(split.y_validation) == round(count / 4)
    assert len(split.y_test) == count - round(count / 4)
    parts = [plain.X_test, np.concatenate([split.X_test, split.X_validation])]
    rows = [np.array(sorted(map(bytes, part))) for part in parts]
    assert (rows[0] == rows[1]).all()  # every test sample is in exactly one of the two
    assert plain.X_validation is None


def test_one_round_is_what_a_few_lines_make_of_it(tmp_path):
    """exp(-validation loss) of own models, times samples; the step, and the step without."""
    made = run(tmp_path / "run", {"kind": "loss", "gamma": 2.0}, server={"rounds": 1})
    config = load({**SMALL, "server": {"rounds": 1, "quality": {"kind": "loss"}}}).config
    plan, data = build_plan(config, Path())
    from fedray.learning.work import train

    w, model = plan.initial(), plan.work.model
    X, y = data.X_validation, data.y_validation
    table = made.quality.to_pandas()
    jobs = table["client"].to_numpy(), table["dispatch"].to_numpy()
    deltas = train(plan.work, data.shards, w, 0, *jobs).deltas
    n = data.shards.sizes[jobs[0]]
    scores = np.exp([-model.score(w + d, X, y).loss_sum / len(y) for d in deltas])
    after = n * scores**2 / (n * scores**2).sum()
    np.testing.assert_allclose(table["score"], scores, rtol=1e-6)
    np.testing.assert_allclose(table["share_before"], n / n.sum())
    np.testing.assert_allclose(table["share_after"], after, rtol=1e-6)
    for shares, name in ((after, ""), (n / n.sum(), "_unweighted")):
        score = model.score(w + (shares @ deltas).astype(w.dtype), X, y)
        assert table[f"validation_loss{name}"][0] == pytest.approx(
            score.loss_sum / len(y), rel=1e-5
        )
        right = score.per_class[0].sum() / len(y)
        assert table[f"validation_accuracy{name}"][0] == pytest.approx(right, abs=1.5 / len(y))


def test_shapley_scores_sum_to_what_an_unweighted_step_gains(tmp_path):
    """Without truncation, and with the loss, where nobody's value is below 0."""
    quality = {"kind": "shapley", "utility": "loss", "between": 0.0, "within": 0.0}
    made = run(tmp_path / "run", quality, server={"rounds": 1})
    table = made.quality.to_pandas()
    start = np.log(10.0)  # zeros: every class has chance 1/10
    assert (table["score"] > 0).all()
    gained = start - table["validation_loss_unweighted"][0]
    assert table["score"].sum() == pytest.approx(gained, rel=1e-5)


def test_with_gamma_0_weights_are_those_without(tmp_path):
    plain, zero = run(tmp_path / "a", "none"), run(tmp_path / "b", {"kind": "loss", "gamma": 0})
    for name, values in plain.model.items():
        assert np.array_equal(values, zero.model[name])
    table = zero.quality.to_pandas()
    assert (table["share_before"] == table["share_after"]).all()
    assert (table["validation_loss"] == table["validation_loss_unweighted"]).all()
    totals = table.groupby("client")["share_after"].cumsum()
    np.testing.assert_allclose(table["total_after"], totals)


def test_liars_are_suppressed_and_the_audit_says_so(tmp_path):
    attack = {"kind": "sign_flip", "clients": [1], "scale": 1.0}
    made = run(tmp_path / "run", "cosine", attack=attack, server={"rounds": 6})
    found = audit(made)
    assert found.clients[0].client == 1
    assert found.clients[0].total_after == 0
    assert (found.clients[0].longest, found.clients[0].lately) == (6, 6)
    assert {m.longest for m in found.clients[1:]} == {0}
    assert (found.loss_gains > 0).all()
    said = sentences(found, {})
    assert said[0].startswith("On the validation samples, steps weighted by cosine were ")
    assert "client 1 counted 0.0%" in said[1]
    page = render(made)
    assert "What each client&#39;s data was worth" in page
    assert "client 1 counted 0.0%" in page
    printed = CliRunner().invoke(cli, ["audit", str(made.path)]).output
    assert "client 1 counted 0.0%" in " ".join(printed.split())
    told = json.loads(CliRunner().invoke(cli, ["audit", str(made.path), "--json"]).output)
    assert told["clients"][0]["longest"] == 6
    assert told["gain"]["loss_mean"] > 0


@pytest.mark.parametrize("schedule", [
    {"mode": "buffered", "concurrency": 4, "buffer_size": 3},
    {"mode": "sync", "deadline_s": 0.6, "late": "carry"},
])  # fmt: skip
def test_stale_updates_keep_their_discount(tmp_path, schedule):
    made = run(tmp_path / "run", "validation", server={"rounds": 5, "schedule": schedule})
    joint = made.quality.to_pandas().merge(
        made.updates.to_pandas(), on=["client", "dispatch"], suffixes=("", "_u")
    )
    for _, group in joint.groupby("version"):
        after = group["weight"] / group["weight"].sum()
        np.testing.assert_allclose(group["share_after"], after)
        ratio = group["share_after"] / (group["share_before"] * group["score"])
        np.testing.assert_allclose(ratio, ratio.iloc[0])


def test_a_run_without_quality_has_no_audit(tmp_path):
    with pytest.raises(InputError, match="no update was weighed by its quality"):
        audit(run(tmp_path / "run", "none"))


def test_a_regression_is_scored_by_its_loss(tmp_path):
    data = {"data": {"source": "diabetes"}, "model": {"kind": "linear"}}
    with pytest.raises(InputError, match=r"server\.quality\.kind: validation needs an accuracy"):
        run(tmp_path / "a", "validation", **data)
    made = run(tmp_path / "b", "shapley", **data)
    assert audit(made).metric == "loss"
