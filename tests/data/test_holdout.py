"""What clients hold back: nobody trains on it, everybody has some, and it looks like the rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedray.config import schema
from fedray.data.federate import federate
from fedray.data.holdout import PartOf, count_out, held_out, hold_out

FEW = schema.DirichletPartition(clients=9, alpha=0.3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return federate(schema.EmbeddedData(), FEW, 0, base_dir=tmp_path_factory.mktemp("none"))


def rows(shards, client):
    """A client's samples, as a sorted list of rows with their labels."""
    X, y = shards.load(client)
    return sorted(map(tuple, np.column_stack([X, y]).tolist()))


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5])
def test_parts_are_the_whole_and_have_nothing_in_common(whole, fraction):
    found = hold_out(whole, fraction, 0)
    for client in range(whole.clients):
        kept, out = rows(found.shards, client), rows(found.tests, client)
        assert sorted(kept + out) == rows(whole.shards, client)
        assert len(out) == count_out(np.array(len(kept) + len(out)), fraction)
    assert found.shards.sizes.sum() + found.tests.sizes.sum() == whole.shards.sizes.sum()


def test_training_samples_keep_their_order(whole):
    found = hold_out(whole, 0.3, 0)
    X, y = whole.shards.load(4)
    out = held_out(y, 0.3, 0, 4)
    assert np.array_equal(found.shards.load(4)[0], X[~out])


def test_every_class_is_held_out_in_proportion():
    y = np.repeat([0, 1, 2], [100, 40, 10])
    out = held_out(y, 0.2, 0, 0)
    for label, expected in enumerate((20, 8, 2)):
        assert abs(int(out[y == label].sum()) - expected) <= 1
    assert out.sum() == 30


@pytest.mark.parametrize(("samples", "expected"), [(1, 0), (2, 1), (3, 1), (5, 1), (100, 20)])
def test_one_of_two_is_held_out_and_never_all(samples, expected):
    assert count_out(np.array(samples), 0.2) == expected
    assert held_out(np.zeros(samples), 0.2, 0, 3).sum() == expected
    assert held_out(np.zeros(samples), 0.99, 0, 3).sum() <= samples - 1 + (samples == 1)


def test_it_depends_on_the_seed_and_the_client_and_nothing_else():
    y = np.arange(50) % 3
    one = held_out(y, 0.3, 1, 2)
    assert np.array_equal(one, held_out(y, 0.3, 1, 2))
    assert not np.array_equal(one, held_out(y, 0.3, 2, 2))
    assert not np.array_equal(one, held_out(y, 0.3, 1, 3))


def test_shards_that_stay_in_files_are_divided_alike(whole):
    """Any other shards than arrays are divided when they are read."""

    class Files:
        sizes, load = whole.shards.sizes, staticmethod(whole.shards.load)

    arrays = hold_out(whole, 0.25, 5)
    files = hold_out(replace(whole, shards=Files()), 0.25, 5)
    assert isinstance(files.tests, PartOf)
    for left, right in ((arrays.shards, files.shards), (arrays.tests, files.tests)):
        assert np.array_equal(left.sizes, right.sizes)
        for client in range(whole.clients):
            assert all(map(np.array_equal, left.load(client), right.load(client)))
