"""Writes plausible run folders, through the same tables that a launch writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from fedray.report.tables import UPDATES, TableWriter, clients_schema, rounds_schema, write_table
from fedray.rng import Stream, generator

CONCURRENCY, BUFFER = 8, 4


def write_run(
    path: Path,
    *,
    versions: int = 50,
    clients: int = 20,
    classes: tuple[str, ...] = tuple("0123456789"),
    features: int = 64,
    jobs: int | None = None,
    evaluated: bool = True,
    interrupted: bool = False,
    config: dict[str, Any] | None = None,
    summary: dict[str, Any] | None = None,
    seed: int = 3,
) -> Path:
    """A buffered run of `versions` versions; `classes` () makes it a regression."""
    path.mkdir(parents=True)
    rng = generator(seed, Stream.DATA)
    resolved = _config(clients, seed) | (config or {})
    (path / "config.yaml").write_text(yaml.safe_dump(resolved, sort_keys=False))
    updates = _updates(rng, versions, clients, jobs)
    quality = _quality(rng, versions) if evaluated else np.full(versions + 1, np.nan)
    _write_rounds(path, rng, updates, quality, versions, classes)
    writer = TableWriter(path / "updates.parquet", UPDATES)
    if len(updates["client"]):
        writer.append(updates)
    if interrupted:
        writer.flush()
        return path
    writer.close()
    _write_clients(path, rng, updates, clients, classes)
    outputs = len(classes) or 1
    np.savez(
        path / "model.npz",
        coef=rng.normal(size=(outputs, features)),
        intercept=rng.normal(size=outputs),
    )
    text = json.dumps(
        _summary(resolved, updates, quality, versions, clients, classes, features) | (summary or {})
    )
    (path / "summary.json").write_text(text)
    return path


def _config(clients: int, seed: int) -> dict[str, Any]:
    return {
        "name": "quickstart",
        "seed": seed,
        "data": {"source": "digits", "test_fraction": 0.2, "standardize": True},
        "partition": {"scheme": "dirichlet", "clients": clients, "alpha": 0.3},
        "model": {"kind": "softmax", "init": "zeros"},
        "algorithm": "fedbuff",
        "client": {"epochs": 2.0, "batch_size": 32, "lr": 0.1},
        "server": {
            "rounds": 50,
            "weighting": "examples",
            "aggregator": {"kind": "mean"},
            "schedule": {"mode": "buffered", "concurrency": CONCURRENCY, "buffer_size": BUFFER},
        },
        "clock": "virtual",
    }


def _updates(
    rng: np.random.Generator, versions: int, clients: int, jobs: int | None
) -> dict[str, Any]:
    """A small event loop: `CONCURRENCY` lanes, an aggregation every `BUFFER` arrivals."""
    total = versions * BUFFER if jobs is None else jobs
    duration = rng.lognormal(1.0, 0.6, clients)
    flying = [(float(duration[c % clients]), c % clients, 0.0, 0) for c in range(CONCURRENCY)]
    rows: list[tuple[Any, ...]] = []
    applied = 0
    for dispatch in range(total):
        flying.sort()
        end, client, start, base = flying.pop(0)
        version = applied // BUFFER
        status = "dropped_out" if dispatch % 23 == 22 else "applied"
        if version - base > 5:
            status = "stale"
        applied += status == "applied"
        counted = status != "dropped_out"
        rows.append(
            (
                client,
                dispatch,
                base,
                version + 1 if status == "applied" else None,
                version - base if counted else None,
                start,
                end,
                70,
                6,
                0.2,
                1.0 + 0.1 * (client % 3),
                0.4,
                1.2,
                0.6,
                5200 if counted else 0,
                5200,
                status,
            )
        )
        chosen = int(rng.integers(clients))
        flying.append(
            (end + float(duration[chosen] * rng.uniform(0.8, 1.2)), chosen, end, applied // BUFFER)
        )
    columns = list(zip(*rows, strict=True)) if rows else [[] for _ in UPDATES.names]
    return dict(zip(UPDATES.names, columns, strict=True))


def _quality(rng: np.random.Generator, versions: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Rises to about 0.9, with one fall of a few points on the way and noise on top."""
    at = np.arange(versions + 1)
    curve = 0.1 + 0.8 * (1 - np.exp(-at / (1 + versions / 6))) + rng.normal(0, 0.006, versions + 1)
    dip = (at > versions * 0.4) & (at < versions * 0.5)
    return np.clip(curve - 0.12 * dip, 0.02, 0.99)


