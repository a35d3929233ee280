"""The flight recorder: one row per version, per update, per client, written as the run goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedray.report import tables
from fedray.report.tables import Column, TableWriter
from fedray.simulation.accounting import Guarantee
from fedray.simulation.events import Aggregate, Discard, Job
from fedray.simulation.policies import staleness
from fedray.simulation.step import Step
from fedray.types import Ints, Metrics


class Recorder:
    """Writes the tables of one run folder: `rounds`, `updates`, and what else is asked for."""

    def __init__(
        self,
        folder: Path,
        *,
        classification: bool,
        sizes: Ints,
        bytes_down: int,
        bytes_up: int,
        client_evals: bool,
        personal: bool = False,
        decomposition: bool = False,
        quality: bool = False,
        kept: Mapping[str, int] | None = None,
        privacy: Guarantee | None = None,
    ) -> None:
        self._sizes, self._bytes = sizes, (bytes_down, bytes_up)
        self.statuses: Counter[str] = Counter()
        self.jobs: Counter[int] = Counter()
        self.applied: Counter[int] = Counter()
        self._privacy, self._most_jobs = privacy, 0
        schemas = {"rounds": tables.rounds_schema(classification), "updates": tables.UPDATES}
        if client_evals:
            schemas["client_evals"] = tables.client_evals_schema(classification, personal)
        if decomposition:
            schemas["decomposition"] = tables.DECOMPOSITION
        if quality:
            schemas["quality"] = tables.QUALITY
        self._writers = {
            name: TableWriter(folder / f"{name}.parquet", schema, kept=(kept or {}).get(name, 0))
            for name, schema in schemas.items()
        }
        if kept and kept.get("updates"):
            self._recount(folder / "updates.parquet")
        self._counted: dict[int, tuple[float, float]] = {}
        """By client, its shares so far, before and after quality."""
        if kept and kept.get("quality"):
            shares = ("client", "total_before", "total_after")
            read = tables.read_table(folder / "quality.parquet").select(shares).to_pydict()
            for client, before, after in zip(*read.values(), strict=True):
                self._counted[client] = before, after

    def _recount(self, path: Path) -> None:
        table = tables.read_table(path)
        clients, statuses = table["client"].to_pylist(), table["status"].to_pylist()
        self.statuses.update(statuses)
        self.jobs.update(clients)
        self._most_jobs = max(self.jobs.values())
        self.applied.update(
            c for c, status in zip(clients, statuses, strict=True) if status == "applied"
        )

    def updates(self, made: Aggregate, step: Step, cosine: Any) -> None:
        """The group that a version was made from, in order of arrival."""
        if not made.jobs:
            return
        jobs, results, count = made.jobs, step.results, len(made.jobs)
        client, dispatch, base, sent_s, due_s, _ = zip(*jobs, strict=True)
        status = np.where(step.accepted, "applied", "rejected").tolist()
        self._count(client, status)
        self._writers["updates"].append(
            {
                "client": client,
                "dispatch": dispatch,
                "base_version": base,
                "applied_version": [
                    made.version - 1 if ok else None for ok in step.accepted.tolist()
                ],
                "staleness": step.staleness,
                "dispatched_at_s": sent_s,
                "arrived_at_s": due_s,
                "examples": step.examples,
                "steps": results.steps,
                "weight": step.weights,
                "norm": results.norm,
                "cosine": cosine,
                "loss_before": results.loss_before,
                "loss_after": results.loss_after,
                "bytes_up": np.full(count, self._bytes[1]),
                "bytes_down": np.full(count, self._bytes[0]),
                "status": status,
            }
        )

    def discards(self, discards: Sequence[Discard]) -> None:
        """Jobs that were not used; what they computed is not known."""
        if not discards:
            return
        jobs: list[Job] = [d.job for d in discards]
        status = [d.status for d in discards]
        client = [job.client for job in jobs]
        self._count(client, status)
        down, up = self._bytes
        self._writers["updates"].append(
            {
                "client": client,
                "dispatch": [job.dispatch for job in jobs],
                "base_version": [job.base_version for job in jobs],
                "staleness": [staleness(d.job, d.version) for d in discards],
                "dispatched_at_s": [job.dispatched_at_s for job in jobs],
                "arrived_at_s": [d.at_s for d in discards],
                "examples": self._sizes[client],
                "weight": np.zeros(len(jobs)),
                "bytes_up": [up if d.status == "stale" else 0 for d in discards],
                "bytes_down": np.full(len(jobs), down),
                "status": status,
            }
        )

    def releases(self, version: int) -> int:
        """Of the user who spends most: versions, or with local noise the jobs of a client."""
        local = self._privacy is not None and self._privacy.kind == "local"
        return self._most_jobs if local else version

    def epsilon(self, version: int) -> float | None:
        """What was spent up to this version, of which all updates are written."""
        if self._privacy is None or not self._privacy.due(version):
            return None
        return self._privacy.epsilon(self.releases(version))

    def round(self, row: Mapping[str, Any], metrics: Metrics | None) -> None:
        """One version."""
        measured = metrics._asdict() if metrics else {}
        self._writers["rounds"].append({k: [v] for k, v in {**measured, **row}.items()})

    def client_evals(self, version: int, columns: Mapping[str, Column]) -> None:
        """One version on every client's shard."""
        count = len(columns["loss"])
        self._writers["client_evals"].append(
            {"version": np.full(count, version), "client": np.arange(count), **columns}
        )

    def decomposition(self, columns: Mapping[str, Column]) -> None:
        """The members of one version, as columns; none if nobody had part in it."""
        if columns:
            self._writers["decomposition"].append(columns)

    def quality(self, columns: dict[str, Any]) -> None:
        """The audit of one version's updates; adds up the shares of every client."""
        totals = []
        names = ("client", "share_before", "share_after")
        for client, before, after in zip(*(columns[name] for name in names), strict=True):
            was = self._counted.get(client, (0.0, 0.0))
            self._counted[client] = was[0] + float(before), was[1] + float(after)
            totals.append(self._counted[client])
        before, after = zip(*totals, strict=True)
        columns |= {"total_before": before, "total_after": after}
        self._writers["quality"].append(columns)

    def flush(self) -> dict[str, int]:
        """Makes everything readable; returns the rows of each table, for a checkpoint."""
        for writer in self._writers.values():
            writer.flush()
        return {name: writer.rows for name, writer in self._writers.items()}

    def close(self) -> None:
        """Turns every table into one file."""
        for writer in self._writers.values():
            writer.close()

    def _count(self, clients: Sequence[int], statuses: Sequence[str]) -> None:
        self.jobs.update(clients)
        self._most_jobs = max(self._most_jobs, *(self.jobs[client] for client in clients))
        self.statuses.update(statuses)
        self.applied.update(
            c for c, status in zip(clients, statuses, strict=True) if status == "applied"
        )


def client_columns(scores: Any, classification: bool) -> dict[str, Any]:
    """Table columns from `evaluate_clients`' rows."""
    samples, loss_sum, right, squared, y_sum, y_squared = scores.T
    with np.errstate(all="ignore"):
        if classification:
            return {"accuracy": right / samples, "loss": loss_sum / samples}
        spread = y_squared - y_sum**2 / samples
        return {
            "r2": np.where(spread > 0, 1.0 - squared / spread, np.nan),
            "mse": squared / samples,
            "loss": loss_sum / samples,
        }
