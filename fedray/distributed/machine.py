"""What this machine, or the container that we are in, has to offer to a private Ray."""

from __future__ import annotations

import math
import os
import resource
import shutil
import tempfile
from pathlib import Path

import psutil

from fedray.errors import FedrayError, InputError

ACTOR_BYTES = 64 << 20
"""Private memory of an actor that has imported NumPy, measured with Ray 2.60."""
_CGROUP = Path("/sys/fs/cgroup")
_SHARED = Path("/dev/shm")
_SMALLEST_STORE = 80 << 20  # Ray refuses less than 75 MiB
_LONGEST_TEMP = 32  # Ray appends up to 70 characters, and a socket's path has at most 103


def cores() -> int:
    """Cores that this process may use, a container's quota included."""
    affine = getattr(os, "sched_getaffinity", None)  # not on macOS
    count = len(affine(0)) if affine else os.cpu_count() or 1
    quota, _, period = _cgroup("cpu.max").partition(" ")
    return min(count, math.ceil(int(quota) / int(period))) if quota.isdigit() else count


def available_bytes() -> int:
    """Memory that can still be taken, a container's limit included."""
    free: int = psutil.virtual_memory().available
    limit, used = _cgroup("memory.max"), _cgroup("memory.current")
    return min(free, max(int(limit) - int(used), 0)) if limit.isdigit() and used else free


def memory_limit_bytes() -> int | None:
    """What a container may take of memory; None where there is no limit."""
    limit = _cgroup("memory.max")
    return int(limit) if limit.isdigit() else None


def cpu_limit() -> float | None:
    """The cores' worth of time that a container may take; None where there is no limit."""
    quota, _, period = _cgroup("cpu.max").partition(" ")
    return int(quota) / int(period) if quota.isdigit() else None


def shared_bytes() -> int | None:
    """Size of shared memory, all of it; None where there is none (macOS)."""
    return shutil.disk_usage(_SHARED).total if _SHARED.is_dir() else None


def load() -> float:
    """Processes that want a core, mean over the last minute."""
    return os.getloadavg()[0]


def open_files() -> int:
    """How many files and sockets a process may have open; each may raise it to the hard limit."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def rays() -> list[int]:
    """The processes of this machine that are a node of some Ray."""
    running = psutil.process_iter(["name"])
    return [process.pid for process in running if process.info["name"] == "raylet"]


def check_actors(actors: int) -> None:
    """Raises InputError where so many actors do not fit in memory."""
    need, have = actors * ACTOR_BYTES, available_bytes()
    if need > have:
        raise InputError(
            f"{actors} actors need about {need >> 20} MiB of memory and {have >> 20} MiB are "
            "available; put more clients into each, or leave it at auto",
            key="runtime.clients_per_actor",
        )


def store_bytes(needed_bytes: int) -> int:
    """Size of the object store: 30 % of the available memory, within shared memory.

    Where shared memory is too small (64 MiB in a plain container), Ray keeps the store in
    its temporary folder instead, which is slower, and the size is bounded by memory alone.
    Raises FedrayError where `needed_bytes` of data do not fit either way.
    """
    have = available_bytes()
    shared = int(0.8 * shutil.disk_usage(_SHARED).free) if _SHARED.is_dir() else have
    wanted = max(int(1.25 * needed_bytes), _SMALLEST_STORE)
    size = min(int(0.3 * have), shared)
    if size >= wanted:
        return size
    if wanted <= shared and wanted <= 0.8 * have:
        return wanted
    if wanted <= 0.5 * have and wanted <= 0.8 * shutil.disk_usage(short_temp()).free:
        return wanted
    raise FedrayError(
        f"the data need {wanted >> 20} MiB of shared memory; available are {shared >> 20} MiB "
        f"in {_SHARED} and {have >> 20} MiB of memory in all"
    )


def short_temp() -> str:
    """A folder for temporary files whose path leaves room for a socket's name."""
    usual = tempfile.gettempdir()
    return usual if len(usual) <= _LONGEST_TEMP - len("/fedray-12345678") else "/tmp"


def _cgroup(name: str) -> str:
    try:
        return (_CGROUP / name).read_text().strip()
    except OSError:
        return ""
