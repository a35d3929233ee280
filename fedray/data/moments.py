"""Mean, variance and range per feature in one pass, and standardisation with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedray.types import Floats, Matrix

_BLOCK = 2**19
"""Numbers per block: 4 MiB in float64, so that a block stays in the cache."""


class Moments:
    """Moments of rows that are fed in pieces, merged block by block (Chan et al. 1979).

    Rows are regrouped into blocks of a fixed size, so the figures do not depend on the
    pieces: streamed from a file or held in memory, they are equal to the bit.
    """

    def __init__(self, features: int) -> None:
        self.rows = 0
        self.mean: Floats = np.zeros(features)
        self.squares: Floats = np.zeros(features)
        """Sum of squared distances from the mean, per feature."""
        self._low = np.full(features, np.inf)
        self._high = np.full(features, -np.inf)
        self._buffer: Floats = np.empty((max(1, _BLOCK // max(1, features)), features))
        self._filled = 0

    def add(self, X: Matrix) -> None:
        """Takes in rows, shape (n, features)."""
        while len(X):
            taken = min(len(self._buffer) - self._filled, len(X))
            self._buffer[self._filled : self._filled + taken] = X[:taken]
            self._filled += taken
            X = X[taken:]
            if self._filled == len(self._buffer):
                self._merge()

    def done(self) -> Moments:
        """Takes in what is still in the buffer; call once, after the last `add`."""
        if self._filled:
            self._merge()
        return self

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Features with one value in all rows."""
        same: NDArray[np.bool_] = self._low == self._high
        return same

    def _merge(self) -> None:
        block = self._buffer[: self._filled]
        np.minimum(self._low, block.min(axis=0), out=self._low)
        np.maximum(self._high, block.max(axis=0), out=self._high)
        mean = block.mean(axis=0)
        block -= mean
        np.square(block, out=block)
        squares = block.sum(axis=0)
        rows = self.rows + len(block)
        step = mean - self.mean
        self.squares += squares + step**2 * (self.rows * len(block) / rows)
        self.mean += step * (len(block) / rows)
        self.rows, self._filled = rows, 0


@dataclass(frozen=True)
class Standardizer:
    """x -> (x - mean) / scale per feature; constant features have mean 0 and scale 1."""

    mean: Floats
    scale: Floats

    def apply(self, X: Matrix) -> None:
        """Changes X (n, features) in place, in its own precision."""
        np.subtract(X, self.mean, out=X, casting="same_kind")
        np.divide(X, self.scale, out=X, casting="same_kind")


def standardizer(moments: Moments) -> Standardizer:
    """Zero mean and unit variance (dividing by n) on the rows of `moments`."""
    deviation = np.sqrt(moments.squares / moments.rows)
    # A deviation can underflow to zero without the column being constant.
    still = moments.constant | (deviation == 0)
    return Standardizer(np.where(still, 0.0, moments.mean), np.where(still, 1.0, deviation))


def moments_of(X: Matrix) -> Moments:
    """The moments of a whole matrix."""
    moments = Moments(X.shape[1])
    moments.add(X)
    return moments.done()
