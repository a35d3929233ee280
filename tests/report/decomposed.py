"""Fills in what `diagnosis.decompose` records, for a run folder that was written without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fedray.report.run import Run
from fedray.report.tables import DECOMPOSITION, rounds_schema, write_table
from fedray.rng import Stream, generator

TERMS = ("participation", "staleness", "drift", "noise", "residual")


def decompose(path: Path, every: int = 5, *, seed: int = 3) -> Path:
    """Every `every`-th version has its terms, whose effects are known and add up."""
    run, rng = Run(path), generator(seed, Stream.DATA)
    count = run.rounds.num_rows
    due = (np.arange(count) % every == 0) & (np.arange(count) > 0)
    columns = _columns(rng, count, due) | _always(rng, count)
    schema = rounds_schema(run.classification)
    arrays = [
        pa.array(columns[f.name], type=f.type) if f.name in columns
        else run.rounds.column(f.name).combine_chunks()
        for f in schema
    ]  # fmt: skip
    write_table(pa.Table.from_arrays(arrays, schema=schema), path / "rounds.parquet")
    versions = np.flatnonzero(due)
    write_table(_members(run, rng, versions, columns), path / "decomposition.parquet")
    return path


def _columns(rng: np.random.Generator, count: int, due: Any) -> dict[str, list[float | None]]:
    at = np.arange(count)
    gradient = 1.0 / np.sqrt(at + 1)
    scales = {"participation": 0.8, "staleness": 0.4, "drift": 0.3, "noise": 0.2, "residual": 0.0}
    values = {"gradient_norm": gradient, "step_size": np.full(count, 0.5)}
    for term, scale in scales.items():
        values[f"{term}_norm"] = scale * gradient * rng.uniform(0.8, 1.2, count)
        values[f"{term}_dot"] = values[f"{term}_norm"] * gradient * rng.uniform(-0.8, 0.3, count)
    values["direction_dot"] = gradient**2 + sum(values[f"{t}_dot"] for t in TERMS)
    values["accuracy_before"] = 0.5 + 0.4 * (1 - gradient)
    values["accuracy_after"] = values["accuracy_before"] + 0.06
    values["client_accuracy"] = values["accuracy_before"] - 0.1
    values["aggregation_gap"] = rng.normal(-0.05, 0.02, count)
    values["gradient_dissimilarity"] = 2 + at / count
    values["divergence"] = 0.3 * (1 - gradient)
    values["pooled_accuracy"] = 0.97 * (1 - 0.5 * gradient)
    return {
        name: [float(v) if one else None for v, one in zip(column, due, strict=True)]
        for name, column in values.items()
    }


def _always(rng: np.random.Generator, count: int) -> dict[str, list[float | None]]:
    return {
        "cosine_pairwise": [None, *rng.uniform(0.0, 0.3, count - 1).tolist()],
        "dilution_law": [None, *rng.uniform(0.48, 0.52, count - 1).tolist()],
        "forgetting": rng.uniform(0.0, 0.1, count).tolist(),
    }


def _members(run: Run, rng: np.random.Generator, versions: Any, columns: Any) -> pa.Table:
    """Four clients a version and the rest; client 3 always harms, by 0.05 an update."""
    rows: dict[str, list[Any]] = {f.name: [] for f in DECOMPOSITION}
    clients = run.clients.num_rows
    for version in versions.tolist():
        members = [3, *((version + np.arange(3)) % clients).tolist()]
        for client in [*members, None]:
            values = {
                "version": version, "client": client,
                "dispatch": None if client is None else version,
                "staleness": None if client is None else client % 3,
                "q": 0.25, "p": 0.05,
                "test_effect": 0.05 if client == 3 else float(rng.uniform(-0.05, 0.01)),
                "accuracy_before": None, "accuracy_after": None, "test_accuracy": None,
            }  # fmt: skip
            parts = {f"{t}_dot": columns[f"{t}_dot"][version] / 5 for t in TERMS}
            for name in rows:
                rows[name].append((values | parts)[name])
    arrays = [pa.array(rows[f.name], type=f.type) for f in DECOMPOSITION]
    return pa.Table.from_arrays(arrays, schema=DECOMPOSITION)
