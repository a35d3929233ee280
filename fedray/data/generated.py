"""scikit-learn's generators."""

from __future__ import annotations

from math import ceil, log2
from pathlib import Path

import numpy as np

from fedray.config.schema import GeneratedData
from fedray.data.samples import Samples
from fedray.errors import InputError
from fedray.rng import Stream, generator


def read_generated(config: GeneratedData, seed: int, _base_dir: Path) -> Samples:
    """Samples of make_blobs, or of make_classification with one cluster per class.

    classification: half of the dimensions (at least log2 of the classes) carry the class,
    a quarter repeats them, the rest is noise; 1 % of the labels are random, scikit-learn's
    default. Raises InputError where the classes do not fit.
    """
    from sklearn import datasets

    d, classes = config.dimensions, config.classes
    if config.samples < 2 * classes:
        raise InputError(
            f"{config.samples} samples are too few for {classes} classes; "
            f"at least {2 * classes} are needed",
            key="data.samples",
        )
    state = int(generator(seed, Stream.DATA).integers(2**31))
    if config.source == "blobs":
        X, y = datasets.make_blobs(
            config.samples, d, centers=classes, cluster_std=config.spread, random_state=state
        )
    else:
        informative = max(ceil(log2(classes)), d // 2)
        if informative > d:
            raise InputError(
                f"{d} dimensions are too few for {classes} classes; "
                f"at least {informative} are needed",
                key="data.dimensions",
            )
        X, y = datasets.make_classification(
            config.samples,
            d,
            n_informative=informative,
            n_redundant=min(d - informative, d // 4),
            n_classes=classes,
            n_clusters_per_class=1,
            class_sep=1 / config.spread,
            random_state=state,
        )
    return Samples(
        X=np.ascontiguousarray(X),
        labels=y,
        features=tuple(f"x{j}" for j in range(d)),
        task="classification",
        classes=tuple(str(c) for c in range(classes)),
    )
