"""Columns of Arrow tables as features, labels and clients. Imports pyarrow when called."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.config.schema import TableData
from fedray.errors import InputError, nearest
from fedray.types import Floats, Ints


@contextmanager
def readable(path: Path, key: str) -> Iterator[None]:
    """Whatever Arrow has to say about a broken file, as one line. It often says so late."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeError) as error:
        kind = "csv" if path.suffix == ".csv" else "parquet"
        line = next(iter(str(error).splitlines()), "")
        raise InputError(f"{path} can not be read as {kind}: {line}", key=key) from error


def feature_columns(schema: Any, config: TableData) -> tuple[str, ...]:
    """The feature columns of a table: `data.features`, or all other numeric ones.

    Raises InputError for missing columns, for features that are no numbers, and for none.
    """
    _require_column(schema, config.label, "data.label")
    if config.client_column is not None:
        _require_column(schema, config.client_column, "data.client_column")
    if config.features is None:
        taken = {config.label, config.client_column}
        found = tuple(f.name for f in schema if f.name not in taken and is_numeric(f.type))
        if not found:
            raise InputError(
                f"{config.path} has no numeric column besides label and client; "
                f"columns: {_listing(schema.names)}",
                key="data.features",
            )
        return found
    if config.label in config.features:
        raise InputError(f"{config.label!r} is the label, not a feature", key="data.features")
    for name in config.features:
        require_feature(schema, name, "data.features")
    if len(set(config.features)) < len(config.features):
        raise InputError("a column is named twice", key="data.features")
    return config.features


def require_feature(schema: Any, name: str, key: str) -> None:
    """Raises InputError unless the schema has a numeric column of that name."""
    _require_column(schema, name, key)
    kind = schema.field(name).type
    if not is_numeric(kind):
        raise InputError(f"column {name!r} holds {kind}, not numbers", key=key)


def is_numeric(kind: Any) -> bool:
    """Whether an Arrow type can be cast to float64; truth values count as 0 and 1."""
    import pyarrow.types as t

    return bool(
        t.is_integer(kind) or t.is_floating(kind) or t.is_boolean(kind) or t.is_decimal(kind)
    )


def open_parquet(path: Path) -> Any:
    """A file, or a folder with files and perhaps column=value folders, as a pyarrow Dataset."""
    import pyarrow.dataset as ds

    # Folders above the data are no columns, whatever they are called.
    return ds.dataset(path, format="parquet", partitioning="hive" if path.is_dir() else None)


def batches(data: Any, features: Sequence[str]) -> Iterator[Floats]:
    """The features of a pyarrow Dataset, float64 (n, features), in the order of its rows."""
    # Reading further ahead would hold hundreds of megabytes for nothing.
    ahead = {"batch_readahead": 1, "fragment_readahead": 1}
    for batch in data.to_batches(columns=list(features), batch_size=2**16, **ahead):
        yield matrix(batch, features)


def matrix(columns: Any, features: Sequence[str]) -> Floats:
    """Columns of a RecordBatch or Table as float64 (n, features); null becomes NaN."""
    import pyarrow as pa

    X = np.empty((columns.num_rows, len(features)))
    for j, name in enumerate(features):
        column = columns.column(name)
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.uint8())
        X[:, j] = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return X


def label_array(column: Any, name: str, where: str, key: str) -> NDArray[Any]:
    """A label column as strings (U), bool, int64 or float64. Raises InputError for nulls."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = _decoded(column)
    if column.null_count:
        row = pc.index(pc.is_null(column, nan_is_null=False), True).as_py() + 1
        raise InputError(f"column {name!r} of {where}: the label in row {row} is missing", key=key)
    t, kind = pa.types, column.type
    if t.is_string(kind) or t.is_large_string(kind):
        coded = pc.dictionary_encode(column.combine_chunks())
        values = np.array(coded.dictionary.to_pylist(), dtype=np.str_)
        return values[coded.indices.to_numpy()] if len(values) else values
    if t.is_decimal(kind) or t.is_floating(kind):
        column = column.cast(pa.float64())
    elif t.is_integer(kind):
        column = column.cast(pa.int64())
    elif not t.is_boolean(kind):
        raise InputError(
            f"column {name!r} of {where} holds {kind}; labels must be strings or numbers", key=key
        )
    return np.asarray(column.to_numpy())


def client_codes(column: Any, name: str, where: str) -> tuple[Ints, Any]:
    """Client index of every row, and the clients' values (an Arrow array), sorted.

    Raises InputError for nulls and for columns that are neither strings nor integers.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    column, key, t = _decoded(column), "data.client_column", pa.types
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py() + 1
        raise InputError(f"column {name!r} of {where}: no client in row {row}", key=key)
    kind = column.type
    if not (t.is_string(kind) or t.is_large_string(kind) or t.is_integer(kind)):
        raise InputError(
            f"column {name!r} of {where} holds {kind}; clients must be strings or integers",
            key=key,
        )
    coded = pc.dictionary_encode(column.combine_chunks())
    order = pc.sort_indices(coded.dictionary).to_numpy()
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank[coded.indices.to_numpy()], coded.dictionary.take(pa.array(order))


def client_names(values: Any) -> tuple[str, ...]:
    """The clients' values as text."""
    return tuple(str(v) for v in values.to_pylist())


def _decoded(column: Any) -> Any:
    import pyarrow as pa

    kind = column.type
    column = column.cast(kind.value_type) if pa.types.is_dictionary(kind) else column
    if str(column.type) == "string_view":
        column = column.cast(pa.string())
    return column


def _require_column(schema: Any, name: str, key: str) -> None:
    if schema.names.count(name) != 1:
        fault = "occurs more than once" if name in schema.names else "does not exist"
        raise InputError(
            f"column {name!r} {fault}{nearest(name, schema.names)}; "
            f"columns: {_listing(schema.names)}",
            key=key,
        )


def _listing(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
