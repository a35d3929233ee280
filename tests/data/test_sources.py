"""Every source: shapes, labels, held-out samples, standardisation."""

from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_files import frame, idx_folder, write
from hypothesis import given, settings
from hypothesis import strategies as st

from fedray.config import schema
from fedray.data.moments import Moments, moments_of, standardizer
from fedray.data.sources import SOURCES, load_dataset
from fedray.data.split import held_out
from fedray.errors import FedrayError, InputError


def load(config, tmp_path="/", seed=0):
    return load_dataset(config, seed, base_dir=Path(tmp_path))


def test_every_source_of_the_schema_is_in_the_table():
    records = get_args(get_args(schema.Data)[0])
    assert {name for r in records for name in get_args(get_type_hints(r)["source"])} == set(SOURCES)


@pytest.mark.parametrize(
    ("source", "n", "d", "classes"),
    [
        ("digits", 1797, 64, 10),
        ("breast_cancer", 569, 30, 2),
        ("wine", 178, 13, 3),
        ("iris", 150, 4, 3),
        ("diabetes", 442, 10, 0),
    ],
)
def test_embedded(source, n, d, classes):
    data = load(schema.EmbeddedData(source=source))
    assert len(data.y) + len(data.y_test) == n
    assert data.X.shape == (len(data.y), d) == (len(data.y), len(data.features))
    assert len(data.classes) == classes
    assert data.X.flags.c_contiguous
    assert data.y.dtype == (np.int64 if classes else np.float64)


def test_iris_keeps_its_names():
    data = load(schema.EmbeddedData(source="iris"))
    assert data.classes == ("setosa", "versicolor", "virginica")
    assert data.features[0] == "sepal length (cm)"


def test_standardisation_uses_training_samples_only():
    raw = load(schema.EmbeddedData(standardize=False))
    data = load(schema.EmbeddedData(standardize=True))
    mean, deviation = raw.X.mean(axis=0), raw.X.std(axis=0)
    flat = deviation == 0
    assert flat.any()
    np.testing.assert_array_equal(data.X[:, flat], raw.X[:, flat])
    scale = np.where(flat, 1, deviation)
    shift = np.where(flat, 0, mean)
    np.testing.assert_allclose(data.X, (raw.X - shift) / scale, atol=1e-12)
    np.testing.assert_allclose(data.X_test, (raw.X_test - shift) / scale, atol=1e-12)


@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, 1000), max_size=6), seed=st.integers(0, 99))
def test_moments_do_not_depend_on_the_pieces(cuts, seed):
    X = np.random.default_rng(seed).normal(1e3, 1.0, (1000, 3))
    whole, parts = moments_of(X), Moments(3)
    for piece in np.split(X, sorted(cuts)):
        parts.add(piece)
    parts.done()
    np.testing.assert_array_equal(parts.mean, whole.mean)
    np.testing.assert_array_equal(parts.squares, whole.squares)


def test_moments_over_many_blocks_are_numpy_s(monkeypatch):
    monkeypatch.setattr("fedray.data.moments._BLOCK", 70)
    X = np.random.default_rng(0).normal(100, 3, (1234, 5)).astype(np.float32)
    moments = moments_of(X)
    np.testing.assert_allclose(moments.mean, X.astype(float).mean(axis=0))
    np.testing.assert_allclose(moments.squares / 1234, X.astype(float).var(axis=0))
    X[:, 1] = 0.1
    assert standardizer(moments_of(X)).scale[1] == 1
    assert standardizer(moments_of(X)).mean[1] == 0


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=6),
    fraction=st.floats(0.05, 0.6),
    seed=st.integers(0, 2**40),
)
def test_split_is_stratified_where_it_can_be(counts, fraction, seed):
    y = np.repeat(np.arange(len(counts)), counts)
    if len(y) * fraction < 1 or len(y) < 4:
        return
    test = held_out(fraction, seed, y=y, classification=True)
    np.testing.assert_array_equal(test, held_out(fraction, seed, y=y, classification=True))
    several = np.array(counts) >= 2
    rows = np.array(counts)[several].sum()
    if min(int(rows * fraction), int(rows * (1 - fraction))) >= several.sum():
        share = np.bincount(y[test], minlength=len(counts))
        assert (np.abs(share - fraction * np.array(counts))[several] <= 1.5).all()
        assert not share[~several].any()


