"""A launch, a sweep or a diagnosis on a Ray cluster, from here: sent, followed, brought back."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import fedray
from fedray.api import freight, parcel, relay
from fedray.api.records import read
from fedray.api.request import asked
from fedray.api.sweep import check_data
from fedray.config import schema
from fedray.config.layers import overrides_tree
from fedray.config.load import dump, load
from fedray.config.sweep import load_sweep, sweeps
from fedray.distributed.jobs import MARK, Job, Jobs, connect
from fedray.distributed.jobs_address import jobs_address
from fedray.errors import FedrayError, InputError, StorageError
from fedray.simulation.plan import build_plan

Kind = Literal["launch", "sweep", "diagnose"]

STOP_GRACE_S = 300
"""A stopped job has so long for the version at hand and a checkpoint before it is killed."""
_FETCH_START_S = 120.0
_OF_THE_TERMINAL = ("click", "rich")
_OF_THE_BITS = ("numpy", "scipy", "scikit-learn")
_RAYS_OWN = re.compile(r"^(\S+ \S+\s+INFO (job_manager|job_supervisor)\.py|Running entrypoint for)")


class Stopped(FedrayError):  # noqa: N818 - not an error of anybody
    """The job was told to end, and did, with a checkpoint where there was time for one."""

    exit_code = 130


@dataclass(frozen=True)
class Options:
    """How a job is sent. See `fedray submit --help`."""

    kind: Kind = "launch"
    name: str | None = None
    num_cpus: float | None = None
    modules: tuple[Path, ...] = ()
    shared: bool = False
    cluster_dir: str | None = None
    python: str = "python"
    seeds: int | None = None
    prescribe: bool = False
    max_concurrent: int | None = None


@dataclass(frozen=True)
class Order:
    """What is to be computed, checked here as it would be for a run here.

    `files`: local ones that it needs, by key. `output_dir`: where results go here.
    """

    name: str
    text: str
    runtime: schema.Runtime
    output_dir: str
    files: Mapping[str, Path]
    notes: Sequence[str]


@dataclass(frozen=True)
class Submitted:
    """A job on its way, and the folder here that its results will be in."""

    jobs: Jobs
    job: str
    kind: Kind
    folder: Path


def submit(
    source: str | Path | None,
    overrides: Sequence[str],
    options: Options,
    *,
    address: str | None,
    out: Path | None,
    watcher: Any,
) -> Submitted:
    """Checks all that can be checked here, and sends it.

    Raises InputError for bad input, before anything is sent, and for a cluster that is not
    there; FedrayError for one that does not take it.
    """
    if address is not None:
        jobs_address(address)
    _check(options)
    with _importable(options.modules):
        order = _order(source, overrides, options)
    to = jobs_address(address, order.runtime.address)
    for note in (*order.notes, *([to.note] if to.note else [])):
        watcher.note(note)
    job = options.name or _fresh(order.name)
    folder = results_folder(out, Path(order.output_dir) / job)
    watcher.waiting(f"sending it to {to.url}")
    jobs = connect(to)
    _beside(folder).rmdir()  # before anything is sent: results can be written here
    request = {
        "kind": options.kind,
        "text": order.text,
        "executor": order.runtime.executor,
        "parent": options.cluster_dir,
        "seeds": options.seeds,
        "prescribe": options.prescribe,
        "max_concurrent": options.max_concurrent,
        "requires": _requires(),
        "versions": {name: metadata.version(name) for name in _OF_THE_BITS},
    }
    with parcel.packed(request, order.files, options.modules) as packages:
        jobs.submit(
            job,
            f"exec {shlex.quote(options.python)} -m fedray.api.job {shlex.quote(job)}",
            runtime_env={**packages, "env_vars": _environment()},
            facts=_facts(options, order),
            cpus=options.num_cpus,
        )
    return Submitted(jobs, job, options.kind, folder)


def _facts(options: Options, order: Order) -> dict[str, str]:
    return {
        MARK: fedray.__version__,
        "kind": options.kind,
        "name": order.name,
        "python": options.python,
        "cluster_dir": options.cluster_dir or "",
    }


def _environment() -> dict[str, str]:
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**one_thread, "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_GRACE_S)}


def _requires() -> list[str]:
    """fedray's own requirements without extras and without what only a terminal needs."""
    from packaging.requirements import Requirement

    found = [Requirement(text) for text in metadata.requires("fedray") or []]
    return [str(each) for each in found if not each.marker and each.name not in _OF_THE_TERMINAL]


def _check(options: Options) -> None:
    for key, value, kind in (
        ("--seeds", options.seeds, "diagnose"),
        ("--prescribe", options.prescribe or None, "diagnose"),
        ("--max-concurrent", options.max_concurrent, "sweep"),
    ):
        if value is not None and options.kind != kind:
            raise InputError(f"has no effect without --{kind}", key=key)
    if options.name is not None and not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,99}", options.name):
        raise InputError(
            f"{options.name!r} is not allowed; letters, digits, '.', '_' and '-', 100 at most",
            key="--name",
        )
    if options.num_cpus is not None and not options.num_cpus > 0:
        raise InputError(f"{options.num_cpus:g} is not allowed; must be > 0", key="--num-cpus")
    if options.max_concurrent is not None and options.max_concurrent < 1:
        raise InputError(
            f"{options.max_concurrent} is not allowed; at least 1", key="--max-concurrent"
        )
    if options.cluster_dir is not None and not options.cluster_dir.startswith("/"):
        raise InputError(f"{options.cluster_dir!r} is no absolute path", key="--cluster-dir")
    parcel.check_modules(options.modules)


