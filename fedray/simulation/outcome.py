"""What a run leaves behind at its end: clients.parquet, model.npz, summary.json."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fedray.config import schema
from fedray.report.tables import clients_schema, read_table, whole, write_table, write_text
from fedray.simulation.loop import Loop
from fedray.simulation.plan import Plan
from fedray.simulation.recorder import Recorder, client_columns
from fedray.simulation.scenario import scenario_facts
from fedray.types import Federation, Floats, Vector

FORK = "fork.json"
"""In the folder of a fork: what it was forked from, and what was changed."""
_PACKAGES = ("fedray", "numpy", "ray", "scikit-learn", "pyarrow")


def write_clients(
    folder: Path,
    plan: Plan,
    federation: Federation,
    recorder: Recorder | None = None,
    scores: Floats | None = None,
    own: Mapping[str, Any] | None = None,
) -> None:
    """A row per client; jobs and scores, also those of `own` models, are null until the run is
    over."""
    clients = np.arange(federation.clients)
    names = federation.client_names or tuple(map(str, clients.tolist()))
    population = plan.population
    columns: dict[str, Any] = {
        "client": clients,
        "name": names,
        "examples": plan.sizes,
        "download_s": population.download_s,
        "compute_s": population.compute_s,
        "upload_s": population.upload_s,
        "duration_s": population.duration_s,
    }
    if plan.work.attackers is not None:
        columns["malicious"] = plan.work.attackers.among(clients)
    if federation.label_counts is not None:
        columns["label_counts"] = list(federation.label_counts)
    if recorder is not None:
        columns["jobs"] = [recorder.jobs[c] for c in clients.tolist()]
        columns["applied"] = [recorder.applied[c] for c in clients.tolist()]
    if scores is not None:
        columns |= client_columns(scores, federation.classification)
    columns |= own or {}
    table = clients_schema(federation.classification, plan.work.personal.held_out > 0)
    arrays = [
        pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(len(clients), f.type)
        for f in table
    ]
    write_table(pa.Table.from_arrays(arrays, schema=table), folder / "clients.parquet")


def write_model(path: Path, plan: Plan, w: Vector, others: Mapping[str, Vector]) -> None:
    """The named parameters, as npz without pickle; those of `others` as <name>.<parameter>."""
    arrays = dict(plan.work.model.named(w))
    for other, vector in others.items():
        arrays |= {f"{other}.{name}": v for name, v in plan.work.model.named(vector).items()}
    with whole(path, ending=".npz") as half:  # numpy insists on the ending
        np.savez(half, allow_pickle=False, **arrays)


def summarise(
    loop: Loop, recorder: Recorder, federation: Federation, folder: Path, executor: dict[str, Any]
) -> dict[str, Any]:
    """The figures of a whole run; what `summary.json` holds."""
    plan, config, stopper = loop.plan, loop.plan.config, loop.stopper
    rounds = read_table(folder / "rounds.parquet")
    updates = read_table(folder / "updates.parquet")
    final = rounds.slice(rounds.num_rows - 1).to_pylist()[0]
    names = ("accuracy", "loss") if federation.classification else ("r2", "mse", "loss")
    statuses = ("applied", "stale", "dropped_out", "late", "rejected")
    ages = updates.filter(pa.compute.equal(updates["status"], "applied"))["staleness"].to_numpy()
    fall = stopper.fall
    facts: dict[str, Any] = {
        "name": config.name,
        "seed": config.seed,
        "algorithm": config.algorithm,
        "mode": config.server.schedule.mode,
        "clock": config.clock,
        "reproducible": config.clock == "virtual",
        "classification": federation.classification,
        "classes": list(federation.classes),
        "features": list(federation.features) if len(federation.features) <= 100 else [],
        "clients": federation.clients,
        "parameters": plan.work.model.size,
        "rounds": final["version"],
        "stopped_by": stopper.reason or _ended_by(loop),
        "final": {name: final[name] for name in names},
        "best": asdict(stopper.best) if stopper.best else None,
        "largest_fall": asdict(fall) if fall else None,
        "virtual_time_s": final["virtual_time_s"],
        "wall_time_s": loop.wall_time_s,
        "updates": {status: recorder.statuses[status] for status in statuses},
        "staleness": {
            "mean": float(ages.mean()) if len(ages) else None,
            "max": int(ages.max()) if len(ages) else None,
        },
        "bytes": {"down": loop.bytes[0], "up": loop.bytes[1]},
        "privacy": plan.privacy.facts(recorder.releases(final["version"]))
        if plan.privacy
        else None,
        "heterogeneity": dict(federation.heterogeneity),
        "updates_per_wall_s": recorder.statuses["applied"] / max(loop.wall_time_s, 1e-9),
        "executor": executor,
        "versions": {"python": platform.python_version(), **_package_versions()},
    }
    if (folder / FORK).exists():
        facts["forked_from"] = json.loads((folder / FORK).read_text(encoding="utf-8"))
    if isinstance(config.data, schema.LinearRegressionData):
        facts["scenario"] = scenario_facts(plan, federation)
    return facts


def write_summary(folder: Path, facts: dict[str, Any]) -> None:
    """Writes `summary.json`, whole or not at all. Figures that are not finite become null."""
    write_text(folder / "summary.json", json.dumps(finite(facts), indent=2, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """The same tree of plain values with null for numbers that are not finite, as JSON wants."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _ended_by(loop: Loop) -> str:
    if loop.model.version >= loop.plan.config.server.rounds:
        return "rounds"
    limit_s = loop.plan.config.stop.virtual_time_s
    return "virtual_time_s" if limit_s and loop.timeline.now_s >= limit_s else "no_clients"


def _package_versions() -> dict[str, str]:
    return {package: found for package in _PACKAGES if (found := _version(package))}


@cache
def _version(package: str) -> str | None:
    """Looked up once: it parses a file of the installation."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
