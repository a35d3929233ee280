"""Data sets of openml.org by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedray.config.schema import OpenmlData
from fedray.data.samples import Samples, check_finite, check_rows
from fedray.errors import FedrayError, InputError


def read_openml(config: OpenmlData, _seed: int, _base_dir: Path) -> Samples:
    """Numeric features only; scikit-learn keeps a copy in its data folder.

    Raises FedrayError where openml.org can not be reached, InputError for an unknown name.
    """
    from sklearn.datasets import fetch_openml

    where = f"openml data set {config.name!r}"
    try:
        # liac-arff is the parser that needs no pandas.
        bunch = fetch_openml(
            config.name, version=config.version, as_frame=False, parser="liac-arff"
        )
    except OSError as error:
        raise FedrayError(f"data.name: openml.org could not be reached: {_line(error)}") from error
    except ValueError as error:
        raise InputError(f"{where}: {_line(error)}", key="data.name") from error
    if bunch.target is None:
        raise InputError(f"{where} has no single target column", key="data.name")
    # Nominal features arrive as code numbers, which no linear model should read as sizes.
    nominal = set(bunch.categories or ())
    kept = [i for i, name in enumerate(bunch.feature_names) if name not in nominal]
    if not kept:
        raise InputError(f"{where} has no numeric feature", key="data.name")
    X = bunch.data[:, kept]
    X = np.ascontiguousarray(X.toarray() if hasattr(X, "toarray") else X, dtype=np.float64)
    features = tuple(str(bunch.feature_names[i]) for i in kept)
    check_rows(len(X), where, "data.name")
    check_finite(X, features, where, "data.name")
    return Samples(
        X=X,
        labels=np.asarray(bunch.target),
        features=features,
        task=config.task,
        label_name=", ".join(bunch.target_names),
        label_key="data.name",
    )


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
