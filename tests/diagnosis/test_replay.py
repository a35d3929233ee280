"""Every arm against a few lines of its own, and the run's own arm against the run."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import fedray
from fedray.config import schema
from fedray.config.load import load
from fedray.data.federate import reshuffle
from fedray.data.shards import ArrayShards
from fedray.diagnosis.counterfactual import walks
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
from fedray.simulation.plan import build_plan

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


@pytest.mark.parametrize("kind", ["scaffold", "fednova", "fedexp"])
def test_a_method_that_is_tried_as_a_remedy_is_the_launch_bit_for_bit(kind, tmp_path):
    """What clients remember and what the server sends them is replayed, too."""
    settings = {**SMALL, "method.kind": kind, "server.weighting": "uniform"}
    run = fedray.launch(None, out=tmp_path / "run", **settings)
    loaded = load(None, settings)
    plan, federation = build_plan(loaded.config, loaded.base_dir)
    curve = fly(Study(plan, federation, None, groups(plan)), RUN)
    rows = [row for row in run.rounds.to_pylist() if row["accuracy"] is not None]
    assert curve.accuracy.tolist() == [row["accuracy"] for row in rows]


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
    """The final w of an arm of a quadratic toy with full batches: docs/diagnosis.md."""
    client, server = study.plan.config.client, study.plan.config.server
    beta, mu, decay = client.momentum, client.prox_mu, client.weight_decay
    data = study.federation if arm.non_iid else study.reshuffled
    law = getattr(server.schedule.staleness_weight, "exponent", 0.0)
    w, memory, old = 0.0, 0.0, {0: 0.0}

    def gradient(i: SimpleNamespace, at: float) -> float:
        X, y = data.shards.load(i.c)
        return float(np.mean(X[:, 0] * (at - y))) + decay * at

    def walk(i: SimpleNamespace, start: float) -> float:
        own = v = 0.0
        for _ in range(client.steps):
            v = beta * v + gradient(i, start + own) + mu * own
            own -= i.lr * v
        return own

    for group in study.trace:
        jobs = group.jobs if arm.staleness else [*group.jobs, *group.lost]
        n = study.plan.sizes[[job.client for job in jobs]]
        share = n / n.sum() if server.weighting == "examples" else np.full(len(jobs), 1 / len(jobs))
        members = [
            SimpleNamespace(
                c=job.client,
                lr=client.lr * client.lr_decay**job.base_version,
                b=old[job.base_version] if arm.staleness else w,
                q=q * (group.version - job.base_version if arm.staleness else 1) ** -law,
            )
            for q, job in zip(share, jobs, strict=True)
        ]
        x = v = 0.0
        if arm.drift and arm.averaging:
            x = sum(i.q * walk(i, i.b) for i in members)
        elif arm.averaging:
            for _ in range(client.steps):
                v = beta * v + sum(i.q * i.lr * gradient(i, i.b + x) for i in members)
                x -= v
        elif arm.drift:
            for i in members:
                x += walk(i, i.b + x)
        else:
            for i in members * client.steps:
                v = beta * v + i.lr * gradient(i, i.b + x)
                x -= v
        if arm.averaging and members:
            memory = getattr(server.optimizer, "momentum", 0.0) * memory + x
            w += server.optimizer.lr * memory
        else:
            w += x
        old[group.version] = w
    return w


SCHEDULES = {
    "sync": schema.SyncSchedule(),
    "buffered": schema.BufferedSchedule(concurrency=3, buffer_size=2),
    "lossy": schema.BufferedSchedule(concurrency=3, buffer_size=2, max_staleness=1),
}


RICH = schema.Client(
    steps=3, batch_size="full", lr=0.1, momentum=0.4, prox_mu=0.3, weight_decay=0.2, lr_decay=0.9
)
SERVERS = {
    "plain": {},
    "momentum": {"optimizer": schema.MomentumOptimizer(lr=0.7, momentum=0.5)},
    "uniform": {"weighting": "uniform"},
}


def unequal(study: Study, sizes=(1, 4, 2)) -> Study:
    """The same clients with so many copies of their sample each."""
    before = study.federation.shards
    X, y = np.repeat(before.X, sizes, axis=0), np.repeat(before.y, sizes)
    shards = ArrayShards(X, y, np.concatenate([[0], np.cumsum(sizes)]))
    data = replace(study.federation, shards=shards)
    plan = replace(study.plan, sizes=np.array(sizes))
    return replace(study, plan=plan, federation=data, reshuffled=reshuffle(data, 0))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_an_arm_is_what_it_says(toy, schedule, kind, arm):
    server = schema.Server(rounds=9, schedule=SCHEDULES[schedule], **SERVERS[kind])
    client = CLIENT if kind == "plain" else RICH
    lossy = schedule == "lossy"
    study = toy_study(toy, server, client, duration_s=[1.0, 1.7, 4.4], dropout=0.2 * lossy)
    assert any(group.lost for group in study.trace) == lossy
    study = unequal(study)
    assert fly(study, arm).final[0] == pytest.approx(by_hand(study, arm), rel=1e-12)


def test_arms_train_on_the_very_minibatches_of_the_run():
    # One client a round: a joint walk is the client's own, to rounding.
    alone = {"server.schedule": {"mode": "sync"}, "server.clients_per_round": 1}
    study = study_of(None, {**LOCAL, "server.rounds": 3, "algorithm": "fedavg", **alone})
    _, made, *_ = steps(study)
    (job,) = made.groups[0].jobs
    assert job.dispatch
    one = walks.member(study.plan.work, study.federation.shards, job, made.before)
    joint = walks.jointly(study.plan.work, [one], np.ones(1))
    turn = walks.interleaved(study.plan.work, [one], np.ones(1))[0]
    for x in (joint, turn):
        assert np.allclose(x, made.after - made.before, rtol=1e-4, atol=1e-6)


def test_what_diverges_is_left_out_and_counted(toy):
    wild = schema.Client(steps=200, batch_size="full", lr=1e30)
    study = toy_study(toy, schema.Server(rounds=3), wild, m=(0.0, 1.0, 3.0))
    with np.errstate(all="ignore"):
        for arm in (RUN, Arm(drift=False), Arm(averaging=False), POOLED):
            curve = fly(study, arm)
            refused = 6 if arm == RUN else 9  # alone, the client that is at its minimum stays
            assert curve.final[0] == 0.0
            assert curve.rejected[-1] == refused
            assert curve.updates[-1] == 9 - refused


def test_without_drift_full_participation_is_gradient_descent_on_the_mean(toy):
    server = schema.Server(rounds=5)
    final = fly(toy_study(toy, server), Arm(drift=False)).final[0]
    curvature, minimum = np.mean(A), np.dot(A, M) / np.sum(A)
    assert final == pytest.approx(minimum * (1 - (1 - 0.1 * curvature) ** 15), rel=1e-12)


# --- one update at a time -----------------------------------------------------------------


def one_by_one(
    toy, mixing=0.5, concurrency=3, steps_=1, beta=0.0, mode="async", optimizer=None, lr=0.1, **more
) -> Study:
    law = schema.ConstantWeight()
    schedule = (
        schema.AsyncSchedule(concurrency=concurrency, mixing=mixing, staleness_weight=law)
        if mode == "async"
        else schema.BufferedSchedule(concurrency=concurrency, buffer_size=1, staleness_weight=law)
    )
    client = schema.Client(steps=steps_, batch_size="full", lr=lr)
    optimizer = optimizer or schema.MomentumOptimizer(lr=1.0, momentum=beta)
    server = schema.Server(rounds=30, schedule=schedule, optimizer=optimizer)
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


@pytest.mark.parametrize("beta", [0.0, 0.6])
def test_in_windows_an_update_stays_as_stale_and_arrivals_are_the_runs(toy, beta):
    study, mixing, C, K = one_by_one(toy, steps_=2, beta=beta), 0.5, 3, 2
    models, memory = [0.0], 0.0
    for start in range(0, 30, C):
        jobs = [group.jobs[0] for group in study.trace[start : start + C]]
        stale = [start + k - job.base_version for k, job in enumerate(jobs)]
        seen = [models[max(0, start - tau)] for tau in stale]
        origin, x, taken, done = models[start], 0.0, 0.0, 0
        for _ in range(K):
            for job, from_ in zip(jobs, seen, strict=True):
                x -= mixing * 0.1 * A[job.client] * (from_ + x - M[job.client])
                done += 1
                if done % K == 0:  # the next arrival: it mixes in what it had downloaded
                    step = x - taken
                    base = models[jobs[done // K - 1].base_version]
                    step += mixing * (base - (models[-1] + step))
                    memory = beta * memory + step
                    models.append(models[-1] + memory)
                    x = taken = models[-1] - origin
    assert len(models) == 31
    assert fly(study, Arm(drift=False)).final[0] == pytest.approx(models[-1], rel=1e-12)


@pytest.mark.parametrize("mode", ["async", "buffered"])
def test_what_was_lost_comes_in_one_by_one_where_updates_do(toy, mode):
    study = one_by_one(toy, steps_=3, mode=mode, dropout=0.4)
    assert any(group.lost for group in study.trace)
    w, damping = 0.0, 0.5 if mode == "async" else 1.0
    for group in study.trace:
        for job in (*group.jobs, *group.lost):
            a, m = A[job.client], M[job.client]
            w += damping * (1 - (1 - 0.1 * a) ** 3) * (m - w)
    assert fly(study, Arm(staleness=False)).final[0] == pytest.approx(w, rel=1e-12)


def test_adam_takes_as_many_steps_in_windows_as_in_the_run(toy):
    # Where local steps have hardly any length, drift has nothing to act on.
    study = one_by_one(toy, steps_=2, optimizer=schema.AdamOptimizer(lr=0.05), lr=1e-7)
    on, off = (fly(study, Arm(drift=d, staleness=False)).final[0] for d in (True, False))
    assert abs(on) > 1e-5
    assert off == pytest.approx(on, rel=0.05)


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


@pytest.mark.parametrize("weighting", ["examples", "uniform"])
def test_everybody_in_every_version(toy, weighting):
    # FedAvg's fixed point, whoever the run itself had asked.
    server = schema.Server(rounds=200, clients_per_round=1, weighting=weighting)
    study = unequal(toy_study(toy, server))
    pull = np.array([1 - (1 - 0.1 * a) ** 3 for a in A])
    pull *= study.plan.sizes if weighting == "examples" else 1
    assert fly_participation(study).final[0] == pytest.approx(pull @ M / pull.sum(), rel=1e-9)
    assert participation_cost(study) == 3.0
    first = fly_participation(replace(study, trace=study.trace[:1])).final[0]
    weights = study.plan.sizes if weighting == "examples" else np.ones(3)
    assert first == pytest.approx(pull @ M / weights.sum(), rel=1e-12)


def test_the_reference_is_gradient_descent_where_samples_are_alike(toy):
    study = toy_study(toy, schema.Server(rounds=5), RICH, a=(2.0,) * 3, m=(3.0,) * 3)
    w = 0.0
    for version in range(5):
        v = 0.0
        for _ in range(9):
            v = 0.4 * v + 2.0 * (w - 3.0) + 0.2 * w
            w -= 0.1 * 0.9**version * v
    assert fly_reference(study).final[0] == pytest.approx(w, rel=1e-12)


def test_curves_count_what_went_in(toy):
    study = toy_study(toy, schema.Server(rounds=4))
    curve = fly(study, RUN)
    assert curve.updates.tolist() == [0, 3, 6, 9, 12]
    assert curve.steps.tolist() == [0, 9, 18, 27, 36]
    assert curve.samples.tolist() == [0, 9, 18, 27, 36]
    assert np.isnan(curve.accuracy).all()


def test_a_trace_ends_with_the_byte_budget():
    whole = study_of(None, LOCAL).trace
    budget = sum(group.bytes for group in whole[:7])
    assert study_of(None, {**LOCAL, "stop.bytes": budget}).trace == whole[:7]


def test_the_last_version_is_evaluated_whatever_eval_every_says():
    curve = fly(study_of(None, {**LOCAL, "server.rounds": 8, "eval.every": 3}), RUN)
    assert curve.version.tolist() == [0, 3, 6, 8]
