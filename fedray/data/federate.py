"""From the configuration of data and partition to a federation that is ready to train on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fedray import rng
from fedray.config import schema
from fedray.data.heterogeneity import feature_distance_of, measure
from fedray.data.parquet import federate_parquet
from fedray.data.partition import partition
from fedray.data.shards import ArrayShards
from fedray.data.shifts import shift_features, shift_labels
from fedray.data.sources import load_dataset
from fedray.types import Dataset, Federation, Ints, Matrix


def federate(
    data: schema.Data,
    split: schema.Partition,
    seed: int,
    *,
    dtype: DTypeLike = np.float32,
    base_dir: Path,
    dataset: Dataset | None = None,
) -> Federation:
    """Loads the data, splits it over clients, applies the clients' shifts, and measures.

    X, and y of a regression, are of `dtype`. Natural clients of a Parquet file are read by
    their hosts (`ParquetShards`), everything else is in memory, sorted by client; within a
    client, samples keep the order of the source. `heterogeneity` has the keys of
    `heterogeneity.measure`, and with concept_shift also `label_shift`, the share of training
    samples whose label was changed. `dataset` is what `load_dataset` gives for `data` and
    `seed`, if it is there already. Raises InputError that names the key.
    """
    dtype = np.dtype(dtype)
    if stays_in_files(data, split):
        found = federate_parquet(data, seed, dtype=dtype, base_dir=base_dir)
        if found is not None:
            return found
    if dataset is None:
        dataset = load_dataset(data, seed, base_dir=base_dir)
    return assemble(dataset, partition(split, dataset, seed), split, seed, dtype)


def stays_in_files(data: schema.Data, split: schema.Partition) -> TypeGuard[schema.TableData]:
    """Whether clients may be left in the Parquet file that they are rows of."""
    return (
        isinstance(data, schema.TableData)
        and data.source == "parquet"
        and data.client_column is not None
        and isinstance(split, schema.NaturalPartition)
    )


def assemble(
    dataset: Dataset, owner: Ints, split: schema.Partition, seed: int, dtype: np.dtype[Any]
) -> Federation:
    """The federation in which training sample i belongs to client owner[i]."""
    sizes = np.bincount(owner)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    X, y = _sorted(dataset, owner, dtype)
    extra = {}
    if isinstance(split, schema.FeatureShiftPartition):
        shift_features(split, X, offsets, seed)
    if isinstance(split, schema.ConceptShiftPartition):
        extra["label_shift"] = shift_labels(split, y, offsets, len(dataset.classes), seed)
    counts = _label_counts(y, sizes, len(dataset.classes)) if dataset.classification else None
    natural = isinstance(split, schema.NaturalPartition) and dataset.client_names
    return Federation(
        shards=ArrayShards(X, y, offsets),
        X_test=np.ascontiguousarray(dataset.X_test, dtype=dtype),
        y_test=dataset.y_test if dataset.classification else dataset.y_test.astype(dtype),
        features=dataset.features,
        classes=dataset.classes,
        client_names=dataset.client_names if natural else None,
        label_counts=counts,
        heterogeneity=measure(sizes, counts, feature_distance_of(X, offsets)) | extra,
    )


def reshuffle(federation: Federation, seed: int) -> Federation:
    """The same training samples reshuffled over the clients, each of the size that it has.

    Samples are as the clients have them, shifts of features and labels included, so that
    all clients together hold exactly the same data as before. Loads shards left in files.
    """
    clients = range(federation.clients)
    X, y = (
        np.concatenate(part) for part in zip(*map(federation.shards.load, clients), strict=True)
    )
    order = rng.generator(seed, rng.Stream.RESHUFFLE).permutation(len(y))
    X, y = X[order], y[order]
    sizes = federation.shards.sizes
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    counts = _label_counts(y, sizes, len(federation.classes)) if federation.classification else None
    return replace(
        federation,
        shards=ArrayShards(X, y, offsets),
        label_counts=counts,
        heterogeneity=measure(sizes, counts, feature_distance_of(X, offsets)),
    )


def _sorted(dataset: Dataset, owner: Ints, dtype: np.dtype[Any]) -> tuple[Matrix, NDArray[Any]]:
    """Copies of X and y, sorted by client; X is copied twice only where it changes precision."""
    order = np.argsort(owner, kind="stable")
    X = np.empty(dataset.X.shape, dtype=dtype)
    step = max(1, 2**20 // max(1, X.shape[1]))
    for start in range(0, len(X), step):
        X[start : start + step] = dataset.X[order[start : start + step]]
    y = dataset.y[order]
    return X, y if dataset.classification else y.astype(dtype)


def _label_counts(y: Ints, sizes: Ints, classes: int) -> Ints:
    owner = np.repeat(np.arange(len(sizes)), sizes)
    counts = np.bincount(owner * classes + y, minlength=len(sizes) * classes)
    return counts.reshape(len(sizes), classes)
