"""Whole runs with selections that look at results."""

from __future__ import annotations

import numpy as np
import pytest

import fedray
from fedray.errors import InputError
from fedray.models.linear import LinearModel
from fedray.models.softmax import SoftmaxModel
from fedray.simulation import loop
from fedray.simulation.survey import survey

SMALL = {
    "data": {"source": "iris"},
    "partition": {"clients": 8, "alpha": 0.2},
    "client": {"lr": 0.02},
    "eval": {"clients_every": 1},
    "runtime": {"executor": "local"},
    "output": {"report": False},
}


def run(folder, selection, rounds=6, count=3, **server):
    asked = {"rounds": rounds, "clients_per_round": count, "selection": selection, **server}
    return fedray.launch({**SMALL, "server": asked}, out=folder)


def test_with_all_as_candidates_those_on_whom_the_model_does_worst_train(tmp_path):
    made = run(tmp_path / "run", {"kind": "power_of_choice", "candidates": 8})
    losses = made.client_evals.to_pandas().pivot(index="version", columns="client", values="loss")
    chosen = made.updates.to_pandas().groupby("base_version")["client"].apply(set)
    for version, clients in chosen.items():
        worst = set(np.argsort(-losses.loc[version].to_numpy(), kind="stable")[:3].tolist())
        # Of a loss that several have, as all do of the model at first, any may be the last.
        edge = losses.loc[version].nlargest(3).iloc[-1]
        sure = {c for c in worst if losses.loc[version, c] > edge}
        assert sure <= clients
        assert all(losses.loc[version, c] >= edge for c in clients)
    down = made.rounds["bytes_down"].to_pylist()
    model = made.updates["bytes_down"].to_pylist()[0]
    assert down[1:] == [8 * model] * 6


def test_oort_asks_everybody_once_before_it_knows_them_all(tmp_path):
    made = run(tmp_path / "run", {"kind": "oort", "exploration": 1.0, "exploration_decay": 1.0})
    clients = made.updates["client"].to_pylist()
    assert len(set(clients[:6])) == 6


@pytest.mark.parametrize("mode", ["buffered", "async"])
def test_oort_also_replaces_one_client_at_a_time(tmp_path, mode):
    made = fedray.launch(
        {**SMALL, "server": {"rounds": 12, "selection": "oort",
                             "schedule": {"mode": mode, "concurrency": 3}}},
        out=tmp_path / "run",
    )  # fmt: skip
    assert made.summary["rounds"] == 12


def test_a_plan_says_that_it_cannot_know_who_is_picked():
    from fedray.config.load import load
    from fedray.simulation.forecast import forecast
    from fedray.simulation.plan import build_plan

    asked = {**SMALL, "server": {"rounds": 4, "clients_per_round": 3, "selection": "oort"}}
    loaded = load(asked)
    plan, _ = build_plan(loaded.config, loaded.base_dir)
    found = forecast(plan)
    assert (found.blind, found.exact, found.applied) == ("oort", False, 12)


def test_such_a_run_is_diagnosed_as_it_was_recorded(tmp_path):
    asked = {**SMALL, "server": {"rounds": 4, "clients_per_round": 3, "selection": "oort"}}
    with pytest.raises(InputError, match=r"^server\.selection\.kind: oort: who arrives when"):
        fedray.diagnose(asked)
    made = run(tmp_path / "run", {"kind": "oort"}, rounds=4)
    with pytest.raises(InputError, match=r"3 seeds for a run with server\.selection oort"):
        fedray.diagnose(made, seeds=3)
    found = fedray.diagnose(made)
    assert len(found.findings["seeds"]) == 1


@pytest.mark.parametrize("candidates", [2, 9])
def test_candidates_must_be_enough_and_be_there(tmp_path, candidates):
    with pytest.raises(InputError, match=r"server\.selection\.candidates: must be from 3"):
        run(tmp_path / "run", {"kind": "power_of_choice", "candidates": candidates})


def test_squared_losses_are_those_of_the_samples_one_by_one():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 4))
    softmax = SoftmaxModel(4, 3, dtype=np.dtype(float))
    linear = LinearModel(4, dtype=np.dtype(float))
    for model, y in ((softmax, rng.integers(0, 3, 20)), (linear, rng.normal(size=20))):
        w = rng.normal(size=model.size)
        each = [model.score(w, X[i : i + 1], y[i : i + 1]).loss_sum for i in range(20)]
        assert model.score(w, X, y).loss_square_sum == pytest.approx(np.square(each).sum())


def test_a_fork_goes_on_with_what_was_heard_or_with_another_selection(tmp_path):
    made = run(tmp_path / "run", {"kind": "staleness", "candidates": 3}, rounds=8)
    same = fedray.fork(made, 5, out=tmp_path / "same")
    assert same.updates.equals(made.updates)
    # What one remembers by client number means nothing to the other.
    chosen = {"kind": "power_of_choice", "losses": "last", "candidates": 8}
    other = fedray.fork(made, 5, out=tmp_path / "other", **{"server.selection": chosen})
    assert other.summary["rounds"] == 8


def test_clients_are_asked_about_the_model_as_it_is_sent(tmp_path, monkeypatch):
    """Compressed on its way down: who is picked trains from the very model it told of."""
    told = []

    def listening(executor, w, clients, sizes, **more):
        replies = survey(executor, w, clients, sizes, **more)
        told.append(dict(zip(clients, replies, strict=True)))
        return replies

    monkeypatch.setattr(loop, "survey", listening)
    made = fedray.launch(
        {**SMALL, "compression": {"down": {"kind": "int8"}},
         "server": {"rounds": 4, "clients_per_round": 3, "selection": "power_of_choice"}},
        out=tmp_path / "run",
    )  # fmt: skip
    for row in made.updates.to_pylist():
        reply = told[row["base_version"]][row["client"]]
        assert row["loss_before"] == pytest.approx(reply.loss, rel=1e-6)
