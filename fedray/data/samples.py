"""What a source reads, before labels are encoded and a test set is held out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedray.data.shipped import here
from fedray.errors import InputError, nearest
from fedray.types import Ints, Matrix

Task: TypeAlias = Literal["auto", "classification", "regression"]


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Rows in the order of the source; `labels` (n,) as read: strings, integers or floats."""

    X: Matrix
    labels: NDArray[Any]
    features: tuple[str, ...]
    task: Task = "auto"
    label_name: str = "y"
    label_key: str = "data.label"
    """The configuration key that errors about training labels name."""
    test_key: str = "data.test_path"
    classes: tuple[str, ...] | None = None
    """Names in index order where the labels already are class indices."""
    X_test: Matrix | None = None
    labels_test: NDArray[Any] | None = None
    client: Ints | None = None
    client_names: tuple[str, ...] = ()


def locate(path: str, base_dir: Path, key: str) -> Path:
    """The absolute path of a file or folder of the configuration.

    Raises InputError where there is none, naming the nearest neighbour.
    """
    found = here(base_dir / Path(path).expanduser())
    if not found.exists():
        near = found.parent.iterdir() if found.parent.is_dir() else ()
        hint = nearest(found.name, (p.name for p in near))
        raise InputError(f"no such file or folder: {found}{hint}", key=key)
    return found.absolute()


def check_rows(n: int, where: str, key: str) -> None:
    """Raises InputError for data without a row."""
    if n == 0:
        raise InputError(f"{where} has no rows", key=key)


def check_finite(
    X: Matrix, features: tuple[str, ...], where: str, key: str, first_row: int = 1
) -> None:
    """Raises InputError that names the column and row of the first missing or infinite value."""
    step = max(1, 2**20 // max(1, X.shape[1]))
    for start in range(0, len(X), step):
        finite = np.isfinite(X[start : start + step])
        if finite.all():
            continue
        row, column = np.argwhere(~finite)[0]
        value = "infinite" if np.isinf(X[start + row, column]) else "missing (NaN or null)"
        raise InputError(
            f"column {features[column]!r} is {value} in row {first_row + start + row} of {where}; "
            "all values must be finite",
            key=key,
        )