def test_split_per_client_takes_everyone_s_share():
    client = np.random.default_rng(0).permutation(np.repeat(np.arange(4), [1, 10, 55, 200]))
    test = held_out(0.2, 3, y=client, classification=False, client=client)
    held = np.bincount(client[test], minlength=4)
    assert held[0] == 0
    assert (np.abs(held - 0.2 * np.bincount(client)) <= 1).all()
    assert not np.array_equal(test, held_out(0.2, 4, y=client, classification=False, client=client))


def test_split_per_client_leaves_everyone_a_sample():
    client = np.concatenate([np.arange(200), np.full(50, 200)])
    test = held_out(0.3, 0, y=client, classification=False, client=client)
    assert set(client[~test]) == set(range(201))
    assert test.any()


# --- idx ---------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_round_trip(tmp_path, zipped):
    images, labels = idx_folder(tmp_path, zipped)
    data = load(schema.IdxData(path="."), tmp_path)
    assert data.X.dtype == np.float32
    np.testing.assert_array_equal(data.X, (images[:20].reshape(20, 20) / 255).astype(np.float32))
    np.testing.assert_array_equal(data.y, labels[:20])
    np.testing.assert_array_equal(data.y_test, labels[20:])
    assert data.classes == ("0", "1", "2")
    few = load(schema.IdxData(path=".", limit=7, standardize=True), tmp_path)
    assert few.X.shape == (7, 20)
    np.testing.assert_allclose(few.X.mean(axis=0), 0, atol=1e-6)


# --- tables --------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["csv", "parquet"])
def test_tables_with_string_labels(tmp_path, source):
    table = frame()
    write(table, tmp_path / f"t.{source}")
    write(frame(9, 1), tmp_path / f"u.{source}")
    config = schema.TableData(
        source=source,
        path=f"t.{source}",
        test_path=f"u.{source}",
        client_column="site",
        standardize=False,
    )
    data = load(config, tmp_path)
    assert data.features == ("age", "score", "flag") if source == "parquet" else ("age", "score")
    assert data.classes == ("ape", "cat", "dog")
    assert [data.classes[i] for i in data.y] == table["y"].to_pylist()
    assert [data.client_names[i] for i in data.client] == table["site"].to_pylist()
    np.testing.assert_allclose(data.X[:, 1], table["score"].to_numpy())
    assert data.X_test.shape[0] == 9
    assert data.X.dtype == np.float64


def test_labels_that_are_dictionaries_booleans_and_whole_floats(tmp_path):
    for name, labels, classes in [
        ("d", pa.array(["b", "a"] * 10).dictionary_encode(), ("a", "b")),
        ("b", pa.array([True, False] * 10), ("False", "True")),
        ("f", pa.array([10.0, 2.0] * 10), ("2", "10")),
    ]:
        pq.write_table(pa.table({"x": np.arange(20.0), "y": labels}), tmp_path / name)
        data = load(schema.TableData(source="parquet", path=name), tmp_path)
        assert data.classes == classes


def test_regression_is_recognised_and_can_be_asked_for(tmp_path):
    pq.write_table(pa.table({"x": np.arange(20), "y": np.arange(20) / 2}), tmp_path / "r")
    assert not load(schema.TableData(source="parquet", path="r"), tmp_path).classification
    pq.write_table(pa.table({"x": np.arange(20), "y": np.arange(20) % 4}), tmp_path / "i")
    assert load(schema.TableData(source="parquet", path="i"), tmp_path).classification
    asked = load(schema.TableData(source="parquet", path="i", task="regression"), tmp_path)
    assert not asked.classification
    assert asked.y.dtype == np.float64


