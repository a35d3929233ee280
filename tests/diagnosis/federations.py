"""Federations with something wrong in them, for the autopsy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fedray.rng import Stream, generator

LOCAL = {"runtime": {"executor": "local"}, "output": {"report": False}}


def flipped(
    folder: Path, seed: int, *, clients: int = 12, flipper: int | None = 5, suffix: str = "parquet"
) -> dict[str, Any]:
    """Settings for blobs of four classes in a file; the labels of one client are permuted.

    Clients have label mixes of their own; the test set is clean.
    """
    rng = generator(seed, Stream.DATA, 1)
    centres = rng.normal(0.0, 1.5, (4, 6))

    def draw(y: Any) -> Any:
        return centres[y] + rng.normal(0.0, 1.2, (len(y), 6))

    shards = []
    for client in range(clients):
        y = rng.choice(4, 60, p=rng.dirichlet(np.full(4, 2.0)))
        X = draw(y)
        if client == flipper:
            y = (y + 1 + rng.permutation(3)[0]) % 4
        shards.append((X, y, np.full(60, client)))
    train = [np.concatenate(part) for part in zip(*shards, strict=True)]
    y_test = np.arange(400) % 4
    paths = [folder / f"{name}.{suffix}" for name in ("train", "test")]
    _write(paths[0], train[0], train[1], train[2])
    _write(paths[1], draw(y_test), y_test, np.arange(400) % clients)
    return {
        "seed": seed,
        "data": {
            "source": suffix, "path": str(paths[0]), "test_path": str(paths[1]),
            "label": "y", "client_column": "client",
        },
        "partition": {"scheme": "natural"},
        **LOCAL,
    }  # fmt: skip


def _write(path: Path, X: Any, y: Any, client: Any) -> None:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    columns = {f"x{i}": X[:, i] for i in range(X.shape[1])}
    table = pa.table({**columns, "y": y, "client": [f"site-{c}" for c in client.tolist()]})
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        pyarrow.parquet.write_table(table, path)
