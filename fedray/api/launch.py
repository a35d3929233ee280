"""One call from a configuration to a finished run folder."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from threadpoolctl import threadpool_limits

from fedray.api.outlook import Outlook, outlook
from fedray.config import schema
from fedray.config.layers import leaves, overrides_tree
from fedray.config.load import Loaded, dump, load
from fedray.distributed.preflight import refuse
from fedray.endings import Asked, asked_to_end, exit_code, terminable, word
from fedray.errors import FedrayError, InputError, StorageError
from fedray.report.run import Run
from fedray.report.tables import write_text
from fedray.simulation import checkpoint
from fedray.simulation.executor import LocalExecutor
from fedray.simulation.flight import Flight
from fedray.simulation.lock import only_writer
from fedray.simulation.loop import Progress
from fedray.simulation.plan import Plan, build_plan
from fedray.types import Federation


class Interrupted(FedrayError):  # noqa: N818 - not an error of anybody
    """The run was ended early, by Ctrl-C or SIGTERM; `folder` can be resumed.

    `version` is that of the checkpoint made on leaving; None after a second signal, or one
    before the first version: then the newest checkpoint counts, if there is one. `by` is
    the exception that a signal raises; exit code 130 for Ctrl-C, 143 for SIGTERM.
    """

    def __init__(
        self,
        folder: Path,
        version: int | None = None,
        *,
        by: KeyboardInterrupt,
        command: str = "launch",
        begun: bool = True,
    ) -> None:
        where = "" if version is None else f" at version {version}, checkpointed"
        again = f"fedray {command} --resume {shlex.quote(str(folder))}"
        then = f"continue with: {again}" if begun else "nothing was begun"
        super().__init__(f"{word(by)}{where}; {then}")
        self.folder, self.version, self.exit_code = folder, version, exit_code(by)


def to_go_on(error: StorageError, folder: Path, *, command: str = "launch") -> StorageError:
    """The error, and how to go on once there is room."""
    again = f"fedray {command} --resume {shlex.quote(str(folder))}"
    return StorageError(f"{error}; what was written before is kept; make room, then: {again}")


class Watcher:
    """What a launch tells whoever looks on. The base class looks away."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def starting(self, ready: int, actors: int) -> None:
        """Actors come up."""

    def waiting(self, text: str) -> None:
        """Something takes its time, such as a cluster to begin."""

    def planned(self, outlook: Outlook) -> None:
        """The data is split and checked; the run begins."""

    def progress(self, progress: Progress) -> None:
        """The run has come so far; called a few times a second, or once per version."""

    def interrupting(self) -> None:
        """Ctrl-C or SIGTERM: the run ends after the version at hand. Called by a signal handler."""

    def reporting(self, folder: Path) -> None:
        """The run is over and complete; its page is being made."""


def launch(
    source: str | Path | Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    watcher: Watcher | None = None,
    verbose: bool = False,
    **settings: Any,
) -> Run:
    """Trains a federation and returns its run.

    source: a YAML file, a mapping, or None for the quickstart. Settings are dotted keys:
    `launch("x.yaml", **{"partition.alpha": 0.1})`, or `overrides` as "key=value" lines.
    out: the run folder; default <output.dir>/<name>-<timestamp>. resume: a run folder
    to continue from its newest checkpoint; then only `runtime`, `checkpoint` and
    `output` may be set anew.

    Raises InputError for bad input, before any actor starts; Interrupted after Ctrl-C or
    SIGTERM; FedrayError for what goes wrong on the way. Whatever was recorded stays readable.
    """
    watcher = watcher or Watcher()
    settings = {**overrides_tree(overrides), **settings}
    if resume is not None:
        if source is not None or out is not None:
            raise InputError("takes neither a configuration nor --out", key="--resume")
        loaded = _reopened(Path(resume), settings)
    else:
        loaded = load(source, settings)
    plan, federation = build_plan(loaded.config, loaded.base_dir)
    for note in loaded.notes:
        watcher.note(note)
    refuse(plan, federation, Path(resume or out or loaded.config.output.dir))
    target = new_folder(loaded.config, out) if resume is None else Folder(Path(resume), "resumed")
    folder = target.path
    with only_writer(folder):
        pass  # an earlier process of this run, if any, is gone; the one that writes locks anew
    snapshot = _snapshot(folder, watcher) if resume is not None else None
    return carry_out(target, plan, federation, snapshot, watcher, verbose)


