"""From the run folders of a sweep to one table, a row per trial, finished or not."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedray.errors import InputError
from fedray.report.facts import dig
from fedray.report.figures import column, curve, falls
from fedray.report.files import fast_loader, read_json, read_yaml
from fedray.report.run import Run
from fedray.report.sweep.merits import Merit, merit_of
from fedray.types import Floats

if TYPE_CHECKING:
    import pyarrow as pa

SWEEP, PLANNED, TRIALS_TABLE, FINDINGS = "sweep.yaml", "trials.json", "trials.parquet", "sweep.json"
_MEASURED = ("label_severity", "label_emd", "label_js")


def sweep_tree(folder: Path) -> dict[str, Any]:
    """`sweep.yaml`. Raises InputError where `folder` has none, or it cannot be read."""
    path = folder / SWEEP
    if not path.exists():
        what = "not the folder of a sweep" if folder.is_dir() else "no such folder"
        raise InputError(f"{folder}: {what}, {SWEEP} missing; `fedray sweep` writes it")
    return read_yaml(path)


def swept_keys(tree: Mapping[str, Any]) -> list[str]:
    """The dotted keys of the grid, then of the search."""
    section = tree.get("sweep") or {}
    return [*(section.get("grid") or {}), *(section.get("search") or {})]


def collect(folder: str | Path) -> pa.Table:
    """Reads what all trials have come to, and writes it as `trials.parquet`.

    Works while a sweep goes on, and after a crash. A row per trial that was planned or has a
    folder, by id; see `report.sweep.columns`. Raises InputError where `folder` is no sweep's.
    """
    from fedray.report.tables import write_table

    folder = Path(folder)
    tree = sweep_tree(folder)
    keys = swept_keys(tree)
    rows = []
    for planned in _planned(folder, keys):
        # One at a time, as no more than a row of each has to stay in memory.
        trial = _Trial(folder / "trials" / planned["id"], planned)
        rows.append(trial.row(merit_of(tree, regression=trial.regression)))
        keys += [key for key in trial.settings if key not in keys]
    table = _table(rows, keys)
    try:
        write_table(table, folder / TRIALS_TABLE)
    except OSError as error:
        raise InputError(f"{folder / TRIALS_TABLE}: cannot be written: {error}") from error
    return table


def _planned(folder: Path, keys: Sequence[str]) -> Iterable[dict[str, Any]]:
    """{id, setting, seed, settings} of all trials: as listed, and what the folders say."""
    found: dict[str, dict[str, Any]] = {}
    listed = _json(folder / PLANNED)
    for each in listed if isinstance(listed, list) else ():
        found[str(each["id"])] = dict(each)
    places = folder / "trials"
    for place in sorted(places.iterdir()) if places.is_dir() else ():
        if place.is_dir() and not place.name.startswith("."):
            known = found.setdefault(place.name, {"id": place.name})
            # What a trial has become counts, as population based training changes settings.
            known |= _json(place / "trial.json") or {}
            if "settings" not in known:
                known |= _from_config(place, keys)
    numbers: dict[str, int] = {}
    for name in sorted(found):
        each = {"settings": {}, "seed": None, **found[name]}
        text = canonical({k: v for k, v in each["settings"].items() if k != "seed"})
        each.setdefault("setting", numbers.setdefault(text, len(numbers)))
        yield each


def _from_config(place: Path, keys: Sequence[str]) -> dict[str, Any]:
    import yaml

    try:
        text = (place / "config.yaml").read_text(encoding="utf-8")
        config = yaml.load(text, Loader=fast_loader())
    except (OSError, yaml.YAMLError):
        return {}
    return {"settings": {key: dig(config, key) for key in keys}, "seed": dig(config, "seed")}


class _Trial:
    """One trial's folder, however far it has come."""

    def __init__(self, path: Path, planned: Mapping[str, Any]) -> None:
        self.path, self._planned = path, planned
        self._unreadable: str | None = None
        self.settings = {k: v for k, v in planned["settings"].items() if k != "seed"}

    @cached_property
    def run(self) -> Run | None:
        """None where nothing has been computed, or it cannot be read."""
        try:
            run = Run(self.path)
        except InputError:
            return None
        try:
            return run if run.rounds.num_rows and run.summary is not None else None
        except InputError as error:
            self._unreadable = str(error)
            return None

    @property
    def regression(self) -> bool:
        return self.run is not None and not self.run.classification

    @property
    def error(self) -> str | None:
        """Why it failed, a line; None where it has not."""
        path = self.path / "error.txt"
        if self.run is not None and self.run.finished:
            return None
        if not path.exists():
            return self._unreadable
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[0].strip() if lines else "failed without a word"

    @property
    def status(self) -> str:
        """One of `columns.STATUSES`."""
        run = self.run
        if run is not None and run.finished:
            early = run.summary.get("stopped_by") == "scheduler"
            return "stopped_early" if early else "finished"
        return "failed" if self.error is not None else "unfinished"

    def row(self, of: Merit) -> dict[str, Any]:
        """The trial's row; null for what it has not come to."""
        seed = self._planned.get("seed")
        found: dict[str, Any] = {
            "id": self._planned["id"],
            "setting": self._planned["setting"],
            "seed": seed,
            "settings": json.dumps(self.settings),
            "status": self.status,
            "error": self.error,
            "algorithm": self.settings.get("algorithm"),
            **{f"set.{key}": value for key, value in self.settings.items()},
        }
        if self.run is None:
            return found
        found |= _figures(self.run, of)
        found["value"] = _value(found, of)
        return found


