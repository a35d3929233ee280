"""Tables in files: parquet (a file or a folder), csv, npz."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.config.schema import TableData
from fedray.data import columns
from fedray.data.samples import Samples, check_finite, check_rows, locate
from fedray.errors import InputError, nearest
from fedray.types import Floats, Ints, Matrix


def read_table(config: TableData, _seed: int, base_dir: Path) -> Samples:
    """Training samples in the order of the file, and test samples if there is a test file.

    Raises InputError for missing files and columns and for values that are not finite.
    """
    if config.source == "npz":
        return _read_npz(config, base_dir)
    path = locate(config.path, base_dir, "data.path")
    with columns.readable(path, "data.path"):
        data = open_table(config, path, "data.path")
        features = columns.feature_columns(data.schema, config)
        X, labels = _samples(data, features, config.label, path, "data.path")
        client, names = None, tuple[str, ...]()
        if config.client_column is not None:
            column = data.to_table(columns=[config.client_column])[config.client_column]
            client, values = columns.client_codes(column, config.client_column, path.name)
            names = columns.client_names(values)
    X_test, labels_test = read_test(config, features, base_dir)
    return Samples(
        X=X,
        labels=labels,
        features=features,
        task=config.task,
        label_name=config.label,
        X_test=X_test,
        labels_test=labels_test,
        client=client,
        client_names=names,
    )


def read_test(
    config: TableData, features: tuple[str, ...], base_dir: Path
) -> tuple[Floats | None, NDArray[Any] | None]:
    """X and labels of `data.test_path`, or None and None where it is not set."""
    if config.test_path is None:
        return None, None
    key = "data.test_path"
    path = locate(config.test_path, base_dir, key)
    with columns.readable(path, key):
        data = open_table(config, path, key)
        for name in features:
            columns.require_feature(data.schema, name, key)
        if config.label not in data.schema.names:
            raise InputError(f"{path} has no label column {config.label!r}", key=key)
        return _samples(data, features, config.label, path, key)


def open_table(config: TableData, path: Path, key: str) -> Any:
    """A pyarrow.dataset.Dataset: lazy for parquet, in memory for csv."""
    import pyarrow.csv
    import pyarrow.dataset as ds

    if config.source == "parquet":
        data = columns.open_parquet(path)
        if not data.files:
            raise InputError(f"{path} holds no parquet file", key=key)
        return data
    # Empty cells of a text column are missing labels or clients, not a class "".
    convert = pyarrow.csv.ConvertOptions(strings_can_be_null=True)
    return ds.dataset(pyarrow.csv.read_csv(path, convert_options=convert))


def _samples(
    data: Any, features: tuple[str, ...], label: str, path: Path, key: str
) -> tuple[Floats, NDArray[Any]]:
    X = np.empty((data.count_rows(), len(features)))
    check_rows(len(X), path.name, key)
    row = 0
    for block in columns.batches(data, features):
        X[row : row + len(block)] = block
        row += len(block)
    check_finite(X, features, path.name, key)
    column = data.to_table(columns=[label])[label]
    label_key = "data.label" if key == "data.path" else key
    return X, columns.label_array(column, label, path.name, label_key)


def _read_npz(config: TableData, base_dir: Path) -> Samples:
    path = locate(config.path, base_dir, "data.path")
    arrays = _load_npz(path, "data.path")
    X, features = _npz_matrix(arrays, config, path, "data.path")
    labels = _npz_array(arrays, config.label, path, "data.label")
    _same_rows(X, labels, config.label, "data.label")
    client, names = None, tuple[str, ...]()
    if config.client_column is not None:
        owner = _npz_array(arrays, config.client_column, path, "data.client_column")
        _same_rows(X, owner, config.client_column, "data.client_column")
        client, names = _npz_clients(owner, config.client_column)
    X_test = labels_test = None
    if config.test_path is not None:
        key = "data.test_path"
        test = locate(config.test_path, base_dir, key)
        arrays = _load_npz(test, key)
        X_test, found = _npz_matrix(arrays, config, test, key)
        if found != features:
            raise InputError(
                f"{test} has {len(found)} features, the training data {len(features)}", key=key
            )
        labels_test = _npz_array(arrays, config.label, test, key)
        _same_rows(X_test, labels_test, config.label, key)
    return Samples(
        X=X,
        labels=labels,
        features=features,
        task=config.task,
        label_name=config.label,
        X_test=X_test,
        labels_test=labels_test,
        client=client,
        client_names=names,
    )


def _load_npz(path: Path, key: str) -> dict[str, NDArray[Any]]:
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is no npz file, as numpy.savez writes it", key=key)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # NumPy has a dozen ways to say that a file is broken
        raise InputError(
            f"{path} can not be read as npz without pickle: {error}", key=key
        ) from error


def _npz_array(arrays: dict[str, NDArray[Any]], name: str, path: Path, key: str) -> NDArray[Any]:
    if name not in arrays:
        raise InputError(
            f"{path} has no array {name!r}{nearest(name, arrays)}; arrays: {', '.join(arrays)}",
            key=key,
        )
    array = arrays[name]
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _npz_matrix(
    arrays: dict[str, NDArray[Any]], config: TableData, path: Path, key: str
) -> tuple[Matrix, tuple[str, ...]]:
    """The arrays side by side: those of one axis are a column each, images are flattened."""
    blocks: list[NDArray[Any]] = []
    features: list[str] = []
    for name in config.features or ("X",):
        missing_key = "data.features" if key == "data.path" else key
        block = _npz_array(arrays, name, path, missing_key)
        if block.dtype.kind not in "iufb" or block.ndim == 0:
            raise InputError(f"array {name!r} holds {block.dtype}, not numbers", key=missing_key)
        flat = block.reshape(len(block), int(np.prod(block.shape[1:])))
        features += [name] if block.ndim == 1 else [f"{name}{j}" for j in range(flat.shape[1])]
        if blocks:
            _same_rows(blocks[0], flat, name, missing_key)
        blocks.append(flat)
    joined = blocks[0] if len(blocks) == 1 else np.hstack(blocks)
    single = all(b.dtype == np.float32 for b in blocks)
    X: Matrix = np.ascontiguousarray(joined, dtype=np.float32 if single else np.float64)
    check_rows(len(X), path.name, key)
    check_finite(X, tuple(features), path.name, key)
    return X, tuple(features)


def _npz_clients(owner: NDArray[Any], name: str) -> tuple[Ints, tuple[str, ...]]:
    if owner.dtype.kind not in "iuU":
        raise InputError(
            f"array {name!r} holds {owner.dtype}; clients must be strings or integers",
            key="data.client_column",
        )
    values, codes = np.unique(owner, return_inverse=True)
    return codes.astype(np.int64), tuple(str(v) for v in values.tolist())


def _same_rows(X: Matrix, other: NDArray[Any], name: str, key: str) -> None:
    if other.shape[:1] != X.shape[:1] or (other.ndim > 1 and key == "data.label"):
        raise InputError(f"array {name!r} has shape {other.shape}; X has {len(X)} rows", key=key)
