"""Several nodes, on one machine: the same bits, also when nodes, hosts or the server die."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import psutil
import pytest
from test_same_bits import assert_same, is_ours, remembering

import fedray
from fedray.api.launch import Watcher
from fedray.config import schema
from fedray.data.shards import ArrayShards
from fedray.distributed.spread import parted, teams
from fedray.simulation.progress import Progress
from fedray.types import Federation

FAST = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 3,
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A head and two workers, which this process is connected to."""
    from ray.cluster_utils import Cluster

    from fedray.distributed.session import session
    from fedray.distributed.surroundings import environment, reload_auth

    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text("0" * 64)
    private = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token),
               "RAY_USAGE_STATS_ENABLED": "0"}  # fmt: skip
    here = {"node_ip_address": "127.0.0.1", "object_store_memory": 100 << 20}
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": FAST, **here}
    with environment(private):
        reload_auth()
        found = Cluster(initialize_head=True, head_node_args=head)
        for place in range(2):
            found.add_node(num_cpus=1, resources={f"worker{place}": 1}, **here)
        try:
            with session(schema.Runtime(address=found.address)):
                yield found
        finally:
            found.shutdown()
    reload_auth()


def longer(rounds: int, **runtime: object) -> dict:
    """SCAFFOLD in buffered mode, for so many versions, looked into now and then."""
    asked = remembering(**runtime)
    server = {**asked["server"], "rounds": rounds}
    return {**asked, "server": server, "diagnosis": {"decompose": 50}}


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> fedray.Run:
    """The run without Ray, and without deaths."""
    folder = tmp_path_factory.mktemp("calm") / "run"
    return fedray.launch(longer(200, executor="local"), out=folder)


class Killing(Watcher):
    """Does something terrible once the run has come to each of these versions."""

    def __init__(self, **deeds: int) -> None:
        self.deeds = sorted((version, deed) for deed, version in deeds.items())
        self.done: list[str] = []
        self.notes: list[str] = []
        self.cluster: object = None

    def note(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, progress: Progress) -> None:
        while self.deeds and progress.version >= self.deeds[0][0]:
            deed = self.deeds.pop(0)[1]
            getattr(self, deed.rstrip("0123456789_"))()
            self.done.append(deed)

    def _kill(self, title: str) -> None:
        ours = [
            p for p in psutil.process_iter(["cmdline"])
            if p.info["cmdline"] and p.info["cmdline"][0].startswith(title) and is_ours(p)
        ]  # fmt: skip
        if ours:  # none while they are being replaced
            ours[0].kill()

    def host(self) -> None:
        self._kill("ray::Client")

    def server(self) -> None:
        self._kill("ray::Server")

    def node(self) -> None:
        self.cluster.remove_node(self.cluster.list_all_nodes()[-1], allow_graceful=False)


def test_parts_are_what_the_whole_is():
    rng = np.random.default_rng(0)
    sizes = np.array([3, 1, 4, 2, 5])
    offsets = np.concatenate(([0], np.cumsum(sizes)))
    whole = ArrayShards(rng.normal(size=(15, 2)), np.arange(15), offsets)
    from fedray.distributed.spread import _part

    for actor in range(2):
        part = _part(whole, np.arange(actor, 5, 2))
        for place, client in enumerate(range(actor, 5, 2)):
            for a, b in zip(part.load(place), whole.load(client), strict=True):
                assert np.array_equal(a, b)


def test_teams_are_the_actors_of_a_node():
    assert teams(["a", "b", "a"], alone=False).tolist() == [0, 1, 0]
    assert teams(["a", "b", "a"], alone=True).tolist() == [0, 1, 2]


