"""Clients' own models in whole runs: every kind in every mode, and what is recorded of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fedray
from fedray.config import schema
from fedray.config.load import load
from fedray.config.presets import ALGORITHMS
from fedray.diagnosis.counterfactual.study import build_study
from fedray.errors import InputError
from fedray.parts.personal import PERSONAL
from fedray.simulation.plan import build_plan

KINDS = [part.kind for part in PERSONAL if part.kind != "none"]
MODES = {
    "sync": {"mode": "sync"},
    "deadline": {"mode": "sync", "deadline_s": 0.5, "late": "carry"},
    "buffered": {"mode": "buffered", "concurrency": 5, "buffer_size": 2},
    "async": {"mode": "async", "concurrency": 4},
}
BASE = {
    "data": {"source": "iris"},
    "partition": {"scheme": "dirichlet", "clients": 6, "alpha": 0.4},
    "model": {"kind": "mlp", "hidden": [6]},
    "client": {"epochs": 1, "batch_size": 8, "lr": 0.05},
    "runtime": {"executor": "local"},
    "output": {"report": False},
}


def config(kind: str, mode: str = "sync", rounds: int = 6, **more: object) -> dict:
    server = {"rounds": rounds, "schedule": MODES[mode]}
    return {**BASE, "algorithm": kind, "server": server, **more}


def refuses(kind: str, mode: str) -> bool:
    return MODES[mode]["mode"] in ALGORITHMS[kind].refuses


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_works_in_every_mode_or_says_why_not(tmp_path, kind, mode):
    if refuses(kind, mode):
        with pytest.raises(InputError, match=kind) as caught:
            load(config(kind, mode))
        assert caught.value.key == "server.schedule.mode"
        return
    run = fedray.launch(config(kind, mode), out=tmp_path / "run")
    clients = run.clients.to_pandas()
    assert clients["personal_accuracy"].between(0, 1).all()
    assert np.isfinite(clients["personal_loss"]).all()
    assert run.summary["updates"]["rejected"] == 0
    assert ALGORITHMS[kind].family == "personalisation"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    evals = {"eval": {"clients_every": 3}}
    kinds = ("finetune", "ditto", "apfl", "interpolate", "ifca")
    return {kind: fedray.launch(config(kind, **evals), out=folder / kind) for kind in kinds}


@pytest.mark.parametrize("kind", ["ditto", "apfl", "interpolate"])
def test_the_global_model_does_not_notice(runs, kind):
    """To the bit: what clients do for themselves comes after, or beside, their job's draws."""
    one, other = runs["finetune"], runs[kind]
    for name, values in one.model.items():
        assert np.array_equal(values, other.model[name])
    assert one.rounds["accuracy"].equals(other.rounds["accuracy"])
    assert one.clients["global_accuracy"].equals(other.clients["global_accuracy"])


def test_what_is_held_out_is_not_trained_on(runs):
    run = runs["ditto"]
    clients = run.clients.to_pandas()
    trained = run.updates.to_pandas().drop_duplicates("client").set_index("client")["examples"]
    assert trained.sort_index().tolist() == clients["examples"].tolist()
    whole = clients["label_counts"].map(sum)
    assert (clients["examples"] + clients["test_examples"]).tolist() == whole.tolist()


def test_the_summary_sums_up_the_table(runs):
    clients, found = runs["ditto"].clients.to_pandas(), runs["ditto"].summary["personal"]
    gain = clients["personal_accuracy"] - clients["global_accuracy"]
    assert np.array_equal(gain, clients["gain"])
    assert found["clients"] == 6
    assert found["personal"]["mean"] == pytest.approx(clients["personal_accuracy"].mean())
    assert found["global"]["worst_decile"] == clients["global_accuracy"].min()
    assert found["gain"]["median"] == pytest.approx(gain.median())
    assert found["gain"]["clients_that_gain"] == (gain > 0).sum()
    assert found["gain"]["clients_that_lose"] == (gain < 0).sum()
    assert found["gain"]["largest_loss"] == max(0.0, -gain.min())


def test_scores_along_the_way_end_at_those_of_the_end(runs):
    for kind, run in runs.items():
        rows = run.client_evals.to_pandas()
        assert rows["version"].unique().tolist() == [0, 3, 6]
        last = rows[rows["version"] == 6].reset_index(drop=True)
        for column in ("personal_accuracy", "personal_loss", "gain", "test_examples", "cluster"):
            assert last[column].equals(run.clients.to_pandas()[column]), (kind, column)
    first = runs["ditto"].client_evals.to_pandas().query("version == 0")
    assert (first["gain"] == 0).all()  # nobody has trained yet


def test_a_stop_rule_ends_before_anybody_remembers_more(tmp_path):
    """The version after the last one is computed in advance, and must leave no trace."""
    asked = config("ditto", rounds=50, eval={"clients_every": 1}, stop={"loss": 1.0})
    run = fedray.launch(asked, out=tmp_path / "run")
    last = run.summary["rounds"]
    assert 1 < last < 50
    rows = run.client_evals.to_pandas().query(f"version == {last}").reset_index(drop=True)
    assert rows["personal_loss"].equals(run.clients.to_pandas()["personal_loss"])


