"""Data sets by `data.source`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.config import schema
from fedray.data.embedded import read_embedded
from fedray.data.generated import read_generated
from fedray.data.idx import read_idx
from fedray.data.labels import LabelCode, learn_labels
from fedray.data.moments import moments_of, standardizer
from fedray.data.openml import read_openml
from fedray.data.samples import Samples
from fedray.data.split import held_out
from fedray.data.synthetic import read_linear_regression, read_synthetic
from fedray.data.table import read_table
from fedray.types import Dataset, Matrix

SOURCES: Mapping[str, Callable[[Any, int, Path], Samples]] = {
    "digits": read_embedded,
    "breast_cancer": read_embedded,
    "wine": read_embedded,
    "iris": read_embedded,
    "diabetes": read_embedded,
    "idx": read_idx,
    "parquet": read_table,
    "csv": read_table,
    "npz": read_table,
    "openml": read_openml,
    "synthetic": read_synthetic,
    "linear_regression": read_linear_regression,
    "blobs": read_generated,
    "classification": read_generated,
}
"""`data.source` -> (config, seed, base_dir) -> Samples. A new source is a line here."""


def load_dataset(config: schema.Data, seed: int, *, base_dir: Path) -> Dataset:
    """Reads or draws a data set, encodes its labels, and sets a test set apart.

    X is float32 where the source is (idx, npz), else float64. Relative paths start at
    `base_dir`. Raises InputError that names the key of whatever is wrong with the data.
    """
    return _finish(SOURCES[config.source](config, seed, base_dir), config, seed)


def _finish(samples: Samples, config: schema.Data, seed: int) -> Dataset:
    X, client = samples.X, samples.client
    y, classes, code = _encode(samples)
    if samples.X_test is None:
        test = held_out(
            config.test_fraction,  # type: ignore[union-attr]
            seed,
            y=y,
            classification=bool(classes),
            client=client,
        )
        X, y, X_test, y_test = X[~test], y[~test], X[test], y[test]
        client = None if client is None else client[~test]
    else:
        X_test, y_test = samples.X_test, _encode_test(samples, code)
    if config.standardize:
        X, X_test = _writable(X), _writable(X_test)
        change = standardizer(moments_of(X))
        change.apply(X)
        change.apply(X_test)
    return Dataset(X, y, X_test, y_test, samples.features, classes, client, samples.client_names)


def _encode(samples: Samples) -> tuple[NDArray[Any], tuple[str, ...], LabelCode | None]:
    if samples.classes is not None:
        return samples.labels.astype(np.int64), samples.classes, None
    name, key = samples.label_name, samples.label_key
    code = learn_labels(samples.labels, samples.task, name, key)
    return code.encode(samples.labels, f"column {name!r}", key), code.classes, code


def _encode_test(samples: Samples, code: LabelCode | None) -> NDArray[Any]:
    assert samples.labels_test is not None
    if code is None:
        return samples.labels_test.astype(np.int64)
    return code.encode(samples.labels_test, "the test data", samples.test_key)


def _writable(X: Matrix) -> Matrix:
    return X if X.flags.writeable else X.copy()
