"""From a sweep file to its trials: a launch file with a section that says what varies.

Every setting is resolved as `load` resolves a file with overrides, so that presets, changes
of a variant and the checks for contradictory or idle keys are those of a launch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from annotated_types import Gt, Le

from fedray.config import layers, problems, schema, sweep_axes
from fedray.config.layers import Tree
from fedray.config.load import Loaded, Source, load, plain, read
from fedray.config.sweep_axes import Space
from fedray.config.text import write
from fedray.config.tree import Key
from fedray.errors import InputError
from fedray.parts.fields import Count, Doc, Index, Strict

MOST_TRIALS = 100_000
_MOST_PROBES = 512


@dataclass(frozen=True, kw_only=True)
class Sweep(Strict):
    """What `fedray sweep` varies, and how. A file with this section is a sweep file.

    Every combination of the grid, and every draw of the search, is a setting; every setting
    on every seed is a trial, a run like any other. See docs/sweeps.md.
    """

    grid: Annotated[
        dict[str, Any], Doc("dotted keys, each with a list of values; all combinations are run")
    ] = field(default_factory=dict)
    search: Annotated[
        dict[str, Any],
        Doc(
            "dotted keys, each with a distribution to draw from: {choice: [a, b]}, {uniform: "
            "[low, high]}, {loguniform: [low, high]}, {randint: [low, high]}, {lograndint: "
            "[low, high]}; bounds are included"
        ),
    ] = field(default_factory=dict)
    fixed: Annotated[
        dict[str, Any],
        Doc("keys with values that all trials have, over the file's; --set ends up here"),
    ] = field(default_factory=dict)
    samples: Annotated[Count, Doc("draws of search, for every setting of the grid")] = 64
    searcher: Annotated[
        Literal["random", "optuna"], Doc("random: independent draws; optuna: learns from results")
    ] = "random"
    scheduler: Annotated[
        Literal["none", "asha", "median", "pbt"],
        Doc(
            "asha, median: end trials early that fall behind; pbt: bad trials go on from good "
            "ones' checkpoints, with changed settings"
        ),
    ] = "none"
    grace: Annotated[
        Count,
        Doc("asha, median: versions before a trial may be ended; pbt: versions between exploits"),
    ] = 10
    seeds: Annotated[
        Count, Doc("run every setting on so many seeds, from `seed` upwards: the same for all")
    ] = 1
    metric: Annotated[
        Literal[
            "accuracy", "loss", "r2", "worst_decile_accuracy", "bytes_to_target",
            "virtual_time_to_target", "epsilon",
        ] | None,
        Doc("what settings are ranked by; default accuracy, for a regression r2"),
    ] = None  # fmt: skip
    target: Annotated[
        float | None, Gt(0), Le(1), Doc("accuracy (regression: r2) that *_to_target waits for")
    ] = None
    mode: Annotated[
        Literal["max", "min"] | None,
        Doc("whether more of the metric is better; default max for accuracies and r2, else min"),
    ] = None
    retries: Annotated[Index, Doc("times that a failing trial is tried again")] = 1
    actors_per_trial: Annotated[
        Index,
        Doc(
            "0: a trial, server and clients, runs in one actor, which the next trial takes over; "
            "n: its clients run in n actors of their own, next to the server"
        ),
    ] = 0


@dataclass(frozen=True)
class SweepShape:
    """What a sweep file has beside the keys of a launch file."""

    sweep: Annotated[Sweep, Doc("makes the file a sweep file, for `fedray sweep`")]


class TrialSpec(NamedTuple):
    """One run of a sweep.

    `settings`: what it was given, by dotted key, `seed` included. `setting`: number of the
    setting, which the trials of all seeds share. `config`: all of it, resolved.
    """

    id: str
    settings: dict[str, Any]
    setting: int
    seed: int
    config: schema.Config


@dataclass(frozen=True)
class SweepFile:
    """A sweep that has been read and checked.

    base: the first setting resolved, for what all trials share: name, seed, runtime, output,
    and `notes` for the user. sweep: the section, its metric and mode decided, its keys
    dotted. grid: values by dotted key, in the order of the file. space: what a search draws.
    tree: the file without the section, with absolute paths.
    """

    base: Loaded
    sweep: Sweep
    grid: Mapping[str, tuple[Any, ...]]
    space: Mapping[str, Space]
    tree: Tree
    given: Tree = field(repr=False)
    """The section as far as anybody wrote it, with the metric and the mode decided."""
    _configs: tuple[schema.Config, ...] = field(repr=False, default=())

    @property
    def seeds(self) -> tuple[int, ...]:
        """Every setting is run on each of these."""
        first = self.base.config.seed
        return tuple(range(first, first + self.sweep.seeds))

    @property
    def settings(self) -> list[dict[str, Any]]:
        """Every combination of the grid, the last key changing fastest. [{}] without a grid."""
        return [
            dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())
        ]

    @property
    def total(self) -> int:
        """The number of trials."""
        draws = self.sweep.samples if self.space else 1
        return prod(map(len, self.grid.values())) * draws * self.sweep.seeds

    def trial_id(self, number: int) -> str:
        """t0000, t0001, ...: as many digits for all, so that they sort."""
        return f"t{number:0{max(4, len(str(self.total - 1)))}}"

    def trials(self) -> list[TrialSpec]:
        """All trials of a grid, setting by setting. A search has none before it draws."""
        if self.space:
            raise ValueError("the settings of a search are not known before they are drawn")
        return list(self._trials())

    def _trials(self) -> Iterator[TrialSpec]:
        seeds = self.seeds
        for number, (settings, config) in enumerate(zip(self.settings, self._configs, strict=True)):
            for i, seed in enumerate(seeds):
                yield TrialSpec(
                    self.trial_id(number * len(seeds) + i),
                    {**settings, "seed": seed},
                    number,
                    seed,
                    config if seed == config.seed else replace(config, seed=seed),
                )

    def resolve(self, settings: Mapping[str, Any]) -> schema.Config:
        """The whole configuration of settings by dotted key, such as a search draws.

        Raises InputError, one line, that names the settings that it takes to go wrong.
        """
        return _named(self.tree, self.sweep.fixed, plain(dict(settings))).config

    def dump(self) -> str:
        """YAML that `load_sweep` reads to the same sweep, from anywhere."""
        return write({**self.tree, "sweep": self.given})


def load_sweep(source: Source, overrides: Sequence[str] = (), **settings: Any) -> SweepFile:
    """Reads and checks a sweep file, and every setting of its grid.

    source: as for `load`, with a section `sweep`. overrides and settings: as for `launch`;
    those of `sweep.*` change the section (of a grid or search key by key), the others hold
    for all trials. Raises InputError, one line, for anything that would not run.
    """
    from fedray.config import sweep_checks

    tree, base = read(source)
    high = plain(layers.overrides_tree({**layers.overrides_tree(overrides), **settings}))
    given = _section(tree.pop("sweep", None), high.pop("sweep", None), high, base)
    if not given.get("grid") and not given.get("search"):
        raise InputError(
            "says nothing to vary; give sweep.grid, e.g. {client.lr: [0.01, 0.1]}, or sweep.search",
            key="sweep",
        )
    sweep = _validated(given)
    grid, space = sweep_axes.grid_of(sweep.grid), sweep_axes.space_of(sweep.search)
    sweep_axes.check_keys(grid, space, sweep.fixed)
    low = layers.absolute_paths(layers.without_empty(tree), base)
    file = SweepFile(Loaded(schema.Config(), {}, base), sweep, grid, space, low, given)
    sweep_checks.size(file, MOST_TRIALS)
    loaded = [(settings, _named(low, sweep.fixed, settings, grid)) for settings in _examples(file)]
    sweep_checks.distinct(file, loaded)
    configs = tuple(each.config for _, each in loaded)
    notes = _notes([each for _, each in loaded], "draws tried" if space else "settings")
    first = replace(loaded[0][1], base_dir=base, notes=notes)
    file = replace(file, base=first, _configs=configs if not space else ())
    sweep = sweep_checks.decided(file, configs)
    return replace(file, sweep=sweep, given={**given, "metric": sweep.metric, "mode": sweep.mode})


def _section(low: Any, high: Any, fixed: Tree, base: Path) -> Tree:
    """The section of the file with what overrides change of it; all keys dotted."""
    for part in (low, high):
        if part is not None and not isinstance(part, dict):
            raise InputError(f"must be a mapping of keys, not {problems.show(part)}", key="sweep")
    low, high = dict(low or {}), dict(high or {})
    found: Tree = {**low, **high}
    here = Path.cwd()
    for name, flat in (("grid", sweep_axes.flat_grid), ("search", sweep_axes.flat_search)):
        parts = [part.get(name) or {} for part in (low, high)]
        if all(isinstance(part, dict) for part in parts):
            found[name] = {**flat(parts[0], base), **flat(parts[1], here)}
    parts = [part.get("fixed") or {} for part in (low, high)]
    if all(isinstance(part, dict) for part in parts):
        own, more = (layers.overrides_tree(part) for part in parts)
        own = layers.absolute_paths(own, base)
        more = layers.absolute_paths(layers.over(more, fixed), here)
        found["fixed"] = layers.over(own, more)
    return {name: value for name, value in found.items() if value not in ({}, None)}


def _validated(given: Tree) -> Sweep:
    from pydantic import ValidationError

    try:
        file: SweepShape = _adapter().validate_json(json.dumps({"sweep": given}), strict=True)
    except ValidationError as error:
        top = Key(name="", doc="", annotation=SweepShape, default=None, record=SweepShape)
        raise problems.from_pydantic(error.errors(include_url=False), top) from None
    return file.sweep


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(SweepShape)


def sweeps(source: Source, overrides: Sequence[str] = ()) -> bool:
    """Whether a file, or what is set over it, says what to sweep."""
    return "sweep" in {**read(source)[0], **layers.overrides_tree(overrides)}


def _examples(file: SweepFile) -> list[dict[str, Any]]:
    """All settings of a grid; of a search, draws that could be made.

    Those are all combinations of bounds and choices, or, where that is too many, those of
    one key at a time; and the settings of a grid beside it with one of them.
    """
    if not file.space:
        return file.settings
    values = {key: each.probes() for key, each in file.space.items()}
    usual = {key: each[len(each) // 2] for key, each in values.items()}
    first, *others = file.settings
    if prod(map(len, values.values())) <= _MOST_PROBES:
        draws = [dict(zip(values, each, strict=True)) for each in product(*values.values())]
    else:
        draws = [{**usual, key: value} for key, each in values.items() for value in each]
    return [{**first, **draw} for draw in draws] + [{**setting, **usual} for setting in others]


def _load(tree: Tree, fixed: Mapping[str, Any], settings: Mapping[str, Any]) -> Loaded:
    return load(tree, layers.over(dict(fixed), layers.overrides_tree(settings)))


def _named(
    tree: Tree,
    fixed: Mapping[str, Any],
    settings: dict[str, Any],
    grid: Mapping[str, Sequence[Any]] | None = None,
) -> Loaded:
    """The configuration of settings; an error says which of them it takes."""
    try:
        return _load(tree, fixed, settings)
    except InputError as error:
        blamed = {
            key: value
            for key, value in settings.items()
            if any(
                _complaint(tree, fixed, other) != str(error)
                for other in _without(settings, key, (grid or {}).get(key, ()))
            )
        }
        if not blamed:
            raise
        raise _blaming(error, blamed) from None


def _without(settings: dict[str, Any], key: str, values: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """The settings with any other value of a key, or none."""
    yield {name: value for name, value in settings.items() if name != key}
    yield from ({**settings, key: value} for value in values if value != settings[key])


def _complaint(tree: Tree, fixed: Mapping[str, Any], settings: dict[str, Any]) -> str:
    try:
        _load(tree, fixed, settings)
    except InputError as error:
        return str(error)
    return ""


def _blaming(error: InputError, settings: Mapping[str, Any]) -> InputError:
    """`client.lr=0 with algorithm=fedsgd: must be > 0`"""
    key = error.key or ""
    about = next((name for name in settings if key == name or key.startswith(f"{name}.")), None)
    names = sorted(settings, key=lambda name: name != about)
    first, *others = (f"{name}={_word(settings[name])}" for name in names)
    beside = f" with {', '.join(others)}" if others else ""
    text = str(error).removeprefix(f"{key}: ") if key == about else str(error)
    found = InputError(f"{first}{beside}: {text}")
    found.key = error.key
    return found


def _word(value: Any) -> str:
    return value if isinstance(value, str) else problems.show(value)


def _notes(loaded: Sequence[Loaded], what: str) -> list[str]:
    """What is worth a line about any setting, once, and how many it is about."""
    counts: dict[str, int] = {}
    for each in loaded:
        for note in dict.fromkeys(each.notes):
            counts[note] = counts.get(note, 0) + 1
    several = len(loaded)
    return [
        note if count == several else f"{note} ({count} of {several} {what})"
        for note, count in counts.items()
    ]
