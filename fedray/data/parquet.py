"""Natural clients of a Parquet file, without the whole matrix in the driver's memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.config.schema import TableData
from fedray.data import columns
from fedray.data.heterogeneity import feature_distance, measure
from fedray.data.labels import LabelCode, learn_labels
from fedray.data.moments import Moments, Standardizer, standardizer
from fedray.data.samples import check_finite, check_rows, locate
from fedray.data.shards import ParquetShards, ParquetSpec
from fedray.data.split import held_out
from fedray.data.table import open_table, read_test
from fedray.types import Federation, Floats, Ints, Matrix

_AMPLIFICATION = 4.0
_MEMORY_BYTES = 2**31


@dataclass(frozen=True)
class _Scan:
    """What the driver reads of the whole file: two columns."""

    data: Any
    path: Path
    features: tuple[str, ...]
    code: LabelCode
    y: NDArray[Any]
    client: Ints
    values: Any


def federate_parquet(
    config: TableData, seed: int, *, dtype: np.dtype[Any], base_dir: Path
) -> Federation | None:
    """The natural federation of a Parquet file whose shards are read by their hosts.

    The driver reads label and client columns, and streams the features once, to check them
    and for their moments. None where memory is the better place: clients lie so mixed that
    hosts would read the file more than four times over, and it is below 2 GiB.
    """
    scan = _scan(config, base_dir)
    held = len(scan.y) * len(scan.features) * dtype.itemsize
    if held <= _MEMORY_BYTES and amplification(scan.data, scan.client) > _AMPLIFICATION:
        return None
    X_given, labels_given = read_test(config, scan.features, base_dir)
    test = np.zeros(len(scan.y), dtype=bool)
    if X_given is None:
        test = held_out(
            config.test_fraction,
            seed,
            y=scan.y,
            classification=bool(scan.code.classes),
            client=scan.client,
        )
    with columns.readable(scan.path, "data.path"):
        moments, distance, X_test = _stream(scan, test)
    y_test = scan.y[test]
    if X_given is not None and labels_given is not None:
        X_test = X_given
        y_test = scan.code.encode(labels_given, "the test data", "data.test_path")
    change = standardizer(moments) if config.standardize else None
    if change is not None:
        change.apply(X_test)
    return _federation(config, scan, test, change, distance, (X_test, y_test), dtype)


def amplification(data: Any, client: Ints) -> float:
    """Rows of all row groups that a client's rows lie in, added up over clients, over all rows."""
    rows = np.array(
        [group.num_rows for fragment in data.get_fragments() for group in fragment.row_groups],
        dtype=np.int64,
    )
    group = np.repeat(np.arange(len(rows)), rows)
    pairs = np.unique(client * len(rows) + group)
    return float(rows[pairs % len(rows)].sum() / len(client))


def _scan(config: TableData, base_dir: Path) -> _Scan:
    assert config.client_column is not None
    path = locate(config.path, base_dir, "data.path")
    with columns.readable(path, "data.path"):
        data = open_table(config, path, "data.path")
        features = columns.feature_columns(data.schema, config)
        table = data.to_table(columns=[config.label, config.client_column])
    check_rows(table.num_rows, path.name, "data.path")
    labels = columns.label_array(table[config.label], config.label, path.name, "data.label")
    code = learn_labels(labels, config.task, config.label, "data.label")
    y = code.encode(labels, f"column {config.label!r}", "data.label")
    client, values = columns.client_codes(
        table[config.client_column], config.client_column, path.name
    )
    return _Scan(data, path, features, code, y, client, values)


def _stream(scan: _Scan, test: NDArray[np.bool_]) -> tuple[Moments, float, Matrix]:
    """Moments and feature distance of the training rows, and the test rows' features."""
    moments = Moments(len(scan.features))
    sums = np.zeros((len(scan.values), len(scan.features)))
    X_test: Floats = np.empty((np.count_nonzero(test), len(scan.features)))
    row = filled = 0
    for X in columns.batches(scan.data, scan.features):
        check_finite(X, scan.features, scan.path.name, "data.path", first_row=row + 1)
        out = test[row : row + len(X)]
        client = scan.client[row : row + len(X)]
        row += len(X)
        held = int(np.count_nonzero(out))
        X_test[filled : filled + held] = X[out]
        filled += held
        moments.add(X[~out])
        _add_by_client(sums, client[~out], X[~out])
    sizes = np.bincount(scan.client[~test], minlength=len(sums))
    distance = feature_distance(moments.done(), [(sums / sizes[:, None], sizes)])
    return moments, distance, X_test


def _add_by_client(sums: Floats, client: Ints, X: Floats) -> None:
    if len(X):
        order = np.argsort(client, kind="stable")
        starts = np.flatnonzero(np.diff(client[order], prepend=-1))
        sums[client[order[starts]]] += np.add.reduceat(X[order], starts, axis=0)


def _federation(
    config: TableData,
    scan: _Scan,
    test: NDArray[np.bool_],
    change: Standardizer | None,
    distance: float,
    held: tuple[Matrix, NDArray[Any]],
    dtype: np.dtype[Any],
) -> Federation:
    clients, classes = len(scan.values), len(scan.code.classes)
    order = np.argsort(scan.client, kind="stable")
    spec = ParquetSpec(
        path=scan.path,
        features=scan.features,
        label=config.label,
        client_column=str(config.client_column),
        clients=scan.values,
        labels=scan.code,
        rows=np.bincount(scan.client, minlength=clients),
        test=np.packbits(test[order]) if test.any() else None,
        standardizer=change,
        dtype=dtype,
    )
    owner, y = scan.client[~test], scan.y[~test]
    sizes = np.bincount(owner, minlength=clients)
    counts = None
    if classes:
        counts = np.bincount(owner * classes + y, minlength=clients * classes)
        counts = counts.reshape(clients, classes)
    X_test, y_test = held
    return Federation(
        shards=ParquetShards(spec, sizes),
        X_test=X_test.astype(dtype, copy=False),
        y_test=y_test if classes else y_test.astype(dtype),
        features=scan.features,
        classes=scan.code.classes,
        client_names=columns.client_names(scan.values),
        label_counts=counts,
        heterogeneity=measure(sizes, counts, distance),
    )
