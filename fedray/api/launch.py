"""One call from a configuration to a finished run folder."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from fedray.api.folder import Folder, new_folder, resumed_folder
from fedray.api.outlook import Outlook, outlook
from fedray.config.layers import leaves, overrides_tree
from fedray.config.load import Loaded, dump, load
from fedray.distributed.preflight import refuse
from fedray.endings import Asked, asked_to_end, exit_code, terminable, word
from fedray.errors import FedrayError, InputError, StorageError
from fedray.report.run import Run
from fedray.report.storage import staged
from fedray.report.tables import write_text
from fedray.simulation import checkpoint
from fedray.simulation.executor import LocalExecutor
from fedray.simulation.flight import Flight
from fedray.simulation.lock import only_writer
from fedray.simulation.plan import Plan, build_plan
from fedray.simulation.progress import Progress
from fedray.types import Federation


class Interrupted(FedrayError):  # noqa: N818 - not an error of anybody
    """The run was ended early, by Ctrl-C or SIGTERM; `folder` can be resumed.

    `version` is that of the checkpoint made on leaving; None after a second signal, or one
    before the first version: then the newest checkpoint counts, if there is one. `by` is
    the exception that a signal raises; exit code 130 for Ctrl-C, 143 for SIGTERM.
    """

    def __init__(
        self,
        folder: Path | str,
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
        self.by = by


def to_go_on(error: StorageError, folder: Path | str, *, command: str = "launch") -> StorageError:
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
        resumed = resumed_folder(resume)
        loaded = reopened(resumed, settings)
    else:
        loaded = load(source, settings)
    plan, federation = build_plan(loaded.config, loaded.base_dir)
    for note in loaded.notes:
        watcher.note(note)
    if resume is None:
        refuse(plan, federation, staged(out or loaded.config.output.dir))
        return carry_out(new_folder(loaded.config, out), plan, federation, None, watcher, verbose)
    refuse(plan, federation, resumed.path)
    with only_writer(resumed.path):
        pass  # an earlier process of this run, if any, is gone; the one that writes locks anew
    snapshot = _snapshot(resumed.path, watcher)
    return carry_out(resumed, plan, federation, snapshot, watcher, verbose)


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
        with terminable(), target.mirrored(watcher.note):
            write_text(folder / "config.yaml", dump(plan.config))
            watcher.planned(outlook(plan, target.place))
            _run(plan, federation, folder, snapshot, watcher, verbose)
            if plan.config.output.report:
                from fedray.report.page import build_report

                watcher.reporting(folder)
                build_report(folder)
    except KeyboardInterrupt as end:
        if (folder / "summary.json").exists():
            raise  # all is there but the page
        raise Interrupted(target.place, by=end) from None
    except Interrupted as end:
        raise Interrupted(target.place, end.version, by=end.by) from None
    except StorageError as error:
        if (folder / "summary.json").exists():
            raise
        raise to_go_on(error, target.place) from error
    except InputError:
        if not (folder / "rounds.parquet").exists():
            target.withdraw()  # e.g. nobody at runtime.address: nothing has begun
        raise
    except FedrayError as error:
        if target.copy is not None:  # the staging folder is nothing to go on with
            raise FedrayError(str(error).replace(str(folder), target.place)) from error
        raise
    return Run(folder, of=target.copy)


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


def reopened(target: Folder, settings: Mapping[str, Any]) -> Loaded:
    """The configuration of an unfinished run. Raises InputError where there is none."""
    folder, place = target.path, target.place
    if not (folder / "config.yaml").is_file():
        raise InputError(f"{place} is not a run folder: it has no config.yaml", key="--resume")
    if (folder / "summary.json").exists():
        raise InputError(f"{place} is finished; there is nothing to resume", key="--resume")
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
