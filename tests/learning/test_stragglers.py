"""Partial work: who does how much, what it takes, and what becomes of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import fedray
from fedray.config import schema
from fedray.config.load import load
from fedray.diagnosis.counterfactual.study import build_study
from fedray.errors import InputError
from fedray.learning.stragglers import Stragglers
from fedray.parts.methods.fedlin import FedLin
from fedray.simulation.plan import build_plan


def client(**more) -> schema.Client:
    asked = {"stragglers": schema.Stragglers(share=0.4), **more}
    return schema.Client(**{"epochs": 5.0, "batch_size": "full", "lr": 0.1, **asked})


def test_a_share_of_the_jobs_does_any_number_of_epochs():
    who = Stragglers(client(), seed=3)
    jobs = range(20_000)
    assert np.mean([who.are(d) for d in jobs]) == pytest.approx(0.4, abs=0.015)
    counts = Counter(who.client(d).epochs for d in jobs if who.are(d))
    assert sorted(counts) == [1, 2, 3, 4, 5]
    assert max(counts.values()) / min(counts.values()) < 1.2
    assert all(who.client(d).epochs == 5 for d in jobs if not who.are(d))
    assert all(who.done(d) == who.client(d).epochs / 5 for d in jobs)


def test_a_draw_is_of_the_job_alone():
    who, again = Stragglers(client(), seed=3), Stragglers(client(), seed=3)
    jobs = np.random.default_rng(0).integers(0, 50_000, 200).tolist()
    assert [who.done(d) for d in jobs] == [again.done(d) for d in reversed(jobs)][::-1]
    other = Stragglers(client(), seed=4)
    assert [who.done(d) for d in jobs] != [other.done(d) for d in jobs]


def test_steps_are_left_out_where_work_is_given_in_steps():
    who = Stragglers(client(steps=7), seed=0)
    assert {who.client(d).steps for d in range(2000)} == set(range(1, 8))


A, M = (1.0, 4.0, 2.5), (0.0, 1.0, -2.0)


@pytest.mark.parametrize("partial", ["keep", "drop"])
def test_the_update_and_the_time_are_of_the_work_that_was_done(toy, tmp_path, partial):
    """A round of quadratics, one epoch a step: step by step, over those that count."""
    stragglers = schema.Stragglers(share=0.5, partial=partial)
    asked = client(stragglers=stragglers)
    server = schema.Server(rounds=6, weighting="uniform")
    run = toy(A, M, client=asked, server=server, duration_s=[10.0] * 3).fly(tmp_path)
    who, w, counted = Stragglers(asked, seed=0), 0.0, []
    for version in range(6):
        moves = []
        for dispatch in range(3 * version, 3 * version + 3):
            epochs = int(who.client(dispatch).epochs)
            row = run.updates.to_pandas().set_index("dispatch").loc[dispatch]
            i = int(row["client"])
            end = M[i] + (1 - 0.1 * A[i]) ** epochs * (w - M[i])
            dropped = partial == "drop" and who.are(dispatch)
            assert row["status"] == ("dropped_out" if dropped else "applied")
            assert row["arrived_at_s"] - row["dispatched_at_s"] == pytest.approx(2.0 * epochs)
            if not dropped:
                assert row["steps"] == epochs
                moves.append(end - w)
        counted.append(len(moves))
        w += float(np.mean(moves)) if moves else 0.0
    assert float(run.model["w"][0]) == pytest.approx(w, rel=1e-12)
    assert min(counted) < 3 if partial == "drop" else min(counted) == 3


def test_passes_besides_training_are_done_in_full(toy):
    """FedLin's gradient takes one pass, five epochs of training the rest: of 12 seconds 2."""
    made = toy(
        A, M, client=client(), server=schema.Server(), method=FedLin(), duration_s=[12.0] * 3
    )
    who = Stragglers(client(), seed=0)
    jobs = made.plan.timeline().policy.fleet.start(3, 0, 0.0)
    assert [job.due_s for job in jobs] == pytest.approx(
        [2.0 + 2.0 * who.client(job.dispatch).epochs for job in jobs]
    )


@pytest.mark.parametrize(("personal", "full_s"), [
    ({"kind": "fedrep", "head_epochs": 10.0}, 8.0),
    ({"kind": "ditto", "epochs": 5.0}, 6.0),
    ({"kind": "ditto"}, 0.0),
])  # fmt: skip
def test_own_models_are_trained_in_full_where_their_passes_are_their_own(personal, full_s):
    """Of 12 seconds as many as said; FedRep's head takes 10 of 15 passes, Ditto's model half."""
    config = load({
        "personal": personal, "partition": {"clients": 3}, "model": {"kind": "mlp"},
        "client": {"epochs": 5, "stragglers": {"share": 0.9}},
        "devices": {"duration": {"kind": "constant", "value": 12.0}},
    }).config  # fmt: skip
    plan, _ = build_plan(config, Path())
    jobs = plan.timeline().policy.fleet.start(3, 0, 0.0)
    done = [plan.work.stragglers.done(job.dispatch) for job in jobs]
    assert min(done) < 1
    assert [job.due_s for job in jobs] == pytest.approx(
        [full_s + (12.0 - full_s) * share for share in done]
    )


SETTINGS = {
    "seed": 2,
    "partition": {"clients": 8},
    "client": {"epochs": 4, "stragglers": {"share": 0.6}},
    "server": {"rounds": 6},
    "output": {"report": False},
    "runtime": {"executor": "local"},
}


def test_steps_of_stragglers_are_taken_apart_too(tmp_path):
    asked = {**SETTINGS, "diagnosis": {"decompose": 2}}
    rounds = fedray.launch(asked, out=tmp_path / "run").rounds.to_pandas()
    assert (rounds["identity_error"].dropna() < 1e-9).all()
    assert rounds["identity_error"].notna().sum() == 3


@pytest.mark.ray
def test_stragglers_are_the_same_on_ray(tmp_path):
    local = fedray.launch(SETTINGS, out=tmp_path / "local")
    asked = {**SETTINGS, "runtime": {"cpus": 2, "clients_per_actor": 4}}
    ray = fedray.launch(asked, out=tmp_path / "ray")
    assert all(np.array_equal(v, ray.model[name]) for name, v in local.model.items())
    assert ray.updates["steps"].equals(local.updates["steps"])
    assert len(set(local.updates["steps"].to_pylist())) > 4


@pytest.mark.parametrize(("settings", "key"), [
    ({"client": {"epochs": 1, "stragglers": {"share": 0.5}}}, "client.epochs"),
    ({"client": {"steps": 1, "stragglers": {"share": 0.5}}}, "client.steps"),
    ({"client": {"stragglers": {"partial": "drop"}}}, "client.stragglers.partial"),
    ({"client": {"epochs": 3, "stragglers": {"share": 0.5, "partial": "drop"}}, "clock": "wall"},
     "clock"),
    ({"client": {"epochs": 3, "stragglers": {"share": 1.5}}}, "client.stragglers.share"),
])  # fmt: skip
def test_refuses_what_would_do_nothing(settings, key):
    with pytest.raises(InputError) as caught:
        load(settings)
    assert caught.value.key == key


def test_the_arms_of_a_study_know_whole_jobs():
    config = load(SETTINGS).config
    with pytest.raises(InputError) as caught:
        build_study(config, Path())
    assert caught.value.key == "client.stragglers.share"
