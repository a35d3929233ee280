"""Whole runs that weigh updates by their quality, against a few lines that do it again."""

from __future__ import annotations

import json
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import fedray
from fedray.cli import cli
from fedray.config.load import load
from fedray.errors import InputError
from fedray.learning.work import train
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


def again(made, quality):
    """Plan, data, audit and updates of a run's first round, which is trained again here."""
    config = load({**SMALL, "server": {"rounds": 1, "quality": quality}}).config
    plan, data = build_plan(config, Path())
    table = made.quality.to_pandas()
    jobs = table["client"].to_numpy(), table["dispatch"].to_numpy()
    return plan, data, table, train(plan.work, data.shards, plan.initial(), 0, *jobs).deltas


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
    plan, data, table, deltas = again(made, {"kind": "loss"})
    w, model, X, y = plan.initial(), plan.work.model, data.X_validation, data.y_validation
    n = data.shards.sizes[table["client"].to_numpy()]
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


def test_shapley_scores_are_the_values_of_the_version(tmp_path):
    """Over all orders, V(S) = -loss(w + sum over S of n_i / n_S delta_i), by definition."""
    quality = {"kind": "shapley", "utility": "loss", "between": 0.0, "within": 0.0, "sweeps": 24}
    made = run(tmp_path / "run", quality, server={"rounds": 1})
    plan, data, table, deltas = again(made, quality)
    n = data.shards.sizes[table["client"].to_numpy()]
    w, X, y = plan.initial(), data.X_validation, data.y_validation

    def worth(s):
        step = (n[list(s)] / n[list(s)].sum()) @ deltas[list(s)] if s else 0.0
        return -plan.work.model.score((w + step).astype(w.dtype), X, y).loss_sum / len(y)

    values = {s: worth(s) for k in range(6) for s in combinations(range(5), k)}
    phi = np.zeros(5)
    for order in permutations(range(5)):
        for place, i in enumerate(order):
            before, after = sorted(order[:place]), sorted(order[: place + 1])
            phi[i] += (values[tuple(after)] - values[tuple(before)]) / 120
    np.testing.assert_allclose(table["score"], np.maximum(phi, 0.0), atol=1e-6)
    gained = np.log(10.0) - table["validation_loss_unweighted"][0]
    assert table["score"].sum() == pytest.approx(gained, rel=1e-5)  # nobody's is below 0


def test_what_it_is_held_against_counts_staleness_too(tmp_path):
    """With gamma 0 the version is the one without quality, also of updates that are stale."""
    schedule = {"mode": "buffered", "concurrency": 5, "buffer_size": 2,
                "staleness_weight": {"kind": "inverse"}}  # fmt: skip
    made = run(tmp_path, {"kind": "loss", "gamma": 0}, server={"schedule": schedule})
    table = made.quality.to_pandas()
    assert table["staleness"].max() > 0
    bought = table[["validation_loss", "validation_loss_unweighted"]].to_numpy()
    np.testing.assert_allclose(bought[:, 0], bought[:, 1], rtol=1e-6)


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
    assert "Client 1 counted 0.0%" in said[1]
    page = render(made)
    assert "What each client&#39;s data was worth" in page
    assert "Client 1 counted 0.0%" in page
    printed = CliRunner().invoke(cli, ["audit", str(made.path)]).output
    assert "Client 1 counted 0.0%" in " ".join(printed.split())
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


def test_a_fork_keeps_its_test_set_and_may_change_the_rest(tmp_path):
    plain = run(tmp_path / "plain", "none")
    with pytest.raises(InputError, match=r"server\.quality\.kind: a fork cannot change it"):
        fedray.fork(plain, 2, **{"server.quality": "loss"})
    made = run(tmp_path / "loss", "loss")
    same = fedray.fork(made, 2, out=tmp_path / "same")
    assert same.quality.equals(made.quality)
    other = fedray.fork(made, 2, out=tmp_path / "other", **{"server.quality.gamma": 0.0})
    assert other.quality.slice(0, 10).equals(made.quality.slice(0, 10))
    table = other.quality.to_pandas()
    assert (table["share_after"] == table["share_before"])[10:].all()
