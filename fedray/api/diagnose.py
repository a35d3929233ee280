"""One call from a configuration or a run to what each cause costs it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from fedray.api.launch import Interrupted, new_folder
from fedray.api.request import UNFINISHED, Request, asked, reopened
from fedray.config.layers import overrides_tree
from fedray.diagnosis.attribution.findings import PARTICIPATION, REFERENCE, findings, table
from fedray.diagnosis.counterfactual.arms import ARMS, RUN
from fedray.diagnosis.counterfactual.compute import AFFORDABLE, Scope, compute, distinct, scope
from fedray.diagnosis.counterfactual.curve import Curve
from fedray.diagnosis.counterfactual.kept import keep, kept
from fedray.diagnosis.counterfactual.study import Study, build_study
from fedray.diagnosis.counterfactual.trace import recorded_groups
from fedray.distributed.fan_out import fan_out
from fedray.errors import InputError
from fedray.report.diagnosis import ARMS_TABLE, FINDINGS, PRESCRIPTION, Diagnosis
from fedray.report.run import Run
from fedray.report.tables import write_table
from fedray.simulation.lock import only_writer

Curves = dict[int, dict[str, Curve]]


@dataclass(frozen=True)
class Outlook:
    """What a diagnosis is about to do. All counts are per seed, but for `kept`."""

    name: str
    folder: Path
    seeds: tuple[int, ...]
    scope: Scope
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
    interrupted diagnosis, which goes on with all arms that were finished. prescribe: also
    try what would help.

    Raises InputError for bad input, before anything starts; Interrupted after Ctrl-C;
    FedrayError for what goes wrong on the way.
    """
    watcher = watcher or Watcher()
    settings = {**overrides_tree(overrides), **settings}
    if resume is not None:
        if source is not None or out is not None or seeds is not None:
            raise InputError("takes no configuration, run, --out or --seeds", key="--resume")
        request = reopened(Path(resume), settings, prescribe=prescribe)
    else:
        request = asked(source, settings, seeds, prescribe=prescribe)
    for note in (*request.loaded.notes, *request.notes):
        watcher.note(note)
    studies = Studies(request)
    if resume is not None:
        folder = Path(resume)
    else:
        inside = request.run / "diagnosis" if request.run else None
        folder = new_folder(request.config, out or inside, kind="-diagnosis")
    try:
        with only_writer(folder):
            request.write(folder)
            _diagnose(request, studies, folder, watcher, verbose)
    except KeyboardInterrupt:
        raise Interrupted(folder, command="diagnose") from None
    except InputError:
        if resume is None and not any((folder / UNFINISHED).glob("*.npz")):
            shutil.rmtree(folder)  # e.g. nobody at runtime.address: nothing has begun
        raise
    return Diagnosis(folder)


