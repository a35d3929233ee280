"""Bad data ends in one line that names the key."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_files import frame, idx_folder, write, write_idx

from fedray.config import schema
from fedray.data.federate import federate
from fedray.errors import InputError


def put(path: Path, table) -> None:
    write(table if isinstance(table, pa.Table) else pa.table(table), path)


def with_value(column, row, value):
    table = frame()
    values = [float(v) if v is not None else None for v in table[column].to_pylist()]
    values[row] = value
    return table.set_column(table.schema.get_field_index(column), column, pa.array(values))


GOOD = {"source": "parquet", "path": "t.parquet"}
CASES = {
    "missing file": (frame(), {"path": "q.parquet"}, "data.path", "did you mean 't.parquet'"),
    "missing test file": (frame(), {"test_path": "q"}, "data.test_path", "no such file"),
    "label absent": (frame(), {"label": "yy"}, "data.label", "'yy' does not exist"),
    "missing feature": (
        frame(),
        {"features": ("scor",)},
        "data.features",
        "did you mean 'score'",
    ),
    "feature of strings": (
        frame(),
        {"features": ("note",)},
        "data.features",
        "holds string, not numbers",
    ),
    "label among features": (
        frame(),
        {"features": ("y",), "label": "y"},
        "data.features",
        "is the label",
    ),
    "feature twice": (frame(), {"features": ("age", "age")}, "data.features", "twice"),
    "missing client column": (
        frame(),
        {"client_column": "sitte"},
        "data.client_column",
        "did you mean 'site'",
    ),
    "clients that are floats": (
        frame(),
        {"client_column": "score"},
        "data.client_column",
        "strings or integers",
    ),
    "no numeric column": (
        {"a": ["x"] * 4, "y": [0, 1, 0, 1]},
        {},
        "data.features",
        "no numeric column",
    ),
    "no rows": (frame().slice(0, 0), {}, "data.path", "no rows"),
    "one class": ({"a": [1, 2, 3], "y": [1, 1, 1]}, {}, "data.label", "single class, 1"),
    "nan": (with_value("score", 4, np.nan), {}, "data.path", "'score' is missing .* row 5 "),
    "infinite": (with_value("age", 0, np.inf), {}, "data.path", "'age' is infinite in row 1 "),
    "null": (with_value("age", 59, None), {}, "data.path", "'age' is missing .* row 60 "),
    "null label": ({"a": [1, 2, 3], "y": ["u", None, "v"]}, {}, "data.label", "row 2"),
    "nan label": ({"a": [1, 2, 3], "y": [0.5, 1, np.nan]}, {}, "data.label", "row 3"),
    "label is a date": (
        {"a": [1, 2], "y": pa.array([1, 2], pa.date32())},
        {},
        "data.label",
        "date32",
    ),
    "null client": (
        {"a": [1, 2, 3], "y": [0, 1, 0], "c": ["u", None, "v"]},
        {"client_column": "c"},
        "data.client_column",
        "row 2",
    ),
    "regression of strings": (frame(), {"task": "regression"}, "data.label", "needs numbers"),
    "too many classes": (
        {"a": np.arange(99), "y": np.arange(99)},
        {},
        "data.task",
        "say classification or regression",
    ),
    "nothing to hold out": ({"a": [1], "y": [0.5]}, {}, "data.test_fraction", "of 1 samples"),
}


def refused(data, split, base_dir, words):
    with pytest.raises(InputError, match=words) as error:
        federate(data, split, 0, base_dir=base_dir)
    assert "\n" not in str(error.value)
    return error.value.key


@pytest.mark.parametrize("case", CASES)
def test_bad_table(tmp_path, case):
    table, keys, key, words = CASES[case]
    put(tmp_path / "t.parquet", table)
    data = schema.TableData(**{**GOOD, **keys})
    assert refused(data, schema.IidPartition(clients=2), tmp_path, words) == key


@pytest.mark.parametrize("case", [c for c in CASES if isinstance(CASES[c][0], pa.Table)])
def test_bad_table_that_is_streamed(tmp_path, case):
    table, keys, key, words = CASES[case]
    put(tmp_path / "t.parquet", table)
    data = schema.TableData(**{**GOOD, "client_column": "site", **keys})
    assert refused(data, schema.NaturalPartition(), tmp_path, words) == key


def test_streamed_rows_are_counted_over_row_groups(tmp_path):
    pq.write_table(with_value("score", 44, np.nan), tmp_path / "t.parquet", row_group_size=20)
    data = schema.TableData(**GOOD, client_column="site")
    assert refused(data, schema.NaturalPartition(), tmp_path, "row 45 ") == "data.path"


TESTS = {
    "lacks a column": (frame().drop_columns(["age"]), "'age' does not exist"),
    "feature is text": (
        frame().set_column(0, "age", pa.array(["old"] * 60)),
        "holds string, not numbers",
    ),
    "lacks the label": (frame().drop_columns(["y"]), "label column 'y'"),
    "unseen label": (
        frame().set_column(4, "y", pa.array(["emu"] + ["cat"] * 59)),
        "label 'emu' does not occur .* known: ape, cat, dog",
    ),
    "other kind of label": (frame().set_column(4, "y", pa.array([1, 2] * 30)), "of one kind"),
    "nan": (with_value("score", 7, np.nan), "row 8 of u.parquet"),
    "no rows": (frame().slice(0, 0), "no rows"),
}


@pytest.mark.parametrize("split", [schema.IidPartition(clients=2), schema.NaturalPartition()])
@pytest.mark.parametrize("case", TESTS)
def test_bad_test_file(tmp_path, case, split):
    table, words = TESTS[case]
    put(tmp_path / "t.parquet", frame())
    put(tmp_path / "u.parquet", table)
    config = schema.TableData(**GOOD, test_path="u.parquet", client_column="site")
    with pytest.raises(InputError, match=words) as error:
        federate(config, split, 0, base_dir=tmp_path)
    assert error.value.key == "data.test_path"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.parquet", b"PAR1 but not really", "can not be read as parquet"),
        ("t.csv", b"", "can not be read as csv"),
        ("t.csv", b"a,y\n1,2\n3\n", "can not be read as csv"),
        ("t.npz", b"not a zip", "npz"),
    ],
)
def test_damaged_files(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    config = schema.TableData(source=name[2:], path=name)
    with pytest.raises(InputError, match=words) as error:
        federate(config, schema.IidPartition(clients=2), 0, base_dir=tmp_path)
    assert error.value.key == "data.path"
    assert "\n" not in str(error.value)


def npz(tmp_path, **arrays):
    arrays = {"X": np.ones((4, 2)), "y": np.array([0, 1, 0, 1])} | arrays
    np.savez(tmp_path / "t.npz", **arrays)


@pytest.mark.parametrize(
    ("arrays", "keys", "key"),
    [
        ({}, {"label": "z"}, "data.label"),
        ({}, {"features": ("Z",)}, "data.features"),
        ({}, {"client_column": "c"}, "data.client_column"),
        ({"y": np.arange(3)}, {}, "data.label"),
        ({"X": np.array([["a"]] * 4)}, {}, "data.features"),
        ({"X": np.full((4, 2), np.nan)}, {}, "data.path"),
        ({"X": np.ones((0, 2)), "y": np.zeros(0)}, {}, "data.path"),
        ({"y": np.array([{}, 1, 2, 3], dtype=object)}, {}, "data.path"),
        ({"c": np.ones(4)}, {"client_column": "c"}, "data.client_column"),
    ],
)
def test_bad_npz(tmp_path, arrays, keys, key):
    npz(tmp_path, **arrays)
    config = schema.TableData(source="npz", path="t.npz", **keys)
    with pytest.raises(InputError) as error:
        federate(config, schema.IidPartition(clients=2), 0, base_dir=tmp_path)
    assert error.value.key == key
    assert "\n" not in str(error.value)


def test_idx_folder_that_is_not_there_says_what_to_install(tmp_path):
    with pytest.raises(InputError, match="apt install dataset-fashion-mnist") as error:
        federate(
            schema.IdxData(path="nowhere"), schema.IidPartition(clients=2), 0, base_dir=tmp_path
        )
    assert error.value.key == "data.path"


@pytest.mark.parametrize("fault", ["absent", "cut", "type", "text", "lengths", "gzip"])
def test_damaged_idx(tmp_path, fault):
    idx_folder(tmp_path)
    labels = tmp_path / "train-labels-idx1-ubyte"
    if fault == "absent":
        labels.unlink()
    elif fault == "cut":
        labels.write_bytes(labels.read_bytes()[:-1])
    elif fault == "type":
        write_idx(labels, np.zeros(20), kind=13)
    elif fault == "text":
        labels.write_bytes(b"no")
    elif fault == "lengths":
        write_idx(labels, np.zeros(19))
    else:
        labels.unlink()
        labels.with_name(labels.name + ".gz").write_bytes(b"\x1f\x8b broken")
    with pytest.raises(InputError, match="train") as error:
        federate(schema.IdxData(path="."), schema.IidPartition(clients=2), 0, base_dir=tmp_path)
    assert error.value.key == "data.path"


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (schema.GeneratedData(samples=5, classes=4), "data.samples"),
        (
            schema.GeneratedData(source="classification", dimensions=2, classes=9),
            "data.dimensions",
        ),
        (schema.SyntheticData(clients=10**6), "data.clients"),
    ],
)
def test_generators_that_can_not(config, key):
    with pytest.raises(InputError) as error:
        federate(config, schema.IidPartition(clients=2), 0, base_dir=Path("/"))
    assert error.value.key == key


def test_rotation_needs_two_features(tmp_path):
    pq.write_table(pa.table({"x": np.arange(9), "y": np.arange(9) % 2}), tmp_path / "t.parquet")
    split = schema.FeatureShiftPartition(clients=2, shift="rotation")
    with pytest.raises(InputError) as error:
        federate(schema.TableData(**GOOD), split, 0, base_dir=tmp_path)
    assert error.value.key == "partition.shift"
