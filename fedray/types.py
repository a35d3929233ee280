"""Records that every layer shares. No logic beyond trivial properties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.floating[Any]]
"""All parameters of a model, flat: shape (P,), float32 or float64."""
Matrix: TypeAlias = NDArray[np.floating[Any]]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Samples before they are split over clients.

    X (n, d) float64 or float32, C-contiguous; y (n,) int64 class indices, or float64 for
    regression. `classes` names the classes in index order, () for regression.
    `client` (n,) says who owns a training sample where the source knows, else None.
    """

    X: Matrix
    y: NDArray[Any]
    X_test: Matrix
    y_test: NDArray[Any]
    features: tuple[str, ...]
    classes: tuple[str, ...] = ()
    client: Ints | None = None
    client_names: tuple[str, ...] = ()

    @property
    def classification(self) -> bool:
        return bool(self.classes)


class Shards(Protocol):
    """Who owns which samples. Picklable; in an actor, loading is a view or a file read."""

    @property
    def sizes(self) -> Ints:
        """Samples per client, shape (clients,)."""

    def load(self, client: int) -> tuple[Matrix, NDArray[Any]]:
        """The shard of one client: X (n, d), y (n,). May be read-only; never written to."""


@dataclass(frozen=True)
class Federation:
    """Data split over clients, ready to train on."""

    shards: Shards
    X_test: Matrix
    y_test: NDArray[Any]
    features: tuple[str, ...]
    classes: tuple[str, ...]
    client_names: tuple[str, ...] | None
    """None where clients are only numbered."""
    label_counts: Ints | None
    """(clients, classes), None for regression."""
    heterogeneity: Mapping[str, float] = field(default_factory=dict)
    """Measured skew of the split, see `data.heterogeneity`."""
    tests: Shards | None = None
    """What clients hold back to test on, where they do; not part of `shards`."""
    X_validation: Matrix | None = None
    """For the server, in neither training nor test set; None where nothing is set aside."""
    y_validation: NDArray[Any] | None = None

    @property
    def clients(self) -> int:
        return len(self.shards.sizes)

    @property
    def nbytes(self) -> int:
        """Bytes of all samples in memory; of data left in files only the test set."""
        arrays: list[Any] = [self.X_test, self.y_test, self.X_validation, self.y_validation]
        arrays += vars(self.shards).values()
        arrays += vars(self.tests).values() if self.tests is not None else ()
        return sum(a.nbytes for a in arrays if isinstance(a, np.ndarray))

    @property
    def classification(self) -> bool:
        return bool(self.classes)


class Model(Protocol):
    """A model as pure functions of a flat vector. Instances are frozen and picklable."""

    @property
    def size(self) -> int:
        """P, the number of parameters."""

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def init(self, rng: np.random.Generator) -> Vector: ...

    def named(self, w: Vector) -> dict[str, NDArray[Any]]:
        """The parameters by name, as arrays in their natural shapes (views where possible)."""

    def score(self, w: Vector, X: Matrix, y: NDArray[Any]) -> Score:
        """Sums over the given samples, so that scores of chunks add up."""


class DifferentiableModel(Model, Protocol):
    """A model that local SGD can train."""

    def loss(self, w: Vector, X: Matrix, y: NDArray[Any]) -> float:
        """Mean loss over the samples, regularisation included."""

    def gradient(self, w: Vector, X: Matrix, y: NDArray[Any], out: Vector) -> None:
        """Writes the gradient of `loss` into `out`, shape (P,)."""


class Score(NamedTuple):
    """Additive figures of a model on some samples; `per_class` is (2, C): right, all.

    Classification: `loss_sum` adds up cross-entropies. Regression: `squared_sum` adds up
    squared errors, `y_sum` and `y_squared_sum` the labels and their squares (for R^2),
    `per_class` is None.
    """

    samples: int
    loss_sum: float
    per_class: Ints | None = None
    squared_sum: float = 0.0
    y_sum: float = 0.0
    y_squared_sum: float = 0.0
    loss_square_sum: float = 0.0
    """Squares of the samples' losses, added up."""


class Metrics(NamedTuple):
    """What a Score comes to. `accuracy` is None for regression, `r2` and `mse` otherwise."""

    loss: float
    accuracy: float | None = None
    accuracy_per_class: Sequence[float] | None = None
    r2: float | None = None
    mse: float | None = None
