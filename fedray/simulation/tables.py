"""Device tables and availability traces from CSV or Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedray.errors import InputError, nearest
from fedray.simulation.availability import Trace
from fedray.types import Floats, Ints

if TYPE_CHECKING:
    import pyarrow as pa

_RATES = ("samples_per_s", "down_bytes_per_s", "up_bytes_per_s")


def device_table(path: Path, *, clients: int, names: tuple[str, ...] | None) -> dict[str, Floats]:
    """Columns of a device table in client order, each (clients,).

    Either `duration_s`, or the three rates and an optional `latency_s` (default 0).
    """
    table = _read(path, "devices.table")
    wanted = ("duration_s",) if "duration_s" in table.column_names else _RATES
    idle = (
        [c for c in (*_RATES, "latency_s") if c in table.column_names] if len(wanted) == 1 else []
    )
    if idle:
        raise InputError(
            f"{path}: has duration_s and {idle[0]}; a duration is the whole job, so take one out",
            key="devices.table",
        )
    rows = _client_rows(table, path, clients, names, "devices.table")
    if len(rows) != clients or len(np.unique(rows)) != clients:
        missing = sorted(set(range(clients)) - set(rows.tolist()))
        what = f"client {_label(missing[0], names)} has no row" if missing else "a client twice"
        raise InputError(
            f"{path}: {what}; needs one row for each of {clients}", key="devices.table"
        )
    found = {}
    for column in wanted:
        values = _numbers(table, column, path, "devices.table")
        if not (np.isfinite(values).all() and (values > 0).all()):
            bad = float(values[~(np.isfinite(values) & (values > 0))][0])
            raise InputError(f"{path}: {column} holds {bad:g}; must be > 0", key="devices.table")
        found[column] = np.empty(clients)
        found[column][rows] = values
    if wanted is _RATES:
        found["latency_s"] = np.zeros(clients)
        if "latency_s" in table.column_names:
            latency = _numbers(table, "latency_s", path, "devices.table")
            if not (latency >= 0).all():
                raise InputError(f"{path}: latency_s must be >= 0", key="devices.table")
            found["latency_s"][rows] = latency
    return found


def availability_trace(path: Path, *, clients: int, names: tuple[str, ...] | None) -> Trace:
    """Windows (client, start_s, end_s), any number per client, not overlapping."""
    key = "devices.availability.path"
    table = _read(path, key)
    rows = _client_rows(table, path, clients, names, key)
    start, end = (_numbers(table, column, path, key) for column in ("start_s", "end_s"))
    starts: dict[int, list[float]] = {}
    ends: dict[int, list[float]] = {}
    for i in np.lexsort((start, rows)).tolist():
        client, begins, stops = int(rows[i]), float(start[i]), float(end[i])
        if not begins < stops:
            raise InputError(f"{path}: window {begins:g} to {stops:g} is empty", key=key)
        if ends.get(client) and begins < ends[client][-1]:
            raise InputError(
                f"{path}: windows of client {_label(client, names)} overlap at {begins:g} s",
                key=key,
            )
        starts.setdefault(client, []).append(begins)
        ends.setdefault(client, []).append(stops)
    return Trace(starts, ends)


def _read(path: Path, key: str) -> pa.Table:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    if not path.is_file():
        raise InputError(f"no such file: {path}", key=key)
    try:
        if path.suffix == ".parquet":
            table = pyarrow.parquet.read_table(path)
        else:
            table = pyarrow.csv.read_csv(path)
        names = table.column_names  # which need not be text, nor differ
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())[:200]}", key=key) from None
    if len(set(names)) < len(names):
        raise InputError(f"{path}: two columns have the same name", key=key)
    return table


def _numbers(table: pa.Table, column: str, path: Path, key: str) -> Floats:
    if column not in table.column_names:
        have = ", ".join(table.column_names)
        hint = nearest(column, table.column_names)
        raise InputError(f"{path}: no column {column!r} (has: {have}){hint}", key=key)
    try:
        return np.asarray(table[column].to_numpy(), float)
    except (TypeError, ValueError):
        raise InputError(f"{path}: column {column!r} must hold numbers", key=key) from None


def _client_rows(
    table: pa.Table, path: Path, clients: int, names: tuple[str, ...] | None, key: str
) -> Ints:
    """Client index of every row; the column holds client names, or numbers 0..clients-1."""
    if "client" not in table.column_names:
        have = ", ".join(table.column_names)
        raise InputError(f"{path}: no column 'client' (has: {have})", key=key)
    values: list[Any] = table["client"].to_pylist()
    if names is not None:
        index = {name: i for i, name in enumerate(names)}
        unknown = [v for v in values if str(v) not in index]
        found = [index.get(str(v), -1) for v in values]
    else:
        unknown = [v for v in values if not (isinstance(v, int) and 0 <= v < clients)]
        found = [v if isinstance(v, int) else -1 for v in values]
    if unknown:
        allowed = "the names of the data's clients" if names else f"0 to {clients - 1}"
        raise InputError(f"{path}: unknown client {unknown[0]!r}; allowed: {allowed}", key=key)
    return np.asarray(found, np.int64)


def _label(client: int, names: tuple[str, ...] | None) -> str:
    return repr(names[client]) if names else str(client)
