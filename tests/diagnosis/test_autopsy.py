"""Autopsies of runs whose truth is known: replays, first-order effects, who did the harm."""

from __future__ import annotations

import json
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import LOCAL, flipped

import fedray
from fedray.config.load import load
from fedray.diagnosis.autopsy import breakdown, mitigations, suspects
from fedray.diagnosis.autopsy.effects import Effects, Memory, TestSet, effects
from fedray.diagnosis.autopsy.examination import COMPARED, SIGHTINGS, surroundings
from fedray.diagnosis.autopsy.terms import NAMES, terms
from fedray.diagnosis.counterfactual.replay import steps
from fedray.diagnosis.counterfactual.study import build_study
from fedray.diagnosis.remedies import table as remedies
from fedray.errors import InputError
from fedray.report.run import Run
from fedray.simulation import checkpoint

MODES: dict[str, dict[str, Any]] = {
    "sync": {"clients_per_round": 4, "rounds": 30},
    "buffered": {
        "schedule": {"mode": "buffered", "concurrency": 6, "buffer_size": 3}, "rounds": 40,
    },
    "async": {"schedule": {"mode": "async", "concurrency": 4}, "rounds": 60},
}  # fmt: skip
CLIENT = {"epochs": 3, "batch_size": 10, "lr": 0.2}
FLOAT64 = {"kind": "softmax", "dtype": "float64"}


def small(**more: Any) -> dict[str, Any]:
    """Skewed blobs that a run falls on now and then."""
    return {
        "seed": 3,
        "data": {"source": "blobs", "samples": 700, "dimensions": 5, "classes": 4, "spread": 4.0},
        "partition": {"scheme": "dirichlet", "clients": 10, "alpha": 0.2},
        "client": CLIENT,
        **LOCAL,
        **more,
    }


def launched(folder: Path, **more: Any) -> Run:
    return fedray.launch(small(**more), out=folder / "run")


@pytest.fixture(scope="module", params=MODES)
def done(request, tmp_path_factory) -> tuple[Run, dict[str, Any]]:
    """A run of each mode, and its autopsy."""
    run = launched(tmp_path_factory.mktemp(request.param), server=MODES[request.param])
    return run, fedray.autopsy(run, top=6)


def study_of(**more: Any) -> Any:
    loaded = load(small(**more))
    return build_study(loaded.config, loaded.base_dir, reshuffled=False)


def examined_steps(study: Any, count: int) -> list[tuple[Any, Any, Any, Effects]]:
    """The first steps of a run: made, gain, test gradient, effects."""
    test = TestSet(study.plan.work, study.federation)
    memory, found = Memory(study.plan.config.server.optimizer, {}), []
    for made in islice(steps(study), count):
        memory.take(made)
        gradient = test.gradient(made.before)
        found.append((made, memory.gain, gradient, effects(made, memory.gain, gradient)))
    return found


# --- first-order effects ------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_the_effects_of_updates_sum_to_that_of_the_step(mode):
    for made, _, gradient, of in examined_steps(study_of(model=FLOAT64, server=MODES[mode]), 12):
        whole = float((made.after - made.before) @ gradient)
        assert of.effects.sum() == pytest.approx(whole, rel=1e-9, abs=1e-14)
        assert abs(of.memory) <= 1e-12 * (abs(whole) + 1)
        assert len(of.effects) == len(made.groups[0].jobs) == len(of.clients)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_is_what_the_server_remembers(nesterov):
    server = {
        **MODES["sync"],
        "optimizer": {"kind": "momentum", "lr": 0.5, "momentum": 0.8, "nesterov": nesterov},
    }
    v = 0.0
    for made, gain, gradient, of in examined_steps(study_of(model=FLOAT64, server=server), 6):
        # w' - w = lr v' = lr (0.8 v + u), or with Nesterov lr (u + 0.8 v') = lr (1.8 u + 0.64 v)
        remembered = (
            0.5 * (0.64 if nesterov else 0.8) * np.dot(v * np.ones_like(gradient), gradient)
        )
        assert gain == pytest.approx(0.5 * (1.8 if nesterov else 1.0))
        assert of.memory == pytest.approx(float(remembered), rel=1e-9, abs=1e-14)
        v = 0.8 * v + made.step.update


