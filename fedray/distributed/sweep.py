"""A sweep on Ray Tune: trials on all cores, schedulers, retries, resumption.

Tune decides what runs, and when it ends; `trial.TrialRun` runs it. A resumed sweep is a
fresh one of Tune's over what is left: all that it needs is in the trials' own folders,
which are whole or not there, while Tune's state is a pickle of some seconds ago.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import tune

from fedray.config import schema
from fedray.config.sweep import SweepFile
from fedray.data.sources import load_dataset
from fedray.distributed import machine
from fedray.distributed.draws import Asked, drawn, on_all_seeds
from fedray.distributed.session import Session, session
from fedray.distributed.surroundings import environment
from fedray.distributed.sweep_watch import Brake, Listener, SweepProgress, Tally, braked, quiet
from fedray.distributed.trainable import Common
from fedray.distributed.trial import (
    STOPPED,
    Metric,
    Spec,
    data_key,
    final_value,
    read_spec,
)
from fedray.distributed.tuning import (
    TUNE,
    fit,
    report_versions,
    run_config,
    scheduler,
    slots,
    trainable,
    trial_bundles,
)
from fedray.errors import InputError
from fedray.types import Dataset

__all__ = ["SweepProgress", "run_sweep"]

_ENVIRONMENT: Mapping[str, str | None] = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # nobody reads its state
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


def run_sweep(
    file: SweepFile,
    folder: Path,
    *,
    resume: bool,
    max_concurrent: int | None,
    runtime: schema.Runtime,
    verbose: bool,
    say: Callable[[str], None],
    watch: Callable[[SweepProgress], None],
    interrupting: Callable[[], None] | None = None,
) -> None:
    """Runs the trials of a sweep into `folder`/trials; each becomes a full run folder.

    With `resume`, trials that are finished stay as they are, others go on from their newest
    checkpoints, and those that failed are tried again. A trial that fails more than
    `retries` times leaves error.txt in its folder. Raises KeyboardInterrupt after a Ctrl-C and
    Terminated after SIGTERM, when every running trial has left a checkpoint (at once after a
    second one; `interrupting` is told of the first, by a signal handler), InputError and
    FedrayError for what keeps the sweep from running at all.
    """
    folder = folder.absolute()
    runner = _Runner(file, folder, max_concurrent, verbose, say)
    if not runner.prepare(resume):
        runner.begin_tally(watch)
        runner.tally.tell(now=True)
        return
    data = runner.load_data()
    with ExitStack() as stack:
        stack.enter_context(environment(_ENVIRONMENT))
        needed = sum(dataset_bytes(each) for each in data.values())
        here = _cores_asked(file, runtime, max_concurrent)
        ray_session = stack.enter_context(session(here, verbose=verbose, needed_bytes=needed))
        stack.enter_context(quiet(verbose))
        runner.begin_tally(watch)
        runner.run(ray_session, data, interrupting)


def _cores_asked(
    file: SweepFile, runtime: schema.Runtime, max_concurrent: int | None
) -> schema.Runtime:
    """pbt keeps its whole population alive, so that only cores can bound what runs at a time."""
    if file.sweep.scheduler != "pbt" or max_concurrent is None:
        return runtime
    if runtime.address is not None:
        raise InputError("has no effect on pbt on a given Ray", key="--max-concurrent")
    each = max(1, file.sweep.actors_per_trial)
    return replace(runtime, cpus=min(runtime.cpus or machine.cores(), max_concurrent * each))


class _Runner:
    """One call of `run_sweep`."""

    tally: Tally

    def __init__(
        self,
        file: SweepFile,
        folder: Path,
        max_concurrent: int | None,
        verbose: bool,
        say: Callable[[str], None],
    ) -> None:
        sweep = file.sweep
        self._file, self._folder = file, folder
        self._max, self._verbose, self._say = max_concurrent, verbose, say
        self._metric = Metric(str(sweep.metric), str(sweep.mode), sweep.target)
        self._asks = bool(file.space) and sweep.searcher == "optuna"
        self._all: list[Spec] = []
        """All trials that are known beforehand."""
        self._left: list[Spec] = []
        """Those that are not finished."""
        self._known: list[tuple[Spec, float | None]] = []
        """What a searcher has asked for already."""
        self._resumed = False

    @property
    def trials(self) -> Path:
        """Where the run folders are."""
        return self._folder / "trials"

    def prepare(self, resume: bool) -> bool:
        """Finds out what is to be run; False if nothing is."""
        self._resumed = resume
        self.trials.mkdir(parents=True, exist_ok=True)
        if self._asks:
            self._known = list(self._begun()) if resume else []
            unfinished = any(value is None for _, value in self._known)
            return unfinished or len(self._known) < self._file.total
        self._all = list(drawn(self._file))
        if resume and self._file.sweep.scheduler == "pbt":
            self._all = [self._as_it_is_now(spec) for spec in self._all]
        self._left = [spec for spec in self._all if not self._is_finished(spec.id)]
        if resume and len(self._left) < len(self._all):
            self._say(f"{len(self._all) - len(self._left)} of {len(self._all)} trials are finished")
        return bool(self._left)

    def begin_tally(self, watch: Callable[[SweepProgress], None]) -> None:
        """Starts the clock, and counts what is there."""
        self.tally = Tally(self._file.total, self._metric, watch)
        left = {spec.id for spec in self._left}
        names = [spec.id for spec in self._all if spec.id not in left]
        names += [spec.id for spec, value in self._known if value is not None]
        if self._replays and self._left:
            return  # they will be counted as they come again
        for name in names:
            summary = self._summary(name)
            value = final_value(self.trials / name, summary, self._metric)
            self.tally.ended(name, value, early=summary["stopped_by"] == "scheduler")

    def load_data(self) -> dict[str, Dataset]:
        """Every data set that trials need, once."""
        configs = [spec.config for spec in self._left]
        if self._asks and not any(key.split(".")[0] == "data" for key in self._file.space):
            base = self._file.base.config
            configs = [replace(base, seed=seed) for seed in self._file.seeds]
        found: dict[str, Dataset] = {}
        for config in configs:
            key = data_key(config)
            if key is not None and key not in found:
                found[key] = load_dataset(
                    config.data, config.seed, base_dir=self._file.base.base_dir
                )
        return found

    def run(
        self,
        ray_session: Session,
        data: dict[str, Dataset],
        interrupting: Callable[[], None] | None,
    ) -> None:
        """Runs it all. Trials that were ended but not completed in time are completed after."""
        refs = {key: ray.put(dataset) for key, dataset in data.items()}
        data.clear()
        bundles = trial_bundles([n.cpus for n in ray_session.nodes], self._file)
        room = slots(ray_session, bundles, self._max)
        self._say(f"running {'up to ' if not ray_session.local else ''}{room} at a time")
        with braked(interrupting) as brake, self._tidy():
            self._fit(refs, bundles, room, brake, None)
            cut = [] if brake.pulled else self._cut_short()
            if cut:
                self._fit(refs, bundles, room, brake, cut)
            self.tally.tell(now=True)
            if brake.pulled:
                raise brake.asked.end

    @contextmanager
    def _tidy(self) -> Iterator[None]:
        """Tune's own folder is of no use to anybody afterwards."""
        place = self._folder / TUNE
        shutil.rmtree(place, ignore_errors=True)  # of a killed driver
        try:
            yield
        finally:
            shutil.rmtree(place, ignore_errors=True)

    # --- Tune ---------------------------------------------------------------------------

    @property
    def _replays(self) -> bool:
        """Whether a scheduler has to see again what it saw before a crash."""
        return self._resumed and self._file.sweep.scheduler in ("asha", "median")

    def _fit(
        self,
        refs: Mapping[str, Any],
        bundles: list[dict[str, float]],
        room: int,
        brake: Brake,
        only: list[Spec] | None,
    ) -> None:
        """One pass of Tune's: over what is left, or over `only`, which are counted already."""
        again = only is not None
        asks, population = self._asks and not again, self._file.sweep.scheduler == "pbt"
        specs = only or (self._all if self._replays else self._left)
        given = [_given(spec, with_settings=population) for spec in specs]
        common = Common(
            folder=self._folder, file=self._file,
            specs={} if asks or population else {spec.id: spec for spec in specs},
            data=refs, metric=self._metric, marks=report_versions(self._file),
            # The rule of the median would take in whatever comes.
            news=self._file.sweep.scheduler != "median",
            replay=self._replays and not again, actors=self._file.sweep.actors_per_trial,
        )  # fmt: skip
        tally = Tally(0, self._metric, lambda _: None) if again else self.tally
        listener = Listener(self.trials, tally, {spec.id: spec.settings for spec in specs})
        fit(
            tune.Tuner(
                trainable(common, bundles),
                param_space={} if asks else {"trial": tune.grid_search(given)},
                tune_config=self._choices(room, asks=asks, again=again),
                run_config=run_config(self._file, self._folder, listener, brake),
            )
        )

    def _choices(self, room: int, *, asks: bool, again: bool) -> Any:
        """Which trials Tune runs, and when: `room` at a time, by the scheduler but `again`."""
        mode = self._metric.mode
        return tune.TuneConfig(
            metric=None if asks else "value",
            mode=None if asks else mode,
            scheduler=None if again else scheduler(self._file, asks, mode),
            search_alg=Asked(self._file, mode, self._known) if asks else None,
            num_samples=self._asked_for() if asks else 1,
            max_concurrent_trials=None if self._file.sweep.scheduler == "pbt" else room,
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        )

    def _asked_for(self) -> int:
        done = sum(value is not None for _, value in self._known)
        return self._file.total - done

    # --- folders ------------------------------------------------------------------------

    def _summary(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.trials / name / "summary.json").read_text("utf-8"))
        return found

    def _is_finished(self, name: str) -> bool:
        return (self.trials / name / "summary.json").exists()

    def _cut_short(self) -> list[Spec]:
        """Trials that a scheduler has ended, but whose actors had no time to complete them."""
        return [
            spec
            for spec in self._all
            if (self.trials / spec.id / STOPPED).exists() and not self._is_finished(spec.id)
        ]

    def _as_it_is_now(self, spec: Spec) -> Spec:
        """With the settings that it has come to."""
        facts = read_spec(self.trials / spec.id)
        if facts is None:
            return spec
        config = self._file.resolve(facts["settings"])
        return spec._replace(settings=facts["settings"], config=config)

    def _begun(self) -> Iterator[tuple[Spec, float | None]]:
        """Trials of the settings that a searcher has asked for, and what they came to."""
        begun: dict[int, dict[str, Any]] = {}
        for path in sorted(self.trials.iterdir()):
            facts = read_spec(path)
            if facts is not None:
                settings = {k: v for k, v in facts["settings"].items() if k != "seed"}
                begun[facts["setting"]] = settings
        for setting, settings in sorted(begun.items()):
            for spec in on_all_seeds(self._file, settings, setting):
                value = None
                if self._is_finished(spec.id):
                    found = final_value(self.trials / spec.id, self._summary(spec.id), self._metric)
                    value = self._metric.comparable(found)
                yield spec, value


def _name(trial: Any) -> str:
    return str(trial.config["trial"]["id"])


def _given(spec: Spec, *, with_settings: bool) -> dict[str, Any]:
    if not with_settings:
        return {"id": spec.id}
    return {"id": spec.id, "setting": spec.setting, "settings": dict(spec.settings)}


def dataset_bytes(data: Dataset) -> int:
    """Memory of a data set's arrays."""
    return int(data.X.nbytes + data.y.nbytes + data.X_test.nbytes + data.y_test.nbytes)
