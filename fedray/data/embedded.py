"""Real data sets that ship with scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedray.config.schema import EmbeddedData
from fedray.data.samples import Samples


def read_embedded(config: EmbeddedData, _seed: int, _base_dir: Path) -> Samples:
    """The whole data set; class names and feature names are scikit-learn's."""
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{config.source}")()
    regression = config.source == "diabetes"
    return Samples(
        X=np.ascontiguousarray(bunch.data, dtype=np.float64),
        labels=bunch.target,
        features=tuple(str(name) for name in bunch.feature_names),
        task="regression" if regression else "classification",
        classes=None if regression else tuple(str(name) for name in bunch.target_names),
    )
