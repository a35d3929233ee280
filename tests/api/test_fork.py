"""Forks: the bits of the run without a change, an exact what-if with one, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import fedray
from fedray.api.launch import Watcher
from fedray.cli import cli
from fedray.errors import InputError
from fedray.report.run import Run
from fedray.simulation import checkpoint

BUFFERED: dict[str, Any] = {
    "runtime.executor": "local",
    "data.source": "wine",
    "partition.clients": 8,
    "client.lr": 0.1,
    "server.rounds": 14,
    "server.schedule.concurrency": 6,
    "server.schedule.buffer_size": 2,
    "devices.duration": {"kind": "uniform", "low": 1, "high": 5},
    "devices.dropout": 0.1,
    "checkpoint.every": 5,
    "checkpoint.keep": 9,
    "output.report": False,
}
SYNC = {
    **{k: v for k, v in BUFFERED.items() if "schedule" not in k},
    "server.schedule": {"mode": "sync", "deadline_s": 3, "late": "carry"},
    "server.optimizer.kind": "adam",
    "server.optimizer.lr": 0.05,
    "server.clients_per_round": 5,
}
SCAFFOLD = {
    **{k: v for k, v in BUFFERED.items() if "schedule" not in k},
    "algorithm": "scaffold",
    "server.schedule": {"mode": "sync"},
    "server.clients_per_round": 4,
}
RUNS = {"buffered": BUFFERED, "sync": SYNC, "scaffold": SCAFFOLD}


class Notes(Watcher):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    root = tmp_path_factory.mktemp("runs")
    return {name: fedray.launch(out=root / name, **given) for name, given in RUNS.items()}


def rows(run: Run, name: str, up_to: int | None = None) -> Any:
    """A table without wall times, or the part of it that versions up to one have in common."""
    table = pq.read_table(run.path / f"{name}.parquet")
    if name == "rounds":
        table = table.drop_columns(["wall_time_s"])
        return table.slice(0, table.num_rows if up_to is None else up_to + 1)
    applied = table["applied_version"].to_pylist()
    keep = [v for v, at in enumerate(applied) if up_to is None or (at is not None and at < up_to)]
    return table.take(keep)


def bits(run: Run) -> tuple[Any, ...]:
    model = (run.path / "model.npz").read_bytes()
    return rows(run, "rounds"), rows(run, "updates"), run.clients, model


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("at", [1, 7, 10, 13])
def test_a_fork_that_changes_nothing_is_the_run_to_the_bit(
    runs: dict[str, Run], tmp_path: Path, name: str, at: int
) -> None:
    notes = Notes()
    made = fedray.fork(runs[name], at, out=tmp_path / "a", watcher=notes)
    assert bits(made) == bits(runs[name])
    assert made.summary["forked_from"] == {
        "run": str(runs[name].path), "version": at, "changed": {},
    }  # fmt: skip
    again = [note for note in notes.said if "computing up to it again" in note]
    assert len(again) == (at not in (5, 10))  # there is a checkpoint
    leftovers = {path.name for path in made.path.iterdir()} - {"fork.json"}
    assert leftovers == {path.name for path in runs[name].path.iterdir()}


def test_what_comes_after_the_fork_is_under_the_new_settings_and_what_was_before_is_not(
    runs: dict[str, Run], tmp_path: Path
) -> None:
    run = runs["buffered"]
    assert run.summary["staleness"]["max"] > 1
    made = fedray.fork(run, 5, out=tmp_path / "a", **{"server.schedule.max_staleness": 1})
    for name in ("rounds", "updates"):
        assert rows(made, name, 5) == rows(run, name, 5)
    after = [r for r in made.updates.to_pylist() if (r["applied_version"] or 0) >= 5]
    assert max(r["staleness"] for r in after) == 1
    assert made.summary["updates"]["stale"] > 0
    assert made.summary["forked_from"]["changed"] == {"server.schedule.max_staleness": [None, 1]}
    assert made.config["server"]["schedule"]["max_staleness"] == 1


def test_the_run_is_only_read(runs: dict[str, Run], tmp_path: Path) -> None:
    path = runs["sync"].path
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    fedray.fork(path, 7, out=tmp_path / "a", **{"client.lr": 0.2})
    assert {p: p.read_bytes() for p in path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("name", ["buffered", "sync"])
def test_a_run_that_is_over_goes_on_as_a_longer_one_would_have(tmp_path: Path, name: str) -> None:
    given = {**RUNS[name], "server.rounds": 15}  # with a checkpoint of its last version
    over = fedray.launch(out=tmp_path / "over", **given)
    longer = fedray.launch(out=tmp_path / "longer", **{**given, "server.rounds": 20})
    made = fedray.fork(over, 15, out=tmp_path / "a", **{"server.rounds": 20})
    assert bits(made) == bits(longer)


def test_another_optimizer_begins_without_a_memory(runs: dict[str, Run], tmp_path: Path) -> None:
    notes, changes = Notes(), {"server.optimizer.kind": "sgd", "server.optimizer.lr": 0.5}
    made = fedray.fork(runs["sync"], 10, out=tmp_path / "a", watcher=notes, **changes)
    assert "server.optimizer: another kind, which begins without a memory" in notes.said
    assert rows(made, "rounds", 10) == rows(runs["sync"], "rounds", 10)
    assert made.summary["rounds"] == 14


@pytest.mark.parametrize("algorithm", ["fedavg", "scaffold"])
def test_another_code_begins_without_a_memory_and_the_methods_own_is_kept(
    tmp_path: Path, algorithm: str
) -> None:
    """SCAFFOLD's variates lie before the error of the code: none of it is lost, none mixed up."""
    plain = {**SCAFFOLD, "algorithm": algorithm}
    coded = {**plain, "compression.up": {"kind": "topk", "fraction": 0.3}}
    run = fedray.launch(out=tmp_path / "run", **coded)
    for kind, vectors in (("none", 0), ("randomk", 1)):
        notes, out = Notes(), tmp_path / kind
        fedray.fork(run, 5, out=out, watcher=notes, **{"compression.up": {"kind": kind}})
        assert "compression.up: another code, which begins without a memory" in notes.said
        segments = snapshot_of(out / "checkpoints", 5).meta["segments"]
        states = 1 if algorithm == "scaffold" else 0
        assert bool(segments) == bool(states + vectors)
        if states + vectors:
            before = remembered(run.path / "checkpoints", 5)
            after = remembered(out / "checkpoints", 5)
            assert before.keys() == after.keys()
            width = states + vectors * (1 + states)
            for client, rows in after.items():
                assert rows.shape == (width, *before[client].shape[1:])
                assert (rows[:states] == before[client][:states]).all()
                assert not rows[states:].any()


