"""Every arm against a few lines of its own, and the run's own arm against the run."""

from __future__ import annotations

from itertools import chain, zip_longest
from types import SimpleNamespace

import numpy as np
import pytest

import fedray
from fedray.config import schema
from fedray.config.load import load
from fedray.data.federate import reshuffle
from fedray.diagnosis.counterfactual.arms import ARMS, POOLED, RUN, Arm
from fedray.diagnosis.counterfactual.controls import (
    fly_participation,
    fly_reference,
    participation_cost,
)
from fedray.diagnosis.counterfactual.replay import fly, steps
from fedray.diagnosis.counterfactual.study import Study, build_study, inert
from fedray.diagnosis.counterfactual.trace import Group, groups, recorded_groups, windows
from fedray.simulation import checkpoint

LOCAL = {"runtime.executor": "local", "output.report": False}
SMALL = {**LOCAL, "server.rounds": 12, "checkpoint.every": 5}
CLIENT = schema.Client(steps=3, batch_size="full", lr=0.1)
A, M = (1.0, 4.0, 2.0), (0.0, 1.0, -2.0)

SETTINGS = {
    "buffered": (None, {}),
    "buffered, losses": (
        None,
        {"devices.dropout": 0.2, "server.schedule.max_staleness": 2, "algorithm": "fedbuff"},
    ),
    "async": ("configs/digits_fedasync.yaml", {"server.rounds": 40}),
    "sync, deadline": (
        "configs/digits_sync.yaml",
        {"server.clients_per_round": 5, "server.schedule.over_select": 1.6},
    ),
    "server optimizer": (None, {"server.optimizer": {"kind": "adam"}, "client.momentum": 0.5}),
    "regression": ("configs/scenarios/drift_sgd.yaml", {}),
    "closed form": ("configs/scenarios/non_iid.yaml", {}),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_with_every_cause_on_the_arm_is_the_run_bit_for_bit(setting, tmp_path):
    source, over = SETTINGS[setting]
    run = fedray.launch(source, out=tmp_path / "run", **{**SMALL, **over})
    study = study_of(source, {**SMALL, **over})
    curve = fly(study, RUN)
    metric = "accuracy" if run.classification else "loss"
    rows = [row for row in run.rounds.to_pylist() if row["loss"] is not None]
    assert curve.version.tolist() == [row["version"] for row in rows]
    assert curve.virtual_time_s.tolist() == [row["virtual_time_s"] for row in rows]
    assert getattr(curve, metric).tolist() == [row[metric] for row in rows]
    assert curve.bytes[-1] == sum(
        row["bytes_up"] + row["bytes_down"] for row in run.rounds.to_pylist()
    )
    assert curve.updates[-1] == run.summary["updates"]["applied"]
    for name, values in study.plan.work.model.named(curve.final).items():
        assert np.array_equal(values, run.model[name])
    recorded = recorded_groups(run)
    assert [strip(group) for group in recorded] == [strip(group) for group in study.trace]


def strip(group: Group) -> Group:
    """Without when a lost update would have come: the recorder has when it was given up."""
    return group._replace(lost=[job._replace(due_s=0.0, lost=False) for job in group.lost])


def test_a_replay_goes_on_from_a_checkpoint(tmp_path):
    run = fedray.launch(None, out=tmp_path / "run", **SMALL)
    study = study_of(None, SMALL)
    snapshot, _ = checkpoint.load_newest(run.path / "checkpoints")
    assert snapshot is not None
    assert snapshot.version == 10
    whole = {made.version: made.after for made in steps(study)}
    resumed = {made.version: made.after for made in steps(study, RUN, snapshot)}
    assert list(resumed) == [11, 12]
    assert all(np.array_equal(resumed[v], whole[v]) for v in resumed)


def study_of(source, over) -> Study:
    loaded = load(source, over)
    return build_study(loaded.config, loaded.base_dir)


def toy_study(toy, server, client=CLIENT, a=A, m=M, **more) -> Study:
    made = toy(a, m, client=client, server=server, eval_every=1, **more)
    data = made.federation
    return Study(made.plan, data, reshuffle(data, 0), groups(made.plan))


def by_hand(study: Study, arm: Arm) -> float:
    """The final w of an arm of a quadratic toy, plain server, shares 1/M: docs/diagnosis.md."""
    data = study.federation if arm.non_iid else study.reshuffled
    a, m = data.shards.X[:, 0], data.shards.y
    lr, K = study.plan.config.client.lr, study.plan.config.client.steps
    law = getattr(study.plan.config.server.schedule.staleness_weight, "exponent", 0.0)
    w, old = 0.0, {0: 0.0}
    for group in study.trace:
        jobs = group.jobs if arm.staleness else [*group.jobs, *group.lost]
        members = [
            SimpleNamespace(
                c=job.client,
                b=old[job.base_version] if arm.staleness else w,
                q=(1 / len(jobs))
                * (group.version - job.base_version if arm.staleness else 1) ** -law,
            )
            for job in jobs
        ]
        x = 0.0
        if arm.drift and arm.averaging:
            for i in members:
                own = 0.0
                for _ in range(K):
                    own -= lr * a[i.c] * (i.b + own - m[i.c])
                x += i.q * own
        elif arm.averaging:
            for _ in range(K):
                x -= sum(i.q * lr * a[i.c] * (i.b + x - m[i.c]) for i in members)
        else:
            walks = [[i] * K for i in members]
            order = chain(*walks) if arm.drift else chain(*zip_longest(*walks))
            for i in order:
                x -= lr * a[i.c] * (i.b + x - m[i.c])
        w += x
        old[group.version] = w
    return w


SCHEDULES = {
    "sync": schema.SyncSchedule(),
    "buffered": schema.BufferedSchedule(concurrency=3, buffer_size=2),
    "lossy": schema.BufferedSchedule(concurrency=3, buffer_size=2, max_staleness=1),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_an_arm_is_what_it_says(toy, schedule, arm):
    server = schema.Server(rounds=9, schedule=SCHEDULES[schedule])
    study = toy_study(toy, server, duration_s=[1.0, 1.7, 4.4], dropout=0.2 * (schedule == "lossy"))
    if schedule == "lossy":
        assert any(group.lost for group in study.trace)
    assert fly(study, arm).final[0] == pytest.approx(by_hand(study, arm), rel=1e-12)


def test_without_drift_full_participation_is_gradient_descent_on_the_mean(toy):
    server = schema.Server(rounds=5)
    final = fly(toy_study(toy, server), Arm(drift=False)).final[0]
    curvature, minimum = np.mean(A), np.dot(A, M) / np.sum(A)
    assert final == pytest.approx(minimum * (1 - (1 - 0.1 * curvature) ** 15), rel=1e-12)


# --- one update at a time -----------------------------------------------------------------


def one_by_one(toy, mixing=0.5, concurrency=3, steps_=1, **more) -> Study:
    schedule = schema.AsyncSchedule(
        concurrency=concurrency, mixing=mixing, staleness_weight=schema.ConstantWeight()
    )
    client = schema.Client(steps=steps_, batch_size="full", lr=0.1)
    server = schema.Server(rounds=30, schedule=schedule)
    return toy_study(toy, server, client, duration_s=[1.0, 1.7, 4.4], **more)


def test_async_without_staleness_takes_damped_walks_in_turn(toy):
    study, w = one_by_one(toy, steps_=3), 0.0
    for group in study.trace:
        (job,) = group.jobs
        a, m = A[job.client], M[job.client]
        w += 0.5 * (1 - (1 - 0.1 * a) ** 3) * (m - w)
    assert fly(study, Arm(staleness=False)).final[0] == pytest.approx(w, rel=1e-12)


def test_async_without_averaging_takes_whole_updates(toy):
    study, old = one_by_one(toy, steps_=3), [0.0]
    for group in study.trace:
        (job,) = group.jobs
        a, m, base = A[job.client], M[job.client], old[job.base_version]
        old.append(old[-1] + (1 - (1 - 0.1 * a) ** 3) * (m - base))
    assert fly(study, Arm(averaging=False)).final[0] == pytest.approx(old[-1], rel=1e-12)


@pytest.mark.parametrize("averaging", [True, False])
def test_async_without_drift_and_staleness_interleaves_single_steps(toy, averaging):
    study, w = one_by_one(toy, steps_=3), 0.0
    strength = 0.5 if averaging else 1.0
    for start in range(0, 30, 3):
        clients = [group.jobs[0].client for group in study.trace[start : start + 3]]
        for c in clients * 3:
            w -= strength * 0.1 * A[c] * (w - M[c])
    arm = Arm(drift=False, staleness=False, averaging=averaging)
    assert fly(study, arm).final[0] == pytest.approx(w, rel=1e-12)


def test_windows_of_one_client_at_a_time_change_nothing(toy):
    # With every update in a window of its own, joint steps are nobody's but one's.
    study = one_by_one(toy, concurrency=1)
    assert study.window is None
    assert inert(study)["drift"].startswith("every version is made from one client")


def test_in_windows_an_update_stays_as_stale_and_the_pull_back_is_the_runs(toy):
    study, mixing, C, K = one_by_one(toy, steps_=2), 0.5, 3, 2
    models = [0.0]
    for start in range(0, 30, C):
        jobs = [group.jobs[0] for group in study.trace[start : start + C]]
        stale = [start + k - job.base_version for k, job in enumerate(jobs)]
        seen = [models[max(0, start - tau)] for tau in stale]
        origin, w, done = models[start], models[start], 0
        for _ in range(K):
            for job, from_ in zip(jobs, seen, strict=True):
                a, m = A[job.client], M[job.client]
                w -= mixing * 0.1 * a * (from_ + (w - origin) - m)
                done += 1
                if done % K == 0:  # the next arrival: it mixes in what it had downloaded
                    w += mixing * (models[jobs[done // K - 1].base_version] - w)
                    models.append(w)
    assert len(models) == 31
    assert fly(study, Arm(drift=False)).final[0] == pytest.approx(models[-1], rel=1e-12)


def test_a_window_evaluates_the_way_it_has_come(toy):
    study = one_by_one(toy, steps_=3)
    curve = fly(study, POOLED)
    assert curve.version.tolist() == list(range(31))
    assert len(set(curve.loss.tolist())) == 31  # no version is that of the window before


def test_windows_hold_as_many_arrivals_and_keep_their_order(toy):
    trace = one_by_one(toy).trace
    blocks = windows(trace, 4)
    assert [group for block in blocks for group in block] == trace
    assert [len(block) for block in blocks] == [4] * 7 + [2]


# --- arms that coincide ---------------------------------------------------------------------


def test_one_local_step_leaves_nothing_to_drift(toy):
    study = one_by_one(toy, steps_=1)
    assert set(inert(study)) == {"drift"}
    for arm in ARMS:
        with_, without = fly(study, arm._replace(drift=True)), fly(study, arm._replace(drift=False))
        assert np.array_equal(with_.loss, without.loss)


def test_no_delay_leaves_nothing_stale(toy):
    study = toy_study(toy, schema.Server(rounds=4))
    assert set(inert(study)) == {"staleness"}
    on, off = fly(study, RUN), fly(study, Arm(staleness=False))
    assert np.array_equal(on.loss, off.loss)


def test_lost_updates_count_as_communication(toy):
    schedule = schema.SyncSchedule()
    study = toy_study(toy, schema.Server(rounds=6, schedule=schedule), dropout=0.4)
    assert "staleness" not in inert(study)
    assert fly(study, Arm(staleness=False)).updates[-1] == 18 > fly(study, RUN).updates[-1]


def test_one_client_per_round_has_nobody_to_be_averaged_with(toy):
    server = schema.Server(rounds=6, clients_per_round=1)
    assert set(inert(toy_study(toy, server))) == {"drift", "staleness", "averaging"}
    damped = schema.Server(rounds=6, clients_per_round=1, optimizer=schema.SgdOptimizer(lr=0.5))
    assert set(inert(toy_study(toy, damped))) == {"drift", "staleness"}


def test_one_client_has_nobody_to_differ_from(toy):
    study = toy_study(toy, schema.Server(rounds=2), a=(1.0,), m=(2.0,))
    assert "non_iid" in inert(study)


def test_reshuffling_keeps_sizes_and_samples():
    study = study_of(None, LOCAL)
    before, after = study.federation, study.reshuffled
    assert after.shards.sizes.tolist() == before.shards.sizes.tolist()
    assert np.array_equal(*(np.sort(data.shards.X.sum(axis=1)) for data in (before, after)))
    assert after.label_counts.sum(axis=0).tolist() == before.label_counts.sum(axis=0).tolist()
    assert after.heterogeneity["label_emd"] < 0.6 * before.heterogeneity["label_emd"]
    pairs = {(x.tobytes(), y) for x, y in zip(before.shards.X, before.shards.y, strict=True)}
    assert pairs == {(x.tobytes(), y) for x, y in zip(after.shards.X, after.shards.y, strict=True)}


# --- controls ---------------------------------------------------------------------------------


def test_all_off_is_pooled_training_within_seed_noise():
    differences = []
    for seed in range(6):
        study = study_of(None, {**LOCAL, "seed": seed, "server.rounds": 80})
        tail = [
            fly(study, POOLED).accuracy[-16:].mean(),
            fly_reference(study).accuracy[-16:].mean(),
        ]
        differences.append(tail[0] - tail[1])
    error = np.std(differences, ddof=1) / np.sqrt(len(differences))
    assert abs(np.mean(differences)) < max(3 * error, 0.005)


def test_everybody_in_every_version(toy):
    # FedAvg's fixed point, whoever the run itself had asked.
    study = toy_study(toy, schema.Server(rounds=200, clients_per_round=1))
    pull = np.array([1 - (1 - 0.1 * a) ** 3 for a in A])
    assert fly_participation(study).final[0] == pytest.approx(pull @ M / pull.sum(), rel=1e-9)
    assert participation_cost(study) == 3.0


def test_curves_count_what_went_in(toy):
    study = toy_study(toy, schema.Server(rounds=4))
    curve = fly(study, RUN)
    assert curve.updates.tolist() == [0, 3, 6, 9, 12]
    assert curve.steps.tolist() == [0, 9, 18, 27, 36]
    assert curve.samples.tolist() == [0, 9, 18, 27, 36]
    assert np.isnan(curve.accuracy).all()
