"""The promise: the same bits for any number of actors, with or without Ray, after any death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import fedray
from fedray.api.launch import Interrupted, Watcher
from fedray.config import schema
from fedray.report.run import Run
from fedray.simulation.progress import Progress

BUFFERED = {
    "name": "bits",
    "seed": 3,
    "partition": {"scheme": "dirichlet", "clients": 12, "alpha": 0.3},
    "client": {"epochs": 2, "batch_size": 16, "lr": 0.1, "momentum": 0.5},
    "server": {
        "rounds": 30,
        "optimizer": {"kind": "adam"},
        "schedule": {"mode": "buffered", "concurrency": 7, "buffer_size": 3, "max_staleness": 3},
    },
    "devices": {"jitter": {"kind": "exponential", "mean": 1.0}, "dropout": 0.05},
    "eval": {"clients_every": 10},
    "diagnosis": {"decompose": 3, "pooled": True},
    "checkpoint": {"every": 4},
    "output": {"report": False},
}
MODES = {
    "sync": {
        "mode": "sync", "over_select": 1.3, "deadline_s": 2.0, "late": "carry",
        "staleness_weight": {"kind": "hinge", "a": 1.0, "b": 0.0},
    },
    "buffered": BUFFERED["server"]["schedule"],
    "async": {"mode": "async", "concurrency": 5, "mixing": 0.5},
}  # fmt: skip


def config(mode: str = "buffered", **runtime: object) -> dict:
    server = {**BUFFERED["server"], "schedule": MODES[mode]}
    if mode == "sync":
        server["clients_per_round"] = 6
    diagnosis = {**BUFFERED["diagnosis"], **({"clients": 4} if mode == "sync" else {})}
    return {**BUFFERED, "server": server, "runtime": runtime, "diagnosis": diagnosis}


def remembering(mode: str = "buffered", **runtime: object) -> dict:
    """The same run with SCAFFOLD, whose clients remember a vector from job to job, and two more
    for what the encoding of their messages left out. The model that they get is not the server's.
    """
    asked = config(mode, **runtime)
    server = {**asked["server"], "weighting": "uniform"}
    return {
        **asked, "algorithm": "scaffold", "server": server,
        "client": {**asked["client"], "momentum": 0.0},
        "compression": {"up": {"kind": "topk", "fraction": 0.1}, "down": {"kind": "bfloat16"}},
    }  # fmt: skip


def attacked(**runtime: object) -> dict:
    """The same run with malicious clients, and a rule against them that draws and remembers."""
    asked = config(**runtime)
    inner = {"kind": "centered_clipping", "radius": 0.02}
    aggregator = {"kind": "bucketing", "size": 2, "inner": inner}
    server = {**asked["server"], "weighting": "uniform", "aggregator": aggregator}
    return {**asked, "attack": {"kind": "gaussian"}, "server": server, "diagnosis": {}}


LOOKING = {
    "power_of_choice": ("sync", {"kind": "power_of_choice", "candidates": 9}),
    "oort": ("buffered", {"kind": "oort", "exploration": 0.5, "pacer_window": 3}),
    "tifl": ("sync", {"kind": "tiers", "tiers": 3, "interval": 4, "credits": 9}),
}


def looking(name: str, **runtime: object) -> dict:
    """The same run with a selection that depends on what clients compute."""
    mode, chosen = LOOKING[name]
    asked = config(mode, **runtime)
    return {**asked, "server": {**asked["server"], "selection": chosen}}


def personal(algorithm: str, mode: str = "buffered", **runtime: object) -> dict:
    """The same run with models of the clients' own, scored every 10 versions."""
    asked = config(mode, **runtime)
    if algorithm == "ditto":  # beside a method whose clients remember something as well
        asked = {**remembering(mode, **runtime), "personal": {"kind": "ditto", "pull": 1.0}}
    else:  # and one whose clients tell the server their cluster
        optimizer = {"kind": "sgd"}
        asked |= {"algorithm": algorithm, "diagnosis": {"decompose": "off"}}
        asked |= {"server": {**asked["server"], "optimizer": optimizer}}
    return asked


