"""What is to be known of this machine, and of a run on it, before the run: `fedray doctor`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fedray.distributed import machine
from fedray.distributed.placement import place
from fedray.distributed.preflight import duration, memory, refuse, room
from fedray.errors import InputError
from fedray.simulation.forecast import forecast
from fedray.simulation.plan import Plan
from fedray.types import Federation

FILES_PER_ACTOR, FILES = 24, 600
"""Files and sockets of a private Ray's busiest process: per actor, and without any."""
SMALL_SHARED_BYTES = 1 << 30
Level = Literal["ok", "warning", "refused"]


class Finding(NamedTuple):
    """What was looked at, what was found, and what to do where it is not well."""

    level: Level
    what: str
    text: str
    advice: str = ""


def machine_findings(actors: int, cpus: int | None, *, ray: bool = True) -> list[Finding]:
    """This machine, for a run with so many client actors on so many cores (None: all)."""
    found = [_cores(cpus), _memory(), _packages()]
    if ray:
        found += [_shared(), _files(actors), _rays()]
    return found


def run_findings(
    plan: Plan, federation: Federation, folder: Path
) -> tuple[list[Finding], dict[str, Any]]:
    """A run on this machine: does it fit, how long does it take. With the figures."""
    runtime = plan.config.runtime
    ray = runtime.executor == "ray"
    cores = runtime.cpus or machine.cores()
    actors = place(runtime, federation.clients, cores).actors if ray else 0
    known = None if plan.config.clock == "wall" else forecast(plan)
    needs = {
        "actors": actors,
        "memory": memory(plan, federation, actors),
        "disk_bytes": room(plan, known),
        "computing": duration(plan, federation, known, actors),
    }
    found = machine_findings(actors, runtime.cpus, ray=ray and runtime.address is None)
    try:
        refuse(plan, federation, folder)
    except InputError as error:
        found.append(Finding("refused", "this run", str(error)))
    else:
        found.append(Finding("ok", "this run", _fits(needs)))
    return found, needs


def _fits(needs: dict[str, Any]) -> str:
    total_s = needs["computing"]["total_s"]
    took = "" if total_s is None else f", about {total_s:,.0f} s on this machine"
    return (
        f"{needs['actors']:,} client actors, about {needs['memory']['total_bytes'] >> 20:,} MiB of "
        f"memory and {needs['disk_bytes'] >> 20:,} MiB of disk{took}"
    )


def _cores(cpus: int | None) -> Finding:
    have, limit, busy = machine.cores(), machine.cpu_limit(), machine.load()
    text = f"{have} cores" + (f" (a container's limit of {limit:g})" if limit else "")
    if cpus is not None and cpus > have:
        return Finding(
            "warning", "cores", f"{text}, and runtime.cpus asks for {cpus}",
            "actors that share a core slow each other down; set runtime.cpus to no more",
        )  # fmt: skip
    if busy > 1.1 * have:
        return Finding(
            "warning", "cores", f"{text}, and {busy:.1f} processes want one",
            "others compute here; the run will take longer",
        )  # fmt: skip
    return Finding("ok", "cores", text)


def _memory() -> Finding:
    have, limit = machine.available_bytes(), machine.memory_limit_bytes()
    text = f"{have >> 20:,} MiB are available"
    if limit is not None:
        text += f", within a container's limit of {limit >> 20:,} MiB"
    if have < 1 << 30:
        return Finding(
            "warning", "memory", text,
            "a run on Ray takes 700 MiB before its first actor; runtime.executor=local takes 200",
        )  # fmt: skip
    return Finding("ok", "memory", text)


def _shared() -> Finding:
    have = machine.shared_bytes()
    if have is None:
        return Finding("ok", "shared memory", "none on this system; the store is in files")
    if have < SMALL_SHARED_BYTES:
        return Finding(
            "warning", "shared memory", f"/dev/shm has {have >> 20:,} MiB",
            "Ray keeps its object store on disk where it is too small, which is slow; start the "
            "container with --shm-size=4g, or mount a volume of medium Memory at /dev/shm",
        )  # fmt: skip
    return Finding("ok", "shared memory", f"/dev/shm has {have >> 20:,} MiB")


def _files(actors: int) -> Finding:
    have, need = machine.open_files(), FILES + FILES_PER_ACTOR * actors
    if have < need:
        return Finding(
            "warning", "open files", f"{have:,} are allowed, and {actors:,} actors take {need:,}",
            "raise the limit (ulimit -n 65536), or put more clients into each actor "
            "(runtime.clients_per_actor)",
        )  # fmt: skip
    return Finding("ok", "open files", f"{have:,} are allowed")


def _rays() -> Finding:
    others = machine.rays()
    if others:
        named = ", ".join(map(str, others[:3]))
        return Finding(
            "warning", "other Rays", f"{len(others)} on this machine (process {named})",
            "they take of the same cores, memory and /dev/shm; end what is not needed, or use one "
            "of them (runtime.address=auto)",
        )  # fmt: skip
    return Finding("ok", "other Rays", "none on this machine")


def _packages() -> Finding:
    """Whether what is installed is what fedray asks for."""
    from packaging.requirements import Requirement

    wrong = []
    for line in requires("fedray") or ():
        asked = Requirement(line)
        if asked.marker is not None and not asked.marker.evaluate({"extra": ""}):
            continue
        try:
            have = version(asked.name)
        except PackageNotFoundError:
            wrong.append(f"{asked.name} is missing")
            continue
        if not asked.specifier.contains(have, prereleases=True):
            wrong.append(f"{asked.name} {have} is not {asked.specifier}")
    if wrong:
        return Finding("warning", "packages", "; ".join(wrong), "pip install --upgrade fedray")
    named = ", ".join(f"{name} {version(name)}" for name in ("fedray", "ray", "numpy", "pyarrow"))
    return Finding("ok", "packages", f"Python {platform.python_version()}, {named}")
