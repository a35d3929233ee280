"""A run folder whose files are broken: read as far as they go, or refused in a line."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import FUZZ, Trap, damage, damaged, reads, trap
from hypothesis import given
from run_folder import write_run

from fedray.config.load import load
from fedray.errors import FedrayError
from fedray.report.run import Run

RUN_FILES = (
    "rounds.parquet",
    "updates.parquet",
    "clients.parquet",
    "summary.json",
    "model.npz",
    "config.yaml",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "a", versions=4, clients=3, features=2)


@pytest.mark.parametrize("name", RUN_FILES)
def test_files_of_a_run_folder(run: Path, name: str) -> None:
    whole = (run / name).read_bytes()

    def read() -> None:
        opened = Run(run)
        for part in ("rounds", "updates", "clients", "model", "summary", "config"):
            value = getattr(opened, part)
            if hasattr(value, "to_pydict"):
                value.to_pydict()

    @FUZZ
    @given(damage)
    def holds(how: Any) -> None:
        (run / name).write_bytes(damaged(whole, how))
        reads(read)

    try:
        holds()
    finally:
        (run / name).write_bytes(whole)


def test_configurations() -> None:
    whole = b"name: a\nseed: 3\nclient: {lr: 0.1}\nserver:\n  rounds: 5\n  schedule: {mode: sync}\n"

    @FUZZ
    @given(damage)
    def holds(how: Any) -> None:
        text = damaged(whole, how).decode("utf-8", "replace") + "\n"
        reads(lambda: load(text))

    holds()


def test_no_pickle_is_ever_loaded(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", versions=2, clients=3, features=2)
    np.savez(run / "model.npz", w=trap())
    (run / "summary.json").write_bytes(pickle.dumps(Trap()))
    for part in ("model", "summary"):
        with pytest.raises(FedrayError, match="cannot be read"):
            getattr(Run(run), part)
    assert not Trap.sprung
