"""The whole way: data, split, shifts, shards in memory and in files."""

import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedray.config import schema
from fedray.data import federate as module
from fedray.data.federate import federate
from fedray.data.parquet import amplification
from fedray.data.shards import ArrayShards, ParquetShards
from fedray.data.sources import load_dataset
from fedray.errors import FedrayError

HERE = Path("/")
FASHION = Path(schema.IdxData().path)


def make(data, split, seed=0, dtype=np.float32, base_dir=HERE):
    return federate(data, split, seed, dtype=dtype, base_dir=base_dir)


def test_shards_hold_the_training_set_once():
    data = schema.EmbeddedData()
    fed = make(data, schema.DirichletPartition(), dtype=np.float64)
    whole = load_dataset(data, 0, base_dir=HERE)
    shards = [fed.shards.load(k) for k in range(fed.clients)]
    X = np.concatenate([X for X, _ in shards])
    assert sorted(map(bytes, X)) == sorted(map(bytes, whole.X))
    assert [len(y) for _, y in shards] == fed.shards.sizes.tolist()
    for k, (_, y) in enumerate(shards):
        np.testing.assert_array_equal(np.bincount(y, minlength=10), fed.label_counts[k])
    assert fed.client_names is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_is_the_model_s(dtype):
    for data in (schema.EmbeddedData(), schema.EmbeddedData(source="diabetes")):
        fed = make(data, schema.IidPartition(), dtype=dtype)
        X, y = fed.shards.load(0)
        assert X.dtype == fed.X_test.dtype == dtype
        assert y.dtype == fed.y_test.dtype == (np.int64 if fed.classification else dtype)
    assert fed.label_counts is None


def test_array_shards_are_views_and_may_be_read_only():
    fed = make(schema.EmbeddedData(), schema.IidPartition())
    shards = pickle.loads(pickle.dumps(fed.shards))
    shards.X.flags.writeable = shards.y.flags.writeable = False
    X, y = shards.load(3)
    assert X.base is shards.X
    assert np.shares_memory(y, shards.y)


def test_same_seed_same_federation_other_seed_another():
    split = schema.FeatureShiftPartition(shift="noise")
    a, b, c = (make(schema.EmbeddedData(), split, seed=s).shards for s in (1, 1, 2))
    np.testing.assert_array_equal(a.X, b.X)
    assert not np.array_equal(a.X, c.X)


# --- shifts -------------------------------------------------------------------------------


def shifted(shift, strength=0.5, clients=5):
    data = schema.GeneratedData(samples=500, dimensions=7)
    plain = make(data, schema.IidPartition(clients=clients), dtype=np.float64)
    split = schema.FeatureShiftPartition(clients=clients, shift=shift, strength=strength)
    return plain, make(data, split, dtype=np.float64)


def test_noise_grows_from_the_first_client_to_the_last():
    plain, noisy = shifted("noise", 2.0)
    for k in range(5):
        added = noisy.shards.load(k)[0] - plain.shards.load(k)[0]
        assert np.std(added) == pytest.approx(2.0 * k / 4, rel=0.15)
    np.testing.assert_array_equal(noisy.X_test, plain.X_test)


def test_scale_multiplies_each_client_by_its_own_factor():
    plain, scaled = shifted("scale")
    ratios = [scaled.shards.load(k)[0] / plain.shards.load(k)[0] for k in range(5)]
    assert all(np.ptp(r) < 1e-9 and r.min() > 0 for r in ratios)
    assert len({round(r[0, 0], 6) for r in ratios}) == 5


def test_rotation_keeps_lengths_and_differs_by_client():
    plain, turned = shifted("rotation")
    for k in range(5):
        before, after = plain.shards.load(k)[0], turned.shards.load(k)[0]
        np.testing.assert_allclose(np.linalg.norm(after, axis=1), np.linalg.norm(before, axis=1))
        # An odd number of features leaves one as it is; the others turn.
        still = np.isclose(before, after).all(axis=0)
        assert still.sum() == 1
        Q = np.linalg.lstsq(before, after, rcond=None)[0]
        np.testing.assert_allclose(Q @ Q.T, np.eye(7), atol=1e-8)


