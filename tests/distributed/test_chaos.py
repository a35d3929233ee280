"""Twenty deaths in one run, and ten of the whole process tree: still the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from test_nodes import Killing, longer
from test_same_bits import assert_same

import fedray
from fedray.config import schema
from fedray.report.run import Run
from fedray.simulation import checkpoint

ROUNDS = 900
KILLS = 20


@pytest.fixture(scope="module")
def shared_ray() -> Iterator[None]:
    from fedray.distributed.session import session

    with session(schema.Runtime(cpus=2)):
        yield


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("calm") / "run"
    return fedray.launch(longer(ROUNDS, executor="local"), out=folder)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_deaths_change_nothing(shared_ray, calm, tmp_path):
    """Hosts with their clients' memories, and the server: whoever the dice say, whenever."""
    dice = np.random.default_rng(0)
    versions = np.sort(dice.choice(np.arange(20, ROUNDS - 40), KILLS, replace=False))
    deeds = {
        f"{'server' if dice.random() < 0.25 else 'host'}_{i}": int(version)
        for i, version in enumerate(versions)
    }
    killing = Killing(**deeds)
    asked = longer(ROUNDS, clients_per_actor=4, actor_restarts=2 * KILLS)
    run = fedray.launch(asked, out=tmp_path / "run", watcher=killing)
    assert len(killing.done) == KILLS
    assert {deed.split("_")[0] for deed in killing.done} == {"server", "host"}
    assert_same(run, calm)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_deaths_of_everything_change_nothing(calm, tmp_path):
    """kill -9 of driver, server and clients at once, some time after a new checkpoint."""
    dice = np.random.default_rng(1)
    folder, file = tmp_path / "run", tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(longer(ROUNDS, executor="local")))
    for death in range(10):
        process = _started(folder, file)
        _wait_until(folder, int(dice.integers(1, 60)), process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (folder / "summary.json").exists(), f"over before death {death}"
    assert_same(fedray.launch(resume=folder, **{"runtime.executor": "local"}), calm)


def _started(folder: Path, file: Path) -> subprocess.Popen:
    again = (folder / "config.yaml").exists()
    script = (
        f"import fedray; fedray.launch(resume={str(folder)!r})" if again
        else f"import fedray; fedray.launch({str(file)!r}, out={str(folder)!r})"
    )  # fmt: skip
    return subprocess.Popen([sys.executable, "-c", script], start_new_session=True)


def _wait_until(folder: Path, more: int, process: subprocess.Popen) -> None:
    """Until the run has got so many versions past the newest checkpoint it began from."""

    def newest() -> int:
        found = checkpoint.found(folder / "checkpoints")
        return checkpoint.version_of(found[0]) if found else 0

    goal, deadline = newest() + more, time.monotonic() + 120
    while newest() < goal:
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        os.sched_yield()
