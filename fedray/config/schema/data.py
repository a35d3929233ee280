"""Where samples come from: `data`, by its `source`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt, MinLen

from fedray.parts.fields import Count, Doc, Name, NonNegative, OneOf, Strict

TestFraction = Annotated[
    float, Gt(0), Lt(1), Doc("share of samples held out when the source has no test set")
]
Standardize = Annotated[
    bool, Doc("zero mean and unit variance per feature, statistics of training samples only")
]


@dataclass(frozen=True, kw_only=True)
class EmbeddedData(Strict):
    """A real data set that ships with scikit-learn. `diabetes` is a regression."""

    source: Literal["digits", "breast_cancer", "wine", "iris", "diabetes"] = "digits"
    test_fraction: TestFraction = 0.2
    standardize: Standardize = True


@dataclass(frozen=True, kw_only=True)
class IdxData(Strict):
    """A folder in MNIST's idx format, gzipped or not. Pixels are scaled to [0, 1]."""

    source: Literal["idx"] = "idx"
    path: Annotated[Name, Doc("folder with train-images-idx3-ubyte[.gz] and its companions")] = (
        "/usr/share/datasets/fashion-mnist"
    )
    limit: Annotated[Count | None, Doc("use only the first so many training samples")] = None
    standardize: Standardize = False


@dataclass(frozen=True, kw_only=True)
class TableData(Strict):
    """A table in a file: one row per sample."""

    source: Literal["parquet", "csv", "npz"]
    path: Annotated[Name, Doc("the file, or for parquet also a folder; relative to this file")]
    test_path: Annotated[Name | None, Doc("a second file with the test samples")] = None
    label: Annotated[Name, Doc("column with the label (npz: array)")] = "y"
    features: Annotated[
        Annotated[tuple[Name, ...], MinLen(1)] | None,
        Doc("feature columns; default: all other numeric ones (npz: the array X)"),
    ] = None
    client_column: Annotated[
        Name | None, Doc("column that says which client owns the row, for partition natural")
    ] = None
    task: Annotated[
        Literal["auto", "classification", "regression"],
        Doc("auto: regression if the label is a float column with non-integers"),
    ] = "auto"
    test_fraction: TestFraction = 0.2
    standardize: Standardize = True


@dataclass(frozen=True, kw_only=True)
class OpenmlData(Strict):
    """A data set of openml.org by name. Needs the network."""

    source: Literal["openml"] = "openml"
    name: Annotated[Name, Doc("name on openml.org")]
    version: Annotated[Count | Literal["active"], Doc("version of the data set")] = "active"
    task: Literal["auto", "classification", "regression"] = "auto"
    test_fraction: TestFraction = 0.2
    standardize: Standardize = True


@dataclass(frozen=True, kw_only=True)
class SyntheticData(Strict):
    """Synthetic(alpha, beta) of FedProx (Li et al. 2020): clients differ by construction.

    `alpha` spreads the clients' true models, `beta` their inputs; both are standard
    deviations, as in the authors' code. `iid: true` gives every client one model.
    Use `partition: {scheme: natural}`.
    """

    source: Literal["synthetic"] = "synthetic"
    alpha: Annotated[NonNegative, Doc("spread of the clients' true models")] = 1.0
    beta: Annotated[NonNegative, Doc("spread of the clients' inputs")] = 1.0
    iid: Annotated[bool, Doc("one model and one distribution of inputs for all clients")] = False
    clients: Annotated[Count, Doc("number of clients")] = 30
    dimensions: Annotated[Count, Doc("number of features")] = 60
    classes: Annotated[int, Ge(2), Doc("number of classes")] = 10
    test_fraction: TestFraction = 0.1
    standardize: Standardize = False


@dataclass(frozen=True, kw_only=True)
class LinearRegressionData(Strict):
    """One-feature regression for the three scenarios of the README.

    iid: x ~ U(0, 10), y = 2x + 1 + N(0, 1). non_iid: client i = 1, 2, ... has
    x ~ U(0, 5i), y = i x + i + N(0, 1). Use `partition: {scheme: natural}`.
    """

    source: Literal["linear_regression"] = "linear_regression"
    scenario: Annotated[Literal["iid", "non_iid"], Doc("one truth for all, or one each")] = "iid"
    clients: Annotated[Count, Doc("number of clients")] = 3
    points: Annotated[int, Ge(2), Doc("training points per client")] = 100
    standardize: Standardize = False


@dataclass(frozen=True, kw_only=True)
class GeneratedData(Strict):
    """scikit-learn's make_blobs or make_classification."""

    source: Literal["blobs", "classification"] = "blobs"
    samples: Annotated[Count, Doc("number of samples, test samples included")] = 2000
    dimensions: Annotated[Count, Doc("number of features")] = 20
    classes: Annotated[int, Ge(2), Doc("number of classes")] = 4
    spread: Annotated[float, Gt(0), Doc("blobs: cluster_std; classification: 1 / class_sep")] = 1.0
    test_fraction: TestFraction = 0.2
    standardize: Standardize = False


Data = Annotated[
    EmbeddedData
    | IdxData
    | TableData
    | OpenmlData
    | SyntheticData
    | LinearRegressionData
    | GeneratedData,
    OneOf("source"),
]