def _write_rounds(
    path: Path,
    rng: np.random.Generator,
    updates: dict[str, Any],
    quality: Any,
    versions: int,
    classes: tuple[str, ...],
) -> None:
    ends = np.array(updates["arrived_at_s"], dtype=float)
    time = (
        np.interp(np.arange(versions + 1), np.arange(len(ends)) / BUFFER, ends)
        if len(ends)
        else np.arange(versions + 1.0)
    )
    time[0] = 0.0
    at = np.arange(versions + 1)
    columns: dict[str, Any] = {
        "version": at.tolist(),
        "virtual_time_s": time.tolist(),
        "wall_time_s": (0.05 * at).tolist(),
        "loss": [None if np.isnan(q) else float(-np.log(q)) for q in quality],
        "updates": [0] + [BUFFER] * versions,
        "dropped": [0] * (versions + 1),
        "staleness_mean": [None, *rng.uniform(0.5, 2, versions).tolist()],
        "staleness_max": [None, *rng.integers(1, 6, versions).tolist()],
        "bytes_up": [0] + [BUFFER * 5200] * versions,
        "bytes_down": [0] + [BUFFER * 5200] * versions,
        "update_norm": [None, *(2 / np.sqrt(at[1:])).tolist()],
        "cancellation": [None, *rng.uniform(0.5, 0.7, versions).tolist()],
        "cosine_mean": [None, *rng.uniform(0.3, 0.6, versions).tolist()],
        "n_effective": [None, *rng.uniform(3, 4, versions).tolist()],
        "drift_mean": [None, *(1 + rng.uniform(0, 0.3, versions)).tolist()],
    }
    if classes:
        columns["accuracy"] = [None if np.isnan(q) else float(q) for q in quality]
        spread = 0.25 * rng.uniform(-1, 0.6, len(classes))
        columns["accuracy_per_class"] = [
            None if np.isnan(q) else np.clip(q + spread, 0, 1).tolist() for q in quality
        ]
    else:
        columns["r2"] = [None if np.isnan(q) else float(q) for q in quality]
        columns["mse"] = [None if np.isnan(q) else float(1 - q) for q in quality]
    writer = TableWriter(path / "rounds.parquet", rounds_schema(bool(classes)))
    writer.append(columns)
    writer.close()


def _write_clients(
    path: Path,
    rng: np.random.Generator,
    updates: dict[str, Any],
    clients: int,
    classes: tuple[str, ...],
) -> None:
    schema = clients_schema(bool(classes))
    counts = (
        rng.multinomial(72, rng.dirichlet([0.3] * max(len(classes), 2)), size=clients)
        if not classes
        else np.array(
            [rng.multinomial(72, rng.dirichlet([0.3] * len(classes))) for _ in range(clients)]
        )
    )
    jobs = np.bincount(np.array(updates["client"], dtype=int), minlength=clients)
    columns: dict[str, Any] = {
        "client": list(range(clients)),
        "name": [str(c) for c in range(clients)],
        "examples": rng.integers(20, 140, clients).tolist(),
        "label_counts": counts.tolist(),
        "download_s": [0.1] * clients,
        "compute_s": rng.lognormal(1, 0.6, clients).tolist(),
        "upload_s": [0.2] * clients,
        "duration_s": rng.lognormal(1.1, 0.6, clients).tolist(),
        "jobs": jobs.tolist(),
        "applied": jobs.tolist(),
        "accuracy": rng.uniform(0.6, 1, clients).tolist(),
        "r2": rng.uniform(0.6, 1, clients).tolist(),
        "mse": rng.uniform(0.6, 1, clients).tolist(),
        "loss": rng.uniform(0.1, 0.9, clients).tolist(),
    }
    unknown = [None] * clients
    arrays = [pa.array(columns.get(f.name, unknown), type=f.type) for f in schema]
    write_table(pa.Table.from_arrays(arrays, schema=schema), path / "clients.parquet")


def _summary(
    config: dict[str, Any],
    updates: dict[str, Any],
    quality: Any,
    versions: int,
    clients: int,
    classes: tuple[str, ...],
    features: int,
) -> dict[str, Any]:
    last = None if np.isnan(quality[-1]) else float(quality[-1])
    status = list(updates["status"])
    return {
        "name": config["name"],
        "seed": config["seed"],
        "algorithm": config["algorithm"],
        "mode": config["server"]["schedule"]["mode"],
        "clock": "virtual",
        "reproducible": True,
        "classification": bool(classes),
        "classes": list(classes),
        "features": [f"x{i}" for i in range(features)],
        "clients": clients,
        "rounds": versions,
        "stopped_by": "rounds",
        "final": {
            ("accuracy" if classes else "r2"): last,
            "loss": None if last is None else float(-np.log(last)),
        },
        "wall_time_s": 4.2,
        "updates": {
            s: status.count(s) for s in ("applied", "stale", "dropped_out", "late", "rejected")
        },
        "heterogeneity": {
            "label_severity": 0.41,
            "label_emd": 0.74,
            "label_js": 0.31,
            "label_hellinger": 0.52,
            "quantity_gini": 0.28,
            "clients_effective": 15.9,
        }
        if classes
        else {"quantity_gini": 0.1, "clients_effective": 2.9},
        "updates_per_wall_s": 812.0,
        "parameters": (len(classes) or 1) * (features + 1),
        "versions": {"fedray": "0.1.0", "python": "3.12.4", "ray": "2.55.0"},
    }