@pytest.mark.parametrize("kind", ["adam", "yogi", "adagrad"])
def test_adaptive_servers_scale_what_they_remember_and_what_they_are_told_alike(kind):
    beta1 = 0.0 if kind == "adagrad" else 0.9
    server = {**MODES["sync"], "optimizer": {"kind": kind, "lr": 0.1, "beta1": beta1}}
    m = 0.0
    for made, gain, gradient, of in examined_steps(study_of(model=FLOAT64, server=server), 6):
        per_m = gain / (1 - beta1)  # w' - w = lr m' / (sqrt(v') + tau) with m' = b m + (1 - b) u
        moved = per_m * (beta1 * m + (1 - beta1) * made.step.update)
        np.testing.assert_allclose(moved, made.after - made.before, rtol=1e-9, atol=1e-13)
        assert of.memory == pytest.approx(
            float(np.sum(per_m * beta1 * m * gradient)), rel=1e-7, abs=1e-13
        )
        m = beta1 * m + (1 - beta1) * made.step.update


def test_as_steps_get_small_first_order_is_all_there_is():
    left = []
    for lr in (1e-4, 1e-5, 1e-6):
        study = study_of(model=FLOAT64, client={**CLIENT, "lr": lr}, server=MODES["sync"])
        test = TestSet(study.plan.work, study.federation)
        (made, _, _, of), *_ = examined_steps(study, 1)
        actual = test.score(made.after).loss - test.score(made.before).loss
        left.append(abs(actual / of.first_order - 1))
    assert left[0] < 0.3
    assert left[1] == pytest.approx(left[0] / 10, rel=0.3)
    assert left[2] == pytest.approx(left[1] / 10, rel=0.3)


def test_the_test_gradient_leaves_regularisation_out_as_the_recorded_loss_does():
    study = study_of(model={**FLOAT64, "l2": 0.5}, server=MODES["sync"])
    test = TestSet(study.plan.work, study.federation)
    rng = np.random.default_rng(0)
    w, along = rng.normal(size=(2, study.plan.work.model.size))
    slope = (test.score(w + 1e-5 * along).loss - test.score(w - 1e-5 * along).loss) / 2e-5
    assert test.gradient(w) @ along == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_terms_sum_to_the_step(mode):
    client = {**CLIENT, "prox_mu": 0.5, "momentum": 0.5, "lr_decay": 0.9}
    server = {**MODES[mode], "optimizer": {"kind": "momentum", "momentum": 0.5}}
    study = study_of(model=FLOAT64, client=client, server=server)
    for made, _, gradient, of in examined_steps(study, 5)[1:]:
        found = terms(made, study.plan, study.federation, gradient)
        assert found is not None
        assert list(found) == list(NAMES)
        assert sum(one.effect for one in found.values()) == pytest.approx(of.first_order, rel=1e-9)
        assert abs(found["residual"].effect) > 0.01 * abs(of.first_order)


def test_a_plain_step_leaves_no_residual():
    client = {**CLIENT, "lr_decay": 0.9}
    study = study_of(model=FLOAT64, client=client, server=MODES["buffered"])
    for made, _, gradient, _ in examined_steps(study, 5)[1:]:
        found = terms(made, study.plan, study.federation, gradient)
        assert found is not None
        assert found["residual"].norm < 1e-12 * found["gradient"].norm


# --- the replay ---------------------------------------------------------------------------


def test_the_replay_is_the_run(done):
    _, found = done
    assert found["falls"]
    assert found["replay"]["same"] is True
    assert found["replay"]["checked"] > 3
    assert found["replay"]["difference"] == 0.0


def test_a_run_on_the_wall_clock_is_replayed_from_its_record(tmp_path):
    run = launched(tmp_path, server=MODES["buffered"], clock="wall", checkpoint={"every": 0})
    replay = fedray.autopsy(run, at=run.rounds.num_rows - 1)["replay"]
    assert replay["starts"] == [0]
    assert replay["versions"] == run.rounds.num_rows - 1
    assert replay["checked"] == 2
    assert replay["same"] is True


