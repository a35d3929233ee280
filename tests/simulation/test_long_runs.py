"""What must not grow with a run's length or its population, and what a late death may not undo."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from fedray.config import schema
from fedray.report import tables
from fedray.report.run import Run
from fedray.simulation import checkpoint
from fedray.simulation.availability import Cycle, Trace
from fedray.simulation.checkpoint import Snapshot
from fedray.simulation.events import WakeAt
from fedray.simulation.executor import LocalExecutor
from fedray.simulation.fleet import Fleet
from fedray.simulation.flight import Flight
from fedray.simulation.policies import BufferedPolicy
from fedray.simulation.population import Payload, Population
from fedray.simulation.timeline import Timeline


def flight(made, folder, snapshot=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text("name: toy\n")
    executor = LocalExecutor(made.plan.work, made.federation)
    return Flight(made.plan, made.federation, executor, folder, snapshot=snapshot), executor


def test_a_straggler_keeps_its_own_version_and_not_all_since(toy, tmp_path):
    server = schema.Server(
        rounds=200, schedule=schema.AsyncSchedule(concurrency=3, on_stale="keep")
    )
    made = toy(
        [1.0] * 3, [0.0, 1.0, 2.0], client=schema.Client(lr=0.1), server=server,
        duration_s=[1.0, 1.3, 90.0],
    )  # fmt: skip
    started, executor = flight(made, tmp_path)
    most = max(len(executor.versions) for _ in started.run({}))
    assert most <= 3 + 1  # one for every job in flight, and the newest


@pytest.mark.parametrize("cut", range(3, 40, 4))
@pytest.mark.parametrize("selection", ["uniform", "size", "round_robin"])
def test_a_timeline_that_waits_for_clients_is_restored_as_it_was(cut, selection):
    def fresh() -> Timeline:
        population = Population(
            np.zeros(10), np.linspace(0.4, 2.0, 10), np.zeros(10), schema.Constant(value=1.0),
            0.0, Cycle(5.0, 15.0, np.linspace(0.0, 18.0, 10)), Payload(1, 1),
        )  # fmt: skip
        fleet = Fleet(population, seed=0, selection=selection, sizes=np.arange(1.0, 11.0))
        return Timeline(
            BufferedPolicy(schema.BufferedSchedule(concurrency=8, buffer_size=3), fleet), rounds=20
        )

    whole, first = list(fresh()), fresh()
    assert any(isinstance(c, WakeAt) for commands in whole for c in commands)
    for i, _ in enumerate(first):
        if i == cut:
            break
    second = fresh()
    second.restore(json.loads(json.dumps(first.to_json())))
    assert list(second) == whole[cut + 1 :]


@pytest.mark.parametrize("rule", [{"loss": 0.9}, {"patience": 2}])
def test_a_run_that_dies_after_its_last_checkpoint_is_over_when_resumed(toy, tmp_path, rule):
    made = toy(
        [1.0, 1.0], [0.0, 2.0], client=schema.Client(lr=0.4), server=schema.Server(rounds=60),
        eval_every=1, start=5.0,
    )  # fmt: skip
    checkpoints = schema.Checkpoint(every=1, keep=100)
    made = replace(made, config=replace(
        made.config, checkpoint=checkpoints, stop=schema.Stop(**rule)))  # fmt: skip
    calm, _ = flight(made, tmp_path / "calm")
    for _ in calm.run({}):
        pass
    expected = Run(tmp_path / "calm")
    assert expected.summary["stopped_by"] == next(iter(rule))
    last = expected.summary["rounds"]
    assert last < 60

    dying, _ = flight(made, tmp_path / "dies")
    for progress in dying.run({}):
        if progress.version == last and checkpoint.found(tmp_path / "dies" / "checkpoints")[
            0
        ].name.startswith(f"v{last:09d}"):
            break
    del dying
    snapshot, _ = checkpoint.load_newest(tmp_path / "dies" / "checkpoints")
    assert snapshot.version == last
    resumed, _ = flight(made, tmp_path / "dies", snapshot)
    for _ in resumed.run({}):
        pass
    found = Run(tmp_path / "dies")
    assert found.rounds.num_rows == expected.rounds.num_rows
    assert found.model["w"].tolist() == expected.model["w"].tolist()
    assert found.summary["stopped_by"] == expected.summary["stopped_by"]


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_newer_checkpoint_does_not_push_out_good_ones(tmp_path, keep):
    (tmp_path / "v000000020-0000000000000000.npz").write_bytes(b"damaged")
    (tmp_path / "v000000011-ffffffffffffffff.npz").write_bytes(b"damaged")
    for version in (10, 11):
        w = np.full(1, float(version))
        checkpoint.save(tmp_path, Snapshot(version, w, {}, {}, {}), keep=keep)
    snapshot, complaints = checkpoint.load_newest(tmp_path)
    assert snapshot is not None
    assert (snapshot.version, complaints) == (11, [])
    assert len(checkpoint.found(tmp_path)) == keep


@pytest.mark.parametrize("dies_at", ["close", "resume"])
def test_tables_survive_a_death_while_they_are_exchanged(tmp_path, monkeypatch, dies_at):
    path = tmp_path / "rounds.parquet"
    schema_ = tables.rounds_schema(classification=False)
    writer = tables.TableWriter(path, schema_)
    writer.append({"version": [0, 1, 2]})
    writer.flush()

    class DiedError(Exception):
        pass

    def dies(self, target):
        if target == path:
            raise DiedError
        return plain(self, target)

    plain = type(path).replace
    again = partial(tables.TableWriter, path, schema_, kept=3)
    exchange = writer.close if dies_at == "close" else again
    with monkeypatch.context() as patch:
        patch.setattr(type(path), "replace", dies)
        with pytest.raises(DiedError):
            exchange()
    assert tables.read_table(path)["version"].to_pylist() == [0, 1, 2]
    resumed = tables.TableWriter(path, schema_, kept=2)
    resumed.append({"version": [7]})
    resumed.close()
    assert tables.read_table(path)["version"].to_pylist() == [0, 1, 7]
    assert [p.name for p in tmp_path.iterdir()] == ["rounds.parquet"]


def test_parts_that_a_resumed_run_has_made_one_of_count_once(tmp_path):
    """As in a copy of a run folder that was not brought up to date to its end."""
    path, schema_ = tmp_path / "rounds.parquet", tables.rounds_schema(classification=False)
    writer = tables.TableWriter(path, schema_)
    for version in range(4):
        writer.append({"version": [version]})
        writer.flush()
    first = tables.read_table(path)
    tables.write_table(first.slice(0, 3), path / "part-000000000003.parquet")
    assert [p.name[-9] for p in sorted(path.iterdir())] == ["1", "2", "3", "4"]
    assert tables.read_table(path) == first


class _Counted(Trace):
    asked = 0

    def on_until(self, client: int, at_s: float) -> float:
        type(self).asked += 1
        return super().on_until(client, at_s)


def test_a_few_available_clients_of_many_are_found_without_asking_all():
    clients, on = 50_000, 500
    windows = {c: [0.0] for c in range(0, clients, clients // on)}
    population = Population(
        np.zeros(clients), np.ones(clients), np.zeros(clients), schema.Constant(value=1.0), 0.0,
        _Counted(windows, {c: [1e9] for c in windows}), Payload(1, 1),
    )  # fmt: skip
    fleet = Fleet(population, seed=0)
    jobs = 100
    assert len(fleet.start(jobs, 0, 0.0)) == jobs
    assert _Counted.asked / jobs < 5 * clients / on