PRIVATE = {
    **{k: v for k, v in SYNC.items() if "optimizer" not in k},
    "server.schedule": {"mode": "sync"},
    "server.weighting": "uniform",
    "privacy": {"kind": "central", "noise_multiplier": 0.4},
    "diagnosis.decompose": "off",
    "devices.dropout": 0.0,
}


def test_epsilon_is_not_claimed_of_noise_that_the_beginning_had_not(tmp_path: Path) -> None:
    private = fedray.launch(out=tmp_path / "private", **PRIVATE)
    open_ = fedray.launch(
        out=tmp_path / "open", **{**PRIVATE, "privacy": {"kind": "none"}, "server.rounds": 6}
    )
    adaptive = {"kind": "central", "noise_multiplier": 0.4, "clipping": {"kind": "adaptive"}}
    for run, changes, key in (
        (private, {"privacy.noise_multiplier": 2.0}, "privacy.noise_multiplier"),
        (private, {"privacy": adaptive}, "privacy.clipping"),
        (private, {"server.selection": "poisson"}, "server.selection"),
        (open_, {"privacy": PRIVATE["privacy"], "server.rounds": 9}, "privacy.kind"),
        (open_, {"privacy": adaptive, "server.rounds": 9}, "privacy.kind"),
    ):
        with pytest.raises(InputError, match="epsilon is of all versions") as caught:
            fedray.fork(run, 5, out=tmp_path / "no", **changes)
        assert caught.value.key.startswith(key)
        assert not (tmp_path / "no").exists()
    longer = fedray.fork(private, 5, out=tmp_path / "longer", **{"server.rounds": 20})
    assert longer.summary["privacy"]["releases"] == 20
    bare = fedray.fork(private, 5, out=tmp_path / "bare", **{"privacy": {"kind": "none"}})
    assert bare.summary.get("privacy") is None