def private(kind: str, **runtime: object) -> dict:
    """Few clients join by chance, the clipping norm moves, every version is noised; or each of
    the clients noises its own updates, and compresses what comes of that; or sums are secret."""
    asked = {**config("sync", **runtime), "diagnosis": {}}
    server = {**asked["server"], "weighting": "uniform"}
    if kind == "local":
        wire = {"up": {"kind": "topk", "fraction": 0.1}}
        noise = {"kind": "local", "noise_multiplier": 0.1}
        return {**asked, "server": server, "privacy": noise, "compression": wire}
    if kind == "secure":
        server |= {"schedule": {"mode": "sync", "deadline_s": 2.0}, "clients_per_round": 6}
        return {**asked, "server": server, "secure_aggregation": {"kind": "bonawitz"}}
    server |= {"schedule": {"mode": "sync"}, "clients_per_round": 2, "selection": "poisson"}
    clipping = {"kind": "adaptive", "bit_noise": 1.0}
    return {
        **asked, "server": server,
        "privacy": {"kind": "central", "noise_multiplier": 0.5, "clipping": clipping},
    }  # fmt: skip


def judged(kind: str, **runtime: object) -> dict:
    """The same run with updates weighed by what they turn out to be worth."""
    asked = config("sync" if kind == "shapley" else "buffered", **runtime)
    quality = {"kind": kind, **({"sweeps": 2, "between": 0.001} if kind == "shapley" else {})}
    server = {**asked["server"], "quality": quality, "rounds": 12}
    return {**asked, "server": server, "diagnosis": {}}


def longer(rounds: int, **runtime: object) -> dict:
    """Looked into now and then only, but before the first checkpoint that is resumed from."""
    asked = config(**runtime)
    server, diagnosis = {**asked["server"], "rounds": rounds}, {**asked["diagnosis"]}
    return {**asked, "server": server, "diagnosis": {**diagnosis, "decompose": 17}}


def assert_same(left: Run, right: Run) -> None:
    """Everything recorded is equal to the bit, but for wall-clock times."""
    for name in ("rounds", "updates", "clients", "client_evals", "decomposition", "quality"):
        a, b = getattr(left, name), getattr(right, name)
        for column in a.column_names:
            if column != "wall_time_s":  # in pandas, nan equals nan
                assert a[column].to_pandas().equals(b[column].to_pandas()), (name, column)
    assert left.model.keys() == right.model.keys()
    for name, values in left.model.items():
        assert np.array_equal(values, right.model[name]), name
    assert left.summary["final"] == right.summary["final"]
    assert left.summary.get("personal") == right.summary.get("personal")
    assert left.summary["best"] == right.summary["best"]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """The same runs in this process, without Ray."""
    folder = tmp_path_factory.mktemp("local")
    return {
        mode: fedray.launch(config(mode, executor="local"), out=folder / mode) for mode in MODES
    }


@pytest.fixture(scope="module")
def shared_ray() -> Iterator[None]:
    """One Ray for all tests of this file; launches find it and leave it alone."""
    from fedray.distributed.session import session

    with session(schema.Runtime(cpus=2)):
        yield


def test_local_runs_hold_something_to_compare(local: dict[str, Run]) -> None:
    statuses = set(local["buffered"].updates["status"].to_pylist())
    assert {"applied", "stale", "dropped_out"} <= statuses
    assert max(local["sync"].updates["staleness"].to_pylist()) > 0
    for run in local.values():
        looked_into = run.rounds.to_pandas().dropna(subset="divergence")
        assert looked_into["version"].tolist() == list(range(3, 31, 3))
        assert (looked_into["identity_error"] < 1e-9).all()


