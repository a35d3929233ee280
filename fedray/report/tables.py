"""The tables of a run folder: their columns, one writer, one reader.

While a run goes on, `updates.parquet` is a folder of part files, so that whatever was
flushed is readable by the same call after a crash; `close` turns it into one file.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fedray.errors import FedrayError, StorageError

Column: TypeAlias = Sequence[Any] | NDArray[Any]
"""One value per row; None is null."""

_INT, _FLOAT = pa.int64(), pa.float64()

_CLASSIFICATION = [("accuracy", _FLOAT), ("loss", _FLOAT)]
_REGRESSION = [("r2", _FLOAT), ("mse", _FLOAT), ("loss", _FLOAT)]


TERMS = ("participation", "staleness", "drift", "noise", "residual")
"""What is wrong with the direction of a step, see `learning.decomposition`."""

_LOOKED_INTO = (
    "gradient_norm",
    "direction_norm",
    "direction_dot",
    "step_size",
    *(f"{term}_{figure}" for term in TERMS for figure in ("norm", "dot")),
    "local_norm",
    "server_norm",
    "identity_error",
    "gradient_dissimilarity",
    "accuracy_before",
    "accuracy_after",
    "client_accuracy",
    "aggregation_gap",
    "divergence",
    "pooled_accuracy",
    "pooled_loss",
)
"""Columns that are null but for the versions that `diagnosis.decompose` looks into."""


def rounds_schema(classification: bool) -> pa.Schema:
    """A row per global version, version 0 included. Evaluation columns are null between."""
    return pa.schema(
        [
            ("version", _INT),
            ("virtual_time_s", _FLOAT),
            ("wall_time_s", _FLOAT),
            *(_CLASSIFICATION if classification else _REGRESSION),
            ("updates", _INT),
            ("dropped", _INT),
            ("staleness_mean", _FLOAT),
            ("staleness_max", _INT),
            ("bytes_up", _INT),
            ("bytes_down", _INT),
            ("update_norm", _FLOAT),
            ("cancellation", _FLOAT),
            ("cosine_mean", _FLOAT),
            ("n_effective", _FLOAT),
            ("drift_mean", _FLOAT),
            *([("accuracy_per_class", pa.list_(_FLOAT))] if classification else []),
            ("cosine_pairwise", _FLOAT),
            ("dilution_law", _FLOAT),
            *([("forgetting", _FLOAT)] if classification else []),
            *((name, _FLOAT) for name in _LOOKED_INTO),
            ("epsilon", _FLOAT),
            ("clip_norm", _FLOAT),
        ]
    )


# `applied_version` is the server's version when the update was applied, so
# staleness = applied_version - base_version, and the update helped to make
# version applied_version + 1.
UPDATES = pa.schema(
    [
        ("client", _INT),
        ("dispatch", _INT),
        ("base_version", _INT),
        ("applied_version", _INT),
        ("staleness", _INT),
        ("dispatched_at_s", _FLOAT),
        ("arrived_at_s", _FLOAT),
        ("examples", _INT),
        ("steps", _INT),
        *((name, _FLOAT) for name in ("weight", "norm", "cosine", "loss_before", "loss_after")),
        ("bytes_up", _INT),
        ("bytes_down", _INT),
        ("status", pa.string()),
    ]
)


def own_models(classification: bool) -> list[tuple[str, pa.DataType]]:
    """Of clients' own models and the global one on held-out samples: see docs/run-folder.md."""
    scores = ("accuracy" if classification else "mse", "loss")
    names = [f"{whose}_{score}" for whose in ("global", "personal") for score in scores]
    return [("test_examples", _INT), *((n, _FLOAT) for n in (*names, "gain")), ("cluster", _INT)]


