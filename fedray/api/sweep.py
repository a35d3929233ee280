"""One call from a sweep file to the tables and the page of all its trials."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedray.api.folder import Folder, new_folder, resumed_folder
from fedray.api.launch import Interrupted, to_go_on
from fedray.config.layers import leaves, overrides_tree
from fedray.config.sweep import SweepFile, load_sweep
from fedray.endings import terminable
from fedray.errors import FedrayError, InputError, StorageError
from fedray.report.sweep.reader import Sweep
from fedray.report.sweep.rows import FINDINGS, PLANNED
from fedray.report.sweep.tables import collect, summarise
from fedray.report.tables import write_text
from fedray.simulation.lock import only_writer
from fedray.simulation.plan import build_plan

if TYPE_CHECKING:
    from fedray.distributed.sweep_watch import SweepProgress

FILE = "sweep.yaml"
TRIALS = "trials"
_MAY_CHANGE = ("runtime", "output")


@dataclass(frozen=True)
class Outlook:
    """What a sweep is about to do."""

    file: SweepFile
    folder: str
    resumed: bool

    @property
    def name(self) -> str:
        return self.file.base.config.name


class Watcher:
    """What a sweep tells whoever looks on. The base class looks away."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def waiting(self, text: str) -> None:
        """Something takes its time, such as a cluster to begin."""

    def planned(self, outlook: Outlook) -> None:
        """Every setting is checked and the data is there; Ray starts."""

    def progress(self, progress: SweepProgress) -> None:
        """The trials have come so far; called about once a second."""

    def interrupting(self) -> None:
        """Ctrl-C, SIGTERM: running trials end, with a checkpoint. Called by a signal handler."""

    def reporting(self, folder: Path) -> None:
        """All trials have ended; tables and page are being made."""


def sweep(
    source: str | Path | Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    max_concurrent: int | None = None,
    watcher: Watcher | None = None,
    verbose: bool = False,
    **settings: Any,
) -> Sweep:
    """Runs every trial of a sweep file, and says how they compare.

    source: a YAML file or a mapping with a section `sweep`; settings and `overrides` as for
    `launch`, those of `sweep.*` change the section. out: the folder; default
    <output.dir>/<name>-sweep-<timestamp>. resume: the folder of an interrupted sweep, which
    goes on with all trials that were finished; then only `runtime` and `output` may be set
    anew. max_concurrent: trials at a time; default as many as fit on the cores.

    A trial that fails is tried again `sweep.retries` times, then kept with its error. Raises
    InputError for bad input, before Ray starts; Interrupted after Ctrl-C or SIGTERM;
    FedrayError where not a single trial came to its end.
    """
    watcher = watcher or Watcher()
    if max_concurrent is not None and max_concurrent < 1:
        raise InputError(f"{max_concurrent} is not allowed; at least 1", key="--max-concurrent")
    settings = {**overrides_tree(overrides), **settings}
    resumed = None
    if resume is None:
        file = load_sweep(source, **settings)
    elif source is None and out is None:
        resumed = resumed_folder(resume)
        file = reopened(resumed, settings)
    else:
        raise InputError("takes neither a configuration nor --out", key="--resume")
    for note in file.base.notes:
        watcher.note(note)
    check_data(file)
    target = resumed or new_folder(file.base.config, out, kind="-sweep")
    mirrored, alone = _mirrored(target, file, watcher), only_writer(target.path)
    with _left_in_order(target), terminable(), mirrored, alone:
        _carry_out(target, file, max_concurrent, watcher, verbose)
    return Sweep(target.path, of=target.copy)


@contextmanager
def _left_in_order(target: Folder) -> Iterator[None]:
    """However a sweep ends, its folder is left to go on with, or is as it was before."""
    try:
        yield
    except KeyboardInterrupt as end:
        raise Interrupted(target.place, by=end, command="sweep") from None
    except StorageError as error:
        if target.copy is not None and (target.path / FINDINGS).exists():
            raise  # all is here, and the error says where
        raise to_go_on(error, target.place, command="sweep") from error
    except InputError:
        if not any((target.path / TRIALS).glob("*/*")):
            target.withdraw()  # e.g. nobody at runtime.address: nothing has begun
        raise