@pytest.mark.ray
def test_a_node_has_the_parts_that_its_actors_train(cluster):
    import ray

    sizes = np.full(6, 2)
    shards = ArrayShards(np.arange(24.0).reshape(12, 2), np.arange(12), np.arange(0, 14, 2))
    made = parted(
        Federation(shards, shards.X, shards.y, ("x",), ("a",), None, None), 3, by_leaf=False
    )
    assert np.array_equal(made.shards.sizes, sizes)

    @ray.remote(num_cpus=0.1)
    def loaded(federation: Federation, client: int) -> tuple[list[int], set[int]]:
        return federation.shards.load(client)[1].tolist(), set(federation.shards._parts)

    for client in range(6):
        labels, parts = ray.get(loaded.remote(made, client))
        assert labels == [2 * client, 2 * client + 1]
        assert parts == {client % 3}  # only the part of the client's own actor has come


@pytest.mark.ray
@pytest.mark.parametrize("per_actor", ["auto", pytest.param(5, marks=pytest.mark.slow)])
def test_three_nodes_give_the_same_bits(cluster, calm, tmp_path, per_actor):
    run = fedray.launch(longer(200, clients_per_actor=per_actor), out=tmp_path / "run")
    assert run.summary["executor"]["nodes"] == 3
    assert_same(run, calm)


def wide(schedule: dict, **runtime: object) -> dict:
    """A model that is worth it to be added up on the hosts; hosts, as clients are many."""
    return {
        "partition": {"scheme": "dirichlet", "clients": 30, "alpha": 0.5},
        "model": {"kind": "mlp", "hidden": [256]},
        "client": {"steps": 2},
        "server": {"rounds": 12, "clients_per_round": 12, "schedule": schedule},
        "diagnosis": {"decompose": 5},
        "output": {"report": False},
        "runtime": runtime,
    }


BUFFERED = {"mode": "buffered", "concurrency": 10, "buffer_size": 6}


@pytest.mark.ray
@pytest.mark.parametrize("schedule", [{"mode": "sync"}, BUFFERED], ids=["sync", "buffered"])
def test_hosts_that_add_up_what_they_trained_give_the_same_bits(cluster, tmp_path, schedule):
    asked = wide(schedule)
    if schedule["mode"] != "sync":
        del asked["server"]["clients_per_round"]
    local = fedray.launch({**asked, "runtime": {"executor": "local"}}, out=tmp_path / "local")
    killing = Killing(host=6)
    run = fedray.launch(asked, out=tmp_path / "run", watcher=killing)
    assert run.summary["executor"]["clients_per_actor"] == 10
    assert killing.done == ["host"]
    assert_same(run, local)


@pytest.mark.ray
def test_actors_go_where_their_resources_are(cluster, tmp_path):
    asked = longer(5, clients_per_actor=6, client_resources={"worker0": 0.5})
    run = fedray.launch({**asked, "algorithm": "fedavg"}, out=tmp_path / "run")
    assert run.summary["executor"]["actors"] == 2
    unfit = longer(5, clients_per_actor=4, client_resources={"worker0": 0.5}, start_timeout_s=2)
    with pytest.raises(fedray.FedrayError, match=r"worker0: 1\.5 needed, 1 in the cluster"):
        fedray.launch(unfit, out=tmp_path / "unfit")


@pytest.mark.ray
def test_the_servers_death_is_recovered_from_the_checkpoint(cluster, calm, tmp_path):
    killing = Killing(server=60, server_2=120)
    run = fedray.launch(longer(200, clients_per_actor=4), out=tmp_path / "run", watcher=killing)
    assert killing.done == ["server", "server_2"]
    assert sum("the server actor died; going on from version" in n for n in killing.notes) == 2
    assert_same(run, calm)


@pytest.mark.ray
def test_a_node_that_dies_takes_nothing_along(cluster, calm, tmp_path):
    """The last test of the cluster, which is a node short afterwards."""
    killing = Killing(host=30, node=70)
    killing.cluster = cluster
    run = fedray.launch(longer(200, clients_per_actor=2), out=tmp_path / "run", watcher=killing)
    assert killing.done == ["host", "node"]
    assert_same(run, calm)
