"""How preset, file and overrides lie over each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedray.config import schema
from fedray.config.layers import overrides_tree
from fedray.config.load import load
from fedray.errors import InputError

BUFFERED = {
    "server": {"schedule": {"mode": "buffered", "concurrency": 6, "buffer_size": 3}},
    "partition": {"scheme": "shards", "clients": 9, "classes_per_client": 3},
}


def test_nothing_set_is_the_schema_default() -> None:
    config = load({}).config
    assert config.server == schema.Server()
    assert config.data == schema.EmbeddedData()
    assert config.partition == schema.DirichletPartition(alpha=0.3)
    assert config.devices.compute == schema.DEFAULT_COMPUTE


def test_preset_lies_below_the_file_and_the_file_below_overrides() -> None:
    file = {"algorithm": "fedadam", "server": {"optimizer": {"beta1": 0.5, "tau": 0.1}}}
    config = load(file, ["server.optimizer.tau=0.2"]).config
    assert config.server.optimizer == schema.AdamOptimizer(lr=0.1, beta1=0.5, beta2=0.99, tau=0.2)


def test_a_new_variant_drops_the_keys_that_it_lacks_and_says_so() -> None:
    loaded = load(BUFFERED, ["server.schedule.mode=sync"])
    assert loaded.config.server.schedule == schema.SyncSchedule()
    assert loaded.notes == [
        "server.schedule: mode sync replaces buffered; dropped concurrency, buffer_size"
    ]


def test_a_new_variant_keeps_the_keys_that_it_knows() -> None:
    loaded = load(BUFFERED, ["server.schedule.mode=async", "partition.scheme=iid"])
    assert loaded.config.server.schedule == schema.AsyncSchedule(concurrency=6)
    assert loaded.config.partition == schema.IidPartition(clients=9)
    assert loaded.notes == [
        "server.schedule: mode async replaces buffered; dropped buffer_size",
        "partition: scheme iid replaces shards; dropped classes_per_client",
    ]


def test_versions_by_the_clock_take_the_place_of_versions_by_arrivals() -> None:
    loaded = load(BUFFERED, ["server.schedule.every_s=2"])
    assert loaded.config.server.schedule == schema.BufferedSchedule(concurrency=6, every_s=2.0)
    assert loaded.notes == ["server.schedule: every_s replaces buffer_size"]
    back = load({"algorithm": "fedfix"}, ["server.schedule.buffer_size=3"]).config.server.schedule
    assert (back.every_s, back.buffer_size) == (None, 3)


def test_a_preset_gives_way_without_a_note() -> None:
    loaded = load({"algorithm": "fedbuff", "server": {"schedule": {"mode": "sync"}}})
    assert loaded.config.server.schedule == schema.SyncSchedule()
    assert loaded.notes == []


@pytest.mark.parametrize("partition", [{"scheme": "iid"}, {"severity": 0.5}, {"alpha": 3}, {}])
def test_alpha_works_on_any_file(partition: dict[str, object]) -> None:
    config = load({"partition": partition}, {"partition.alpha": 0.1}).config
    assert config.partition == schema.DirichletPartition(alpha=0.1)


def test_a_scheme_that_alpha_implies_is_said() -> None:
    loaded = load({"partition": {"scheme": "iid", "clients": 4}}, {"partition.alpha": 0.1})
    assert loaded.config.partition == schema.DirichletPartition(alpha=0.1, clients=4)
    assert loaded.notes == ["partition: scheme dirichlet replaces iid"]


def test_a_server_setting_of_a_preset_gives_way_to_a_schedule_without_it() -> None:
    loaded = load({"algorithm": "fedbuff"}, ["server.schedule.mode=async"])
    assert loaded.config.server == schema.Server(schedule=schema.AsyncSchedule())
    assert loaded.notes == [
        "server.weighting: dropped, it has no effect in mode async, "
        "which mixes one update at a time"
    ]


def test_alpha_stays_with_a_scheme_that_has_one() -> None:
    config = load({"partition": {"scheme": "quantity"}}, {"partition.alpha": 2}).config
    assert config.partition == schema.QuantityPartition(alpha=2.0)


def test_of_alternatives_the_higher_layer_counts() -> None:
    loaded = load({"client": {"epochs": 5}}, ["client.steps=7"])
    assert (loaded.config.client.steps, loaded.config.client.epochs) == (7, 1.0)
    assert loaded.notes == ["client: steps replaces epochs"]
    assert load({"algorithm": "fedsgd", "client": {"epochs": 2}}).config.client.steps is None
    devices = load({"devices": {"compute": {"value": 5}}}, ["devices.table=d.csv"]).config.devices
    assert devices.compute is None


def test_an_override_that_idles_a_key_of_the_file_drops_it_with_a_note() -> None:
    loaded = load({"server": {"clients_per_round": 5}}, ["server.schedule.mode=buffered"])
    assert loaded.config.server.clients_per_round == "all"
    assert "clients_per_round" not in loaded.explicit["server"]
    assert "server.clients_per_round: dropped" in loaded.notes[0]
    with pytest.raises(InputError, match="clients_per_round"):
        load({}, ["server.schedule.mode=buffered", "server.clients_per_round=5"])


def test_another_algorithm_says_what_the_file_keeps() -> None:
    loaded = load(BUFFERED, ["algorithm=fedprox"])
    assert isinstance(loaded.config.server.schedule, schema.BufferedSchedule)
    assert loaded.notes == [
        "algorithm fedprox: the file keeps server.schedule.mode buffered (fedprox has sync)"
    ]


def test_another_algorithm_that_agrees_with_the_file_says_nothing() -> None:
    file = {"server": {"schedule": {"mode": "sync"}}}
    assert load(file, ["algorithm=fedprox"]).notes == []


def test_explicit_has_what_the_user_set_and_no_more() -> None:
    loaded = load({"algorithm": "fedadam", "seed": 3}, ["server.rounds=9"])
    assert loaded.explicit == {"algorithm": "fedadam", "seed": 3, "server": {"rounds": 9}}


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"server": {"optimizer": {"lr": 0.5}}}, schema.SgdOptimizer(lr=0.5)),
        ({"partition": {"classes_per_client": 1}}, schema.ShardsPartition(classes_per_client=1)),
        (
            {"data": {"path": "/a/b.PARQUET"}},
            schema.TableData(source="parquet", path="/a/b.PARQUET"),
        ),
        ({"data": {"path": "/a/b.csv.gz"}}, schema.TableData(source="csv", path="/a/b.csv.gz")),
        ({"data": {"limit": 5}}, schema.IdxData(limit=5)),
        ({"devices": {"jitter": {"median": 1}}}, schema.LogNormal(median=1.0)),
    ],
)
def test_a_variant_may_be_left_to_be_understood(tree: dict[str, object], expected: object) -> None:
    config = load(tree).config
    parts = (config.server.optimizer, config.partition, config.data, config.devices.jitter)
    assert expected in parts


@pytest.mark.parametrize(
    "data",
    [
        {"source": "synthetic"},
        {"source": "linear_regression"},
        {"path": "x.csv", "client_column": "hospital"},
    ],
)
def test_data_with_clients_of_its_own_is_partitioned_naturally(data: dict[str, object]) -> None:
    assert load({"data": data}).config.partition == schema.NaturalPartition()
    assert load({"data": data, "partition": {}}).config.partition == schema.NaturalPartition()


def test_a_key_with_nothing_below_it_sets_nothing() -> None:
    assert load("devices:\nserver:\n  schedule:\n").config == load({}).config


def test_files_are_seen_from_the_file_and_in_overrides_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    file = tmp_path / "there" / "c.yaml"
    file.write_text("data: {path: a.csv, test_path: ../b.csv}\ndevices: {table: d.csv}\n")
    monkeypatch.chdir(tmp_path)
    loaded = load("there/c.yaml", ["data.path=x.csv"])
    data = loaded.config.data
    assert isinstance(data, schema.TableData)
    assert (data.path, data.test_path) == (str(tmp_path / "x.csv"), str(tmp_path / "b.csv"))
    assert loaded.config.devices.table == str(tmp_path / "there" / "d.csv")
    assert loaded.base_dir == tmp_path / "there"


def test_values_of_python_and_numpy_are_understood() -> None:
    config = load(
        {"model": {"kind": "mlp", "hidden": (8, np.int64(4))}, "data": {"path": Path("/a.csv")}},
        {"client.lr": np.float32(0.5), "server.schedule": {"mode": "async"}},
    ).config
    assert config.model == schema.MlpModel(hidden=(8, 4))
    assert config.client.lr == 0.5
    assert isinstance(config.server.schedule, schema.AsyncSchedule)


def test_overrides_add_up_and_the_later_counts() -> None:
    tree = {"server": {"rounds": 3, "weighting": "uniform"}, "server.rounds": 4}
    assert overrides_tree(tree) == {"server": {"rounds": 4, "weighting": "uniform"}}
    assert tree["server"] == {"rounds": 3, "weighting": "uniform"}
    lines = ["client.lr=1e-3", "client={momentum: 0.9}", "client.lr=1", "model.hidden=[8, 4]"]
    assert overrides_tree(lines) == {
        "client": {"lr": 1, "momentum": 0.9},
        "model": {"hidden": [8, 4]},
    }


def test_the_caller_s_mapping_is_left_alone() -> None:
    tree = {"data": {"path": "x.csv"}, "server": None}
    load(tree, {"server.rounds": 3})
    assert tree == {"data": {"path": "x.csv"}, "server": None}