class Studies:
    """The studies of a request by their seeds. All are looked over; the first two are kept
    until they are taken, the others are built anew then, so that few are in memory."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._ready: dict[int, Study] = {}
        self.scopes: dict[int, Scope] = {}
        for position, seed in enumerate(request.seeds):
            study = self.take(seed)
            self.scopes[seed] = scope(study)
            if position < 2:
                self._ready[seed] = study
        reasons = [found.inert for found in self.scopes.values()]
        self.inert: dict[str, str] = {
            cause: reason
            for cause, reason in reasons[0].items()
            if all(cause in others for others in reasons)
        }
        """Causes that make no difference for any seed, and why."""

    def take(self, seed: int, *, reshuffled: bool = True) -> Study:
        """The study of a seed, for the caller alone; whether `reshuffled` data is in it, too."""
        if seed in self._ready:
            return self._ready.pop(seed)
        config, run = replace(self._request.config, seed=seed), self._request.run
        recorded = run is not None and config.clock == "wall"
        return build_study(
            config,
            self._request.loaded.base_dir,
            reshuffled=reshuffled,
            trace=recorded_groups(Run(run)) if recorded and run else None,
        )


def _diagnose(
    request: Request, studies: Studies, folder: Path, watcher: Watcher, verbose: bool
) -> None:
    config = request.config
    with _one_ray(request, verbose):
        curves, notes = _curves(request, studies, folder, watcher, verbose)
        first = studies.scopes[request.seeds[0]]
        if request.run is not None:
            notes += _unlike(Run(request.run), curves[request.seeds[0]][RUN.name])
        found = findings(
            config, first.clients, curves, studies.inert,
            window=first.window, notes=[*request.notes, *notes],
            classification=first.classification,
        )  # fmt: skip
        write_table(table(curves, studies.inert), folder / ARMS_TABLE)
        _write_json(found, folder / FINDINGS)
        if request.prescribe:
            from fedray.api.prescribe import prescription

            runs = [curves[seed][RUN.name] for seed in request.seeds]
            prescribed = prescription(request, studies, runs, found, folder, watcher, verbose)
            _write_json(prescribed, folder / PRESCRIPTION)
    if config.output.report:
        from fedray.report.diagnosis_page import build_diagnosis_page

        watcher.reporting(folder)
        build_diagnosis_page(folder)
    shutil.rmtree(folder / UNFINISHED)


def _one_ray(request: Request, verbose: bool) -> AbstractContextManager[Any]:
    """A Ray for all that is to come, where more than the arms is."""
    if request.config.runtime.executor == "local" or not request.prescribe:
        return nullcontext()
    from fedray.distributed.session import session

    return session(request.config.runtime, verbose=verbose)


def _curves(
    request: Request, studies: Studies, folder: Path, watcher: Watcher, verbose: bool
) -> tuple[Curves, list[str]]:
    """Every distinct arm and control of every seed, and notes on what is left out."""
    arms, (controls, notes) = distinct(studies.inert), _controls(studies)
    wanted = {
        (seed, name): studies.scopes[seed].cost(name)
        for seed in request.seeds
        for name in sorted([*arms, *controls], key=studies.scopes[seed].cost, reverse=True)
    }
    finished, complaints = kept(folder / UNFINISHED)
    for complaint in complaints:
        watcher.note(complaint)
    found = {key: curve for key, curve in finished.items() if key in wanted}
    watcher.planned(
        Outlook(
            request.config.name, folder, request.seeds, studies.scopes[request.seeds[0]],
            studies.inert, len(ARMS), len(arms), len(controls), len(found),
        )
    )  # fmt: skip
    _compute(request, studies, wanted, found, folder, watcher, verbose)
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
        compute,
        [partial(studies.take, seed) for seed in seeds],
        [(seeds.index(seed), (name,)) for seed, name in missing],
        request.config.runtime,
        verbose=verbose,
        say=up,
        needed_bytes=max(scope.nbytes for scope in studies.scopes.values()),
    )
    with closing(ended):
        for index, curve in ended:
            seed, name = key = missing[index]
            keep(folder / UNFINISHED, seed, name, curve)
            found[key] = curve
            done += wanted[key]
            watcher.progress(len(found), done / total)


def _controls(studies: Studies) -> tuple[list[str], list[str]]:
    """Names of the controls that are run, and notes on those that are not."""
    scopes = studies.scopes.values()
    if all(scope.everyone for scope in scopes):
        return [REFERENCE], ["every client is in every version, so that needs no control"]
    arms = max(scope.participation for scope in scopes)
    if arms > AFFORDABLE:
        return [REFERENCE], [
            "no control with every client in every version: it would cost as much as "
            f"{arms:.0f} arms"
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
                f"replayed, the run differs from version {version:,} on from what was recorded, "
                "so it was made by other versions of fedray or of its libraries; the diagnosis "
                "is of the replayed one"
            ]
    return []


def _write_json(content: Mapping[str, Any], path: Path) -> None:
    half = path.with_name(f".{path.name}.half")
    half.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    half.replace(path)