@pytest.mark.parametrize("shift", ["noise", "scale", "rotation"])
def test_strength_zero_is_no_shift(shift):
    plain, same = shifted(shift, 0.0)
    np.testing.assert_allclose(same.shards.X, plain.shards.X, atol=1e-12)


@pytest.mark.parametrize("shift", ["noise", "scale", "rotation"])
def test_shifts_do_not_depend_on_blocks(shift, monkeypatch):
    whole = shifted(shift)[1].shards.X
    monkeypatch.setattr("fedray.data.heterogeneity._BLOCK", 800)
    np.testing.assert_array_equal(shifted(shift)[1].shards.X, whole)


def test_concept_shift_permutes_the_labels_of_each_client():
    data = schema.EmbeddedData()
    plain = make(data, schema.IidPartition(clients=12))
    for severity in (0.0, 0.5, 1.0):
        split = schema.ConceptShiftPartition(clients=12, severity=severity)
        fed = make(data, split)
        mappings = set()
        for k in range(12):
            before, after = plain.shards.load(k)[1], fed.shards.load(k)[1]
            mapping = {(int(a), int(b)) for a, b in zip(before, after, strict=True)}
            # One image per class and one class per image: a permutation.
            assert len({a for a, _ in mapping}) == len({b for _, b in mapping}) == len(mapping)
            mappings.add(frozenset(mapping))
        changed = np.mean(plain.shards.y != fed.shards.y)
        assert fed.heterogeneity["label_shift"] == pytest.approx(changed)
        assert changed == pytest.approx(severity, abs=0.15)
        assert len(mappings) > 6 or severity == 0
        np.testing.assert_array_equal(fed.y_test, plain.y_test)


# --- parquet --------------------------------------------------------------------------------


def hospitals(path, *, clients=5, n=400, grouped=True, labels="text", group_rows=50):
    rng = np.random.default_rng(3)
    site = rng.integers(0, clients, n)
    site[:clients] = np.arange(clients)
    site = np.sort(site) if grouped else site
    y = rng.integers(0, 3, n)
    named = {"text": np.array(["mild", "severe", "acute"])[y], "number": rng.normal(size=n)}
    table = pa.table(
        {
            "b": rng.normal(5, 2, n),
            "a": rng.integers(0, 9, n),
            "y": named[labels],
            "site": [f"h{k}" for k in site],
            "flat": np.full(n, 3.5),
        }
    )
    pq.write_table(table, path, row_group_size=group_rows)


NATURAL = schema.NaturalPartition()


@pytest.mark.parametrize("labels", ["text", "number"])
@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("given_test", [True, False])
def test_shards_read_from_the_file_equal_those_in_memory(
    tmp_path, labels, standardize, given_test, monkeypatch
):
    hospitals(tmp_path / "t.parquet", labels=labels)
    hospitals(tmp_path / "u.parquet", labels=labels, n=60)
    data = schema.TableData(
        source="parquet",
        path="t.parquet",
        test_path="u.parquet" if given_test else None,
        client_column="site",
        standardize=standardize,
    )
    streamed = make(data, NATURAL, base_dir=tmp_path)
    assert isinstance(streamed.shards, ParquetShards)
    monkeypatch.setattr(module, "federate_parquet", lambda *_, **__: None)
    held = make(data, NATURAL, base_dir=tmp_path)
    assert isinstance(held.shards, ArrayShards)
    np.testing.assert_array_equal(streamed.shards.sizes, held.shards.sizes)
    elsewhere = pickle.loads(pickle.dumps(streamed.shards))
    for k in range(held.clients):
        for shards in (streamed.shards, elsewhere):
            X, y = shards.load(k)
            np.testing.assert_array_equal(X, held.shards.load(k)[0])
            np.testing.assert_array_equal(y, held.shards.load(k)[1])
            assert X.dtype == np.float32
            assert y.dtype == held.shards.y.dtype
    np.testing.assert_array_equal(streamed.X_test, held.X_test)
    np.testing.assert_array_equal(streamed.y_test, held.y_test)
    assert streamed.client_names == held.client_names == tuple(f"h{k}" for k in range(5))
    assert streamed.features == held.features == ("b", "a", "flat")
    assert streamed.heterogeneity == pytest.approx(held.heterogeneity)
    if labels == "text":
        np.testing.assert_array_equal(streamed.label_counts, held.label_counts)


