"""`fedray init`: looks at a data file and writes a commented configuration that runs on it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from fedray.config.layers import ENDINGS
from fedray.config.text import parse
from fedray.errors import FedrayError, InputError, nearest

MANY_CLASSES = 50
"""More distinct whole numbers than this, on over a tenth of the rows, are a quantity."""


@dataclass(frozen=True)
class Seen:
    """What a data file holds, as far as a configuration depends on it.

    `classes` is None for a regression, `clients` None without a client column.
    """

    source: str
    rows: int
    features: tuple[str, ...]
    ignored: tuple[str, ...]
    classes: int | None
    clients: int | None


def write_template(
    out: Path, data: Path | None, label: str | None, client_column: str | None, *, force: bool
) -> list[str]:
    """Writes the file `out`; returns lines that say what was seen and what comes next.

    Raises InputError for a missing file or column, or if `out` exists and not `force`.
    """
    if out.exists() and not force:
        raise InputError(f"{out}: exists already; --force overwrites it")
    if data is None:
        if label or client_column:
            raise InputError("goes with --data", key="--label" if label else "--client-column")
        text = resources.files("fedray.config").joinpath("quickstart.yaml").read_text("utf-8")
        said: list[str] = []
    else:
        seen = peek(data, label, client_column)
        assert label is not None
        text = render(seen, out, data, label, client_column)
        said = _said(seen, data, label, client_column)
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{out}: {error.strerror}") from None
    return [*said, f"wrote {out}; run it with: fedray launch {out}"]


def peek(data: Path, label: str | None, client_column: str | None) -> Seen:
    """Rows, features, classes and clients of a parquet, csv or npz file.

    Reads the columns of label and client only. Raises InputError.
    """
    if not data.exists():
        near = nearest(data.name, [p.name for p in data.parent.glob("*")])
        raise InputError(f"{data}: no such file{near}", key="--data")
    ending = Path(data.name.lower().removesuffix(".gz")).suffix
    source = "parquet" if data.is_dir() else ENDINGS.get(ending)
    if source is None:
        raise InputError(f"{data}: must end in {', '.join(ENDINGS)}", key="--data")
    try:
        return (_peek_npz if source == "npz" else _peek_table)(data, source, label, client_column)
    except (OSError, ValueError) as error:
        raise InputError(f"{data}: {str(error).splitlines()[0]}", key="--data") from None


def _peek_table(data: Path, source: str, label: str | None, client_column: str | None) -> Seen:
    import pyarrow as pa
    import pyarrow.dataset as ds

    table = ds.dataset(data, format=source)
    label = _column(label, table.schema.names, "--label")
    wanted = [label]
    if client_column is not None:
        if client_column == label:
            raise InputError(f"{label!r} is the label", key="--client-column")
        wanted.append(_column(client_column, table.schema.names, "--client-column"))
    columns = table.to_table(columns=list(dict.fromkeys(wanted)))
    others = [entry for entry in table.schema if entry.name not in wanted]
    numeric = [
        entry.name
        for entry in others
        if pa.types.is_integer(entry.type)
        or pa.types.is_floating(entry.type)
        or pa.types.is_boolean(entry.type)
    ]
    _refuse_gaps(table, [*numeric, *wanted[1:]])
    values = columns.column(label)
    if values.null_count:
        raise InputError(f"{label!r} is empty in {values.null_count} rows", key="--label")
    kind = values.type
    numbers = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    y = values.to_numpy() if numbers else np.asarray(values.to_pylist(), dtype=str)
    clients = None if client_column is None else len(columns.column(client_column).unique())
    ignored = [entry.name for entry in others if entry.name not in numeric]
    return _seen(source, y, numeric, ignored, clients)


def _refuse_gaps(table: Any, names: list[str]) -> None:
    """A run would refuse missing values, so the file is not written for them either."""
    import pyarrow.compute as pc

    for batch in table.to_batches(columns=names):
        for name, column in zip(names, batch.columns, strict=True):
            if pc.any(pc.is_null(column, nan_is_null=True)).as_py():
                raise InputError(f"column {name!r} has missing values; fill them", key="--data")


def _peek_npz(data: Path, source: str, label: str | None, client_column: str | None) -> Seen:
    with np.load(data, allow_pickle=False) as arrays:
        label = _column(label, arrays.files, "--label")
        if "X" not in arrays.files:
            raise InputError(
                f"{data}: has no array 'X' with the features, only {', '.join(arrays.files)}",
                key="--data",
            )
        clients = None
        if client_column is not None:
            _column(client_column, arrays.files, "--client-column")
            clients = len(np.unique(arrays[client_column]))
        width = int(np.prod(arrays["X"].shape[1:]))
        return _seen(source, arrays[label], [f"x{i}" for i in range(width)], [], clients)


def _seen(
    source: str, y: Any, features: Iterable[str], ignored: Iterable[str], clients: int | None
) -> Seen:
    features = tuple(features)
    if not features:
        raise InputError("no numeric column is left for the features", key="--data")
    if not len(y):
        raise InputError("has no rows", key="--data")
    distinct = len(np.unique(y))
    numbers = y.dtype.kind in "iuf"
    fractions = y.dtype.kind == "f" and not np.all(y == np.floor(y))
    many = distinct > max(MANY_CLASSES, len(y) / 10)
    classes = None if fractions or (numbers and many) else distinct
    if distinct == 1:
        raise InputError("has the same value in all rows: nothing to predict", key="--label")
    return Seen(source, len(y), features, tuple(ignored), classes, clients)


def _column(name: str | None, known: list[str], option: str) -> str:
    listed = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    if name is None:
        raise InputError(f"missing: which column to predict; there are {listed}", key=option)
    if name not in known:
        raise InputError(
            f"no column {name!r}{nearest(name, known) or f'; there are {listed}'}", key=option
        )
    return name


def _said(seen: Seen, data: Path, label: str, client_column: str | None) -> list[str]:
    what = "a regression" if seen.classes is None else f"{seen.classes} classes"
    lines = [f"{data}: {seen.rows} rows, {len(seen.features)} features, {label!r} is {what}"]
    if seen.ignored:
        lines.append(f"not numeric, so left out: {', '.join(seen.ignored)}")
    if seen.clients is None:
        lines.append("no --client-column, so rows are split over simulated clients")
    else:
        lines.append(f"{seen.clients} clients in {client_column!r}")
        if seen.clients < 2:
            raise InputError("all rows belong to one client", key="--client-column")
    return lines


_TASKS = {
    "classification": (
        "classification",
        "softmax               # multinomial logistic regression",
        "accuracy: 0.95",
    ),
    "regression": ("regression", "linear                # least squares", "loss: 0.1"),
}


def render(seen: Seen, out: Path, data: Path, label: str, client_column: str | None) -> str:
    """The commented configuration for what was seen."""
    clients = seen.clients or max(2, min(20, seen.rows // 50))
    if clients > seen.rows:
        raise FedrayError(f"{data}: {seen.rows} rows are too few to split")
    concurrency = min(8, clients)
    lr = min(0.1, float(f"{1 / len(seen.features):.0e}"))
    task, model, goal = _TASKS["regression" if seen.classes is None else "classification"]
    return f"""\
