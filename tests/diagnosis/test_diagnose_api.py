"""fedray.diagnose: what ends up in the folder, from what, and how it goes on after a break."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import fedray
from fedray.api.diagnose import Outlook, Watcher
from fedray.api.launch import Interrupted
from fedray.config.load import dump, load
from fedray.errors import InputError
from fedray.report.run import Run
from fedray.report.tables import read_table, write_table

CONFIG: dict[str, Any] = {
    "name": "small",
    "seed": 3,
    "data": {"source": "blobs", "samples": 240, "dimensions": 3},
    "partition": {"scheme": "dirichlet", "clients": 6, "alpha": 0.3},
    "client": {"steps": 2, "batch_size": 8, "lr": 0.2},
    "server": {
        "rounds": 8,
        "schedule": {"mode": "buffered", "concurrency": 4, "buffer_size": 2},
    },
    "output": {"report": False},
    "runtime": {"executor": "local"},
}
SYNC = {"server.schedule": {"mode": "sync"}, "server.clients_per_round": "all"}
ARMS, CONTROLS = 16, 2
ALL = ARMS + CONTROLS


class Onlooker(Watcher):
    """Remembers all that it is told, and presses Ctrl-C after so many arms."""

    def __init__(self, patience: int = 10**9) -> None:
        self.notes: list[str] = []
        self.outlook: Outlook | None = None
        self.begun: list[tuple[int, int]] = []
        self.done: list[int] = []
        self.shares: list[float] = []
        self._patience = patience

    def note(self, text: str) -> None:
        self.notes.append(text)

    def planned(self, outlook: Outlook) -> None:
        self.outlook = outlook

    def computing(self, what: str, tasks: int, done: int, share: float) -> None:
        self.begun.append((tasks, done))

    def progress(self, done: int, share: float) -> None:
        self.done.append(done)
        self.shares.append(share)
        if len(self.done) == self._patience:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[fedray.Diagnosis, Onlooker]:
    """A diagnosis with two seeds that nobody disturbs."""
    onlooker = Onlooker()
    folder = tmp_path_factory.mktemp("diagnoses") / "whole"
    return fedray.diagnose(CONFIG, seeds=2, out=folder, watcher=onlooker), onlooker


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that lost its patience."""
    settings = {"server.rounds": 30, "stop.patience": 2}
    return fedray.launch(CONFIG, out=tmp_path_factory.mktemp("runs") / "run", **settings)


