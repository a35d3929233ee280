"""Who owns which samples, as an actor holds it. Imports numpy only: actors start fast."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedray.errors import FedrayError
from fedray.types import Ints, Matrix

if TYPE_CHECKING:
    from fedray.data.labels import LabelCode
    from fedray.data.moments import Standardizer

_CACHE_BYTES = 128 << 20


@dataclass(frozen=True)
class ArrayShards:
    """Samples in memory, sorted by client: client k has rows offsets[k] to offsets[k + 1].

    The arrays may be read-only, as those in Ray's object store are.
    """

    X: Matrix
    y: NDArray[Any]
    offsets: Ints

    @property
    def sizes(self) -> Ints:
        """Samples per client, shape (clients,)."""
        return np.diff(self.offsets)

    def load(self, client: int) -> tuple[Matrix, NDArray[Any]]:
        """Views of the client's X (n, d) and y (n,); nothing is copied."""
        rows = slice(self.offsets[client], self.offsets[client + 1])
        return self.X[rows], self.y[rows]


@dataclass(frozen=True)
class ParquetSpec:
    """Everything that turns the rows of one client in a file into its shard."""

    path: Path
    features: Sequence[str]
    label: str
    client_column: str
    clients: Any
    """Arrow array: the clients' values in the column."""
    labels: LabelCode
    rows: Ints
    """(clients,): rows in the file, those of the test set included."""
    test: NDArray[np.uint8] | None
    """Bit per row, rows ordered by client and then as in the file: set for the test set."""
    standardizer: Standardizer | None
    dtype: np.dtype[Any]


class ParquetShards:
    """Samples in a Parquet file or folder, read by whoever needs them, one client at a time.

    Row groups without a row of the client are skipped by their statistics. The last shards,
    128 MiB at most, are kept. Pickles without data.
    """

    def __init__(self, spec: ParquetSpec, sizes: Ints) -> None:
        self._spec, self._sizes = spec, sizes
        self._starts = np.cumsum(spec.rows) - spec.rows
        self._cache: OrderedDict[int, tuple[Matrix, NDArray[Any]]] = OrderedDict()
        self._cached_bytes = 0
        self._file: Any = None

    @property
    def sizes(self) -> Ints:
        """Samples per client, shape (clients,)."""
        return self._sizes

    def load(self, client: int) -> tuple[Matrix, NDArray[Any]]:
        """The client's X (n, d) and y (n,), read-only.

        Raises FedrayError where this host has no such file, or the file has changed.
        """
        shard = self._cache.get(client)
        if shard is None:
            shard = self._read(client)
            self._keep(client, shard)
        else:
            self._cache.move_to_end(client)
        return shard

    def __getstate__(self) -> tuple[ParquetSpec, Ints]:
        return self._spec, self._sizes

    def __setstate__(self, state: tuple[ParquetSpec, Ints]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def _read(self, client: int) -> tuple[Matrix, NDArray[Any]]:
        import pyarrow as pa
        import pyarrow.dataset as ds

        from fedray.data import columns

        spec = self._spec
        try:
            if self._file is None:
                self._file = columns.open_parquet(spec.path)
            table = self._file.to_table(
                columns=[*spec.features, spec.label],
                filter=ds.field(spec.client_column) == spec.clients[client],
            )
        except (OSError, pa.ArrowException) as error:
            raise FedrayError(f"data.path: {spec.path} can not be read here: {error}") from error
        if table.num_rows != spec.rows[client]:
            raise FedrayError(f"data.path: {spec.path} has changed since the run started")
        X: Matrix = columns.matrix(table, spec.features)
        where = spec.path.name
        labels = columns.label_array(table[spec.label], spec.label, where, "data.label")
        y = spec.labels.encode(labels, where, "data.label")
        train = self._train_rows(client)
        if train is not None:
            X, y = X[train], y[train]
        if spec.standardizer is not None:
            spec.standardizer.apply(X)
        X = X.astype(spec.dtype, copy=False)
        y = y if spec.labels.values is not None else y.astype(spec.dtype, copy=False)
        X.flags.writeable = y.flags.writeable = False
        return X, y

    def _train_rows(self, client: int) -> NDArray[np.bool_] | None:
        """Which of the client's rows are not in the test set; None: all."""
        if self._spec.test is None:
            return None
        start, rows = int(self._starts[client]), int(self._spec.rows[client])
        first = start // 8
        bits = np.unpackbits(self._spec.test[first : (start + rows + 7) // 8])
        return np.equal(bits[start - 8 * first :][:rows], 0)

    def _keep(self, client: int, shard: tuple[Matrix, NDArray[Any]]) -> None:
        self._cache[client] = shard
        self._cached_bytes += shard[0].nbytes + shard[1].nbytes
        while self._cached_bytes > _CACHE_BYTES and len(self._cache) > 1:
            _, (X, y) = self._cache.popitem(last=False)
            self._cached_bytes -= X.nbytes + y.nbytes