def test_mixed_clients_are_sorted_in_memory(tmp_path):
    hospitals(tmp_path / "t.parquet", grouped=False)
    data = schema.TableData(source="parquet", path="t.parquet", client_column="site")
    assert isinstance(make(data, NATURAL, base_dir=tmp_path).shards, ArrayShards)


def test_amplification_counts_the_rows_of_touched_groups(tmp_path):
    import pyarrow.dataset as ds

    client = np.repeat([0, 1, 2], [10, 5, 5])
    pq.write_table(pa.table({"c": client}), tmp_path / "t", row_group_size=10)
    # Client 0 lies in the first group, 1 and 2 in the second: 30 rows for 20.
    assert amplification(ds.dataset(tmp_path / "t"), client) == 1.5


def test_parquet_shards_keep_the_last_ones_within_a_budget(tmp_path, monkeypatch):
    hospitals(tmp_path / "t.parquet")
    data = schema.TableData(source="parquet", path="t.parquet", client_column="site")
    shards = make(data, NATURAL, base_dir=tmp_path).shards
    X, _ = shards.load(0)
    assert shards.load(0)[0] is X
    with pytest.raises(ValueError, match="read-only"):
        X[0] = 0
    monkeypatch.setattr("fedray.data.shards._CACHE_BYTES", X.nbytes)
    shards.load(1)
    assert shards.load(0)[0] is not X


def test_a_file_that_changes_or_vanishes_is_an_error(tmp_path):
    hospitals(tmp_path / "t.parquet")
    data = schema.TableData(source="parquet", path="t.parquet", client_column="site")
    shards = make(data, NATURAL, base_dir=tmp_path).shards
    hospitals(tmp_path / "t.parquet", n=300)
    with pytest.raises(FedrayError, match="has changed"):
        pickle.loads(pickle.dumps(shards)).load(0)
    (tmp_path / "t.parquet").unlink()
    with pytest.raises(FedrayError, match="can not be read here"):
        pickle.loads(pickle.dumps(shards)).load(0)


# --- size and start ------------------------------------------------------------------------


def test_a_million_clients_in_seconds():
    start = time.process_time()
    data = schema.GeneratedData(samples=1_250_000, dimensions=2)
    fed = make(data, schema.IidPartition(clients=10**6))
    assert fed.clients == 10**6
    assert fed.shards.load(999_999)[0].shape == (1, 2)
    assert time.process_time() - start < 20


@pytest.mark.skipif(not FASHION.is_dir(), reason="Fashion-MNIST is not installed")
def test_fashion_mnist():
    fed = make(schema.IdxData(), schema.DirichletPartition(clients=1000))
    assert fed.shards.sizes.sum() == 60_000
    assert fed.X_test.shape == (10_000, 784)
    assert fed.label_counts.sum(axis=0).tolist() == [6000] * 10
    assert fed.shards.X.min() == 0
    assert fed.shards.X.max() == 1


def test_actors_import_no_heavy_library_with_shards():
    code = (
        "import sys, fedray.data.shards\n"
        "heavy = {'pyarrow', 'sklearn', 'scipy', 'pandas', 'pydantic', 'yaml', 'ray'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