def test_client_numbers_sort_as_numbers(tmp_path):
    owner = np.repeat([10, 100, 9], 5)
    table = pa.table({"x": np.arange(15), "y": owner % 2, "c": owner})
    pq.write_table(table, tmp_path / "t")
    config = schema.TableData(
        source="parquet", path="t", test_path="t", client_column="c", standardize=False
    )
    data = load(config, tmp_path)
    assert data.client_names == ("9", "10", "100")
    assert [int(data.client_names[i]) for i in data.client] == owner.tolist()


def test_npz_with_images_names_and_clients(tmp_path):
    X = np.random.default_rng(0).random((12, 2, 3)).astype(np.float32)
    y, site = np.array(["a", "b", "c"] * 4), np.array(["u", "v"] * 6)
    np.savez(tmp_path / "t.npz", X=X, y=y, site=site, extra=np.arange(12))
    config = schema.TableData(
        source="npz", path="t.npz", test_path="t.npz", client_column="site", standardize=False
    )
    data = load(config, tmp_path)
    assert data.X.dtype == np.float32
    np.testing.assert_array_equal(data.X, X.reshape(12, 6))
    np.testing.assert_array_equal(data.X_test, data.X)
    assert data.client_names == ("u", "v")
    picked = schema.TableData(source="npz", path="t.npz", features=("extra", "X"))
    assert load(picked, tmp_path).features == ("extra", "X0", "X1", "X2", "X3", "X4", "X5")


def test_folder_of_parquet_files_with_clients_in_its_names(tmp_path):
    for site in ("a", "b"):
        (tmp_path / "t" / f"site={site}").mkdir(parents=True)
        pq.write_table(
            pa.table({"x": np.arange(10.0), "y": np.arange(10) % 2}),
            tmp_path / "t" / f"site={site}" / "part.parquet",
        )
    config = schema.TableData(source="parquet", path="t", client_column="site")
    data = load(config, tmp_path)
    assert data.features == ("x",)
    assert data.client_names == ("a", "b")
    assert load(replace(config, client_column=None), tmp_path).features == ("x",)


def test_folders_above_a_file_are_no_columns(tmp_path):
    (tmp_path / "run=1").mkdir()
    pq.write_table(pa.table({"x": np.arange(9), "y": np.arange(9) % 2}), tmp_path / "run=1" / "t")
    data = load(schema.TableData(source="parquet", path="run=1/t"), tmp_path)
    assert data.features == ("x",)


# --- openml: its answers, without the network --------------------------------------------


def test_openml_takes_numeric_features(monkeypatch):
    from sklearn.utils import Bunch

    bunch = Bunch(
        data=np.column_stack([np.arange(20.0), np.zeros(20), np.ones(20)]),
        target=np.array(["no", "yes"] * 10, dtype=object),
        feature_names=["a", "kind", "b"],
        target_names=["class"],
        categories={"kind": ["x", "y"]},
    )
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda *_, **__: bunch)
    data = load(schema.OpenmlData(name="credit"))
    assert data.features == ("a", "b")
    assert data.classes == ("no", "yes")


@pytest.mark.parametrize(
    ("raised", "kind"), [(OSError("refused\nmore"), FedrayError), (ValueError("none"), InputError)]
)
def test_openml_errors_are_one_line(monkeypatch, raised, kind):
    def fail(*_, **__):
        raise raised

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fail)
    with pytest.raises(kind, match=r"data\.name") as error:
        load(schema.OpenmlData(name="credit"))
    assert type(error.value) is kind
    assert "\n" not in str(error.value)


# --- generated ------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["blobs", "classification"])
def test_generated(source):
    config = schema.GeneratedData(source=source, samples=500, dimensions=6, classes=5)
    data = load(config)
    assert data.X.shape == (400, 6)
    assert set(data.y) == set(range(5))
    np.testing.assert_array_equal(data.X, load(config).X)
    assert not np.array_equal(data.X, load(config, seed=1).X)
