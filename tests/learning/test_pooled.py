"""Pooled training: plain SGD on all samples, whoever owns them."""

from __future__ import annotations

import numpy as np
import pytest

from fedray import rng
from fedray.config import schema
from fedray.data.shards import ArrayShards
from fedray.learning.local import sgd
from fedray.learning.pooled import batch_size, draw, gather, pooled_steps
from fedray.learning.work import Work
from fedray.models.softmax import SoftmaxModel
from fedray.types import Federation


@pytest.fixture
def shards() -> ArrayShards:
    rng = np.random.default_rng(0)
    sizes = np.array([5, 1, 30, 12])
    X, y = rng.normal(size=(48, 3)), rng.integers(0, 2, 48)
    return ArrayShards(X, y, np.concatenate(([0], np.cumsum(sizes))))


def federation(shards: ArrayShards) -> Federation:
    return Federation(shards, shards.X, shards.y, ("a", "b", "c"), ("0", "1"), None, None)


def work(**client: object) -> Work:
    model = SoftmaxModel(3, 2, dtype=np.dtype(np.float64))
    return Work(model, schema.Client(**client), seed=4, local_losses=False)


def test_gathered_samples_are_those_of_all_shards_end_to_end(shards: ArrayShards) -> None:
    positions = np.array([47, 5, 0, 6, 5, 35, 36])
    X, y = gather(shards, positions)
    assert np.array_equal(X, shards.X[positions])
    assert np.array_equal(y, shards.y[positions])


def test_a_pass_takes_every_sample_once() -> None:
    found = draw(np.random.default_rng(1), 10, 27)
    assert len(found) == 27
    for start in (0, 10):
        assert sorted(found[start : start + 10]) == list(range(10))
    assert len(set(found[20:])) == 7
    assert found[:10].tolist() != found[10:20].tolist()


def test_a_pass_over_one_shard_is_local_training(shards: ArrayShards) -> None:
    whole = ArrayShards(shards.X, shards.y, np.array([0, 48]))
    made = work(batch_size=8, weight_decay=0.1)
    w = np.full(made.model.size, 0.2)
    expected = sgd(
        made.model, w, shards.X, shards.y, made.client, 0.3,
        rng.generator(4, rng.Stream.POOLED, 6),
    )  # fmt: skip
    assert expected.steps == 6
    found = pooled_steps(made, federation(whole), w, 6, 0.3, 6)
    assert np.array_equal(found, expected.w)
    # Who owns the samples makes no difference, the version does.
    assert np.array_equal(pooled_steps(made, federation(shards), w, 6, 0.3, 6), expected.w)
    assert not np.array_equal(pooled_steps(made, federation(shards), w, 6, 0.3, 7), expected.w)


def test_no_steps_change_nothing(shards: ArrayShards) -> None:
    made = work()
    w = np.ones(made.model.size)
    assert np.array_equal(pooled_steps(made, federation(shards), w, 0, 0.3, 1), w)


def test_batches_are_as_large_as_the_clients(shards: ArrayShards) -> None:
    assert batch_size(schema.Client(batch_size=16), shards.sizes) == 16
    assert batch_size(schema.Client(batch_size=100), shards.sizes) == 48
    assert batch_size(schema.Client(batch_size="full"), shards.sizes) == 12