def _figures(run: Run, of: Merit) -> dict[str, Any]:
    score = "accuracy" if run.classification else "r2"
    main = curve(run.rounds, score)
    moved, times = bytes_by_version(run), column(run.rounds, "virtual_time_s")
    cost = cost_of(run, of.target)
    fallen = falls(main)
    measured = run.summary.get("heterogeneity") or {}
    algorithm = run.summary.get("algorithm") or run.config.get("algorithm")
    return {
        "algorithm": None if algorithm is None else str(algorithm),
        **{name: finite(measured.get(name)) for name in _MEASURED},
        "final": _last(run, score),
        "final_loss": _last(run, "loss"),
        "best": float(main.best[-1]) if len(main.best) else None,
        "largest_fall": (fallen[0].lost if fallen else 0.0) if len(main.values) else None,
        "worst_decile": worst_decile(run),
        "versions": int(np.nanmax(column(run.rounds, "version"))),
        "bytes": int(moved[-1]),
        "bytes_to_target": None if cost is None else cost[0],
        "virtual_time_s": finite(float(times[-1])),
        "virtual_time_to_target": None if cost is None else cost[1],
        "epsilon": finite(dig(run.summary, "privacy.epsilon")) if run.summary else None,
        "wall_time_s": finite(run.summary.get("wall_time_s"))
        or finite(float(column(run.rounds, "wall_time_s")[-1])),
    }


def _value(row: Mapping[str, Any], of: Merit) -> float | None:
    """The metric: of the last version, or of the way to the target."""
    name = {"accuracy": "final", "r2": "final", "loss": "final_loss",
            "worst_decile_accuracy": "worst_decile"}.get(of.metric, of.metric)  # fmt: skip
    value = row.get(name)
    return None if value is None else float(value)


def bytes_by_version(run: Run) -> Floats:
    """Bytes moved in both directions up to each row of `rounds.parquet`."""
    both = column(run.rounds, "bytes_up") + column(run.rounds, "bytes_down")
    return np.asarray(np.cumsum(np.nan_to_num(both)))


def cost_of(run: Run, target: float | None) -> tuple[int, float] | None:
    """(bytes, virtual seconds) up to the first evaluation that is as good as the target.

    Of accuracy, for a regression of R^2. None where none is.
    """
    main = curve(run.rounds, "accuracy" if run.classification else "r2")
    if target is None or not (there := main.values >= target).any():
        return None
    first = int(np.argmax(there))
    row = int(np.searchsorted(column(run.rounds, "version"), main.versions[first]))
    return int(bytes_by_version(run)[row]), float(main.times[first])


def _last(run: Run, name: str) -> float | None:
    """The newest evaluation; None where it is not finite, even if earlier ones were."""
    if run.summary:
        return finite(dig(run.summary, f"final.{name}"))
    cells = run.rounds.column(name).drop_null()
    return finite(cells[-1].as_py()) if len(cells) else None


def worst_decile(run: Run) -> float | None:
    """Mean accuracy over the worst tenth of clients, rounded up (Li et al. 2020, q-FFL).

    Each client's is the final model's on its own shard. None before the end of a run.
    """
    values = column(run.clients, "accuracy")
    values = np.sort(values[np.isfinite(values)])
    return float(values[: max(1, math.ceil(0.1 * len(values)))].mean()) if len(values) else None


def _table(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> pa.Table:
    import pyarrow as pa

    from fedray.report.sweep.columns import TRIALS

    columns = {f.name: pa.array([row.get(f.name) for row in rows], f.type) for f in TRIALS}
    for key in keys:
        columns[f"set.{key}"] = _column([row.get(f"set.{key}") for row in rows])
    return pa.table(columns)


def _column(values: Sequence[Any]) -> pa.Array:
    """Numbers where all values are numbers, else text."""
    import pyarrow as pa

    def number(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool)

    known = [value for value in values if value is not None]
    if known and all(map(number, known)):
        whole = all(isinstance(value, int) for value in known)
        return pa.array(values, pa.int64() if whole else pa.float64())
    return pa.array([None if v is None else word(v) for v in values], pa.string())


def word(value: Any) -> str:
    """A value as text: words as they are, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def canonical(value: Any) -> str:
    """Equal for equal values."""
    return json.dumps(value, sort_keys=True)


def finite(value: Any) -> float | None:
    """A number that is one, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _json(path: Path) -> Any:
    return read_json(path) if path.exists() else None


def override(key: str, value: Any) -> str:
    """`client.lr=0.1`, as `--set` takes it."""
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w./-]*", value)
    reserved = str(value).lower() in ("true", "false", "null")
    return f"{key}={value if plain and not reserved else json.dumps(value)}"