@contextmanager
def _importable(modules: Sequence[Path]) -> Iterator[None]:
    """What is sent along can be imported here, too, for the checks."""
    before = list(sys.path)
    sys.path[:0] = [str(path.resolve().parent) for path in modules]
    try:
        yield
    finally:
        sys.path[:] = before


def _order(source: str | Path | None, overrides: Sequence[str], options: Options) -> Order:
    """As the command of that kind reads and checks its input."""
    if options.kind == "sweep":
        file = load_sweep(source, overrides)
        configs = [each.config for each in file.trials()] if not file.space else [file.base.config]
        files = {} if options.shared else parcel.files_of(configs)
        if not options.shared or _all_here(configs):
            check_data(file)
        return _made(file.base.config, file.dump(), files, file.base.notes)
    if sweeps(source, overrides):
        raise InputError("makes this a sweep; submit it with --sweep", key="sweep")
    if options.kind == "diagnose":
        if source is not None and Path(source).is_dir():
            raise InputError(
                f"{source} is a folder; only a configuration can be submitted: diagnose runs here"
            )
        wanted = asked(
            source, overrides_tree(overrides), options.seeds, None, prescribe=options.prescribe
        )
        loaded, notes = wanted.loaded, [*wanted.loaded.notes, *wanted.notes]
    else:
        loaded = load(source, overrides)
        notes = loaded.notes
    config = loaded.config
    files = {} if options.shared else parcel.files_of([config])
    if not options.shared or _all_here([config]):
        build_plan(config, loaded.base_dir)
    return _made(config, dump(config), files, notes)


def _all_here(configs: Sequence[schema.Config]) -> bool:
    """Whether the files are here as well: then they are looked at before anything is sent."""
    return all(path.exists() for path in parcel.files_of(configs).values())


def _made(
    config: schema.Config, text: str, files: Mapping[str, Path], notes: Sequence[str]
) -> Order:
    return Order(config.name, text, config.runtime, config.output.dir, files, notes)


def _fresh(name: str) -> str:
    """`<name>-<timestamp>`, as a run folder is called."""
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S-%f")[:-3]
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', name).strip('-.') or 'fedray'}-{stamp}"


def results_folder(out: Path | None, default: Path) -> Path:
    """Where results will be here. Raises InputError where they cannot."""
    folder, key = (out, "--out") if out is not None else (default, "output.dir")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not an empty folder; choose another", key=key)
    return folder


def _beside(folder: Path) -> Path:
    """A new folder next to this one, for what is to be moved there. Raises InputError."""
    parent = folder.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=parent))
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}") from error


# --- following --------------------------------------------------------------------------------


def follow(jobs: Jobs, job: Job, watcher: Any, folder: Path) -> None:
    """Tells a watcher what the job tells, until it has ended.

    What else is printed there is noted, but for what Ray itself says. Raises as the command
    would have here: InputError or FedrayError where it failed, Stopped where it was stopped.
    """
    watcher.waiting("waiting for the job to begin")
    ended = _tell(jobs.follow(job.id), job, watcher, folder)
    _raise_for(ended, jobs.wait(job.id, 10.0))


def replay(jobs: Jobs, job: Job, watcher: Any, folder: Path) -> None:
    """Tells a watcher what the job has told so far."""
    _tell(iter(jobs.log(job.id).split("\n")), job, watcher, folder)


def _tell(lines: Iterator[str], job: Job, watcher: Any, folder: Path) -> Mapping[str, Any] | None:
    """Tells what lines of a log say; returns the record of the end, if it is among them."""
    tell, ended = relay.passer(kind_of(job), watcher, folder), None
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
    """What a job computes. Raises InputError for one that is not fedray's."""
    kind = job.facts.get("kind")
    if MARK not in job.facts or kind not in ("launch", "sweep", "diagnose"):
        raise InputError(f"{job.id!r} is not a job of fedray")
    return kind  # type: ignore[return-value]


def _raise_for(ended: Mapping[str, Any] | None, job: Job) -> None:
    if job.status == "SUCCEEDED":
        return
    if job.status == "STOPPED" or (ended is not None and ended["code"] > 128):
        raise Stopped(f"{job.id} was stopped, with a checkpoint")
    if ended is not None:
        wrong = InputError if ended["code"] == InputError.exit_code else FedrayError
        raise wrong(str(ended["text"]))
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
    if job.node is None:
        raise InputError(f"{job.id} has never begun, so it has no folder: {job.message}")
    part = _beside(folder)
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
    try:
        lines = jobs.follow(name)
        return freight.receive(lines, archive)
    finally:
        jobs.stop(name)
        if jobs.wait(name, 10.0).ended:
            jobs.forget(name)