def test_data_that_has_changed_shows(tmp_path):
    run = fedray.launch({**flipped(tmp_path, 1), "client": CLIENT}, out=tmp_path / "run")
    (tmp_path / "other").mkdir()
    flipped(tmp_path / "other", 2)
    shutil.copy(tmp_path / "other/train.parquet", tmp_path / "train.parquet")
    found = fedray.autopsy(run, at=2)
    assert found["replay"]["same"] is False
    assert found["replay"]["difference"] > 0
    assert any("not the run" in note for note in found["notes"])


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_from_a_checkpoint_it_finds_what_it_finds_from_the_beginning(tmp_path, optimizer):
    run = launched(
        tmp_path,
        server={**MODES["buffered"], "optimizer": {"kind": optimizer}},
        checkpoint={"every": 7, "keep": 100},
    )
    newest = run.rounds.num_rows - 1
    late = fedray.autopsy(run, at=newest)
    whole = fedray.autopsy(run)
    assert late["replay"]["starts"] != [0]
    assert len(whole["replay"]["starts"]) > 1
    shutil.rmtree(run.path / "checkpoints")
    for before, at in ((late, newest), (whole, None)):
        again = fedray.autopsy(run, at=at)
        assert again["replay"]["starts"] == [0]
        assert {**again, "replay": 0} == {**before, "replay": 0}


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    run = launched(tmp_path, server=MODES["sync"], checkpoint={"every": 7, "keep": 100})
    before = fedray.autopsy(run, at=30)
    for path in checkpoint.found(run.path / "checkpoints")[:-1]:
        path.write_bytes(b"not what it was")
    after = fedray.autopsy(run, at=30)
    assert after["replay"]["starts"] < before["replay"]["starts"]
    assert {**after, "replay": 0} == {**before, "replay": 0}


# --- what is found ------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "seed"), [("sync", 0), ("buffered", 1), ("async", 2)])
def test_a_client_with_flipped_labels_is_named(tmp_path, mode, seed):
    settings = {"client": CLIENT, "server": MODES[mode]}
    suffix = "csv" if mode == "sync" else "parquet"
    config = flipped(tmp_path, seed, flipper=5, suffix=suffix)
    found = fedray.autopsy(fedray.launch({**config, **settings}, out=tmp_path / "run"))
    (outlier,) = found["outliers"]
    assert outlier["name"] == "site-5"
    assert outlier["against"] == 1.0
    assert outlier["effect"] > 0 > outlier["others"]
    assert found["mitigations"][0]["title"] == "look at the data of site-5"


@pytest.mark.parametrize(("mode", "seed"), [("sync", 0), ("buffered", 0), ("async", 2)])
def test_nobody_is_named_where_all_labels_are_right(tmp_path, mode, seed):
    config = {**flipped(tmp_path, seed, flipper=None), "client": CLIENT, "server": MODES[mode]}
    assert fedray.autopsy(fedray.launch(config, out=tmp_path / "run"))["outliers"] == []


def test_a_flipper_is_named_where_accuracy_never_falls(tmp_path):
    # Three evaluations of a model that learns.
    config = {**flipped(tmp_path, 3), "client": CLIENT, "server": {"rounds": 12}}
    run = fedray.launch({**config, "eval": {"every": 6}}, out=tmp_path / "run")
    assert run.rounds["accuracy"].drop_null().to_pylist() == sorted(
        run.rounds["accuracy"].drop_null().to_pylist()
    )
    found = fedray.autopsy(run)
    assert found["falls"] == []
    assert [one["name"] for one in found["outliers"]] == ["site-5"]
    assert "No fall" in found["notes"][0]
    assert found["replay"]["same"] is True
    assert found["replay"]["checked"] == 1
    assert found["replay"]["versions"] < 12


def test_the_replay_is_checked_where_nothing_examined_was_evaluated(tmp_path):
    run = launched(tmp_path, server=MODES["sync"], eval={"every": 10})
    for at, replayed in ((4, 20), (17, 25), (30, 30)):
        found = fedray.autopsy(run, at=at)["replay"]
        assert found["same"] is True
        assert found["checked"] >= 1
        assert found["versions"] <= replayed


