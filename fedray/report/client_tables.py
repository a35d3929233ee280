"""The clients in a few rows: all of them where they are few, else the remarkable ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fedray.report import words
from fedray.report.figures import column
from fedray.report.layout import Table
from fedray.types import Ints

if TYPE_CHECKING:
    import pyarrow as pa

FEW, REMARKABLE = 24, 5


def client_tables(clients: pa.Table, metric: str, names: Mapping[int, str]) -> list[Table]:
    """One table of everyone up to `FEW` clients; else slowest, fastest and worst served."""
    if not clients.num_rows:
        return []
    if clients.num_rows <= FEW:
        rows = np.arange(clients.num_rows)
        return [_table("All clients", clients, rows, metric, names)]
    duration, quality = column(clients, "duration_s"), column(clients, metric)
    found = []
    for caption, values in (
        ("Slowest clients", -duration),
        ("Fastest clients", duration),
        (f"Clients that the final model serves worst, by {_short(metric)} on their data", quality),
    ):
        order = np.argsort(values, kind="stable")
        order = order[np.isfinite(values[order])][:REMARKABLE]
        if len(order):
            found.append(_table(caption, clients, order, metric, names))
    return found


def _short(metric: str) -> str:
    return "accuracy" if metric == "accuracy" else "R²"


def _table(
    caption: str, clients: pa.Table, rows: Ints, metric: str, names: Mapping[int, str]
) -> Table:
    columns = {
        "samples": ("examples", words.number),
        "job takes": ("duration_s", words.seconds),
        "jobs": ("jobs", words.number),
        "applied": ("applied", words.number),
        _short(metric): (metric, lambda v: words.metric(v, metric)),
        "loss": ("loss", words.number),
    }
    ids = column(clients, "client")
    shown = [
        h for h, (name, _) in columns.items() if np.isfinite(column(clients, name)[rows]).any()
    ]
    cells = {
        h: [columns[h][1](float(v)) for v in column(clients, columns[h][0])[rows]] for h in shown
    }
    body = [
        (names.get(int(ids[row])) or f"client {int(ids[row])}", *(cells[h][i] for h in shown))
        for i, row in enumerate(rows)
    ]
    return Table(caption, ("client", *shown), body, numeric=shown)