def carry_out(
    target: Folder,
    plan: Plan,
    federation: Federation,
    snapshot: checkpoint.Snapshot | None,
    watcher: Watcher,
    verbose: bool,
) -> Run:
    """Flies from a snapshot, or from the start, to a finished folder with its page."""
    folder = target.path
    try:
        with terminable():
            write_text(folder / "config.yaml", dump(plan.config))
            watcher.planned(outlook(plan, folder))
            _run(plan, federation, folder, snapshot, watcher, verbose)
    except KeyboardInterrupt as end:
        raise Interrupted(folder, by=end) from None
    except StorageError as error:
        raise to_go_on(error, folder) from error
    except InputError:
        if not (folder / "rounds.parquet").exists():
            target.withdraw()  # e.g. nobody at runtime.address: nothing has begun
        raise
    if plan.config.output.report:
        from fedray.report.page import build_report

        watcher.reporting(folder)
        build_report(folder)
    return Run(folder)


def _run(
    plan: Plan,
    federation: Federation,
    folder: Path,
    snapshot: checkpoint.Snapshot | None,
    watcher: Watcher,
    verbose: bool,
) -> None:
    with asked_to_end() as asked:
        asked.calls.append(watcher.interrupting)
        flight = (
            _fly_locally(plan, federation, folder, snapshot, asked)
            if plan.config.runtime.executor == "local"
            else _fly_on_ray(plan, federation, folder, snapshot, watcher, verbose, asked)
        )
        last = _watched(flight, watcher)
    if not (folder / "summary.json").exists():
        raise Interrupted(folder, last.version if last else None, by=asked.end)


def _watched(flight: Generator[Progress], watcher: Watcher) -> Progress | None:
    """Flies to the end; a signal that hits the watcher is the flight's to deal with."""
    last, step = None, partial(next, flight)
    while True:
        try:
            last = step()
        except StopIteration:
            return last
        step = partial(next, flight)
        try:
            watcher.progress(last)
        except KeyboardInterrupt as pressed:
            step = partial(flight.throw, pressed)


def _fly_on_ray(
    plan: Plan,
    federation: Federation,
    folder: Path,
    snapshot: checkpoint.Snapshot | None,
    watcher: Watcher,
    verbose: bool,
    asked: Asked,
) -> Generator[Progress]:
    from fedray.distributed.backend import fly

    asked.calls.append(asked.interrupt)
    yield from fly(
        plan, federation, folder.absolute(), snapshot=snapshot, verbose=verbose,
        say=watcher.note, started=watcher.starting,
    )  # fmt: skip


def _fly_locally(
    plan: Plan,
    federation: Federation,
    folder: Path,
    snapshot: checkpoint.Snapshot | None,
    asked: Asked,
) -> Generator[Progress]:
    with threadpool_limits(limits=1):
        executor = LocalExecutor(plan.work, federation)
        flight = Flight(plan, federation, executor, folder, snapshot=snapshot)
        asked.calls.append(flight.interrupt)
        yield from flight.run({"kind": "local", "actors": 0})


_MAY_CHANGE = ("runtime", "checkpoint", "output")


def _reopened(folder: Path, settings: Mapping[str, Any]) -> Loaded:
    if not (folder / "config.yaml").is_file():
        raise InputError(f"{folder} is not a run folder: it has no config.yaml", key="--resume")
    if (folder / "summary.json").exists():
        raise InputError(f"{folder} is finished; there is nothing to resume", key="--resume")
    for key in leaves(settings):
        if key.split(".")[0] not in _MAY_CHANGE:
            raise InputError(
                "a resumed run keeps its configuration; only runtime, checkpoint and output "
                "may be set anew",
                key=key,
            )
    return load(folder / "config.yaml", settings)


def _snapshot(folder: Path, watcher: Watcher) -> checkpoint.Snapshot | None:
    snapshot, complaints = checkpoint.load_newest(folder / "checkpoints")
    for complaint in complaints:
        watcher.note(complaint)
    if snapshot is None:
        which = "no checkpoint that is whole" if complaints else "no checkpoint yet"
        watcher.note(f"{which}: starting from the beginning")
    else:
        watcher.note(f"resuming from the checkpoint of version {snapshot.version}")
    return snapshot


class Folder(NamedTuple):
    """Where results go, and what was there before."""

    path: Path
    was: Literal["absent", "empty", "resumed"]

    def withdraw(self) -> None:
        """Leaves things as they were before a start that failed; a resumed folder stays."""
        if self.was == "absent":
            shutil.rmtree(self.path)
        elif self.was == "empty":
            for path in self.path.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def new_folder(config: schema.Config, out: str | Path | None, *, kind: str = "") -> Folder:
    """Makes an empty folder: `out`, or <output.dir>/<name><kind>-<timestamp>."""
    if out is not None:
        folder, key = Path(out), "--out"
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(
                f"{folder} exists and is not an empty folder; choose another, or continue it "
                "with --resume",
                key=key,
            )
    else:
        stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S-%f")[:-3]
        folder, key = Path(config.output.dir) / f"{config.name}{kind}-{stamp}", "output.dir"
    was: Literal["absent", "empty"] = "empty" if folder.exists() else "absent"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".lock").touch()
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}", key=key) from None
    return Folder(folder, was)
