"""One call from a configuration or a run to what each cause costs it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fedray.api.folder import Folder, new_folder, resumed_folder
from fedray.api.launch import Interrupted, to_go_on
from fedray.api.request import Request, asked, reopened
from fedray.api.studies import Studies
from fedray.config.layers import overrides_tree
from fedray.diagnosis.attribution.findings import PARTICIPATION, REFERENCE, findings, table
from fedray.diagnosis.counterfactual.arm_store import load_arms, save_arm
from fedray.diagnosis.counterfactual.arms import ARMS, RUN
from fedray.diagnosis.counterfactual.curve import Curve
from fedray.diagnosis.counterfactual.workload import (
    AFFORDABLE,
    Workload,
    compute_arm,
    distinct_arms,
)
from fedray.distributed.fan_out import fan_out
from fedray.endings import terminable
from fedray.errors import InputError, StorageError
from fedray.report.diagnosis.reader import (
    ARMS_TABLE,
    FINDINGS,
    PRESCRIPTION,
    UNFINISHED,
    Diagnosis,
)
from fedray.report.run import Run
from fedray.report.tables import write_table, write_text
from fedray.simulation.lock import only_writer

Curves = dict[int, dict[str, Curve]]


@dataclass(frozen=True)
class Outlook:
    """What a diagnosis is about to do. All counts are per seed, but for `kept`."""

    name: str
    folder: str
    seeds: tuple[int, ...]
    workload: Workload
    """Of the first seed."""
    inert: Mapping[str, str]
    arms: int
    distinct: int
    controls: int
    kept: int
    """Arms and controls that an interrupted diagnosis has left."""


class Watcher:
    """What a diagnosis tells whoever looks on. The base class looks away."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def waiting(self, text: str) -> None:
        """Something takes its time, such as a cluster to begin."""

    def planned(self, outlook: Outlook) -> None:
        """All seeds' data are read and split; the arms are known."""

    def computing(self, what: str, tasks: int, done: int, share: float) -> None:
        """So many tasks begin, some of them `done`, which are this `share` of the work.

        Called again once Ray is up: only then does the time that they take begin.
        """

    def progress(self, done: int, share: float) -> None:
        """So many of the tasks are done now, and this share of their work."""

    def reporting(self, folder: Path) -> None:
        """All is computed and written; the page is being made."""


def diagnose(
    source: str | Path | Run | Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    *,
    seeds: int | None = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    prescribe: bool = False,
    watcher: Watcher | None = None,
    verbose: bool = False,
    **settings: Any,
) -> Diagnosis:
    """Says what each cause costs a run, by running it again with causes switched off.

    source: a run folder, a YAML file, a mapping, or None for the quickstart; settings and
    `overrides` as for `launch`, of a run only `runtime` and `output`. seeds: that many,
    from the configuration's own upwards; 5 if None. out: the folder; default RUN/diagnosis
    for a run, else <output.dir>/<name>-diagnosis-<timestamp>. resume: the folder of an
    interrupted diagnosis, which goes on with all arms that were finished, or of a finished
    one, to `prescribe`: to also try what would help.

    Raises InputError for bad input, before anything starts; Interrupted after Ctrl-C or
    SIGTERM; FedrayError for what goes wrong on the way.
    """
    watcher = watcher or Watcher()
    settings = {**overrides_tree(overrides), **settings}
    resumed = None
    if resume is None:
        request = asked(source, settings, seeds, out, prescribe=prescribe)
    elif source is None and out is None and seeds is None:
        resumed = resumed_folder(resume)
        request = reopened(resumed.path, resumed.place, settings, prescribe=prescribe)
    else:
        raise InputError("takes no configuration, run, --out or --seeds", key="--resume")
    for note in (*request.loaded.notes, *request.notes):
        watcher.note(note)
    studies = Studies(request)
    target = resumed or new_folder(request.config, request.out, kind="-diagnosis")
    _in_folder(request, studies, target, watcher, verbose)
    return Diagnosis(target.path, of=target.copy)


def _in_folder(
    request: Request, studies: Studies, target: Folder, watcher: Watcher, verbose: bool
) -> None:
    """Diagnoses into a folder that nobody else writes to, and that a signal leaves resumable."""
    folder = target.path
    try:
        with terminable(), target.mirrored(watcher.note), only_writer(folder):
            request.write(folder)
            _diagnose(request, studies, target, watcher, verbose)
    except KeyboardInterrupt as end:
        raise Interrupted(target.place, by=end, command="diagnose") from None
    except StorageError as error:
        if target.copy is not None and (folder / FINDINGS).exists():
            raise  # all is here, and the error says where
        raise to_go_on(error, target.place, command="diagnose") from error
    except InputError:
        if not any((folder / UNFINISHED).glob("*.npz")):
            target.withdraw()  # e.g. nobody at runtime.address: nothing has begun
        raise


