"""Counter-based draws: the same for the same indices, whoever asks, in whatever order."""

from __future__ import annotations

import numpy as np

from fedray.rng import Rewindable, Stream, Uniforms, generator


def test_streams_seeds_and_indices_are_all_different():
    draws = {
        generator(seed, stream, i, j).random()
        for seed in (0, 1) for stream in (Stream.TRAIN, Stream.SELECT)
        for i in (0, 1) for j in (0, 1)
    }  # fmt: skip
    assert len(draws) == 16


def test_rewindable_equals_a_fresh_generator_whatever_came_before():
    shared = Rewindable(7, Stream.TRAIN)
    for i, j in ((5, 6), (1, 2), (5, 6), (2**40, 2**41)):
        fresh = generator(7, Stream.TRAIN, i, j)
        again = shared.at(i, j)
        assert np.array_equal(again.permutation(60), fresh.permutation(60))
        assert again.random(dtype=np.float32) == fresh.random(dtype=np.float32)


def test_uniforms_do_not_depend_on_the_order_of_asking():
    forward, backward = Uniforms(3, Stream.SELECT), Uniforms(3, Stream.SELECT)
    indices = [0, 1, 4095, 4096, 10_000]
    assert [forward.at(i) for i in indices] == [backward.at(i) for i in indices[::-1]][::-1]


def test_large_seeds_count_in_full():
    assert generator(2**63, Stream.DATA).random() != generator(0, Stream.DATA).random()
