"""Shared memory for updates: another process sees the same rows, and nothing is left behind."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from fedray.distributed import arena

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs memfd and /proc")


def _write(handle: arena.Handle, row: int) -> None:
    rows = arena.attach(handle)
    assert rows is not None
    rows[row] = np.arange(rows.shape[1])


def test_another_process_writes_where_we_read() -> None:
    shared = arena.make(4, 5, np.dtype(np.float32))
    assert shared is not None
    writer = multiprocessing.get_context("spawn").Process(target=_write, args=(shared.handle, 2))
    writer.start()
    writer.join()
    assert writer.exitcode == 0
    assert shared.rows[2].tolist() == [0, 1, 2, 3, 4]
    assert (shared.rows[[0, 1, 3]] == 0).all()


def test_it_has_no_name_in_any_file_system() -> None:
    shared = arena.make(4, 5, np.dtype(np.float64))
    assert shared is not None
    assert "deleted" in str(Path(f"/proc/{os.getpid()}/fd/{shared.handle.fd}").readlink())


@pytest.mark.parametrize(
    "wrong", [{"pid": 2**22 + 1}, {"fd": 9999}, {"token": bytes(64)}], ids=lambda w: next(iter(w))
)
def test_what_is_out_of_reach_or_somebody_elses_is_not_attached(wrong) -> None:
    shared = arena.make(4, 5, np.dtype(np.float32))
    assert shared is not None
    assert arena.attach(shared.handle._replace(**wrong)) is None


def test_rows_are_handed_out_once_and_in_order() -> None:
    shared = arena.make(6, 3, np.dtype(np.float32))
    assert shared is not None
    assert shared.take(3).tolist() == [0, 1, 2]
    assert shared.take_last() == 5
    assert shared.take(3) is None
    shared.give_back(1)
    assert shared.take(3).tolist() == [1, 3, 4]
    assert shared.take_last() is None


def test_too_large_rows_mean_no_arena() -> None:
    assert arena.make(3, arena.MOST_BYTES, np.dtype(np.float32)) is None
    some = arena.make(1000, arena.MOST_BYTES // 40, np.dtype(np.float32))
    assert some is not None
    assert len(some.rows) == 10