def _diagnose(
    request: Request, studies: Studies, target: Folder, watcher: Watcher, verbose: bool
) -> None:
    folder = target.path
    with _one_ray(request, verbose):
        if (folder / FINDINGS).exists():
            watcher.note("what each cause costs is known already; it is not computed again")
        else:
            _attribute(request, studies, target, watcher, verbose)
        if request.prescribe and not (folder / PRESCRIPTION).exists():
            from fedray.api.prescribe import prescription

            diagnosed = Diagnosis(folder, of=target.copy)
            prescribed = prescription(request, studies, diagnosed, watcher, verbose)
            _write_json(prescribed, folder / PRESCRIPTION)
    if request.config.output.report:
        from fedray.report.diagnosis.page import build_diagnosis_page

        watcher.reporting(folder)
        build_diagnosis_page(folder)
    shutil.rmtree(folder / UNFINISHED)


def _attribute(
    request: Request, studies: Studies, target: Folder, watcher: Watcher, verbose: bool
) -> None:
    """Computes the arms, and writes them and what each cause costs."""
    run = request.run  # now: one that is gone is an error before hours of work
    curves, notes = _curves(request, studies, target, watcher, verbose)
    first = studies.workloads[request.seeds[0]]
    if run is not None:
        notes += _unlike(run, curves[request.seeds[0]][RUN.name])
    found = findings(
        request.config, first.clients, curves, studies.inert,
        window=first.window, notes=[*request.notes, *notes],
        classification=first.classification,
    )  # fmt: skip
    write_table(table(curves, studies.inert), target.path / ARMS_TABLE)
    _write_json(found, target.path / FINDINGS)  # last: once it is there, the arms are, too


def _one_ray(request: Request, verbose: bool) -> AbstractContextManager[Any]:
    """A Ray for all that is to come, where more than the arms is."""
    if request.config.runtime.executor == "local" or not request.prescribe:
        return nullcontext()
    from fedray.distributed.session import session

    return session(request.config.runtime, verbose=verbose)


def _curves(
    request: Request, studies: Studies, target: Folder, watcher: Watcher, verbose: bool
) -> tuple[Curves, list[str]]:
    """Every distinct arm and control of every seed, and notes on what is left out."""
    arms, (controls, notes) = distinct_arms(studies.inert), _controls(studies)
    wanted = {
        (seed, name): studies.workloads[seed].cost(name)
        for seed in request.seeds
        for name in sorted([*arms, *controls], key=studies.workloads[seed].cost, reverse=True)
    }
    finished, complaints = load_arms(target.path / UNFINISHED)
    for complaint in complaints:
        watcher.note(complaint)
    found = {key: curve for key, curve in finished.items() if key in wanted}
    watcher.planned(
        Outlook(
            request.config.name, target.place, request.seeds, studies.workloads[request.seeds[0]],
            studies.inert, len(ARMS), len(arms), len(controls), len(found),
        )
    )  # fmt: skip
    _compute(request, studies, wanted, found, target.path, watcher, verbose)
    return {
        seed: {name: found[seed, name] for name in [*arms, *controls]} for seed in request.seeds
    }, notes


def _compute(
    request: Request,
    studies: Studies,
    wanted: Mapping[tuple[int, str], float],
    found: dict[tuple[int, str], Curve],
    folder: Path,
    watcher: Watcher,
    verbose: bool,
) -> None:
    """Computes the wanted arms that are not found yet, and keeps each as it ends."""
    missing = [key for key in wanted if key not in found]
    seeds = list(dict.fromkeys(seed for seed, _ in missing))
    total = sum(wanted.values())
    done = sum(wanted[key] for key in found)
    begin = partial(watcher.computing, "arms", len(wanted), len(found), done / total)
    begin()

    def up(text: str) -> None:
        watcher.note(text)
        begin()

    ended = fan_out(
        compute_arm,
        [partial(studies.take, seed) for seed in seeds],
        [(seeds.index(seed), (name,)) for seed, name in missing],
        request.config.runtime,
        verbose=verbose,
        say=up,
        needed_bytes=max(load.nbytes for load in studies.workloads.values()),
    )
    with closing(ended):
        for index, curve in ended:
            seed, name = key = missing[index]
            save_arm(folder / UNFINISHED, seed, name, curve)
            found[key] = curve
            done += wanted[key]
            watcher.progress(len(found), done / total)


def _controls(studies: Studies) -> tuple[list[str], list[str]]:
    """Names of the controls that are run, and notes on those that are not."""
    loads = studies.workloads.values()
    if all(load.everyone for load in loads):
        return [REFERENCE], ["Every client is in every version, so that needs no control."]
    arms = max(load.participation for load in loads)
    if arms > AFFORDABLE:
        return [REFERENCE], [
            "The control with every client in every version is left out: it would cost as much "
            f"as {arms:.0f} arms."
        ]
    return [REFERENCE, PARTICIPATION], []


def _unlike(run: Run, arm: Curve) -> list[str]:
    """A note where the arm with all causes on is not the run that was recorded, bit for bit."""
    recorded = dict(
        zip(*(run.rounds.column(n).to_pylist() for n in ("version", "loss")), strict=True)
    )
    for version, loss in zip(arm.version.tolist(), arm.loss.tolist(), strict=True):
        if recorded.get(version) != loss and loss == loss:
            return [
                f"From version {version:,} on, the replayed run differs from the recorded one, "
                "which was made by other versions of fedray or of its libraries; the diagnosis "
                "is of the replayed run."
            ]
    return []


def _write_json(content: Mapping[str, Any], path: Path) -> None:
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
