"""Splits of a data set over clients, by `partition.scheme`; one scheme per file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fedray.config import schema
from fedray.data.partition.dirichlet import split_dirichlet
from fedray.data.partition.iid import split_iid
from fedray.data.partition.natural import split_natural
from fedray.data.partition.quantity import split_quantity
from fedray.data.partition.shards import split_shards
from fedray.data.partition.temporal import split_temporal
from fedray.types import Dataset, Ints

__all__ = ["SCHEMES", "partition"]

SCHEMES: Mapping[str, Callable[[Any, Dataset, int], Ints]] = {
    "iid": split_iid,
    "dirichlet": split_dirichlet,
    "shards": split_shards,
    "quantity": split_quantity,
    "feature_shift": split_iid,
    "concept_shift": split_iid,
    "temporal": split_temporal,
    "natural": split_natural,
}
"""`partition.scheme` -> (config, data, seed) -> owner. A new scheme is a file and a line here."""


def partition(config: schema.Partition, data: Dataset, seed: int) -> Ints:
    """The client of every training sample, shape (n,), in 0..clients-1; none goes without.

    Raises InputError where the data can not be split so.
    """
    return SCHEMES[config.scheme](config, data, seed)
