"""Writes plausible folders of a sweep: full run folders, whose curves end where they are told."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from fedray.report.tables import UPDATES, TableWriter, clients_schema, rounds_schema, write_table
from fedray.rng import Stream, generator

Settings = Mapping[str, Any]
VERSIONS = 24
BYTES = 1000
"""Per version, up; and as many down."""
SEVERITIES, ALGORITHMS = (0.0, 0.25, 0.5, 0.75, 1.0), ("fedavg", "fedprox", "fedbuff")
GRID = {"partition.severity": list(SEVERITIES), "algorithm": list(ALGORITHMS)}


def by_severity(settings: Settings, seed: int) -> float:
    """FedAvg falls steeply and FedProx gently: they meet at 0.5, where both have 0.83."""
    severity = settings["partition.severity"]
    slope = {"fedavg": 0.24, "fedprox": 0.1, "fedbuff": 0.3}[settings["algorithm"]]
    top = {"fedavg": 0.95, "fedprox": 0.88, "fedbuff": 0.93}[settings["algorithm"]]
    noise = generator(seed, Stream.DATA, len(settings["algorithm"])).normal(0, 0.002)
    return float(top - slope * severity + 0.004 * (seed % 3) + noise)


def write_sweep(
    path: Path,
    final: Callable[[Settings, int], float],
    *,
    grid: Mapping[str, Sequence[Any]] | None = None,
    search: Mapping[str, Any] | None = None,
    draws: Sequence[Settings] = (),
    seeds: int = 3,
    states: Mapping[str, str] | None = None,
    listed: bool = True,
    regression: bool = False,
    **section: Any,
) -> Path:
    """Every combination of `grid` with every one of `draws`, on seeds 7, 8, ...

    states: by trial id, `failed`, `stopped`, `unfinished` or `missing`; the rest is finished.
    """
    path.mkdir(parents=True)
    swept = {"grid": dict(grid or {}), "search": dict(search or {}), "seeds": seeds} | section
    tree = {"name": "severity", "data": {"source": "digits"}, "seed": 7}
    swept = {key: value for key, value in swept.items() if value != {}}
    (path / "sweep.yaml").write_text(yaml.safe_dump({**tree, "sweep": swept}, sort_keys=False))
    combinations = [dict(zip(grid or {}, v, strict=True)) for v in product(*(grid or {}).values())]
    settings = [{**one, **draw} for one in combinations for draw in (draws or [{}])]
    planned = []
    for number, (setting, seed) in enumerate(product(range(len(settings)), range(7, 7 + seeds))):
        given = settings[setting]
        entry = {"id": f"t{number:04d}", "setting": setting, "seed": seed}
        planned.append(entry | {"settings": {**given, "seed": seed}})
        state = (states or {}).get(str(entry["id"]), "finished")
        if state != "missing":
            place = path / "trials" / str(entry["id"])
            write_trial(place, given, seed, final(given, seed), state, regression=regression)
    if listed:
        (path / "trials.json").write_text(json.dumps(planned))
    return path


def write_trial(
    path: Path, settings: Settings, seed: int, final: float, state: str, *, regression: bool
) -> None:
    """A run folder whose last evaluation is `final`, as far as its state has come."""
    path.mkdir(parents=True)
    if state == "failed":
        trace = "Traceback (most recent call last):\n  ..."
        (path / "error.txt").write_text(f"ValueError: lr <b>too</b> high\n\n{trace}\n")
    (path / "config.yaml").write_text(yaml.safe_dump(_config(settings, seed)))
    versions = {"failed": 3, "unfinished": 5, "stopped": 8}.get(state, VERSIONS)
    rounds = _rounds(versions, seed, final, regression=regression)
    table = rounds_schema(not regression)
    if state in ("failed", "unfinished"):
        writer = TableWriter(path / "rounds.parquet", table)
        writer.append(rounds)
        writer.flush()
        return
    nothing = [None] * len(rounds["version"])
    columns = [pa.array(rounds.get(f.name, nothing), f.type) for f in table]
    write_table(pa.Table.from_arrays(columns, schema=table), path / "rounds.parquet")
    write_table(UPDATES.empty_table(), path / "updates.parquet")
    last = {name: rounds[name][-1] for name in ("accuracy", "r2", "loss") if name in rounds}
    if not regression:
        clients = clients_schema(True)
        # 20 clients: the two worst are 0.1 and 0.08 below the rest.
        scores = [last["accuracy"] - gap for gap in (0.1, 0.08, *([0.0] * 18))]
        columns = {"client": list(range(20)), "accuracy": scores}
        arrays = [pa.array(columns.get(f.name, [None] * 20), f.type) for f in clients]
        write_table(pa.Table.from_arrays(arrays, schema=clients), path / "clients.parquet")
    severity = settings.get("partition.severity", 0.4)
    measured = {"label_severity": 0.05 + 0.9 * severity + 0.01 * (seed - 8), "label_emd": severity}
    facts = {
        "name": "severity", "seed": seed, "classification": not regression,
        "algorithm": settings.get("algorithm", "fedavg"), "final": last, "rounds": versions,
        "stopped_by": "scheduler" if state == "stopped" else "rounds", "wall_time_s": 1.5,
        "heterogeneity": {} if regression else measured,
    }  # fmt: skip
    (path / "summary.json").write_text(json.dumps(facts))


def _config(settings: Settings, seed: int) -> dict[str, Any]:
    tree: dict[str, Any] = {"name": "severity", "seed": seed, "algorithm": "fedavg"}
    for key, value in settings.items():
        *above, name = key.split(".")
        place = tree
        for part in above:
            place = place.setdefault(part, {})
        place[name] = value
    return tree


def _rounds(versions: int, seed: int, final: float, *, regression: bool) -> dict[str, Any]:
    at = np.arange(VERSIONS + 1)
    rise = (1 - np.exp(-at / 5)) / (1 - np.exp(-VERSIONS / 5))
    start = 0.0 if regression else 0.1
    quality = start + (final - start) * rise
    quality[10] -= 0.03  # the largest fall, unless the curve is steep
    quality = quality[: versions + 1]
    at = at[: versions + 1]
    return {
        "version": at.tolist(),
        "virtual_time_s": (2.0 * at).tolist(),
        "wall_time_s": (0.05 * at).tolist(),
        ("r2" if regression else "accuracy"): quality.tolist(),
        "loss": (1.2 - quality).tolist(),
        "bytes_up": [0] + [BYTES] * versions,
        "bytes_down": [0] + [BYTES] * versions,
    }
