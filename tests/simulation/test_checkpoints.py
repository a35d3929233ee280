"""Checkpoints: when they are made, what a damaged one costs, and that neither changes a bit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from damage import FUZZ, Trap, damage, damaged, trap
from hypothesis import given

import fedray
from fedray.api.launch import Watcher
from fedray.config.load import load
from fedray.errors import FedrayError, InputError
from fedray.parts.fields import seconds
from fedray.simulation import checkpoint
from fedray.simulation.flight import Flight

SMALL: dict[str, Any] = {
    "runtime.executor": "local",
    "data.source": "blobs",
    "data.samples": 300,
    "data.dimensions": 2,
    "partition.clients": 6,
    "server.rounds": 12,
    "server.schedule.concurrency": 4,
    "server.schedule.buffer_size": 2,
    "output.report": False,
}


class Notes(Watcher):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def contents(folder: Path) -> tuple[Any, ...]:
    """All that a run leaves but its wall times."""
    rounds = pq.read_table(folder / "rounds.parquet").drop_columns(["wall_time_s"])
    tables = [pq.read_table(folder / f"{name}.parquet") for name in ("updates", "clients")]
    return rounds, *tables, (folder / "model.npz").read_bytes()


def cut_off(folder: Path, at: int, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
    """A run that is killed, as far as its folder can tell, in the middle."""
    run = Flight.run

    def dies(self: Flight, facts: dict[str, Any]) -> Any:
        for progress in run(self, facts):
            if progress.version > at:
                raise RuntimeError("killed")
            yield progress

    with monkeypatch.context() as patch:
        patch.setattr(Flight, "run", dies)
        with pytest.raises(RuntimeError, match="killed"):
            fedray.launch(out=folder, **{**SMALL, **settings})


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    folder = tmp_path_factory.mktemp("calm") / "run"
    fedray.launch(out=folder, **SMALL)
    return contents(folder)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30s", 30), ("1.5 min", 90), ("2h", 7200), ("0s", None), ("30", None), ("s", None)],
)
def test_durations(text: str, expected: float | None) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("value", ["30", "'30 days'", "0s", "-1", "1.5", "-3s"])
def test_when_is_versions_or_a_duration(value: str) -> None:
    if value == "30":
        assert load(None, {"checkpoint.every": 30}).config.checkpoint.every == 30
        return
    with pytest.raises(InputError) as caught:
        load(f"checkpoint: {{every: {value}}}\n")
    assert str(caught.value).startswith(
        "checkpoint.every: must be an integer >= 0 or a duration > 0 such as 30s, 5min or 1h, not"
    )


@pytest.mark.parametrize("every", ["0.000001s", "1h", 0, 1, 5])
def test_when_checkpoints_are_made_changes_no_bit(
    tmp_path: Path, calm: tuple[Any, ...], every: int | str
) -> None:
    fedray.launch(out=tmp_path / "a", **{**SMALL, "checkpoint.every": every, "checkpoint.keep": 99})
    assert contents(tmp_path / "a") == calm
    made = [checkpoint.version_of(path) for path in checkpoint.found(tmp_path / "a/checkpoints")]
    expected = {"0.000001s": range(12, 0, -1), "1h": [], 0: [], 1: range(12, 0, -1), 5: [10, 5]}
    assert made == list(expected[every])


def test_a_run_by_the_clock_on_the_wall_resumes_in_the_same_bits(
    tmp_path: Path, calm: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a"
    cut_off(folder, 7, monkeypatch, **{"checkpoint.every": "0.000001s"})
    assert checkpoint.version_of(checkpoint.found(folder / "checkpoints")[0]) == 7
    fedray.launch(resume=folder)
    assert contents(folder) == calm


@pytest.mark.parametrize("how", ["a bit flipped", "half of it", "nothing in it", "a half file"])
def test_of_a_damaged_checkpoint_the_one_before_is_used_and_a_line_says_so(
    tmp_path: Path, calm: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    folder = tmp_path / "a"
    cut_off(folder, 8, monkeypatch, **{"checkpoint.every": 3})
    newest, before = checkpoint.found(folder / "checkpoints")
    content = newest.read_bytes()
    if how == "a bit flipped":
        newest.write_bytes(content[:99] + bytes([content[99] ^ 1]) + content[100:])
    elif how == "half of it":
        newest.write_bytes(content[: len(content) // 2])
    elif how == "nothing in it":
        newest.write_bytes(b"")
    else:  # as a process that dies while it writes leaves it
        newest.rename(newest.with_name(f".{newest.name}.half"))
    notes = Notes()
    fedray.launch(resume=folder, watcher=notes)
    said = [f"resuming from the checkpoint of version {checkpoint.version_of(before)}"]
    if how != "a half file":
        problem = "damaged, or written in part; using the one before it"
        said.insert(0, f"checkpoint {newest.name}: {problem}")
    assert notes.said == said
    assert contents(folder) == calm


def test_where_all_are_damaged_it_begins_again_and_a_line_says_so(
    tmp_path: Path, calm: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a"
    cut_off(folder, 8, monkeypatch, **{"checkpoint.every": 3})
    for path in checkpoint.found(folder / "checkpoints"):
        path.write_bytes(b"")
    notes = Notes()
    fedray.launch(resume=folder, watcher=notes)
    assert notes.said[-1] == "no checkpoint that is whole: starting from the beginning"
    assert len(notes.said) == 3
    assert contents(folder) == calm


def test_one_of_another_format_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a"
    monkeypatch.setattr(checkpoint, "FORMAT", checkpoint.FORMAT + 1)
    cut_off(folder, 8, monkeypatch, **{"checkpoint.every": 3})
    monkeypatch.undo()
    with pytest.raises(FedrayError, match=r"format \d, this fedray reads \d") as caught:
        fedray.launch(resume=folder)
    assert "\n" not in str(caught.value)


def test_tables_that_lost_rows_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a"
    cut_off(folder, 8, monkeypatch, **{"checkpoint.every": 3})
    first = sorted((folder / "updates.parquet").iterdir())[0]
    first.unlink()
    with pytest.raises(FedrayError, match=r"updates\.parquet: holds .* part of it is lost"):
        fedray.launch(resume=folder)


def test_a_digest_that_is_right_does_not_make_a_checkpoint(tmp_path: Path) -> None:
    content = b"PK\x03\x04 and then something else"
    path = tmp_path / f"v000000003-{checkpoint._digest(content)}.npz"
    path.write_bytes(content)
    with pytest.raises(FedrayError, match=re.escape(f"{path}: not a checkpoint")):
        checkpoint.load_newest(tmp_path)


def test_any_damage_shows(tmp_path: Path) -> None:
    older = checkpoint.Snapshot(1, np.arange(3.0), {}, {}, {})
    checkpoint.save(tmp_path, older, keep=2)
    path = checkpoint.save(tmp_path, older._replace(version=2), keep=2)
    whole = path.read_bytes()

    @FUZZ
    @given(damage)
    def holds(how: Any) -> None:
        path.write_bytes(damaged(whole, how))
        snapshot, complaints = checkpoint.load_newest(tmp_path)
        assert snapshot is not None
        intact = path.read_bytes() == whole
        assert (snapshot.version, len(complaints)) == ((2, 0) if intact else (1, 1))

    holds()


def test_no_pickle_is_ever_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", w=trap(), meta=trap())
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / f"v000000001-{checkpoint._digest(content)}.npz").write_bytes(content)
    with pytest.raises(FedrayError, match="not a checkpoint"):
        checkpoint.load_newest(tmp_path)
    assert not Trap.sprung