# Written by `fedray init`. `fedray plan {out.name}` says what it would run.
name: {_scalar(out.stem)}
seed: 7                       # every draw follows from it: same seed, same bits

data:                         # {seen.rows} rows, {len(seen.features)} features
  source: {seen.source}
  path: {_scalar(_seen_from(out, data))}
  # test_path: test.{seen.source}     # test samples, in place of test_fraction
  test_fraction: 0.2
  label: {_scalar(label)}
  task: {task}
{_owner(client_column)}  standardize: true           # zero mean and unit variance per feature

{_partition(seen, clients)}
model:
  kind: {model}; also: mlp, sklearn

algorithm: fedbuff            # `fedray algorithms` lists the others

client:                       # what one job of a client does
  epochs: 2
  batch_size: 32
  lr: {lr:g}

server:
  rounds: 50                  # new global versions
  schedule:
    mode: buffered            # nobody waits for the slowest; also: sync, async
    concurrency: {concurrency}            # clients that train at any time, of {clients}
    buffer_size: {max(1, concurrency // 2)}            # arrivals that make a new version

devices:                      # how long a job takes, in virtual seconds
  compute: {{kind: lognormal, median: 1000, sigma: 0.5}}   # samples per second
  dropout: 0.0                # chance that a job is lost

# stop: {{{goal}, patience: 20}}   # end early, whichever comes first
"""


def _owner(client_column: str | None) -> str:
    if client_column is None:
        return "  # client_column: client     # a column that says who owns the row\n"
    return f"  client_column: {_scalar(client_column)}\n"


def _partition(seen: Seen, clients: int) -> str:
    if seen.clients is not None:
        return f"""\
partition:
  scheme: natural             # the {clients} clients of data.client_column
"""
    if seen.classes is None:
        return f"""\
partition:                    # who owns which samples
  scheme: iid                 # also: quantity, feature_shift, temporal
  clients: {clients}
"""
    return f"""\
partition:                    # who owns which samples
  scheme: dirichlet           # each class is spread over the clients by a Dirichlet draw
  clients: {clients}
  alpha: 0.5                  # small: a client sees few classes; 100: everyone sees all of them
"""


def _seen_from(out: Path, data: Path) -> str:
    """The data's path relative to the configuration where it lies below it, else absolute."""
    folder, target = out.resolve().parent, data.resolve()
    return str(target.relative_to(folder) if target.is_relative_to(folder) else target)


def _scalar(value: str) -> str:
    """Text as YAML, quoted where it has to be."""
    if re.fullmatch(r"[\w./-]+", value) and parse(value, "name") == value:
        return value
    return "'" + value.replace("'", "''") + "'"