def _mirrored(target: Folder, file: SweepFile, watcher: Watcher) -> AbstractContextManager[None]:
    """Uploads trials as they go on, but those of pbt at the end: one that takes over another's
    state has, for a moment, the tables of one and the checkpoint of the other."""
    whole = file.sweep.scheduler == "pbt"
    if whole and target.copy is not None:
        watcher.note(f"pbt: trials take over each other's folders, so {target.place} has them "
                     f"when all have ended; until then they are in {target.path}")  # fmt: skip
    return target.mirrored(watcher.note, as_it_goes=not whole)


def _carry_out(
    target: Folder, file: SweepFile, max_concurrent: int | None, watcher: Watcher, verbose: bool
) -> None:
    """From a folder that is open to one with tables and a page."""
    folder, resumed = target.path, target.was == "resumed"
    write_text(folder / FILE, file.dump())
    watcher.planned(Outlook(file, target.place, resumed))
    try:
        _run(file, folder, resumed, max_concurrent, watcher, verbose)
        watcher.reporting(folder)
        _finish(target)
        if file.base.config.output.report:
            from fedray.report.sweep.page import build_sweep_page

            build_sweep_page(folder)
    except KeyboardInterrupt:
        collect(folder)  # how far it came
        raise


def _run(
    file: SweepFile,
    folder: Path,
    resume: bool,
    max_concurrent: int | None,
    watcher: Watcher,
    verbose: bool,
) -> None:
    from fedray.distributed.draws import drawn
    from fedray.distributed.sweep import run_sweep

    if file.sweep.searcher != "optuna" and not resume:
        planned = [
            {"id": each.id, "setting": each.setting, "seed": each.seed, "settings": each.settings}
            for each in drawn(file)
        ]
        write_text(folder / PLANNED, json.dumps(planned))
    run_sweep(
        file, folder.absolute(), resume=resume, max_concurrent=max_concurrent,
        runtime=file.base.config.runtime, verbose=verbose, say=watcher.note,
        watch=watcher.progress, interrupting=watcher.interrupting,
    )  # fmt: skip


def check_data(file: SweepFile) -> None:
    """Reads and splits the first setting's data, so that what is wrong with it is said now."""
    base, metric = file.base, file.sweep.metric
    plan, _ = build_plan(base.config, base.base_dir)
    if plan.classification == (metric == "r2"):
        other = "a classification; use accuracy or loss" if metric == "r2" else None
        if other or metric in ("accuracy", "worst_decile_accuracy"):
            other = other or "a regression; use r2 or loss"
            raise InputError(
                f"no run reports {metric}, since the data is {other}", key="sweep.metric"
            )


def reopened(target: Folder, settings: Mapping[str, Any]) -> SweepFile:
    """The file of an unfinished sweep; `runtime` and `output` may be set anew."""
    folder, place = target.path, target.place
    path = folder / FILE
    if not path.is_file():
        raise InputError(f"{place} is not a sweep's folder: it has no {FILE}", key="--resume")
    for key in leaves(settings):
        if key.split(".")[0] not in _MAY_CHANGE:
            raise InputError(
                "a resumed sweep keeps its configuration; only runtime and output may be set anew",
                key=key,
            )
    if (folder / FINDINGS).exists():
        counts = Sweep(folder).summary.get("counts", {})
        if not counts.get("failed") and not counts.get("unfinished"):
            raise InputError(f"{place} is finished; there is nothing to resume", key="--resume")
    return load_sweep(path, **settings)


def _finish(target: Folder) -> None:
    """Table and findings. Raises FedrayError where all trials have failed."""
    table = collect(target.path)
    summarise(target.path)
    if table.num_rows and set(table["status"].to_pylist()) == {"failed"}:
        raise FedrayError(
            f"all {table.num_rows:,} trials failed, the first with: {table['error'][0]}; "
            f"they are in {target.place}"
        )