def confirms(case):
    """Shows again on Ray what its neighbours show: for `make slow`."""
    return pytest.param(case, marks=pytest.mark.slow)


@pytest.mark.ray
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("per_actor", [confirms(1), 5, 12])
def test_any_number_of_actors_gives_the_same_bits(shared_ray, local, tmp_path, mode, per_actor):
    run = fedray.launch(config(mode, clients_per_actor=per_actor), out=tmp_path / "run")
    assert run.summary["executor"]["actors"] == -(-12 // per_actor)
    assert_same(run, local[mode])


@pytest.mark.ray
@pytest.mark.parametrize("mode", [confirms("sync"), "buffered"])
def test_what_clients_remember_is_the_same_on_any_number_of_actors(shared_ray, tmp_path, mode):
    local = fedray.launch(remembering(mode, executor="local"), out=tmp_path / "local")
    for per_actor in (1, 5):
        asked = remembering(mode, clients_per_actor=per_actor)
        assert_same(fedray.launch(asked, out=tmp_path / f"{per_actor}"), local)
    plain = fedray.launch(config(mode, executor="local"), out=tmp_path / "plain")
    assert plain.summary["final"] != local.summary["final"]


@pytest.mark.ray
def test_attacks_are_the_same_on_any_number_of_actors(shared_ray, tmp_path):
    local = fedray.launch(attacked(executor="local"), out=tmp_path / "local")
    assert_same(fedray.launch(attacked(clients_per_actor=5), out=tmp_path / "ray"), local)
    honest = {**attacked(executor="local"), "attack": {"kind": "none"}}
    calm = fedray.launch(honest, out=tmp_path / "honest")
    assert calm.summary["final"] != local.summary["final"]


@pytest.mark.ray
@pytest.mark.parametrize("name", [confirms("power_of_choice"), "oort"])
def test_selections_that_look_at_results_pick_the_same_clients_anywhere(shared_ray, tmp_path, name):
    local = fedray.launch(looking(name, executor="local"), out=tmp_path / "local")
    assert local.summary["stopped_by"] == "rounds"
    assert_same(fedray.launch(looking(name, clients_per_actor=5), out=tmp_path / "ray"), local)


@pytest.mark.ray
@pytest.mark.parametrize(("algorithm", "mode"), [("ditto", "sync"), ("ifca", "buffered")])
def test_models_of_their_own_are_the_same_on_any_number_of_actors(
    shared_ray, tmp_path, algorithm, mode
):
    local = fedray.launch(personal(algorithm, mode, executor="local"), out=tmp_path / "local")
    asked = personal(algorithm, mode, clients_per_actor=5)
    assert_same(fedray.launch(asked, out=tmp_path / "ray"), local)
    scores = local.client_evals.to_pandas()
    assert scores["version"].unique().tolist() == [0, 10, 20, 30]
    assert scores["personal_accuracy"].notna().all()


@pytest.mark.ray
@pytest.mark.parametrize("kind", ["shapley", confirms("loss")])
def test_qualities_are_the_same_on_any_number_of_actors(shared_ray, tmp_path, kind):
    local = fedray.launch(judged(kind, executor="local"), out=tmp_path / "local")
    assert local.quality.num_rows
    assert_same(fedray.launch(judged(kind, clients_per_actor=5), out=tmp_path / "ray"), local)


def is_ours(process: psutil.Process) -> bool:
    """Whether it belongs to a Ray that this process started, not to somebody else's."""
    return any(parent.pid == os.getpid() for parent in process.parents())


class _Killer(Watcher):
    """Kills a client actor's process when the run has come to a version."""

    def __init__(self, version: int) -> None:
        self.version, self.killed = version, 0

    def progress(self, progress: Progress) -> None:
        if progress.version >= self.version and not self.killed:
            victims = [
                p for p in psutil.process_iter(["cmdline"])
                if p.info["cmdline"] and p.info["cmdline"][0].startswith("ray::Client")
                and is_ours(p)
            ]  # fmt: skip
            victims[0].kill()
            self.killed += 1


@pytest.mark.ray
@pytest.mark.parametrize("kind", ["decomposed", "remembering", "own models", confirms("looking")])
def test_a_killed_client_actor_changes_nothing(shared_ray, tmp_path, kind):
    long = longer(300, clients_per_actor=4)
    if kind != "decomposed":
        made = {"remembering": remembering, "looking": partial(looking, "power_of_choice"),
                "own models": partial(personal, "ditto", "buffered")}  # fmt: skip
        long = made[kind](clients_per_actor=4)
        rounds = 300 if kind == "remembering" else 60
        long = {**long, "server": {**long["server"], "rounds": rounds}}
    calm = fedray.launch({**long, "runtime": {"executor": "local"}}, out=tmp_path / "calm")
    killer = _Killer(5)
    run = fedray.launch(long, out=tmp_path / "run", watcher=killer)
    assert killer.killed == 1
    assert_same(run, calm)


@pytest.mark.ray
def test_too_many_lost_actors_end_the_run_with_one_line(shared_ray, tmp_path):
    unlucky = longer(300, clients_per_actor=6, actor_restarts=0)
    with pytest.raises(fedray.FedrayError, match=r"runtime\.actor_restarts") as caught:
        fedray.launch(unlucky, out=tmp_path / "run", watcher=_Killer(5))
    assert "\n" not in str(caught.value)
    assert Run(tmp_path / "run").rounds.num_rows > 0  # what was recorded is there


FLIES = "import sys, fedray; fedray.launch(sys.argv[1], out=sys.argv[2])"
DIES = """
import os, signal, sys, threading, fedray
from fedray.api.launch import Watcher
class Dies(Watcher):
    def progress(self, progress):
        if progress.version == 24:
            threading.Timer(0.02, os.killpg, (0, signal.SIGKILL)).start()
fedray.launch(sys.argv[1], out=sys.argv[2], watcher=Dies())
"""
"""Dies a moment after version 24, wherever it is then. By itself, so that it can be short."""


def _start(folder: Path, config_file: Path, script: str) -> subprocess.Popen:
    command = [sys.executable, "-c", script, str(config_file), str(folder)]
    return subprocess.Popen(command, start_new_session=True)


def _wait_for(folder: Path, pattern: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not list(folder.glob(pattern)):
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        os.sched_yield()


@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_killed_and_resumed_runs_have_the_same_bits(tmp_path, executor):
    long = longer(80 if executor == "local" else 600, executor=executor)
    file = tmp_path / "long.yaml"
    file.write_text(yaml.safe_dump(long))
    folder = tmp_path / "killed"
    if executor == "local":
        process = _start(folder, file, DIES)
    else:
        process = _start(folder, file, FLIES)
        _wait_for(folder, "checkpoints/v00000002*", process)
        os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "summary.json").exists()
    recorded = Run(folder).rounds.num_rows  # readable after the crash
    assert recorded > 20
    resumed = fedray.launch(resume=folder, **{"runtime.executor": "local"})
    calm = fedray.launch({**long, "runtime": {"executor": "local"}}, out=tmp_path / "calm")
    assert_same(resumed, calm)


def interrupted_and_resumed(asked: dict, folder: Path, rounds: int = 20) -> tuple[Run, Run]:
    """The run in one go, and with a Ctrl-C in its middle."""
    asked = {**asked, "server": {**asked["server"], "rounds": rounds}}
    calm = fedray.launch(asked, out=folder / "calm")
    with pytest.raises(Interrupted):
        fedray.launch(asked, out=folder / "run", watcher=_Interrupts(rounds // 2))
    return fedray.launch(resume=folder / "run"), calm


RESUMED = {
    "sync": lambda: remembering("sync", executor="local"),
    "buffered": lambda: remembering("buffered", executor="local"),
    "own models": lambda: personal("ditto", "buffered", executor="local"),
    "clusters": lambda: personal("ifca", "sync", executor="local"),
}


@pytest.mark.parametrize("kind", RESUMED)
def test_resumed_clients_remember_what_they_did(tmp_path, kind):
    """From a checkpoint in the middle, with segments of several ages behind it."""
    resumed, calm = interrupted_and_resumed(RESUMED[kind](), tmp_path)
    segments = list((tmp_path / "run" / "checkpoints").glob("clients-v*.npz"))
    assert len(segments) > 1 or kind == "clusters"  # whose memory is the server's
    assert_same(resumed, calm)


def test_a_resumed_aggregator_remembers_what_it_did(tmp_path):
    assert_same(*interrupted_and_resumed(attacked(executor="local"), tmp_path))


@pytest.mark.parametrize("name", LOOKING)
def test_resumed_selections_go_on_with_what_they_had_heard(tmp_path, name):
    assert_same(*interrupted_and_resumed(looking(name, executor="local"), tmp_path))


@pytest.mark.parametrize("kind", ["central", "local", "secure"])
def test_resumed_private_runs_go_on_with_bound_and_noise(tmp_path, kind):
    resumed, calm = interrupted_and_resumed(private(kind, executor="local"), tmp_path)
    assert_same(resumed, calm)
    assert (calm.rounds["epsilon"].null_count == 0) == (kind != "secure")


@pytest.mark.ray
def test_private_rounds_that_are_joined_by_chance_are_the_same_on_actors(shared_ray, tmp_path):
    local = fedray.launch(private("central", executor="local"), out=tmp_path / "local")
    assert 0 in local.rounds["updates"].to_pylist()[1:]
    asked = private("central", clients_per_actor=5)
    assert_same(fedray.launch(asked, out=tmp_path / "ray"), local)


def test_a_resumed_audit_goes_on_where_it_was(tmp_path):
    assert_same(*interrupted_and_resumed(judged("shapley", executor="local"), tmp_path, 12))


class _Interrupts(Watcher):
    """Presses Ctrl-C when the run has come to a version."""

    def __init__(self, version: int) -> None:
        self.version = version

    def progress(self, progress: Progress) -> None:
        if progress.version == self.version:
            signal.raise_signal(signal.SIGINT)


MODELS = {
    "softmax in float64": {"kind": "softmax", "dtype": "float64"},
    "mlp": {"kind": "mlp", "hidden": [8]},
    "scikit-learn": {
        "kind": "sklearn",
        "estimator": "sklearn.linear_model.SGDClassifier",
        "params": {"loss": "log_loss"},
    },
}


@pytest.mark.ray
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_hosts_that_read_their_own_parquet_give_the_same_bits(shared_ray, tmp_path, model):
    rng = np.random.default_rng(0)
    X, client = rng.normal(size=(900, 3)), rng.integers(0, 30, 900)
    columns = {f"x{i}": X[:, i] for i in range(3)}
    table = pa.table({**columns, "y": (X[:, 0] > X[:, 1]).astype(int), "client": client})
    pq.write_table(table.sort_by("client"), tmp_path / "train.parquet", row_group_size=50)
    asked = {
        "data": {"source": "parquet", "path": str(tmp_path / "train.parquet"),
                 "client_column": "client"},
        "model": model,
        "server": {"rounds": 6, "schedule": MODES["buffered"]},
        "output": {"report": False},
    }  # fmt: skip
    if model["kind"] != "sklearn":
        asked["diagnosis"] = {"decompose": 3, "pooled": True}
    run = fedray.launch(asked, out=tmp_path / "ray")
    assert run.summary["executor"]["clients_per_actor"] == 15
    assert_same(run, fedray.launch({**asked, "runtime": {"executor": "local"}}, out=tmp_path / "l"))
