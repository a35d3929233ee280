"""What a sweep varies: keys with lists of values, and keys with distributions to draw from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from fedray.config import layers
from fedray.config.layers import Tree
from fedray.config.problems import show
from fedray.errors import InputError, nearest

_SAME = "it changes nothing about a trial's result, so there is nothing to compare"
_ONE = "it is one for the whole sweep"
NOT_SWEPT: Mapping[str, str] = {
    "seed": "use sweep.seeds, which runs every setting on several",
    "name": _ONE,
    "runtime": _SAME,
    "output": _SAME,
    "checkpoint": _SAME,
    "eval": f"{_ONE}, what all trials are measured by",
    "diagnosis": "it looks at a trial without changing it, so there is nothing to compare",
    "clock": "it has to be virtual",
    "sweep": "it is what sweeps",
}
"""Sections that cannot be swept, and why."""


@dataclass(frozen=True)
class Choice:
    """One of `values`, each with the same chance."""

    kind: ClassVar[str] = "choice"
    values: tuple[Any, ...]

    def probes(self) -> tuple[Any, ...]:
        return self.values


@dataclass(frozen=True)
class Uniform:
    """A number from `low` to `high`."""

    kind: ClassVar[str] = "uniform"
    low: float
    high: float

    def probes(self) -> tuple[Any, ...]:
        return self.low, self.low + 0.4 * (self.high - self.low), self.high


@dataclass(frozen=True)
class LogUniform:
    """A number from `low` to `high`, its logarithm uniform."""

    kind: ClassVar[str] = "loguniform"
    low: float
    high: float

    def probes(self) -> tuple[Any, ...]:
        return self.low, self.low * (self.high / self.low) ** 0.4, self.high


@dataclass(frozen=True)
class RandInt:
    """An integer from `low` to `high`, both included (unlike Ray's and numpy's)."""

    kind: ClassVar[str] = "randint"
    low: int
    high: int

    def probes(self) -> tuple[Any, ...]:
        return self.low, self.high


@dataclass(frozen=True)
class LogRandInt:
    """An integer from `low` to `high`, both included, small ones in more detail."""

    kind: ClassVar[str] = "lograndint"
    low: int
    high: int

    def probes(self) -> tuple[Any, ...]:
        return self.low, self.high


Space: TypeAlias = Choice | Uniform | LogUniform | RandInt | LogRandInt
_RANGES: Mapping[str, type[Any]] = {
    each.kind: each for each in (Uniform, LogUniform, RandInt, LogRandInt)
}
KINDS = (Choice.kind, *_RANGES)


def flat_grid(tree: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """{dotted key: values} of a grid with dotted or nested keys; its files seen from `base`."""
    found = dict(_leaves(tree, lambda value: not isinstance(value, dict)))
    return {
        key: [_absolute(key, value, base) for value in values]
        if isinstance(values, list)
        else values
        for key, values in found.items()
    }


def flat_search(tree: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """{dotted key: distribution} of a search with dotted or nested keys."""

    def is_leaf(value: Any) -> bool:
        if not isinstance(value, dict) or set(value) & set(KINDS):
            return True
        return not any(isinstance(each, dict) for each in value.values())

    found = dict(_leaves(tree, is_leaf))
    for key, space in found.items():
        if isinstance(space, dict) and isinstance(space.get(Choice.kind), list):
            choices = [_absolute(key, value, base) for value in space[Choice.kind]]
            found[key] = {**space, Choice.kind: choices}
    return found


def _leaves(tree: Mapping[str, Any], is_leaf: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        here = f"{path}.{name}" if path else str(name)
        if is_leaf(value):
            yield here, value
        else:
            yield from _leaves(value, is_leaf, here)


def _absolute(key: str, value: Any, base: Path) -> Any:
    tree = layers.absolute_paths(layers.overrides_tree({key: value}), base)
    return layers.get(tree, key)


def grid_of(tree: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """The values of every key of a grid. Raises InputError for what is no list of them."""
    found = {}
    for key, values in tree.items():
        where = f"sweep.grid.{key}"
        if not isinstance(values, list):
            raise InputError(f"must be a list of values, not {show(values)}", key=where)
        found[key] = _values(values, where)
    return found


def space_of(tree: Mapping[str, Any]) -> dict[str, Space]:
    """The distribution of every key of a search. Raises InputError for what is none."""
    return {key: _space(space, f"sweep.search.{key}") for key, space in tree.items()}


def _space(space: Any, where: str) -> Space:
    if not isinstance(space, dict) or len(space) != 1:
        raise InputError(
            f"must be one of {', '.join(KINDS)}, e.g. {{uniform: [0, 1]}}, not {show(space)}",
            key=where,
        )
    (kind, arguments), *_ = space.items()
    if kind not in KINDS:
        raise InputError(
            f"no distribution {kind!r}{nearest(kind, KINDS) or '; known are ' + ', '.join(KINDS)}",
            key=where,
        )
    where = f"{where}.{kind}"
    if kind == Choice.kind:
        if not isinstance(arguments, list):
            raise InputError(f"must be a list of values, not {show(arguments)}", key=where)
        return Choice(_values(arguments, where))
    return _range(kind, arguments, where)


def _range(kind: str, bounds: Any, where: str) -> Space:
    whole = kind in (RandInt.kind, LogRandInt.kind)
    what = "two integers" if whole else "two numbers"
    numbers = (int,) if whole else (int, float)
    if (
        not isinstance(bounds, list)
        or len(bounds) != 2
        or any(isinstance(x, bool) or not isinstance(x, numbers) for x in bounds)
        or not all(math.isfinite(x) for x in bounds)
    ):
        raise InputError(f"must be {what} [low, high], not {show(bounds)}", key=where)
    low, high = bounds if whole else map(float, bounds)
    if low >= high:
        raise InputError(f"low must be below high, not {show(bounds)}", key=where)
    if kind in (LogUniform.kind, LogRandInt.kind) and low <= 0:
        raise InputError(f"low must be > 0, as its logarithm is drawn, not {low:g}", key=where)
    space: Space = _RANGES[kind](low, high)
    return space


def _values(values: list[Any], where: str) -> tuple[Any, ...]:
    if not values:
        raise InputError("must not be empty", key=where)
    seen: dict[str, Any] = {}
    for value in values:
        name = canonical(value)
        if name in seen:
            raise InputError(f"has {show(value)} twice", key=where)
        seen[name] = value
    return tuple(values)


def canonical(value: Any) -> str:
    """A value as text that is the same for equal values: 1 and 1.0, but not true."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(name): plain(each) for name, each in value.items()}
        if isinstance(value, list):
            return [plain(each) for each in value]
        whole = isinstance(value, float) and value.is_integer()
        return int(value) if whole else value

    return json.dumps(plain(value), sort_keys=True)


def check_keys(grid: Mapping[str, Any], search: Mapping[str, Any], fixed: Tree) -> None:
    """Refuses keys that cannot be swept, that are swept twice, or that are fixed as well."""
    places = [*((key, "grid") for key in grid), *((key, "search") for key in search)]
    for key, place in places:
        if not all(key.split(".")):
            raise InputError("not a dotted key", key=f"sweep.{place}.{key}")
        why = NOT_SWEPT.get(key.split(".")[0])
        if why is not None:
            raise InputError(f"cannot be swept: {why}", key=f"sweep.{place}.{key}")
        for other, elsewhere in places:
            if other == key and elsewhere != place:
                raise InputError(
                    f"is in sweep.{elsewhere} as well; give one", key=f"sweep.{place}.{key}"
                )
            if key.startswith(f"{other}."):
                raise InputError(
                    f"is part of {other}, which is swept as well (sweep.{elsewhere})",
                    key=f"sweep.{place}.{key}",
                )
        value = layers.get(fixed, key, fixed)
        if value is not fixed and not isinstance(value, dict):
            raise InputError(
                f"{show(value)} would be ignored, since sweep.{place} has values for it; set "
                f"sweep.{place}.{key} instead",
                key=key,
            )