def test_drift_is_no_culprit_where_one_client_trains_alone(tmp_path):
    """Full batches, all of the data: its drift is nothing but curvature along its walk."""
    run = launched(
        tmp_path,
        partition={"scheme": "iid", "clients": 1},
        client={"epochs": 5, "batch_size": "full", "lr": 0.3},
        server={"rounds": 20},
        diagnosis={"decompose": 1},
    )
    assert (run.rounds["drift_dot"].to_numpy()[1:] < 0).all()  # against the gradient, always
    for at in range(4, 21, 4):
        found = fedray.autopsy(run, at=at, report=False)
        (step,) = found["falls"]
        assert not step["terms"]["shares"]["drift"]["unusual"]
        assert "drift" not in " ".join(step["words"])
        assert not any(one["cause"] == "drift" for one in found["mitigations"])


def test_everything_about_a_fall_fits_together(done):
    run, autopsy = done
    size = {"sync": 4, "buffered": 3, "async": 1}[autopsy["run"]["mode"]]
    accuracy = run.rounds["accuracy"].to_pylist()
    losses = run.rounds["loss"].to_pylist()
    names = [row["name"] for row in run.clients.to_pylist()]
    assert autopsy["falls"][0]["lost"] == run.summary["largest_fall"]["points"]
    for fall in autopsy["falls"]:
        start, end = fall["from"]["version"], fall["to"]["version"]
        assert fall["from"]["value"] == accuracy[start]
        assert fall["steps"] == end - start
        if fall["inspected"] < fall["steps"]:
            continue
        if fall["kind"] == "fall":
            assert fall["lost"] == accuracy[start] - accuracy[end]
        effect = fall["effect"]
        assert effect["actual"] == pytest.approx(losses[end] - losses[start], abs=1e-9)
        assert effect["first_order"] + effect["left_over"] == pytest.approx(effect["actual"])
        groups = fall["groups"].values()
        assert sum(group["effect"] for group in groups) == pytest.approx(effect["updates"])
        assert sum(one["effect"] for one in fall["labels"]) == pytest.approx(effect["updates"])
        assert sum(group["updates"] for group in groups) == size * (end - start)
        assert sum(one["share"] or 0 for one in fall["classes_lost"]) == pytest.approx(
            1.0 if accuracy[start] > accuracy[end] else 0.0
        )
        worst = fall["worst"]
        drops = {v: accuracy[v - 1] - accuracy[v] for v in range(start + 1, end + 1)}
        assert drops[worst["version"]] == worst["lost"] == max(drops.values())
        for client in fall["clients"]["harmful"]:
            assert client["name"] == f"client {names[client['client']]}"
            assert client["effect"] > 0


def test_long_falls_are_looked_at_where_they_are_worst(tmp_path, monkeypatch):
    from fedray.diagnosis.autopsy import autopsy

    monkeypatch.setattr(autopsy, "STEPS", 1)
    run = launched(tmp_path, server=MODES["buffered"], client={**CLIENT, "lr": 0.6})
    found = fedray.autopsy(run, top=8)
    long = [fall for fall in found["falls"] if fall["steps"] > 1]
    assert long
    for fall in long:
        assert fall["inspected"] == 1
        assert fall["groups"]["stale"]["updates"] + fall["groups"]["fresh"]["updates"] == 3
    assert any("worst steps" in note for note in found["notes"])


def test_every_mitigation_is_a_setting_that_the_run_would_take(done):
    run, found = done
    assert found["mitigations"]
    config = load(run.path / "config.yaml").config
    for one in found["mitigations"]:
        assert one["evidence"]
        assert one["reason"]
        if one["cause"] != "client":
            assert load(run.path / "config.yaml", one["set"]).config != config
            assert all(0 <= index < len(found["falls"]) for index in one["falls"])


