"""Data files that are broken: refused in a line, never a traceback, never a pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from damage import FUZZ, Trap, damage, damaged, reads, trap
from data_files import frame, idx_folder, write
from hypothesis import example, given
from hypothesis import strategies as st

from fedray.config.schema import IdxData, TableData
from fedray.data.idx import read_idx
from fedray.data.table import read_table
from fedray.errors import InputError
from fedray.simulation.tables import availability_trace, device_table


@pytest.mark.parametrize("suffix", ["parquet", "csv", "npz"])
def test_tables_of_data(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "npz":
        np.savez(path, X=np.ones((9, 2)), y=np.arange(9) % 3)
        config = TableData(source="npz", path=str(path), label="y")
    else:
        write(frame(20), path)
        config = TableData(source=suffix, path=str(path), label="y", client_column="site")  # type: ignore[arg-type]
    whole = path.read_bytes()

    @FUZZ
    @given(damage)
    def holds(how: Any) -> None:
        path.write_bytes(damaged(whole, how))
        reads(lambda: read_table(config, 0, tmp_path))

    holds()


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files(tmp_path: Path, zipped: bool) -> None:
    idx_folder(tmp_path, zipped)
    path = tmp_path / ("train-images-idx3-ubyte" + ".gz" * zipped)
    whole, config = path.read_bytes(), IdxData(source="idx", path=str(tmp_path))

    @FUZZ
    @given(damage)
    @example([("cut", 9 / len(whole), b"")])  # within the header
    def holds(how: Any) -> None:
        path.write_bytes(damaged(whole, how))
        reads(lambda: read_idx(config, 0, tmp_path))

    holds()


def test_device_tables_and_traces(tmp_path: Path) -> None:
    table = pa.table(
        {
            "client": [0, 1, 2],
            "duration_s": [1.0, 2, 3],
            "start_s": [0.0, 1, 2],
            "end_s": [1.0, 2, 3],
        }
    )
    write(table, tmp_path / "a.parquet")
    write(table, tmp_path / "a.csv")
    wholes = {path: path.read_bytes() for path in tmp_path.iterdir()}

    @FUZZ
    @given(damage, st.sampled_from(sorted(wholes)))
    def holds(how: Any, path: Path) -> None:
        path.write_bytes(damaged(wholes[path], how))
        reads(lambda: device_table(path, clients=3, names=None))
        reads(lambda: availability_trace(path, clients=3, names=None))

    holds()


def test_no_pickle_is_ever_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", X=trap(), y=trap())
    config = TableData(source="npz", path=str(tmp_path / "a.npz"), label="y")
    with pytest.raises(InputError, match="without pickle"):
        read_table(config, 0, tmp_path)
    assert not Trap.sprung
