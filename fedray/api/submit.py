"""A launch, a sweep or a diagnosis on a Ray cluster, from here: sent, followed, brought back."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import fedray
from fedray.api import parcel
from fedray.api.folder import resumed_folder
from fedray.api.jobs import Kind, beside, results_place
from fedray.api.launch import reopened as reopened_run
from fedray.api.request import asked, names_a_run, reopened
from fedray.api.sweep import check_data
from fedray.api.sweep import reopened as reopened_sweep
from fedray.config import schema
from fedray.config.layers import PATHS, overrides_tree
from fedray.config.load import Loaded, dump, load
from fedray.config.sweep import SweepFile, load_sweep, sweeps
from fedray.distributed.jobs import MARK, Jobs, connect
from fedray.distributed.jobs_address import jobs_address
from fedray.errors import InputError
from fedray.report.storage import uri_of
from fedray.simulation.plan import build_plan

STOP_GRACE_S = 300
"""A stopped job has so long for the version at hand and a checkpoint before it is killed."""
_OF_THE_TERMINAL = ("click", "rich")
_OF_THE_BITS = ("numpy", "scipy", "scikit-learn")


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
    resume: Path | str | None = None


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
    """A job on its way, and where its results will be: a folder here, or a URI."""

    jobs: Jobs
    job: str
    kind: Kind
    place: Path | str


def submit(
    source: str | Path | None,
    overrides: Sequence[str],
    options: Options,
    *,
    address: str | None,
    out: Path | str | None,
    watcher: Any,
) -> Submitted:
    """Checks all that can be checked here, and sends it.

    Raises InputError for bad input, before anything is sent, and for a cluster that is not
    there; FedrayError for one that does not take it.
    """
    if address is not None:
        jobs_address(address)
    _check(options)
    if options.resume is not None and (source is not None or out is not None):
        raise InputError("takes neither a configuration nor --out", key="--resume")
    with _importable(options.modules):
        order = (
            _order(source, overrides, options)
            if options.resume is None
            else _left(options.resume, overrides_tree(overrides), options)
        )
    to = jobs_address(address, order.runtime.address)
    for note in (*order.notes, *([to.note] if to.note else [])):
        watcher.note(note)
    job = options.name or _fresh(order.name)
    place = results_place(options.resume or out, order.output_dir, job)
    watcher.waiting(f"sending it to {to.url}")
    jobs = connect(to)
    if isinstance(place, Path):
        beside(place).rmdir()  # before anything is sent: results can be written here
    request = {
        "kind": options.kind,
        "text": order.text,
        "executor": order.runtime.executor,
        "parent": options.cluster_dir,
        "out": place if isinstance(place, str) else None,
        "resume": options.resume is not None,
        "overrides": list(overrides),
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
            facts=_facts(options, order, place),
            cpus=options.num_cpus,
        )
    return Submitted(jobs, job, options.kind, place)


def _facts(options: Options, order: Order, place: Path | str) -> dict[str, str]:
    return {
        MARK: fedray.__version__,
        "kind": options.kind,
        "name": order.name,
        "python": options.python,
        "cluster_dir": options.cluster_dir or "",
        "place": place if isinstance(place, str) else "",
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
    if options.resume is not None and options.seeds is not None:
        raise InputError("a diagnosis that goes on keeps its seeds", key="--seeds")
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
        return _of_sweep(load_sweep(source, overrides), options)
    if options.kind == "diagnose" and source is not None and names_a_run(str(source)):
        raise InputError(
            f"{source} is a folder; only a configuration can be submitted: diagnose runs here"
        )
    if sweeps(source, overrides):
        raise InputError("makes this a sweep; submit it with --sweep", key="sweep")
    if options.kind == "diagnose":
        wanted = asked(
            source, overrides_tree(overrides), options.seeds, None, prescribe=options.prescribe
        )
        return _of_run(wanted.loaded, wanted.notes, options)
    return _of_run(load(source, overrides), (), options)


def _left(place: Path | str, settings: Mapping[str, Any], options: Options) -> Order:
    """What was left unfinished at a URI, as the command of its kind reads it."""
    if uri_of(place) is None:
        raise InputError(
            f"{place} is no URI, which the cluster could go on from; continue a folder here with: "
            f"fedray {options.kind} --resume {shlex.quote(str(place))}",
            key="--resume",
        )
    target = resumed_folder(place, lambda name: "/" not in name or name.startswith("arms/"))
    if options.kind == "sweep":
        return _of_sweep(reopened_sweep(target, settings), options)
    if options.kind == "launch":
        return _of_run(reopened_run(target, settings), (), options)
    wanted = reopened(target.path, target.place, settings, prescribe=options.prescribe)
    if isinstance(wanted.of, str) and uri_of(wanted.of) is None:
        raise InputError(
            f"{place} is a diagnosis of {wanted.of}, a folder of the machine that it ran on",
            key="--resume",
        )
    return _of_run(wanted.loaded, wanted.notes, options)


def _of_sweep(file: SweepFile, options: Options) -> Order:
    configs = [each.config for each in file.trials()] if not file.space else [file.base.config]
    drawn = [value for key in PATHS if key in file.space for value in file.space[key].probes()]
    files = {} if options.shared else parcel.files_of(configs, drawn)
    if not options.shared or _all_here(configs):
        check_data(file)
    return _made(file.base.config, file.dump(), files, file.base.notes)


def _of_run(loaded: Loaded, notes: Sequence[str], options: Options) -> Order:
    config = loaded.config
    files = {} if options.shared else parcel.files_of([config])
    if not options.shared or _all_here([config]):
        build_plan(config, loaded.base_dir)
    return _made(config, dump(config), files, [*loaded.notes, *notes])


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
