"""Real data sets that ship with scikit-learn."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from fedray.config.schema import EmbeddedData
from fedray.data.samples import Samples


def read_embedded(config: EmbeddedData, _seed: int, _base_dir: Path) -> Samples:
    """The whole data set; class names and feature names are scikit-learn's."""
    return _read(config.source)


@cache
def _read(source: str) -> Samples:
    """Parsed once per process, as a study of many runs asks for it again and again; read-only."""
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{source}")()
    regression = source == "diabetes"
    X = np.ascontiguousarray(bunch.data, dtype=np.float64)
    for array in (X, bunch.target):
        array.flags.writeable = False
    return Samples(
        X=X,
        labels=bunch.target,
        features=tuple(str(name) for name in bunch.feature_names),
        task="regression" if regression else "classification",
        classes=None if regression else tuple(str(name) for name in bunch.target_names),
    )