def test_mitigations_are_remedies_that_exist():
    known = {remedy.name for remedy in remedies.REMEDIES}
    named = {name for names in mitigations.REMEDIES.values() for name in names}
    assert named | set(mitigations.WHY) <= known


def test_a_regression_has_falls_of_r2(tmp_path):
    run = fedray.launch(
        {
            "data": {"source": "linear_regression", "scenario": "non_iid", "clients": 6},
            "partition": {"scheme": "natural"},
            "model": {"kind": "linear"},
            "client": {"epochs": 2, "lr": 0.001},
            "server": {"rounds": 20, "clients_per_round": 2},
            **LOCAL,
        },
        out=tmp_path / "run",
    )
    found = fedray.autopsy(run)
    assert found["run"]["metric"] == "r2"
    assert found["replay"]["same"] is True
    for fall in found["falls"]:
        assert fall["labels"] is fall["classes_lost"] is None
        assert fall["words"]


def shape(value: Any, path: str = "") -> set[str]:
    """Paths of the keys in a JSON value; lists by their elements, names of labels left out."""
    if isinstance(value, list):
        return {key for one in value for key in shape(one, f"{path}[]")}
    if isinstance(value, dict) and not path.endswith("labels"):
        return {key for k, one in value.items() for key in shape(one, f"{path}.{k}")}
    return {path}


def test_the_sample_has_the_shape_of_the_real_thing(tmp_path):
    sample = json.loads((Path(__file__).parent / "autopsy_sample.json").read_text())
    config = {**flipped(tmp_path, 1), "client": CLIENT, "server": MODES["buffered"]}
    run = fedray.launch(config, out=tmp_path / "run")
    found = fedray.autopsy(run)
    assert json.loads((run.path / "autopsy.json").read_text()) == found
    optional = {".falls[].terms", ".falls[].labels", ".falls[].classes_lost", ".falls[].recovered"}
    assert shape(sample) - optional == shape(found) - optional


# --- the parts by hand --------------------------------------------------------------------


def updates(clients, effects, *, staleness=None, weights=None) -> breakdown.Updates:
    count = len(clients)
    return breakdown.Updates(
        np.array(clients),
        np.zeros(count, int) if staleness is None else np.array(staleness),
        np.full(count, 0.5) if weights is None else np.array(weights),
        np.array(effects, float),
        np.array(effects, float) / 0.5,
    )


WHO = breakdown.Roster(
    ("0", "anna", "2"), ("cat", "dog"), np.array([[1.0, 0.0], [0.25, 0.75], [0.5, 0.5]])
)


def test_harm_is_shared_out_by_age_and_client():
    some = updates([0, 1, 1, 2], [0.3, 0.2, -0.1, -0.4], staleness=[2, 0, 1, 0])
    ages = breakdown.by_age(some)
    assert ages["stale"] == {
        "updates": 2, "weight": 1.0, "effect": pytest.approx(0.2), "harm": 0.3, "share": 0.6,
    }  # fmt: skip
    assert ages["fresh"]["share"] == pytest.approx(0.4)
    found = breakdown.by_client(some, WHO)
    assert [one["name"] for one in found["harmful"]] == ["client 0", "anna"]
    assert found["harmful"][1] == {
        "client": 1, "name": "anna", "effect": pytest.approx(0.1), "share": pytest.approx(0.4),
        "updates": 2, "staleness": 0.5, "weight": 1.0, "labels": {"dog": 0.75, "cat": 0.25},
    }  # fmt: skip
    assert [(one["client"], one["share"]) for one in found["helpful"]] == [(2, None)]


def test_effects_are_spread_over_labels():
    found = breakdown.by_label(updates([0, 1, 2], [0.4, 0.4, -1.0]), WHO)
    assert found == [
        {"label": "cat", "effect": pytest.approx(0.0)},
        {"label": "dog", "effect": pytest.approx(-0.2)},
    ]


def test_the_share_of_a_class_counts_its_samples():
    found = breakdown.classes_lost([0.9, 0.5, None], [0.6, 0.6, None], "abc", np.array([30, 10, 0]))
    assert found is not None
    assert [one["label"] for one in found] == ["a", "b"]
    assert [one["share"] for one in found] == pytest.approx([9 / 8, -1 / 8])