def clients_schema(classification: bool, personal: bool = False) -> pa.Schema:
    """A row per client; accuracy and loss are the final model's on the client's own shard."""
    return pa.schema(
        [
            ("client", _INT),
            ("name", pa.string()),
            ("examples", _INT),
            *([("label_counts", pa.list_(_INT))] if classification else []),
            *((f"{part}_s", _FLOAT) for part in ("download", "compute", "upload", "duration")),
            ("jobs", _INT),
            ("applied", _INT),
            *(_CLASSIFICATION if classification else _REGRESSION),
            ("malicious", pa.bool_()),
            *(own_models(classification) if personal else []),
        ]
    )


def client_evals_schema(classification: bool, personal: bool = False) -> pa.Schema:
    """A row per client and evaluated version, where `eval.clients_every` asks for it."""
    return pa.schema(
        [
            ("version", _INT),
            ("client", _INT),
            *(_CLASSIFICATION if classification else _REGRESSION),
            *(own_models(classification) if personal else []),
        ]
    )


# A row per evaluated version of every arm of a diagnosis and of its controls, `reference`
# and `participation`, whose causes are null. Arms that coincide with another have that
# one's rows again, and its name in `computed_as`.
ARMS = pa.schema(
    [
        ("seed", _INT),
        ("arm", pa.string()),
        *((cause, pa.bool_()) for cause in ("non_iid", "drift", "staleness", "averaging")),
        ("computed_as", pa.string()),
        ("version", _INT),
        ("virtual_time_s", _FLOAT),
        *((count, _INT) for count in ("updates", "steps", "samples", "bytes")),
        *((score, _FLOAT) for score in ("accuracy", "loss")),
    ]
)


DECOMPOSITION = pa.schema(
    [
        ("version", _INT),
        ("client", _INT),
        ("dispatch", _INT),
        ("staleness", _INT),
        ("q", _FLOAT),
        ("p", _FLOAT),
        ("test_effect", _FLOAT),
        *((f"{term}_dot", _FLOAT) for term in TERMS),
        ("accuracy_before", _FLOAT),
        ("accuracy_after", _FLOAT),
        ("test_accuracy", _FLOAT),
    ]
)
"""A row per update of a version that was looked into, and one without a client for the rest."""


QUALITY = pa.schema(
    [
        *((n, _INT) for n in ("version", "client", "dispatch", "examples", "staleness")),
        ("score", _FLOAT),
        *((f"{n}_{at}", _FLOAT) for n in ("share", "total") for at in ("before", "after")),
        *((f"validation_{n}", _FLOAT) for n in ("loss", "loss_unweighted")),
        *((f"validation_{n}", _FLOAT) for n in ("accuracy", "accuracy_unweighted")),
    ]
)
"""A row per update that `server.quality` weighed. Totals are of the client so far; validation
scores are the version's, with these weights and without."""


class TableWriter:
    """Appends rows to `path` as the run goes; rows wait in memory until `flush`.

    `kept` rows of an earlier, interrupted run are kept, the rest is cut off, so that a
    resumed run continues the table exactly where its checkpoint was taken.
    """

    def __init__(
        self, path: Path, schema: pa.Schema, *, kept: int = 0, every_s: float = 2.0
    ) -> None:
        self.path, self.schema = path, schema
        self.rows = kept
        self._waiting: list[tuple[int, Mapping[str, Column]]] = []
        self._every_s, self._flushed_at = every_s, time.monotonic()
        fresh = path.with_name(f".{path.name}.fresh")
        try:
            _remove(fresh)
            fresh.mkdir(parents=True)
            if kept:
                write_table(first_rows(path, kept), fresh / _part(kept))
            _swap(fresh, path)
        except OSError as error:
            raise cannot_write(path, error) from error

    def append(self, columns: Mapping[str, Column]) -> None:
        """Adds rows, column by column; absent columns are null."""
        count = len(next(iter(columns.values())))
        self._waiting.append((count, columns))
        self.rows += count
        if time.monotonic() - self._flushed_at > self._every_s:
            self.flush()

    def flush(self) -> None:
        """Makes every row so far readable, and durable against the process's death."""
        if self._waiting:
            arrays = [pa.array(self._column(f.name), type=f.type) for f in self.schema]
            table = pa.Table.from_arrays(arrays, schema=self.schema)
            write_table(table, self.path / _part(self.rows))
            self._waiting = []
        self._flushed_at = time.monotonic()

    def _column(self, name: str) -> list[Any]:
        values: list[Any] = []
        for count, columns in self._waiting:
            column = columns.get(name)
            if column is None:
                values.extend([None] * count)
            else:
                values.extend(column if isinstance(column, Sequence) else column.tolist())
        return values

    def close(self) -> None:
        """Turns the part files into the one file that users read."""
        self.flush()
        one = self.path.with_name(f".{self.path.name}.whole")
        parts = list(self.path.glob("part-*.parquet"))
        if len(parts) == 1:  # of a short run, which is whole already
            with whole(one) as half:
                shutil.copyfile(parts[0], half)
        else:
            write_table(read_table(self.path, self.schema), one)
        try:
            _swap(one, self.path)
        except OSError as error:
            raise cannot_write(self.path, error) from error


