"""The settings of a sweep: their trials together, and which is best."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedray.report import words
from fedray.report.diagnosis.effects import Effect
from fedray.report.files import read_rows
from fedray.report.sweep.merits import Merit, interval, merit_of
from fedray.report.sweep.rows import TRIALS_TABLE, collect, finite, sweep_tree, word

if TYPE_CHECKING:
    import pyarrow as pa

Row = Mapping[str, Any]

ALGORITHMS = {
    "fedsgd": "FedSGD", "fedavg": "FedAvg", "fedavgm": "FedAvgM", "fedprox": "FedProx",
    "fedadagrad": "FedAdagrad", "fedadam": "FedAdam", "fedyogi": "FedYogi", "fednova": "FedNova",
    "fedasync": "FedAsync", "fedbuff": "FedBuff", "scaffold": "SCAFFOLD",
}  # fmt: skip
"""Names as their papers write them."""


@dataclass(frozen=True)
class Setting:
    """A setting with its trials, one per seed."""

    number: int
    settings: Mapping[str, Any]
    trials: Sequence[Row]
    counted: Sequence[Row]
    """The trials that its value is taken over."""
    value: Effect | None
    """Mean and interval of the metric over seeds; None where no trial has one."""

    @property
    def reached(self) -> list[float]:
        """The metric of the counted trials that have one."""
        return [row["value"] for row in self.counted if row["value"] is not None]

    @property
    def complete(self) -> bool:
        return len(self.counted) == len(self.trials)

    def by_seed(self) -> dict[int, float]:
        """The metric of counted trials by seed."""
        return {row["seed"]: row["value"] for row in self.counted if row["value"] is not None}


class Trials:
    """`trials.parquet` with what the sweep file says of it."""

    def __init__(self, folder: Path, table: pa.Table, tree: Mapping[str, Any]) -> None:
        self.folder, self.table, self.tree = folder, table, tree
        self.rows: list[dict[str, Any]] = table.to_pylist()
        for row in self.rows:
            row["settings"] = json.loads(row["settings"])

    @property
    def name(self) -> str:
        """As the file has it, else the folder's."""
        fixed = (self.tree.get("sweep") or {}).get("fixed") or {}
        return str(fixed.get("name") or self.tree.get("name") or self.folder.name)

    @cached_property
    def merit(self) -> Merit:
        return merit_of(self.tree, regression=self.regression)

    @cached_property
    def regression(self) -> bool:
        """Whether trials are scored by R^2; False where none has come that far."""
        from fedray.errors import InputError
        from fedray.report.run import Run

        for row in self.rows:
            if row["versions"] is not None:
                try:
                    return not Run(self.folder / "trials" / row["id"]).classification
                except InputError:
                    continue
        return False

    @cached_property
    def keys(self) -> list[str]:
        """Swept keys, in the order of the file."""
        return [c.removeprefix("set.") for c in self.table.column_names if c.startswith("set.")]

    @cached_property
    def names(self) -> dict[str, str]:
        """Swept keys as short as they can be told apart."""
        return short_names(self.keys)

    @property
    def searched(self) -> list[str]:
        """Swept keys whose values were drawn."""
        return list((self.tree.get("sweep") or {}).get("search") or {})

    @property
    def scheduler(self) -> str:
        return str((self.tree.get("sweep") or {}).get("scheduler") or "none")

    @property
    def seeds(self) -> list[int]:
        return sorted({row["seed"] for row in self.rows if row["seed"] is not None})

    def with_status(self, status: str) -> list[dict[str, Any]]:
        """The trials of one status."""
        return [row for row in self.rows if row["status"] == status]

    @cached_property
    def settings(self) -> list[Setting]:
        """All settings, best first; those with trials missing come after the complete ones.

        Trials count that came to their end; if none did, those that were stopped early.
        """
        ends = "finished" if self.with_status("finished") else "stopped_early"
        by_number: dict[int, list[Row]] = {}
        for row in self.rows:
            by_number.setdefault(row["setting"], []).append(row)
        found = []
        for number, trials in by_number.items():
            counted = [row for row in trials if row["status"] == ends]
            values = [row["value"] for row in counted if row["value"] is not None]
            value = interval(values, self.merit.bounds) if values else None
            found.append(Setting(number, trials[0]["settings"], trials, counted, value))
        return sorted(found, key=self._rank)

    def _rank(self, of: Setting) -> tuple[Any, ...]:
        missed = len(of.counted) - len(of.reached)
        value = 0.0 if of.value is None else -self.merit.sign * of.value.value
        return of.value is None, not of.complete, missed, value, of.number

    @property
    def best(self) -> Setting | None:
        """None where no trial has come to an end with a value."""
        first = self.settings[0] if self.settings else None
        return first if first is not None and first.value is not None else None

    def against_best(self, of: Setting) -> Effect | None:
        """How much better the best is, seed by seed; None with fewer than two seeds of both."""
        assert self.best is not None
        ours, theirs = self.best.by_seed(), of.by_seed()
        both = [self.merit.sign * (ours[seed] - theirs[seed]) for seed in ours if seed in theirs]
        return interval(both) if len(both) > 1 else None

    def label(self, of: Mapping[str, Any], without: Sequence[str] = ()) -> str:
        """`FedProx, severity 0.5`, the algorithm first."""
        keys = sorted(of, key=lambda key: key != "algorithm")
        parts = [self.say(key, of[key]) for key in keys if key not in without]
        return ", ".join(parts) or "as in the file"

    def say(self, key: str, value: Any) -> str:
        """A key with its value, as people read it."""
        shown = self.say_value(key, value)
        return shown if key == "algorithm" else f"{self.names.get(key, key)} {shown}"

    def say_value(self, key: str, value: Any) -> str:
        """A value without its key."""
        if key == "algorithm":
            return ALGORITHMS.get(str(value), str(value))
        number = finite(value)
        return words.number(number) if number is not None else word(value)


def open_trials(folder: Path) -> Trials:
    """The table as written; collected where it has not been written yet."""
    tree = sweep_tree(folder)
    path = folder / TRIALS_TABLE
    return Trials(folder, read_rows(path) if path.exists() else collect(folder), tree)


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The last word of each dotted key, with as many before it as tell them apart."""
    found = {}
    for key in keys:
        parts = key.split(".")
        for taken in range(1, len(parts) + 1):
            name = ".".join(parts[-taken:])
            if sum(other == name or other.endswith(f".{name}") for other in keys) == 1:
                break
        found[key] = name.replace("_", " ")
    return found