def test_labels_that_updates_were_trained_on_count_by_their_weights():
    some = updates([0, 1, 1], [0.1, 0.2, 0.3], weights=[0.5, 0.25, 0.25])
    mix = breakdown.label_mix(some, WHO)
    assert mix is not None
    assert mix.tolist() == [0.5 + 0.5 * 0.25, 0.5 * 0.75]
    lost = breakdown.classes_lost([0.9, 0.5], [0.6, 0.6], "ab", np.array([30, 10]), mix)
    assert lost is not None
    assert [one["trained"] for one in lost] == mix.tolist()
    assert breakdown.label_mix(breakdown.joined([]), WHO) is None


def test_no_update_is_no_trouble():
    nothing = breakdown.joined([])
    assert breakdown.by_age(nothing)["stale"]["share"] is None
    assert breakdown.by_client(nothing, WHO) == {"harmful": [], "helpful": []}
    assert suspects.outliers(nothing, WHO) == []


def test_a_client_is_measured_by_the_spread_of_the_others():
    others = np.array([-1.0, -2.0, -3.0, -4.0, -5.0])
    assert suspects.robust_score(1.0, others) == pytest.approx(4.0 / 1.4826)
    clients = np.repeat(np.arange(8), 4)
    means = np.array([-1.0, -1.2, -0.8, -1.1, -0.9, -0.7, -1.3, 0.4])
    who = breakdown.Roster(None, (), None)
    some = updates(clients, np.repeat(means, 4) / 2)
    (outlier,) = suspects.outliers(some, who)
    assert outlier["client"] == 7
    assert outlier["score"] == pytest.approx(suspects.robust_score(0.4, means[:-1]))
    helps_least = updates(clients, np.repeat(np.append(means[:-1], -0.1), 4) / 2)
    assert suspects.outliers(helps_least, who) == []  # out of line, but it does no harm
    seldom = clients != 7
    seldom[-1] = True
    assert suspects.outliers(some.where(seldom), who) == []  # seen once: cannot be said


def test_the_surroundings_of_a_fall_show_every_client_a_few_times():
    study = study_of(server={**MODES["sync"], "rounds": 40})  # 4 of 10 clients per version
    enough = SIGHTINGS * 10 // 4 + 1
    assert surroundings(study, (20, 22)) == range(22 - enough + 1, 23)
    assert surroundings(study, (3, 4)) == range(1, enough + 1)
    assert surroundings(study, (0, 0)) == range(1, enough + 1)


def test_the_surroundings_of_a_fall_hold_steps_to_compare_it_with():
    study = study_of(server={"clients_per_round": 10, "rounds": 40})  # all clients, every time
    assert surroundings(study, (20, 22)) == range(22 - 2 - COMPARED + 1, 23)
    assert surroundings(study, (3, 4)) == range(1, 2 + COMPARED)


@pytest.mark.parametrize("at", [0, -1, 31])
def test_a_step_that_was_not_made_is_refused(tmp_path, at):
    run = launched(tmp_path, server=MODES["sync"])
    with pytest.raises(InputError, match=f"--at: {at}: .* 1 to 30"):
        fedray.autopsy(run, at=at)


def test_a_run_that_was_decomposed_is_judged_by_its_whole_record(tmp_path):
    settings = {"client": CLIENT, "server": MODES["buffered"], "diagnosis": {"decompose": 1}}
    run = fedray.launch({**flipped(tmp_path, 1), **settings}, out=tmp_path / "run")
    updates = suspects.recorded(run)
    assert updates is not None
    slopes = run.rounds["gradient_norm"].to_numpy()[np.repeat(np.arange(1, 41), 3)]
    np.testing.assert_allclose(updates.unit_effects * updates.weights * slopes, updates.effects)
    assert updates.weights.tolist() == run.updates["weight"].to_pylist()[: 3 * 40]
    (outlier,) = fedray.autopsy(run, at=40)["outliers"]
    assert outlier["name"] == "site-5"
    assert outlier["updates"] == np.count_nonzero(updates.clients == outlier["client"])
