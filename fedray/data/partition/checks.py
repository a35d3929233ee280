"""What a scheme asks of the data before it draws anything."""

from __future__ import annotations

from fedray.errors import InputError
from fedray.types import Dataset


def require_samples(data: Dataset, clients: int, each: int = 1) -> None:
    """Raises InputError unless every client can get `each` training samples."""
    n = len(data.y)
    if clients * each > n:
        wanted = f"{clients} clients" + (f" x min_samples {each}" if each > 1 else "")
        raise InputError(
            f"{wanted} need {clients * each} training samples, there are {n}; "
            f"at most {n // each} clients are possible",
            key="partition.clients",
        )


def require_classes(data: Dataset, scheme: str) -> None:
    """Raises InputError for a regression."""
    if not data.classification:
        raise InputError(
            f"{scheme} splits by class, but the labels are those of a regression; "
            "use iid, quantity, feature_shift, temporal or natural",
            key="partition.scheme",
        )
