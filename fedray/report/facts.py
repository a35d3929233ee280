"""The figures of a run that its headline needs, from the tables where the summary is silent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fedray.report.figures import Curve, Fall, column, curve, falls, strings
from fedray.types import Floats

if TYPE_CHECKING:
    from fedray.report.run import Run


@dataclass(frozen=True)
class Facts:
    """Plain numbers; None or NaN-free, whatever the state of the run."""

    name: str
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    classification: bool
    metric: str
    """accuracy or r2."""
    curve: Curve
    loss: Curve
    falls: tuple[Fall, ...]
    final: float | None
    best: float | None
    best_version: int | None
    best_time_s: float | None
    final_loss: float | None
    clients: int
    versions: int
    virtual_time_s: float
    wall_time_s: float | None
    staleness_mean: float | None
    staleness_max: int | None
    statuses: Mapping[str, int]
    bytes_up: int
    bytes_down: int
    finished: bool

    @property
    def largest_fall(self) -> Fall | None:
        return self.falls[0] if self.falls else None

    @property
    def mode(self) -> str:
        """sync, buffered or async; '' where unknown."""
        return str(self.summary.get("mode") or dig(self.config, "server.schedule.mode") or "")

    @property
    def algorithm(self) -> str:
        return str(self.summary.get("algorithm") or self.config.get("algorithm") or "")

    @property
    def wall_clock(self) -> bool:
        """Whether arrivals came in true order, so that the run cannot be repeated."""
        clock = self.summary.get("clock") or self.config.get("clock")
        return clock == "wall" or self.summary.get("reproducible") is False

    @property
    def heterogeneity(self) -> Mapping[str, float]:
        found = self.summary.get("heterogeneity")
        if not isinstance(found, Mapping):
            return {}
        return {k: float(v) for k, v in found.items() if isinstance(v, int | float)}


def facts(run: Run) -> Facts:
    """Everything that the headline, the tiles and the comparison say about `run`."""
    metric = "accuracy" if run.classification else "r2"
    of, loss = curve(run.rounds, metric), curve(run.rounds, "loss")
    top = int(np.argmax(of.values == of.best[-1])) if len(of.values) else None
    statuses = Counter(strings(run.updates, "status").tolist())
    statuses.pop("", None)
    staleness = column(run.updates, "staleness")
    staleness = staleness[(strings(run.updates, "status") == "applied") & np.isfinite(staleness)]
    return Facts(
        name=run.name,
        config=run.config,
        summary=run.summary,
        classification=run.classification,
        metric=metric,
        curve=of,
        loss=loss,
        falls=tuple(falls(of)),
        final=_number(dig(run.summary, f"final.{metric}"), of.values[-1:]),
        best=None if top is None else float(of.values[top]),
        best_version=None if top is None else int(of.versions[top]),
        best_time_s=None if top is None else float(of.times[top]),
        final_loss=_number(dig(run.summary, "final.loss"), loss.values[-1:]),
        clients=_clients(run),
        versions=int(_largest(column(run.rounds, "version"))),
        virtual_time_s=_largest(column(run.rounds, "virtual_time_s")),
        wall_time_s=_number(
            run.summary.get("wall_time_s"), [_largest(column(run.rounds, "wall_time_s"))]
        ),
        staleness_mean=float(staleness.mean()) if len(staleness) else None,
        staleness_max=int(staleness.max()) if len(staleness) else None,
        statuses=dict(statuses.most_common()),
        bytes_up=int(np.nansum(column(run.rounds, "bytes_up"))),
        bytes_down=int(np.nansum(column(run.rounds, "bytes_down"))),
        finished=run.finished,
    )


def client_names(run: Run) -> dict[int, str]:
    """Names of clients that have one of their own."""
    if "name" not in run.clients.column_names:
        return {}
    pairs = zip(
        run.clients.column("client").to_pylist(),
        run.clients.column("name").to_pylist(),
        strict=True,
    )
    return {c: str(n) if not str(n).isdigit() else f"client {n}" for c, n in pairs if n}


def dig(tree: Any, dotted: str) -> Any:
    """The value at a dotted key of nested mappings; None where there is none."""
    for key in dotted.split("."):
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(key)
    return tree


def _clients(run: Run) -> int:
    said = run.summary.get("clients")
    if isinstance(said, int):
        return said
    if run.clients.num_rows:
        return int(run.clients.num_rows)
    asked = dig(run.config, "partition.clients") or dig(run.config, "data.clients")
    return asked if isinstance(asked, int) else len(np.unique(column(run.updates, "client")))


def _largest(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.max()) if len(known) else 0.0


def _number(said: Any, measured: Any) -> float | None:
    """The summary's figure if it is a finite number, else the table's last, else None."""
    for value in (said, *measured):
        if isinstance(value, int | float) and np.isfinite(value):
            return float(value)
    return None