def test_a_model_that_nobody_uses_is_not_compared_with(runs):
    found = runs["ifca"].summary["personal"]
    assert found["global"] is None
    assert "gain" not in found
    assert sum(found["cluster_sizes"]) == 6
    assert runs["ifca"].clients["gain"].null_count == 6


@pytest.mark.parametrize("more", [
    {"privacy": {"kind": "central", "noise_multiplier": 1.0}},
    {"privacy": {"kind": "local", "noise_multiplier": 1.0}},
    {"compression": {"up": {"kind": "sign"}}},
    {"attack": {"kind": "gaussian"}},
])  # fmt: skip
def test_layers_that_stay_do_not_move_at_the_server(tmp_path, more):
    """Whatever happens to updates on the way, or there."""
    asked = config("fedper", rounds=3, **more)
    asked["server"]["weighting"] = "uniform"
    run = fedray.launch(asked, out=tmp_path / "run")
    plan, _ = build_plan(load(asked).config, tmp_path)
    first = plan.work.model.named(plan.initial())
    assert np.array_equal(run.model["coef_1"], first["coef_1"])
    assert not np.array_equal(run.model["coef_0"], first["coef_0"])


def test_a_regression_gains_by_less_squared_error(tmp_path):
    asked = config(
        "ditto", data={"source": "diabetes"}, model={"kind": "linear"},
        partition={"scheme": "iid", "clients": 5},
    )  # fmt: skip
    run = fedray.launch(asked, out=tmp_path / "run")
    clients = run.clients.to_pandas()
    assert np.array_equal(clients["gain"], clients["global_mse"] - clients["personal_mse"])
    found = run.summary["personal"]
    assert found["metric"] == "mse"
    assert found["global"]["worst_decile"] == clients["global_mse"].max()


def test_clients_with_one_sample_have_nothing_to_test_on(tmp_path):
    """A row per sample: most clients of this table own one."""
    lines = ["x,y,who"] + [f"{i},{i % 2},{min(i, 5)}" for i in range(30)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    data = {"source": "csv", "path": str(tmp_path / "t.csv"), "client_column": "who"}
    asked = config(
        "finetune", rounds=2, data=data, partition={"scheme": "natural"}, model={"kind": "softmax"}
    )
    run = fedray.launch(asked, out=tmp_path / "run")
    clients = run.clients.to_pandas()
    assert clients["test_examples"].tolist()[:5] == [0] * 5
    assert clients["personal_accuracy"].isna().tolist() == (clients["test_examples"] == 0).tolist()
    assert run.summary["personal"]["clients"] == 1
    json.loads((tmp_path / "run/summary.json").read_text())


@pytest.mark.parametrize(("settings", "key"), [
    ({"algorithm": "fedper", "model": {"kind": "softmax"}}, "model.kind"),
    ({"algorithm": "fedrep", "model": {"hidden": [4]}, "personal": {"layers": 2}},
     "personal.layers"),
    ({"algorithm": "fedper", "client": {"prox_mu": 0.1}}, "client.prox_mu"),
    ({"algorithm": "fedper", "compression": {"down": {"kind": "float16"}}},
     "compression.down.kind"),
    ({"algorithm": "fedper", "stop": {"accuracy": 0.9}}, "stop.accuracy"),
    ({"algorithm": "ifca", "stop": {"patience": 3}}, "stop.patience"),
    ({"algorithm": "apfl", "client": {"momentum": 0.9}}, "client.momentum"),
    ({"algorithm": "pfedme", "client": {"lr": 0.2}}, "client.lr"),
    ({"algorithm": "pfedme", "personal": {"lr": 0.2}}, "personal.lr"),
    ({"algorithm": "ditto", "personal": {"pull": 50.0}}, "personal.pull"),
    ({"algorithm": "scaffold", "personal": {"kind": "apfl"}}, "method.kind"),
    ({"algorithm": "ifca", "server": {"optimizer": {"kind": "adam"}}}, "server.optimizer.kind"),
    ({"algorithm": "ifca", "server": {"schedule": {"mode": "async"}}}, "server.schedule.mode"),
    ({"algorithm": "fedrep", "diagnosis": {"decompose": 2}}, "diagnosis.decompose"),
    ({"algorithm": "finetune", "model": {"kind": "sklearn", "estimator": "SGDClassifier"}},
     "personal.kind"),
    ({"algorithm": "finetune", "personal": {"test_fraction": 0.0}}, "personal.test_fraction"),
])  # fmt: skip
def test_what_does_not_go_together_is_one_line(settings, key):
    with pytest.raises(InputError) as caught:
        load(settings)
    assert caught.value.key == key
    assert "\n" not in str(caught.value)


def test_a_study_knows_one_model_for_all(tmp_path):
    with pytest.raises(InputError) as caught:
        build_study(load({"algorithm": "ditto"}).config, tmp_path)
    assert caught.value.key == "personal.kind"


def test_off_by_default():
    assert load({}).config.personal.held_out == 0
    assert schema.Config().personal.kind == "none"