def _part(last_row: int) -> str:
    return f"part-{last_row:012d}.parquet"


@contextmanager
def whole(path: Path, *, ending: str = "") -> Iterator[Path]:
    """A path to write to, which takes the place of `path` at the end of the block, or is gone.

    So a file either is there whole or not at all. `ending` is of the temporary file, for
    who insists on one. Raises StorageError, one line, where the disk does not take it.
    """
    half = path.with_name(f".{path.name}.half{ending}")
    try:
        yield half
        half.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            half.unlink(missing_ok=True)  # a full disk needs its room


NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""What the operating system says of a disk that takes no more."""


def cannot_write(path: Path, error: OSError) -> StorageError:
    """One line about what the operating system did not want to write."""
    # Arrow's own text is longer; the number says it.
    reason = os.strerror(error.errno) if error.errno else " ".join(str(error).split())
    return StorageError(f"{path}: cannot be written: {reason}")


def write_table(table: pa.Table, path: Path) -> None:
    """Writes a Parquet file, whole or not at all."""
    with whole(path) as half:
        pq.write_table(table, half, compression="zstd")


def write_text(path: Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    with whole(path) as half:
        half.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all."""
    with whole(path) as half:
        half.write_bytes(content)


def read_table(path: Path, schema: pa.Schema | None = None) -> pa.Table:
    """Reads a table of a run folder, finished or not, part files in order."""
    if not path.exists() and _before(path).exists():
        path = _before(path)
    if path.is_file():
        return _read(path)
    tables: list[pa.Table] = []
    begins = None
    for part in sorted(path.glob("part-*.parquet"), reverse=True):
        last = int(part.stem.removeprefix("part-"))
        # A resumed run has made one of what are several in a copy that is not up to date.
        if begins is None or last <= begins:
            tables.insert(0, _read(part))
            begins = last - tables[0].num_rows
    if not tables and schema is not None:
        return schema.empty_table()
    return pa.concat_tables(tables)


def _read(path: Path) -> pa.Table:
    # pq.read_table looks for data sets of many files first, which takes as long as reading.
    with pq.ParquetFile(path) as file:
        return file.read()


def first_rows(path: Path, count: int) -> pa.Table:
    """The first rows of a table of a run folder.

    Raises FedrayError, one line, where there are fewer, or the table cannot be read.
    """
    try:
        table = read_table(path)
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise FedrayError(f"{path}: cannot be read: {reason}") from error
    if table.num_rows < count:
        raise FedrayError(
            f"{path}: holds {table.num_rows:,} rows where the checkpoint was made after {count:,}; "
            "part of it is lost"
        )
    return table.slice(0, count)


def _swap(new: Path, path: Path) -> None:
    """Puts `new` in the place of `path`; `read_table` finds one of them at any time."""
    before = _before(path)
    if path.exists():
        _remove(before)
        path.replace(before)
    new.replace(path)
    _remove(before)


def _before(path: Path) -> Path:
    return path.with_name(f".{path.name}.before")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
