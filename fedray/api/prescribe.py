"""What would help a diagnosed run: its remedies, tried on all cores and ranked."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedray.api.request import Request
from fedray.config import schema
from fedray.config.load import load
from fedray.diagnosis.counterfactual.arm_store import curve_of_arm, load_arms, save_arm
from fedray.diagnosis.counterfactual.arms import RUN
from fedray.diagnosis.remedies.halving import Task, prescribe, trials_at_most
from fedray.diagnosis.remedies.rules import Situation
from fedray.diagnosis.remedies.table import candidates
from fedray.diagnosis.remedies.trials import Trial, trial
from fedray.distributed.fan_out import fan_out
from fedray.report.diagnosis.reader import UNFINISHED
from fedray.report.storage import uri_of

if TYPE_CHECKING:
    from fedray.api.diagnose import Watcher
    from fedray.api.studies import Studies
    from fedray.report.diagnosis.reader import Diagnosis


def prescription(
    request: Request,
    studies: Studies,
    diagnosed: Diagnosis,
    watcher: Watcher,
    verbose: bool,
) -> dict[str, Any]:
    """The content of prescription.json; see `diagnosis.remedies.halving`.

    Trials that end are kept beside the arms, for an interrupted diagnosis to go on with.
    """
    explicit, found, folder = request.loaded.explicit, diagnosed.findings, diagnosed.path
    # One elsewhere is to be copied here first; no path of this machine's would help then.
    config = "config.yaml" if uri_of(diagnosed.place) else diagnosed.named("config.yaml")
    runs = [curve_of_arm(diagnosed.arms, seed, RUN.name) for seed in request.seeds]
    trials = _Trials(request, studies, folder, watcher, verbose)
    remedies = candidates(request.loaded, Situation(trials.first), watcher.note)
    trials.begin(trials_at_most(len(remedies), len(runs)), int(runs[0].updates[-1]))
    planner = prescribe(
        remedies, runs, seeds=request.seeds, metric=found["metric"],
        configure=lambda settings: load(explicit, settings).config,
        command=f"fedray launch {shlex.quote(config)}",
        shares=_costly(found["level"]["shares"]),
    )  # fmt: skip
    try:
        tasks = next(planner)
        while True:
            tasks = planner.send(trials.run(tasks))
    except StopIteration as end:
        trials.end()
        prescribed: dict[str, Any] = end.value
        return prescribed


def _costly(shares: Mapping[str, Mapping[str, float | None]]) -> dict[str, float]:
    """The causes that cost something, as far as the seeds can tell, and how much."""
    return {
        cause: share["value"]
        for cause, share in shares.items()
        if share["value"] is not None
        and (share["value"] > 0 if share["low"] is None else share["low"] > 0)
    }


class _Trials:
    """Runs tasks of the planner, and shows how far they have come."""

    def __init__(
        self, request: Request, studies: Studies, folder: Path, watcher: Watcher, verbose: bool
    ) -> None:
        self._request, self._verbose, self._watcher = request, verbose, watcher
        self._folder = folder / UNFINISHED
        self._kept, _ = load_arms(self._folder)
        self.first = studies.take(request.seeds[0], reshuffled=False)
        """Of the first seed, on which most of the trials are."""
        self._makers = [lambda: self.first] + [
            partial(studies.take, seed, reshuffled=False) for seed in request.seeds[1:]
        ]
        self._nbytes = max(load.nbytes for load in studies.workloads.values())
        self._done, self._work, self._most, self._expected = 0, 0.0, 0, 1.0

    def begin(self, batches: Sequence[tuple[int, float]], updates: int) -> None:
        """`batches`: tasks to come, and the part of all `updates` that each has."""
        self._most = sum(tasks for tasks, _ in batches)
        self._expected = max(1.0, updates * sum(tasks * part for tasks, part in batches))
        self._watcher.computing("trials of remedies", self._most, 0, 0.0)

    def end(self) -> None:
        """Candidates that dropped out by themselves have left tasks undone."""
        if self._done < self._most:
            self._watcher.progress(self._most, 1.0)

    def run(self, tasks: Sequence[Task]) -> list[Trial | None]:
        """What comes of each task, in order."""
        before = [self._kept.get(self._key(task)) for task in tasks]
        ended = fan_out(
            trial,
            self._makers,
            [
                (seed, (config, updates, known is None))
                for (seed, config, updates), known in zip(tasks, before, strict=True)
            ],
            self._request.config.runtime,
            verbose=self._verbose,
            needed_bytes=self._nbytes,
        )
        results: list[Trial | None] = [None] * len(tasks)
        with closing(ended):
            for i, made in ended:
                if made is not None and before[i] is not None:
                    made = made._replace(curve=before[i])
                elif made is not None and made.curve is not None:
                    save_arm(self._folder, *self._key(tasks[i]), made.curve)
                results[i] = made
                self._done += 1
                self._work += tasks[i][2]
                share = min(1.0, self._work / self._expected)
                self._watcher.progress(self._done, share)
        return results

    def _key(self, task: Task) -> tuple[int, str]:
        """Seed and name that the curve of a task is kept by: of what determines it."""
        seed, config, updates = task
        if config is not None:
            config = replace(config, runtime=schema.Runtime(), output=schema.Output())
        digest = hashlib.sha256(repr((config, updates)).encode()).hexdigest()
        return self._request.seeds[seed], f"trial{digest[:32]}"
