"""Clients as the data has them."""

from __future__ import annotations

from fedray.config.schema import NaturalPartition
from fedray.errors import InputError
from fedray.types import Dataset, Ints


def split_natural(config: NaturalPartition, data: Dataset, _seed: int) -> Ints:
    """The source's own clients. Raises InputError where it has none."""
    if data.client is None:
        raise InputError(
            f"{config.scheme} needs data that knows its clients: set data.client_column for "
            "parquet, csv and npz, or use data.source synthetic or linear_regression",
            key="partition.scheme",
        )
    return data.client
