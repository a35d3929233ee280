"""What clients remember: kept beside the server, in segments that are whole or not used."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from fedray.errors import FedrayError
from fedray.simulation import checkpoint, memories
from fedray.simulation.checkpoint import Snapshot
from fedray.simulation.memories import Memories


def made(folder: Path, size: int = 3, vectors: int = 2) -> Memories:
    return Memories("clients", vectors, size, np.dtype(np.float32), folder)


def filled(folder: Path, clients: int, version: int) -> Memories:
    found = made(folder)
    for client in range(clients):
        found.remember(client, value(client, version), dispatch=10 * version + client)
    return found


def value(client: int, version: int) -> np.ndarray:
    return np.arange(6, dtype=np.float32).reshape(2, 3) + 100 * client + version


def same(left: Memories, right: Memories) -> bool:
    known = left._slots.keys() == right._slots.keys()
    return known and all(
        np.array_equal(left.get(c), right.get(c)) and left.dispatch(c) == right.dispatch(c)
        for c in left._slots
    )


def test_nothing_is_left_in_the_folder(tmp_path):
    filled(tmp_path, 200, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_writes_what_changed_since_the_one_before(tmp_path):
    kept = filled(tmp_path, 50, 1)
    first = list(kept.save(tmp_path, 10))
    kept.remember(7, value(7, 2), dispatch=99)
    second = list(kept.save(tmp_path, 20))
    assert [rows for _, rows in second] == [50, 1]
    assert second[:1] == first
    again, old = made(tmp_path), made(tmp_path)
    again.restore(tmp_path, second)
    assert same(again, kept)
    assert again.dispatch(7) == 99
    old.restore(tmp_path, first)  # the checkpoint before is as good as it was
    assert np.array_equal(old.get(7), value(7, 1))
    assert again.save(tmp_path, 30) == second  # nothing has changed since


def test_segments_are_written_whole_before_they_become_many(tmp_path):
    kept, most = filled(tmp_path, 5, 0), 0
    for version in range(1, 60):
        kept.remember(version % 5, value(version % 5, version), dispatch=version)
        most = max(most, len(kept.save(tmp_path, version)))
    again = made(tmp_path)
    again.restore(tmp_path, kept.save(tmp_path, 60))
    assert same(again, kept)
    assert most <= memories._MOST_SEGMENTS + 1


def test_large_memories_travel_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(memories, "_SEGMENT_BYTES", 10 * 24)
    kept = filled(tmp_path, 35, 1)
    segments = kept.save(tmp_path, 1)
    assert [rows for _, rows in segments] == [10, 10, 10, 5]
    again = made(tmp_path)
    again.restore(tmp_path, segments)
    assert same(again, kept)


def test_a_damaged_segment_sends_a_run_back_to_the_checkpoint_before(tmp_path):
    kept = filled(tmp_path, 4, 1)
    w = np.zeros(3, np.float32)
    for version in (1, 2):
        kept.remember(0, value(0, version), dispatch=version)
        segments = {"clients": [list(each) for each in kept.save(tmp_path, version)]}
        checkpoint.save(tmp_path, Snapshot(version, w, {}, {}, {"segments": segments}), keep=2)
    newest = max(tmp_path.glob("clients-v*"))
    newest.write_bytes(newest.read_bytes()[:-5])
    snapshot, complaints = checkpoint.load_newest(tmp_path)
    assert snapshot is not None
    assert snapshot.version == 1
    assert len(complaints) == 1
    assert re.search(r"clients-v000000002-\w+\.npz is missing or damaged", complaints[0])
    with pytest.raises(FedrayError):
        made(tmp_path).restore(tmp_path, segments["clients"])


def test_segments_that_no_checkpoint_needs_are_removed(tmp_path):
    w = np.zeros(3, np.float32)
    kept = filled(tmp_path, 4, 0)
    for version in range(1, 80):
        kept.remember(1, value(1, version), dispatch=version)
        segments = {"clients": [list(each) for each in kept.save(tmp_path, version)]}
        checkpoint.save(tmp_path, Snapshot(version, w, {}, {}, {"segments": segments}), keep=2)
    assert len(list(tmp_path.glob("clients-v*"))) <= 2 * (memories._MOST_SEGMENTS + 1)
    assert len(checkpoint.found(tmp_path)) == 2


def test_memories_do_not_stay_in_the_process(tmp_path):
    """20,000 clients with 16 kB each: a third of a GB in a file, next to nothing of the heap."""
    before = anonymous_bytes()
    kept = Memories("clients", 1, 4096, np.dtype(np.float32), tmp_path)
    row = np.ones((1, 4096), np.float32)
    for client in range(20_000):
        kept.remember(client, row)
    assert anonymous_bytes() - before < 30e6
    assert kept.get(19_999)[0, 0] == 1.0


def anonymous_bytes() -> int:
    """Of this process, memory that no file stands behind."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"RssAnon:\s+(\d+)", status)[1])
