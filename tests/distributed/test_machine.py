import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from fedray.distributed import machine
from fedray.errors import FedrayError, InputError

MIB = 1 << 20


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    return tmp_path


def test_cores_without_a_quota_are_those_of_the_affinity(cgroup: Path) -> None:
    expected = len(os.sched_getaffinity(0))
    assert machine.cores() == expected
    (cgroup / "cpu.max").write_text("max 100000\n")
    assert machine.cores() == expected


def test_cores_respect_a_quota(cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    (cgroup / "cpu.max").write_text("250000 100000\n")
    assert machine.cores() == 3


def test_available_memory_respects_a_limit(cgroup: Path) -> None:
    (cgroup / "memory.max").write_text("max\n")
    (cgroup / "memory.current").write_text(f"{MIB}\n")
    assert machine.available_bytes() > 8 * MIB
    (cgroup / "memory.max").write_text(f"{9 * MIB}\n")
    assert machine.available_bytes() == 8 * MIB


def test_too_many_actors_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_bytes", lambda: 640 * MIB)
    machine.check_actors(10)
    with pytest.raises(
        InputError, match=r"^runtime\.clients_per_actor: 11 actors .* 704 MiB .* 640"
    ):
        machine.check_actors(11)


@pytest.mark.parametrize(
    ("memory", "shared", "needed", "expected"),
    [
        (10_000, 10_000, 0, 3000),  # 30 % of memory
        (10_000, 1000, 0, 800),  # 80 % of shared memory
        (1000, 1000, 400, 500),  # what is needed and a quarter, where 30 % is too little
        (10_000, 64, 0, 80),  # a plain container: the smallest, on disk
        (10_000, 64, 400, 500),
    ],
)
def test_store_fits_shared_memory_where_it_can(
    monkeypatch: pytest.MonkeyPatch, memory: int, shared: int, needed: int, expected: int
) -> None:
    pretend(monkeypatch, memory, shared)
    assert machine.store_bytes(needed * MIB) == expected * MIB


def test_data_that_fit_nowhere_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, memory=1000, shared=64)
    with pytest.raises(FedrayError, match=r"^the data need 625 MiB .* 51 MiB .* 1000 MiB"):
        machine.store_bytes(500 * MIB)


def pretend(monkeypatch: pytest.MonkeyPatch, memory: int, shared: int) -> None:
    def free(path: object) -> SimpleNamespace:
        return SimpleNamespace(free=(shared if str(path) == "/dev/shm" else 10**6) * MIB)

    monkeypatch.setattr(machine, "available_bytes", lambda: memory * MIB)
    monkeypatch.setattr(shutil, "disk_usage", free)


def test_temporary_folder_leaves_room_for_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/scratch")
    assert machine.short_temp() == "/scratch"
    monkeypatch.setattr("tempfile.tempdir", "/scratch/of/a/user/with/a/long/name")
    assert machine.short_temp() == "/tmp"