FILES = {"config.yaml", "request.json", "diagnosis.json", "arms.parquet"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def rows(found: fedray.Diagnosis, seed: int, arm: str) -> pa.Table:
    table = found.arms
    return table.filter(pc.and_(pc.equal(table["seed"], seed), pc.equal(table["arm"], arm)))


def test_the_folder_holds_the_configuration_the_arms_and_the_findings(
    whole: tuple[fedray.Diagnosis, Onlooker],
) -> None:
    found, onlooker = whole
    assert names(found.path) == FILES
    assert load(found.path / "config.yaml").config == load(CONFIG).config
    assert found.findings["seeds"] == [3, 4]
    assert found.findings["arms"] == {"all": 32, "computed": 32}
    assert set(found.arms["seed"].to_pylist()) == {3, 4}
    assert len(set(found.arms["arm"].to_pylist())) == ALL
    assert rows(found, 4, "pooled")["version"].to_pylist() == list(range(9))
    assert onlooker.begun == [(2 * ALL, 0)]
    assert onlooker.done == list(range(1, 2 * ALL + 1))
    assert onlooker.shares == sorted(onlooker.shares)
    assert onlooker.shares[-1] == pytest.approx(1.0, abs=1e-12)


def test_the_arm_with_all_on_is_the_run_that_launch_makes(
    tmp_path: Path, whole: tuple[fedray.Diagnosis, Onlooker]
) -> None:
    launched = fedray.launch(CONFIG, out=tmp_path / "run", seed=4)
    for column in ("version", "accuracy", "loss", "virtual_time_s"):
        arm = rows(whole[0], 4, "run")[column].to_pylist()
        assert arm == launched.rounds[column].to_pylist()


@pytest.mark.parametrize("after", [1, ALL + 2, 2 * ALL])
def test_what_was_interrupted_goes_on_with_all_that_was_finished(
    tmp_path: Path, whole: tuple[fedray.Diagnosis, Onlooker], after: int
) -> None:
    folder = tmp_path / "with space"
    with pytest.raises(Interrupted, match=r"continue with: fedray diagnose --resume '.*space'"):
        fedray.diagnose(CONFIG, seeds=2, out=folder, watcher=Onlooker(after))
    assert len(list((folder / "arms").glob("*.npz"))) == after
    onlooker = Onlooker()
    found = fedray.diagnose(resume=folder, watcher=onlooker)
    assert onlooker.outlook is not None
    assert onlooker.outlook.kept == after
    assert onlooker.done == list(range(after + 1, 2 * ALL + 1))
    assert found.findings == whole[0].findings
    assert found.arms.equals(whole[0].arms)
    assert names(folder) == FILES


def test_a_damaged_arm_is_computed_again(
    tmp_path: Path, whole: tuple[fedray.Diagnosis, Onlooker]
) -> None:
    with pytest.raises(Interrupted):
        fedray.diagnose(CONFIG, seeds=2, out=tmp_path / "a", watcher=Onlooker(5))
    damaged = sorted((tmp_path / "a/arms").glob("*.npz"))[0]
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    onlooker = Onlooker()
    found = fedray.diagnose(resume=tmp_path / "a", watcher=onlooker)
    assert onlooker.notes == [f"{damaged.name} is damaged; computing that arm again"]
    assert len(onlooker.done) == 2 * ALL - 4
    assert found.findings == whole[0].findings


def test_resuming_keeps_the_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    with pytest.raises(Interrupted):
        fedray.diagnose(CONFIG, seeds=1, out=folder, watcher=Onlooker(2))
    for settings in ({"client.lr": 0.3}, {"client": {"lr": 0.3}}):
        with pytest.raises(InputError, match=r"^client\.lr: a resumed diagnosis keeps its"):
            fedray.diagnose(resume=folder, **settings)
    with pytest.raises(InputError, match=r"continue it with: fedray diagnose --resume"):
        fedray.diagnose(CONFIG, out=folder)
    with pytest.raises(InputError, match="takes no configuration"):
        fedray.diagnose(CONFIG, resume=folder)
    with pytest.raises(InputError, match="--seeds"):
        fedray.diagnose(resume=folder, seeds=2)
    (folder / "request.json").write_text("{")
    with pytest.raises(InputError, match=r"request\.json: cannot be read"):
        fedray.diagnose(resume=folder)


def test_causes_that_make_no_difference_are_not_computed(tmp_path: Path) -> None:
    onlooker = Onlooker()
    found = fedray.diagnose(CONFIG, seeds=2, out=tmp_path / "a", watcher=onlooker, **SYNC)
    assert onlooker.outlook is not None
    assert (onlooker.outlook.arms, onlooker.outlook.distinct) == (16, 8)
    assert set(onlooker.outlook.inert) == set(found.findings["inert"]) == {"staleness"}
    assert len(onlooker.done) == 2 * (8 + 1)
    assert found.findings["participation"] is None
    assert any("Every client is in every version" in n for n in found.findings["notes"])
    assert found.findings["level"]["shares"]["staleness"]["value"] == 0.0
    assert len(set(found.arms["arm"].to_pylist())) == ARMS + 1


def test_a_costly_control_is_left_out_with_a_note(tmp_path: Path) -> None:
    settings = {"partition": {"scheme": "iid", "clients": 40}, "server.rounds": 2}
    onlooker = Onlooker()
    found = fedray.diagnose(CONFIG, seeds=1, out=tmp_path / "a", watcher=onlooker, **settings)
    assert found.findings["participation"] is None
    assert any("as much as 20 arms" in note for note in found.findings["notes"])
    assert len(onlooker.done) == ARMS + 1


def test_notes_are_sentences(tmp_path: Path, run: Run) -> None:
    few = {"partition": {"scheme": "iid", "clients": 40}, "server.rounds": 2, "stop.patience": 1}
    made = [
        fedray.diagnose(CONFIG, seeds=1, out=tmp_path / "a", **SYNC),
        fedray.diagnose(CONFIG, seeds=1, out=tmp_path / "b", **few),
        fedray.diagnose(run, seeds=1, out=tmp_path / "c"),
    ]
    notes = [note for found in made for note in found.findings["notes"]]
    assert len(notes) >= 4
    for note in notes:
        assert note[0].isupper()
        assert note.endswith(".")


# --- runs -------------------------------------------------------------------------------


def test_a_run_is_diagnosed_up_to_where_it_ended(run: Run) -> None:
    last = run.rounds["version"].to_pylist()[-1]
    assert last < 30
    found = fedray.diagnose(run, seeds=1)
    try:
        assert found.path == run.path / "diagnosis"
        assert (
            f"The run ended at version {last} of 30, and so do all arms."
            in (found.findings["notes"])
        )
        assert rows(found, 3, "run")["loss"].to_pylist() == run.rounds["loss"].to_pylist()
        assert not any("recorded one" in note for note in found.findings["notes"])
        with pytest.raises(InputError, match="--resume"):
            fedray.diagnose(run.path, seeds=1)
    finally:
        shutil.rmtree(found.path)


def test_a_replay_that_is_not_the_run_says_so(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.path, folder)
    table = read_table(folder / "rounds.parquet")
    loss = table["loss"].to_pylist()
    loss[2] += 1e-9
    at = table.column_names.index("loss")
    write_table(table.set_column(at, "loss", pa.array(loss)), folder / "rounds.parquet")
    found = fedray.diagnose(str(folder), seeds=1)
    assert any(
        note.startswith("From version 2 on, the replayed run differs")
        for note in found.findings["notes"]
    )


def test_of_a_run_only_runtime_and_output_may_be_set(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^client\.lr: .*only runtime and output"):
        fedray.diagnose(run, ["client.lr=0.3"])
    found = fedray.diagnose(run, ["output.report=false"], seeds=1, out=tmp_path / "a")
    assert found.path == tmp_path / "a"


def test_a_run_by_the_wall_clock_is_replayed_as_it_was_recorded(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^clock: wall: who arrives when"):
        fedray.diagnose(CONFIG, clock="wall")
    folder = tmp_path / "run"
    shutil.copytree(run.path, folder)
    (folder / "config.yaml").write_text(dump(load(CONFIG, {"clock": "wall"}).config))
    with pytest.raises(InputError, match=r"^--seeds: 2 seeds"):
        fedray.diagnose(folder, seeds=2)
    found = fedray.diagnose(folder)
    assert found.findings["seeds"] == [3]
    assert any("the arrivals that were recorded" in note for note in found.findings["notes"])
    assert "has only the seed that it was recorded with" in found.words[-1]
    assert "--seeds" not in " ".join(found.words)
    assert rows(found, 3, "run")["loss"].to_pylist() == run.rounds["loss"].to_pylist()


def test_a_run_without_a_version_has_nothing_to_diagnose(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.path, folder)
    table = read_table(folder / "rounds.parquet").slice(0, 1)
    write_table(table, folder / "rounds.parquet")
    with pytest.raises(InputError, match="no version yet"):
        fedray.diagnose(folder)


# --- bad input --------------------------------------------------------------------------


def test_rules_that_look_at_scores_are_left_out(tmp_path: Path) -> None:
    rules = {"stop.accuracy": 0.01, "stop.patience": 1, "stop.virtual_time_s": 1e9}
    found = fedray.diagnose(CONFIG, seeds=1, out=tmp_path / "a", **rules)
    assert any(
        note.startswith("Rules left out: stop.accuracy and stop.patience, so that")
        for note in found.findings["notes"]
    )
    assert found.config["stop"]["virtual_time_s"] == 1e9
    assert found.findings["versions"] == 8


@pytest.mark.parametrize("seeds", [0, -1, 2.5, True])
def test_seeds_are_a_positive_number(tmp_path: Path, seeds: Any) -> None:
    with pytest.raises(InputError, match=r"^--seeds: "):
        fedray.diagnose(CONFIG, seeds=seeds, out=tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_what_cannot_run_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="concurrency"):
        fedray.diagnose(CONFIG, out=tmp_path / "a", **{"server.schedule.concurrency": 9})
    with pytest.raises(InputError, match=r"runtime\.address"):
        fedray.diagnose(
            {**CONFIG, "runtime": {"address": "127.0.0.1:1"}}, seeds=1, out=tmp_path / "a"
        )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_stays_when_nothing_can_run(tmp_path: Path) -> None:
    own = tmp_path / "mine"
    own.mkdir()
    nobody = {**CONFIG, "runtime": {"address": "127.0.0.1:1"}}
    for start in (fedray.diagnose, fedray.launch):
        with pytest.raises(InputError, match=r"runtime\.address"):
            start(nobody, out=own)
        assert own.is_dir()
        assert list(own.iterdir()) == []
