"""Local SGD: which samples it sees, and that it is a pure function."""

from __future__ import annotations

import numpy as np
import pytest

from fedray import rng
from fedray.config import schema
from fedray.learning import local


class Spy:
    """A model that writes down every minibatch it is shown."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def gradient(self, w, X, y, out) -> None:
        self.batches.append(X[:, 0].astype(int).tolist())
        out[:] = 1.0


def walk(config: schema.Client, n: int, seed: int = 0) -> Spy:
    spy = Spy()
    X, y = np.arange(n, dtype=float)[:, None], np.zeros(n)
    X.flags.writeable = y.flags.writeable = False
    base = np.zeros(3)
    base.flags.writeable = False
    local.sgd(spy, base, X, y, config, 0.1, rng.generator(seed, rng.Stream.TRAIN, 1, 2))
    return spy


def test_every_pass_sees_every_sample_once_in_a_fresh_order():
    batches = walk(schema.Client(epochs=2, batch_size=4), 10).batches
    assert [len(b) for b in batches] == [4, 4, 2, 4, 4, 2]
    first, second = ([i for b in half for i in b] for half in (batches[:3], batches[3:]))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_full_batches_keep_the_shard_as_it_is():
    assert walk(schema.Client(epochs=2, batch_size="full"), 5).batches == [list(range(5))] * 2


def test_steps_go_on_into_the_next_pass_and_stop_there():
    batches = walk(schema.Client(steps=4, batch_size=4), 10).batches
    assert [len(b) for b in batches] == [4, 4, 2, 4]


def test_the_seed_decides_the_order():
    config = schema.Client(epochs=1, batch_size=4)
    assert walk(config, 10).batches == walk(config, 10).batches
    assert walk(config, 10).batches != walk(config, 10, seed=1).batches


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_is_kept_and_the_base_is_not_written_to(dtype):
    base = np.zeros(3, dtype)
    config = schema.Client(steps=2, momentum=0.9, weight_decay=0.1, prox_mu=0.1)
    got = local.sgd(Spy(), base, np.ones((4, 1)), np.ones(4), config, 0.1,
                    rng.generator(0, rng.Stream.TRAIN))  # fmt: skip
    assert got.w.dtype == dtype
    assert (base == 0).all()
    assert got.steps == 2
