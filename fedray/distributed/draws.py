"""The settings of a search: drawn beforehand, or asked of a searcher one by one."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ray.tune.search import Searcher

from fedray import rng
from fedray.config import sweep_axes as axes
from fedray.config.sweep import SweepFile
from fedray.distributed.trial import Spec
from fedray.errors import FedrayError, InputError


def drawn(file: SweepFile) -> Iterator[Spec]:
    """All trials of a grid, or of independent draws: the same ones for the same seed.

    Draw i is the same beside every setting of the grid, so that they compare.
    """
    if not file.space:
        yield from (Spec(*each) for each in file.trials())
        return
    number = 0
    for beside in file.settings:
        for i in range(file.sweep.samples):
            settings = {**beside, **draw(file.space, file.base.config.seed, i)}
            yield from on_all_seeds(file, settings, number)
            number += 1


def on_all_seeds(file: SweepFile, settings: Mapping[str, Any], setting: int) -> list[Spec]:
    """The trials of one setting."""
    first = setting * len(file.seeds)
    return [
        Spec(file.trial_id(first + i), given, setting, seed, file.resolve(given))
        for i, seed in enumerate(file.seeds)
        for given in [{**settings, "seed": seed}]
    ]


def draw(space: Mapping[str, axes.Space], seed: int, i: int) -> dict[str, Any]:
    """Draw i of a search."""
    u = rng.generator(seed, rng.Stream.SEARCH, i)
    return {key: _value(each, float(u.random())) for key, each in space.items()}


def _value(space: axes.Space, u: float) -> Any:
    """The value of a distribution at the quantile u in [0, 1)."""
    if isinstance(space, axes.Choice):
        return space.values[int(u * len(space.values))]
    low, high = space.low, space.high
    if isinstance(space, axes.Uniform):
        return low + u * (high - low)
    if isinstance(space, axes.LogUniform):
        return min(max(low * (high / low) ** u, low), high)
    if isinstance(space, axes.RandInt):
        return int(low + math.floor(u * (high - low + 1)))
    # As Optuna does: the logarithm is uniform from low - 1/2 to high + 1/2, then rounded.
    a, b = math.log(low - 0.5), math.log(high + 0.5)
    return int(min(max(round(math.exp(a + u * (b - a))), low), high))


class Asked(Searcher):
    """Optuna's suggestions, each on all seeds, told the mean over them.

    `known`: trials that an earlier process has begun, as (spec, value), where value is None
    for one that is still to be run; those come first, under their old names.
    """

    def __init__(
        self, file: SweepFile, mode: str, known: Sequence[tuple[Spec, float | None]]
    ) -> None:
        super().__init__(metric="value", mode=mode)
        self._file = file
        self._study = _study(file, mode)
        self._specs: dict[str, Spec] = {}
        self._names: dict[str, str] = {}
        """Ids of trials, by Tune's."""
        self._values: dict[int, dict[int, float | None]] = {}
        """Of every setting: what each seed came to, None for a failure."""
        self._asked: dict[int, str] = {}
        """Settings that were asked of this study, which has to be told by its own name."""
        self._queue = [spec for spec, value in known if value is None]
        self._settings = 1 + max((spec.setting for spec, _ in known), default=-1)
        for spec, value in known:
            if value is not None:
                self._tell(spec, value)

    def suggest(self, trial_id: str) -> Any:
        """The next trial, for Tune."""
        if not self._queue:
            if self._settings >= self._file.sweep.samples:
                return str(Searcher.FINISHED)
            name = f"setting {self._settings}"
            point = _plain(self._study.suggest(name))
            self._asked[self._settings] = name
            self._queue = on_all_seeds(self._file, point, self._settings)
            self._settings += 1
        spec = self._queue.pop(0)
        self._specs[trial_id] = spec
        given = {"id": spec.id, "setting": spec.setting, "settings": dict(spec.settings)}
        return {"trial": given}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Optuna waits for the end of a setting."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A trial has ended, or has failed for good."""
        failed = error or not result or "value" not in result
        self._tell(self._specs.pop(trial_id), None if failed else float((result or {})["value"]))

    def _tell(self, spec: Spec, value: float | None) -> None:
        values = self._values.setdefault(spec.setting, {})
        values[spec.seed] = value
        if len(values) < len(self._file.seeds):
            return
        found = [each for each in values.values() if each is not None]
        point = {key: spec.settings[key] for key in self._file.space}
        name = self._asked.pop(spec.setting, None)
        del self._values[spec.setting]
        if name is None:
            if found:
                self._study.add_evaluated_point(point, float(np.mean(found)))
        elif found:
            self._study.on_trial_complete(name, {"value": float(np.mean(found))})
        else:
            self._study.on_trial_complete(name, error=True)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a resumed sweep asks the folders of its trials."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, likewise."""


def _study(file: SweepFile, mode: str) -> Any:
    try:
        import optuna
        from ray.tune.search.optuna import OptunaSearch
    except ImportError:
        raise InputError(
            "optuna is not installed; pip install 'fedray[sweep]', or use random",
            key="sweep.searcher",
        ) from None
    optuna.logging.set_verbosity(logging.ERROR)
    distributions = optuna.distributions

    def as_optuna(space: axes.Space) -> Any:
        if isinstance(space, axes.Choice):
            return distributions.CategoricalDistribution(space.values)
        log = isinstance(space, axes.LogUniform | axes.LogRandInt)
        if isinstance(space, axes.RandInt | axes.LogRandInt):
            return distributions.IntDistribution(space.low, space.high, log=log)
        return distributions.FloatDistribution(space.low, space.high, log=log)

    space = {key: as_optuna(each) for key, each in file.space.items()}
    return OptunaSearch(space, metric="value", mode=mode, seed=file.base.config.seed)


def _plain(point: Mapping[str, Any] | None) -> dict[str, Any]:
    """A suggestion with dotted keys, as JSON has it."""
    if point is None:
        raise FedrayError("optuna has nothing more to suggest")
    return dict(point)
