"""A job on a cluster, from here: followed, and its folder brought back."""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import fedray
from fedray.api import freight, parcel, relay
from fedray.api.records import read
from fedray.distributed.jobs import MARK, Job, Jobs
from fedray.errors import FedrayError, InputError, StorageError
from fedray.report.storage import joined, local_path, uri_of

Kind = Literal["launch", "sweep", "diagnose"]

_FETCH_START_S = 60.0
_RAYS_OWN = re.compile(r"^(\S+ \S+\s+INFO (job_manager|job_supervisor)\.py|Running entrypoint for)")


class Stopped(FedrayError):  # noqa: N818 - not an error of anybody
    """The job was told to end, and did, with a checkpoint where there was time for one."""

    exit_code = 130


def follow(jobs: Jobs, job: Job, watcher: Any, place: Path | str) -> None:
    """Tells a watcher what the job tells, until it has ended.

    What else is printed there is noted, but for what Ray itself says. Raises as the command
    would have here: InputError or FedrayError where it failed, Stopped where it was stopped.
    """
    waiting = "waiting for the job to begin"

    def silent(now: Job) -> None:
        nonlocal waiting
        if now.status == "PENDING" and not waiting.endswith("free"):
            waiting += "; it may want more of the cluster than is free"
            watcher.waiting(waiting)

    watcher.waiting(waiting)
    ended = _tell(jobs.follow(job.id, silent), job, watcher, place)
    _raise_for(ended, jobs.wait(job.id, 10.0))


def replay(jobs: Jobs, job: Job, watcher: Any, place: Path | str) -> None:
    """Tells a watcher what the job has told so far."""
    _tell(iter(jobs.log(job.id).split("\n")), job, watcher, place)


def _tell(
    lines: Iterator[str], job: Job, watcher: Any, place: Path | str
) -> Mapping[str, Any] | None:
    """Tells what lines of a log say; returns the record of the end, if it is among them."""
    tell, ended = relay.passer(kind_of(job), watcher, place), None
    for line in lines:
        text, record = read(line)
        if text.strip() and not _RAYS_OWN.match(text):
            watcher.note(text.rstrip())
        if record is not None and record.get("tell") == "ended":
            ended = record
        elif record is not None:
            tell(record)
    return ended


def kind_of(job: Job) -> Kind:
    """What a job computes. Raises InputError for one that is not fedray's.

    Folders here are called like jobs, so one with another kind of id is none of ours either.
    """
    kind, named = job.facts.get("kind"), re.fullmatch(r"[\w.-]+", job.id)
    known = kind in ("launch", "sweep", "diagnose") and named and job.id.strip(".")
    if MARK not in job.facts or not known:
        raise InputError(f"{job.id!r} is not a job of fedray")
    return kind  # type: ignore[return-value]


def _raise_for(ended: Mapping[str, Any] | None, job: Job) -> None:
    if job.status == "SUCCEEDED" or (ended is not None and ended["code"] == 0):
        return
    if job.status == "STOPPED" or (ended is not None and ended["code"] > 128):
        raise Stopped(f"{job.id} was stopped, with a checkpoint")
    if ended is not None:
        wrong = InputError if ended["code"] == InputError.exit_code else FedrayError
        error = wrong(str(ended["text"]))
        error.exit_code = int(ended["code"])
        raise error
    if job.exit_code == 127:
        raise FedrayError(
            f"{job.id}: the cluster has no {job.facts.get('python')!r} on its path; name its "
            "Python with --python"
        )
    lines = [line.strip() for line in job.message.splitlines() if line.strip()]
    raise FedrayError(f"{job.id} failed: {lines[-1] if lines else job.status.lower()}")


# --- bringing back ----------------------------------------------------------------------------


def fetch(jobs: Jobs, job: Job, folder: Path) -> None:
    """Brings the folder of a job that has ended here, whole or not at all.

    Raises InputError for a job that is still running or was never begun, FedrayError where the
    folder, or its node, is gone.
    """
    kind_of(job)
    if not job.ended:
        raise InputError(f"{job.id} is still {job.status.lower()}; wait for its end, or stop it")
    if place := job.facts.get("place"):
        raise InputError(f"{job.id} has its results at {place}; there is nothing to fetch")
    if job.node is None:
        raise InputError(f"{job.id} has never begun, so it has no folder: {job.message}")
    part = beside(folder)
    try:
        with (part / "archive").open("w+b") as archive:
            nbytes = _receive(jobs, job, archive)
            archive.seek(0)
            freight.unpack(archive, part / "folder", nbytes)
        (part / "folder").replace(folder)
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _receive(jobs: Jobs, job: Job, archive: Any) -> int:
    """Has a job print the folder, on the node where it is, and takes it from the log."""
    stamp = datetime.now().astimezone().strftime("%H%M%S%f")
    name = f"{job.id[:60]}-fetch-{stamp}"
    python, parent = job.facts.get("python") or "python", job.facts.get("cluster_dir")
    command = [python, "-m", "fedray.api.freight", job.id, *([parent] if parent else [])]
    with tempfile.TemporaryDirectory(prefix="fedray-fetch-") as root:
        jobs.submit(
            name,
            f"exec {shlex.join(command)}",
            runtime_env={"py_modules": [str(parcel.own_package(Path(root)))]},
            facts={MARK: fedray.__version__, "kind": "fetch", "of": job.id},
            node=job.node,
        )
    began_s = time.monotonic()

    def silent(now: Job) -> None:
        if now.status == "PENDING" and time.monotonic() - began_s > _FETCH_START_S:
            raise FedrayError(
                f"the node {job.node}, which has the folder of {job.id}, is gone or has no room "
                "for a job"
            )

    try:
        return freight.receive(jobs.follow(name, silent), archive)
    finally:
        jobs.stop(name)
        if jobs.wait(name, 10.0).ended:
            jobs.forget(name)


def results_place(out: Path | str | None, output_dir: str, job: str) -> Path | str:
    """Where results will be: in a folder here, or at a URI, where the job puts them itself."""
    uri = uri_of(output_dir if out is None else out)
    if uri is None:
        given = None if out is None else local_path(out)
        return results_folder(given, local_path(output_dir) / job)
    return joined(uri, job) if out is None else uri


def results_folder(out: Path | None, default: Path) -> Path:
    """Where results will be here. Raises InputError where they cannot."""
    folder, key = (out, "--out") if out is not None else (default, "output.dir")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not an empty folder; choose another", key=key)
    return folder


def beside(folder: Path) -> Path:
    """A new folder next to this one, for what is to be moved there. Raises InputError."""
    parent = folder.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=parent))
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}") from error
