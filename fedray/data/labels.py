"""From labels as they are in a file to class indices, or to numbers for regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.data.samples import Task
from fedray.errors import InputError


@dataclass(frozen=True)
class LabelCode:
    """How labels become y. `values` are the distinct labels, sorted; None for regression."""

    values: NDArray[Any] | None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in index order, () for regression."""
        return () if self.values is None else tuple(str(v) for v in self.values.tolist())

    def encode(self, labels: NDArray[Any], where: str, key: str) -> NDArray[Any]:
        """y (n,): int64 class indices, or float64. Raises InputError for a label unknown here."""
        labels = plain(labels, where, key)
        if self.values is None:
            return _numbers(labels, where, key)
        if (labels.dtype.kind == "U") != (self.values.dtype.kind == "U"):
            raise InputError(
                f"{where}: labels must be of one kind, {_kind(self.values)} as in the training "
                f"data, not {_kind(labels)}",
                key=key,
            )
        y = np.searchsorted(self.values, labels).astype(np.int64)
        known = self.values[np.minimum(y, len(self.values) - 1)] == labels
        if not known.all():
            unseen = labels[np.argmin(known)].item()
            raise InputError(
                f"{where}: label {unseen!r} does not occur in the training data; "
                f"known: {_some(self.classes)}",
                key=key,
            )
        return y


def learn_labels(labels: NDArray[Any], task: Task, name: str, key: str) -> LabelCode:
    """The code of training labels.

    `auto` is a regression where the labels are floats that are not all integers. Raises
    InputError for strings in a regression, a single class, and, under `auto`, integers that
    look like measurements rather than classes.
    """
    labels = plain(labels, f"column {name!r}", key)
    if task == "regression" or (task == "auto" and labels.dtype.kind == "f"):
        _numbers(labels, f"column {name!r}", key)
        return LabelCode(None)
    values = np.unique(labels)
    if len(values) < 2:
        raise InputError(
            f"{name!r} holds a single class, {values[0].item()!r}; at least two are needed",
            key=key,
        )
    if task == "auto" and labels.dtype.kind != "U" and len(values) > max(20, len(labels) // 2):
        raise InputError(
            f"{name!r} has {len(values)} different values in {len(labels)} samples; "
            "say classification or regression",
            key="data.task",
        )
    return LabelCode(values)


def plain(labels: NDArray[Any], where: str, key: str) -> NDArray[Any]:
    """Labels as strings (U), int64, bool, or floats that are not all integers.

    Raises InputError for missing or infinite ones.
    """
    if labels.dtype.kind == "O":
        missing = np.array([v is None or v != v for v in labels.tolist()], dtype=bool)
        _refuse_missing(missing, where, key)
        labels = np.array([str(v) for v in labels.tolist()])
    if labels.dtype.kind == "f":
        _refuse_missing(~np.isfinite(labels), where, key)
        if np.array_equal(labels, np.rint(labels)) and np.all(np.abs(labels) < 2**53):
            return labels.astype(np.int64)
        return labels
    if labels.dtype.kind in "iu":
        return labels.astype(np.int64)
    if labels.dtype.kind in "Ub":
        return labels
    raise InputError(
        f"{where}: labels must be strings or numbers, not {labels.dtype}",
        key=key,
    )


def _numbers(labels: NDArray[Any], where: str, key: str) -> NDArray[Any]:
    if labels.dtype.kind == "U":
        raise InputError(
            f"{where}: a regression needs numbers, not strings such as {labels[0].item()!r}",
            key=key,
        )
    return labels.astype(np.float64)


def _refuse_missing(missing: NDArray[np.bool_], where: str, key: str) -> None:
    if missing.any():
        raise InputError(
            f"{where}: the label in row {int(np.argmax(missing)) + 1} is missing or infinite",
            key=key,
        )


def _kind(labels: NDArray[Any]) -> str:
    return "strings" if labels.dtype.kind == "U" else "numbers"


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
