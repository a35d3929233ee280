"""Whole runs in this process: what is recorded, when they end, what survives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fedray
from fedray.config import schema
from fedray.report.run import Run
from fedray.simulation import checkpoint
from fedray.simulation.executor import LocalExecutor
from fedray.simulation.flight import Flight
from fedray.simulation.lock import only_writer

SMALL = {
    "data": {"source": "iris"},
    "partition": {"scheme": "iid", "clients": 6},
    "client": {"lr": 0.1},
    "devices": {"jitter": {"kind": "exponential", "mean": 1.0}},
    "runtime": {"executor": "local"},
    "output": {"report": False},
}
BUFFERED = {"schedule": {"mode": "buffered", "concurrency": 4, "buffer_size": 2}}


def run(folder: Path, **more) -> Run:
    return fedray.launch({**SMALL, **more}, out=folder / "run")


def test_updates_that_are_not_finite_are_rejected_and_never_averaged_in(toy, tmp_path):
    # Client 1's curvature makes lr a = 10 explode to infinity in so many steps.
    server = schema.Server(rounds=3)
    client = schema.Client(steps=2000, batch_size="full", lr=0.1)
    found = toy([1.0, 100.0], [3.0, 1.0], client=client, server=server).fly(tmp_path)
    updates = found.updates.to_pandas()
    assert updates.groupby("client")["status"].unique().map(list).to_dict() == {
        0: ["applied"], 1: ["rejected"],
    }  # fmt: skip
    assert updates.query("client == 1")["weight"].tolist() == [0.0] * 3
    assert found.rounds["dropped"].to_pylist() == [0, 1, 1, 1]
    assert found.model["w"][0] == pytest.approx(3.0)
    assert found.summary["updates"]["rejected"] == 3


def test_weights_in_the_record_are_those_of_the_rule(tmp_path):
    found = run(tmp_path, server={"rounds": 12, "weighting": "examples", **BUFFERED})
    updates = found.updates.to_pandas().query("status == 'applied'")
    assert (updates["staleness"] == updates["applied_version"] - updates["base_version"]).all()
    for _, group in updates.groupby("applied_version"):
        share = group["examples"] / group["examples"].sum()
        np.testing.assert_allclose(group["weight"], share * (1.0 + group["staleness"]) ** -0.5)


def test_rounds_agree_with_updates(tmp_path):
    found = run(tmp_path, server={"rounds": 12, **BUFFERED})
    updates = found.updates.to_pandas().query("status == 'applied'")
    rounds = found.rounds.to_pandas().set_index("version")
    assert rounds["updates"].sum() == len(updates)
    for applied, group in updates.groupby("applied_version"):
        row = rounds.loc[applied + 1]
        assert row["staleness_mean"] == pytest.approx(group["staleness"].mean())
        assert row["drift_mean"] == pytest.approx(group["norm"].mean())
        assert row["cosine_mean"] == pytest.approx(group["cosine"].mean())
    assert rounds["bytes_up"].sum() == found.summary["bytes"]["up"]
    jobs = found.clients["jobs"].to_numpy()
    assert jobs.sum() == found.updates.num_rows


def test_the_last_version_is_scored_whatever_eval_every_says(tmp_path):
    found = run(tmp_path, server={"rounds": 7}, eval={"every": 3})
    scored = [v is not None for v in found.rounds["accuracy"].to_pylist()]
    assert scored == [True, False, False, True, False, False, True, True]
    assert found.summary["final"]["accuracy"] is not None


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"accuracy": 0.5}, "accuracy"),
        ({"loss": 0.9}, "loss"),
        ({"patience": 3}, "patience"),
        ({"virtual_time_s": 2.0}, "virtual_time_s"),
        ({"bytes": 20_000}, "bytes"),
    ],
)
@pytest.mark.parametrize("mode", ["sync", "buffered"])
def test_stop_rules_end_the_run_where_they_say(tmp_path, rule, reason, mode):
    server = {"rounds": 400, **(BUFFERED if mode == "buffered" else {})}
    found = run(tmp_path, server=server, stop=rule)
    assert found.summary["stopped_by"] == reason
    rounds = found.rounds.to_pandas()
    assert len(rounds) < 401
    last = rounds.iloc[-1]
    if reason == "accuracy":
        assert last["accuracy"] >= 0.5 > rounds["accuracy"].iloc[:-1].max()
    elif reason == "loss":
        assert last["loss"] <= 0.9 < rounds["loss"].iloc[:-1].min()
    elif reason == "patience":
        assert rounds["accuracy"].argmax() == len(rounds) - 4
    elif reason == "virtual_time_s":
        assert last["virtual_time_s"] <= 2.0
        assert found.updates["arrived_at_s"].to_numpy().max() <= 2.0
    else:
        moved = (rounds["bytes_up"] + rounds["bytes_down"]).cumsum()
        assert moved.iloc[-1] >= 20_000 > moved.iloc[-2]
    assert not np.isnan(last["accuracy"])


def flight(toy_plan, folder, snapshot=None):
    executor = LocalExecutor(toy_plan.plan.work, toy_plan.federation)
    return Flight(toy_plan.plan, toy_plan.federation, executor, folder, snapshot=snapshot)


@pytest.fixture
def drifting(toy):
    """A buffered toy run with a server optimizer that has memory, checkpointed often."""
    server = schema.Server(
        rounds=40, optimizer=schema.AdamOptimizer(),
        schedule=schema.BufferedSchedule(concurrency=3, buffer_size=2),
    )  # fmt: skip
    made = toy(
        [1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0, 3.0], client=schema.Client(steps=3, lr=0.1),
        server=server, duration_s=[1.0, 1.7, 2.9, 5.3], eval_every=2, dropout=0.1,
        jitter=schema.Exponential(mean=1.0),
    )  # fmt: skip
    config = replace(made.config, checkpoint=schema.Checkpoint(every=5, keep=3))
    return replace(made, config=config)


def tables(folder: Path) -> dict:
    found = Run(folder)
    return {
        "rounds": found.rounds.drop_columns(["wall_time_s"]).to_pandas(),  # nan equals nan there
        "updates": found.updates.to_pandas(),
        "w": found.model["w"].tolist(),
    }


@pytest.mark.parametrize("cut", [1, 7, 13, 22, 39])
def test_a_run_that_dies_anywhere_resumes_to_the_same_bits(drifting, tmp_path, cut):
    calm = tmp_path / "calm"
    drifting.fly(calm)
    folder = tmp_path / "dies"
    folder.mkdir()
    (folder / "config.yaml").write_text("name: toy\n")
    dying = flight(drifting, folder)
    for progress in dying.run({}):
        if progress.version == cut:
            break  # as if killed: nothing more is flushed or written
    del dying
    snapshot, complaints = checkpoint.load_newest(folder / "checkpoints")
    assert complaints == []
    assert (snapshot.version if snapshot else 0) == (cut - 1) // 5 * 5
    for _ in flight(drifting, folder, snapshot).run({}):
        pass
    for name, expected in tables(calm).items():
        got = tables(folder)[name]
        assert got == expected if name == "w" else got.equals(expected), name


def test_an_interrupted_run_ends_checkpointed_and_resumes_to_the_same_bits(drifting, tmp_path):
    drifting.fly(tmp_path / "calm")
    folder = tmp_path / "stopped"
    folder.mkdir()
    (folder / "config.yaml").write_text("name: toy\n")
    stopped = flight(drifting, folder)
    seen = []
    for progress in stopped.run({}):
        seen.append(progress.version)
        if progress.version == 12:
            stopped.interrupt()
    assert 12 < seen[-1] <= 15
    assert not (folder / "summary.json").exists()
    snapshot, _ = checkpoint.load_newest(folder / "checkpoints")
    assert snapshot.version == seen[-1]
    for _ in flight(drifting, folder, snapshot).run({}):
        pass
    assert tables(folder)["updates"].equals(tables(tmp_path / "calm")["updates"])
    assert tables(folder)["w"] == tables(tmp_path / "calm")["w"]


def test_a_damaged_checkpoint_is_noticed_and_the_one_before_it_used(drifting, tmp_path):
    drifting.fly(tmp_path)
    newest, before, *_ = checkpoint.found(tmp_path / "checkpoints")
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    snapshot, complaints = checkpoint.load_newest(tmp_path / "checkpoints")
    assert f"v{snapshot.version:09d}" in before.name
    assert len(complaints) == 1
    assert newest.name in complaints[0]


def test_only_so_many_checkpoints_are_kept(drifting, tmp_path):
    drifting.fly(tmp_path)
    versions = [p.name[:10] for p in checkpoint.found(tmp_path / "checkpoints")]
    assert versions == ["v000000040", "v000000035", "v000000030"]


def test_a_folder_has_one_writer_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("fedray.simulation.lock._GRACE_S", 0.0)
    with (
        only_writer(tmp_path),
        pytest.raises(fedray.InputError, match="being written by another run"),
        only_writer(tmp_path),
    ):
        pass


def test_the_wall_clock_runs_the_same_policies_and_says_so(tmp_path):
    more = {k: v for k, v in SMALL.items() if k != "devices"}
    found = fedray.launch(
        {**more, "clock": "wall", "server": {"rounds": 10, **BUFFERED}}, out=tmp_path / "run"
    )
    assert found.summary["reproducible"] is False
    assert found.rounds.num_rows == 11
    arrived = found.updates["arrived_at_s"].to_numpy()
    assert (np.diff(arrived) >= 0).all()
    assert arrived[-1] <= found.summary["wall_time_s"] + 1.0


def test_per_client_scores_are_kept_where_asked_for(tmp_path):
    found = run(tmp_path, server={"rounds": 6}, eval={"clients_every": 3})
    evals = found.client_evals.to_pandas()
    assert evals["version"].unique().tolist() == [0, 3, 6]
    final = evals.query("version == 6")
    assert final["accuracy"].tolist() == found.clients["accuracy"].to_pylist()
    weighted = np.average(final["accuracy"], weights=found.clients["examples"].to_numpy())
    assert 0.5 < weighted <= 1.0


def test_regression_runs_have_r2_and_mse(tmp_path):
    found = run(
        tmp_path, data={"source": "diabetes"}, model={"kind": "linear"}, server={"rounds": 5}
    )
    assert {"r2", "mse", "loss"} <= set(found.rounds.column_names)
    assert "accuracy" not in found.rounds.column_names
    rounds = found.rounds.to_pandas()
    np.testing.assert_allclose(rounds["mse"], 2 * rounds["loss"], rtol=1e-6)


def test_a_run_folder_is_not_written_over(tmp_path):
    run(tmp_path, server={"rounds": 2})
    with pytest.raises(fedray.InputError, match="--out"):
        run(tmp_path, server={"rounds": 2})


def test_a_finished_run_has_nothing_to_resume(tmp_path):
    found = run(tmp_path, server={"rounds": 2})
    with pytest.raises(fedray.InputError, match="finished"):
        fedray.launch(resume=found.path)


def test_a_resumed_run_keeps_its_configuration(tmp_path):
    found = run(tmp_path, server={"rounds": 2})
    (found.path / "summary.json").unlink()
    with pytest.raises(fedray.InputError, match=r"client\.lr"):
        fedray.launch(resume=found.path, **{"client.lr": 0.5})