def snapshot_of(folder: Path, version: int) -> checkpoint.Snapshot:
    found = checkpoint.load_newest(folder, up_to=version)[0]
    assert found is not None
    assert found.version == version
    return found


def remembered(folder: Path, version: int) -> dict[int, Any]:
    """What clients remember at a version, from the files of its checkpoint."""
    found = {}
    for name, _ in snapshot_of(folder, version).meta["segments"]["clients"]:
        with np.load(folder / name) as file:
            found |= dict(zip(file["clients"].tolist(), file["rows"], strict=True))
    return found


def test_an_interrupted_run_can_be_forked_and_an_interrupted_fork_goes_on(
    runs: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedray.simulation.flight import Flight

    run = Flight.run

    def dies(self: Flight, facts: dict[str, Any]) -> Any:
        for progress in run(self, facts):
            if progress.version > 8:
                raise RuntimeError("killed")
            yield progress

    monkeypatch.setattr(Flight, "run", dies)
    with pytest.raises(RuntimeError):
        fedray.launch(out=tmp_path / "a", **BUFFERED)
    with pytest.raises(RuntimeError):
        fedray.fork(tmp_path / "a", 6, out=tmp_path / "b")
    monkeypatch.undo()
    made = fedray.launch(resume=tmp_path / "b")
    assert bits(made) == bits(runs["buffered"])
    assert made.summary["forked_from"]["version"] == 6
    newest = checkpoint.version_of(checkpoint.found(tmp_path / "b/checkpoints")[0])
    assert newest == 10


@pytest.mark.parametrize(
    ("at", "changes", "said"),
    [
        (5, {"seed": 3}, "seed: a fork cannot change it: every number of the run follows"),
        (5, {"data.source": "iris"}, "data.source: a fork cannot change it"),
        (5, {"partition.alpha": 3}, "partition.alpha: a fork cannot change it"),
        (5, {"model.kind": "mlp"}, "model.kind: a fork cannot change it"),
        (5, {"clock": "wall"}, "clock: a fork cannot change it: arrivals by the wall clock"),
        (5, {"diagnosis.decompose": 1}, "diagnosis.decompose: a fork cannot change it: it is kept"),
        (5, {"algorithm": "fedprox"}, "algorithm: a fork cannot change it"),
        (5, {"server.schedule": {"mode": "sync"}}, "server.schedule.mode: a fork cannot change it"),
        (0, {}, "--at: 0 is not a version of"),
        (15, {}, "it has 1 to 14"),
        (14, {}, "server.rounds: 14 versions, and the fork begins with 14"),
        (5, {"stop.virtual_time_s": 0.5}, "stop.virtual_time_s: 0.5 s, and version 5 was made at"),
        (5, {"client.lrr": 1}, "did you mean"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    runs: dict[str, Run], tmp_path: Path, at: int, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        fedray.fork(runs["buffered"], at, out=tmp_path / "a", **changes)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a").exists()


def test_on_the_command_line(runs: dict[str, Run], tmp_path: Path) -> None:
    origin = runs["buffered"].path
    arguments = ["fork", str(origin), "--at", "10", "--set", "client.lr=0.2"]
    done = CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / "a")])
    assert done.exit_code == 0, done.output
    assert f"forked from {origin} at version 10" in " ".join(done.stdout.split())
    again = CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / "b"), "--json"])
    assert json.loads(again.stdout)["forked_from"]["changed"] == {"client.lr": [0.1, 0.2]}
    assert bits(Run(tmp_path / "a")) == bits(Run(tmp_path / "b"))
    wrong = CliRunner().invoke(cli, ["fork", str(tmp_path), "--at", "10"])
    assert (wrong.exit_code, wrong.stderr.count("\n")) == (2, 1)
