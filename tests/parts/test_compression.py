"""Every code: exact lengths, what decode(encode(v)) is, bias, contraction, and what is kept."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quadratics import LR, A, M, close, flown, walk
from test_aggregators import arrivals

from fedray import rng
from fedray.config import schema
from fedray.config.load import load
from fedray.errors import InputError
from fedray.parts.aggregators.majority import Majority, heads, signs
from fedray.parts.compression import COMPRESSORS
from fedray.parts.compression.base import Compressor, Feedback
from fedray.parts.compression.bits import (
    index_bits,
    pack,
    pack_places,
    packed_bytes,
    places_bytes,
    unpack,
    unpack_places,
)
from fedray.parts.compression.nothing import Nothing
from fedray.parts.compression.quantised import Half, Int8, Qsgd
from fedray.parts.compression.sign import Sign
from fedray.parts.compression.sparse import RandomK, TopK
from fedray.parts.transforms import Sender
from fedray.simulation.downlink import sent

CODES: list[Compressor] = [
    Nothing(), TopK(fraction=0.03), TopK(fraction=0.4), RandomK(fraction=0.2),
    RandomK(fraction=0.2, error_feedback=False), Qsgd(), Qsgd(levels=1, bucket_size=None), Sign(),
    Half(), Half(kind="bfloat16"), Half(rounding="nearest"),
    Half(kind="bfloat16", rounding="nearest"), Int8(), Int8(block_size=7, rounding="nearest"),
]  # fmt: skip
UNBIASED = [
    RandomK(fraction=0.2, error_feedback=False), Qsgd(levels=1), Qsgd(levels=5, bucket_size=None),
    Half(), Half(kind="bfloat16"), Int8(block_size=9),
]  # fmt: skip
quick = settings(deadline=None, max_examples=25)  # machines of tests are busy
DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]


def named(code: Compressor) -> str:
    return ",".join(str(value) for value in vars(code).values())


def vectors(seed: int, size: int, dtype: np.dtype, scale: float = 1.0) -> np.ndarray:
    """Of very different lengths, some of them 0, as updates have them."""
    drawn = np.random.default_rng(seed)
    values = drawn.normal(size=size) * 10.0 ** drawn.integers(-4, 2, size) * scale
    return np.where(drawn.random(size) < 0.1, 0.0, values).astype(dtype)


def test_the_table_is_covered():
    assert {type(code) for code in CODES} == set(COMPRESSORS)


@pytest.mark.parametrize("code", CODES, ids=named)
@quick
@given(
    size=st.integers(1, 700), seed=st.integers(0, 2**32), dtype=st.sampled_from(DTYPES),
    scale=st.sampled_from([1e-30, 1.0, 1e4]),
)  # fmt: skip
def test_a_message_is_as_long_as_said_and_is_read_back(code, size, seed, dtype, scale):
    v = vectors(seed, size, dtype, scale)
    kept = v.copy()
    data = code.encode(v, rng.generator(seed, rng.Stream.COMPRESS))
    assert isinstance(data, bytes)
    assert len(data) == code.encoded_bytes(size, dtype)
    found = code.decode(data, size, dtype)
    assert found.shape == v.shape
    assert found.dtype == dtype
    assert np.isfinite(found).all()
    assert np.array_equal(v, kept)
    assert data == code.encode(v, rng.generator(seed, rng.Stream.COMPRESS)), "not reproducible"


@quick
@given(st.integers(1, 20), st.integers(0, 300), st.integers(0, 2**32))
def test_packed_numbers_come_back(bits, count, seed):
    values = np.random.default_rng(seed).integers(0, 1 << bits, count)
    data = pack(values, bits)
    assert len(data) == packed_bytes(bits, count) == math.ceil(bits * count / 8)
    assert np.array_equal(unpack(data, bits, count), values)


@quick
@given(st.integers(1, 500), st.data())
def test_packed_places_come_back_in_no_more_than_a_map(size, data):
    places = np.array(sorted(data.draw(st.sets(st.integers(0, size - 1), min_size=1))))
    packed = pack_places(places, size)
    assert np.array_equal(unpack_places(packed, size, len(places)), places)
    assert len(packed) == places_bytes(size, len(places)) <= math.ceil(size / 8)
    assert len(packed) <= math.ceil(index_bits(size) * len(places) / 8)


def test_lengths_by_hand():
    """1000 parameters in float32: 4000 bytes uncompressed."""
    single = np.dtype(np.float32)
    expected = {
        Nothing(): 4000,
        TopK(fraction=0.01): 40 + 13,  # 10 values, 10 indices of 10 bits
        TopK(fraction=0.5): 2000 + 125,  # a map of 1000 bits is shorter than 500 indices
        RandomK(fraction=0.01): 8 + 40,
        Qsgd(levels=7, bucket_size=None): 4 + 500,  # 15 values: 4 bits
        Qsgd(levels=7, bucket_size=300): 16 + 500,
        Qsgd(levels=1, bucket_size=None): 4 + 250,
        Sign(): 4 + 125,
        Half(): 2000,
        Int8(block_size=256): 16 + 1000,
    }
    assert {code: code.encoded_bytes(1000, single) for code in expected} == expected


@pytest.mark.parametrize("code", UNBIASED, ids=named)
def test_unbiased_over_many_seeds(code):
    """The mean of 2000 messages is within 5 standard errors of the vector, everywhere.

    Where a coordinate is hardly ever anything but 0, ten of those more are by chance.
    """
    v = np.random.default_rng(1).normal(size=40) * np.linspace(0.01, 2, 40)
    found = np.stack([code.carry(v, rng.generator(s, rng.Stream.COMPRESS)) for s in range(2000)])
    error = found.std(axis=0) / math.sqrt(len(found))
    rare = 10 * np.abs(found).max() / len(found)
    assert (np.abs(found.mean(axis=0) - v) <= 5 * error + rare).all()
    assert (error > 0).any(), "nothing was random"


@quick
@given(st.integers(0, 2**32), st.integers(2, 300), st.integers(1, 20))
def test_qsgd_is_within_the_variance_of_the_paper(seed, size, levels):
    """E |C(v) - v|^2 <= min(n / s^2, sqrt(n) / s) |v|^2 (lemma 3.1), here in expectation."""
    v = np.random.default_rng(seed).normal(size=size)
    length = np.linalg.norm(v)
    ratio = np.abs(v) / length * levels
    up = ratio - np.floor(ratio)
    variance = (up * (1 - up)).sum() * (length / levels) ** 2
    assert variance <= min(size / levels**2, math.sqrt(size) / levels) * length**2 * (1 + 1e-9)
    code = Qsgd(levels=levels, bucket_size=None)
    errors = [
        np.sum((code.carry(v, rng.generator(s, rng.Stream.COMPRESS)) - v) ** 2) for s in range(60)
    ]
    spread = np.std(errors) / math.sqrt(60)
    assert np.mean(errors) <= variance + 6 * spread + 1e-9


@quick
@given(st.integers(0, 2**32), st.integers(1, 400), st.sampled_from([0.01, 0.1, 0.7, 1.0]))
def test_topk_keeps_the_largest_and_contracts(seed, size, fraction):
    code, v = TopK(fraction=fraction), vectors(seed, size, DTYPES[1])
    found, k = code.carry(v, rng.generator(0, rng.Stream.COMPRESS)), code.count(size)
    sent = found != 0
    assert np.array_equal(found[sent], v[sent])
    largest = np.sort(np.abs(v))[::-1]
    np.testing.assert_allclose(np.sort(np.abs(found))[::-1][:k], largest[:k])
    left = np.sum((v - found) ** 2)
    assert left <= (1 - k / size) * np.sum(v**2) * (1 + 1e-12)


def test_topk_of_equal_ones_takes_the_first():
    found = TopK(fraction=0.5).carry(np.ones(6), rng.generator(0, rng.Stream.COMPRESS))
    assert found.tolist() == [1, 1, 1, 0, 0, 0]


@quick
@given(st.integers(0, 2**32), st.integers(1, 300))
def test_sign_leaves_what_lemma_8_says(seed, size):
    """|v - C(v)|^2 = |v|^2 - |v|_1^2 / P."""
    v = np.random.default_rng(seed).normal(size=size)
    found = Sign().carry(v, rng.generator(0, rng.Stream.COMPRESS))
    assert np.array_equal(np.sign(found), np.where(v >= 0, 1, -1))
    expected = np.sum(v**2) - np.sum(np.abs(v)) ** 2 / size
    assert np.sum((v - found) ** 2) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("code", [code for code in CODES if code.contracts], ids=named)
def test_what_contracts_leaves_less_than_there_was(code):
    if isinstance(code, RandomK) and not code.error_feedback:
        return  # scaled, so that it is unbiased instead
    v = np.random.default_rng(3).normal(size=120)
    left = [
        np.sum((v - code.carry(v, rng.generator(s, rng.Stream.COMPRESS))) ** 2) for s in range(50)
    ]
    assert np.mean(left) < np.sum(v**2)


@pytest.mark.parametrize("code", [c for c in CODES if c.memory_vectors], ids=named)
@pytest.mark.parametrize("dtype", DTYPES)
def test_all_that_was_sent_and_what_is_kept_add_up_to_all_updates(code, dtype):
    assert isinstance(code, Feedback)
    memory, sent, given_ = np.zeros((1, 50), dtype), np.zeros(50), np.zeros(50)
    for step in range(30):
        v = np.random.default_rng(step).normal(size=50).astype(dtype)
        arrived, memory = code.apply(v, memory, Sender(3, step, step, 0))
        assert memory.shape == (1, 50)
        assert memory.dtype == arrived.dtype == dtype
        sent += arrived
        given_ += v
    np.testing.assert_allclose(
        sent + memory[0], given_, rtol=0, atol=1e-12 if dtype == "f8" else 2e-4
    )
    assert np.abs(memory).max() > 0


@pytest.mark.parametrize("code", [c for c in CODES if isinstance(c, Feedback)], ids=named)
def test_without_feedback_nothing_is_kept(code):
    code = replace(code, error_feedback=False)
    assert code.memory_vectors == 0
    v, none = np.ones(10), np.zeros((0, 10))
    assert code.apply(v, none, Sender(0, 0, 0, 0))[1] is none


@pytest.mark.parametrize("code", CODES, ids=named)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_update_that_is_not_finite_arrives_as_that(code, bad):
    v = np.ones(64)
    v[13] = bad
    memory = np.zeros((code.memory_vectors, 64))
    assert not np.isfinite(code.apply(v, memory, Sender(0, 0, 0, 0))[0]).all()


@pytest.mark.parametrize(("kind", "bits"), [("float16", 10), ("bfloat16", 7)])
def test_halves_round_to_a_neighbour(kind, bits):
    """The error is below one unit of the last place, and below half of it to the nearest."""
    v = np.random.default_rng(0).uniform(1, 2, 500) * 2.0 ** np.arange(-5, 5).repeat(50)
    unit = 2.0 ** np.floor(np.log2(v)) * 2.0**-bits
    for rounding, most in (("stochastic", 1.0), ("nearest", 0.5)):
        found = Half(kind=kind, rounding=rounding).carry(v, rng.generator(0, rng.Stream.COMPRESS))
        error = np.abs(found - v) / unit
        assert error.max() <= most + 1e-4
        assert error.max() > 0.4
    exact = np.array([0.0, 1.0, -0.5, 384.0])
    assert np.array_equal(
        Half(kind=kind).carry(exact, rng.generator(0, rng.Stream.COMPRESS)), exact
    )


def test_what_is_too_large_for_float16_becomes_its_largest():
    found = Half().carry(np.array([1e9, -1e9]), rng.generator(0, rng.Stream.COMPRESS))
    assert found.tolist() == [65504.0, -65504.0]


def test_majority_counts_heads_not_lengths():
    """Two against one, the one a hundred times as long; a tie moves nothing."""
    updates = np.array([[1.0, -1.0, 1.0], [1.0, -2.0, -1.0], [-100.0, 100.0, 0.0]])
    group = arrivals(count=3, size=3, updates=updates, weights=np.full(3, 1 / 3))
    found = Majority(step=0.01).combine(group, {})
    np.testing.assert_allclose(found.update, [0.01, -0.01, 0.0])
    mean = Majority().combine(group, {}).update
    np.testing.assert_allclose(mean, np.sign(found.update) * np.abs(updates).mean())
    stale = group._replace(weights=np.array([0.5, 0.25, 0.01]))
    step = 0.5 * 1.0 + 0.25 * 4 / 3 + 0.01 * 200 / 3
    np.testing.assert_allclose(Majority().combine(stale, {}).update, [step, -step, step])


def test_counting_heads_is_adding_up_signs_of_any_number_of_voters():
    updates = np.sign(np.random.default_rng(0).normal(size=(300, 50))).astype(np.float32)
    updates[:150, 0], updates[150:, 0], updates[::3, 1] = 1.0, -1.0, 0.0  # a tie, and abstentions
    updates[:, 2], updates[:, 3] = 1e30, -1e30
    expected = np.sign(np.sign(updates).sum(axis=0))
    assert heads(updates).tolist() == expected.tolist()
    assert np.sign(signs(updates, np.full(300, 0.25))).tolist() == expected.tolist()


# --- in a run ---------------------------------------------------------------------------------


def test_topk_of_one_coordinate_with_everything_is_fedavg(toy, tmp_path):
    """One parameter: top-k sends it, so the run is as without, and half of a byte more."""
    whole = schema.Compression(up=TopK(fraction=1.0))
    found = flown(toy, tmp_path / "a", None, 3, compression=whole)
    close(found, flown(toy, tmp_path / "b", None, 3))


def test_clients_train_from_the_model_as_they_decode_it(toy, tmp_path):
    """The server's own model is exact; a delta is relative to what was decoded."""
    wire = schema.Compression(down=Half(kind="bfloat16", rounding="nearest"))

    def decoded(x: float) -> float:
        return float(wire.down.carry(np.array([x]), rng.generator(0, rng.Stream.COMPRESS))[0])

    x, expected = 0.0, []
    for _ in range(5):
        got = decoded(x)
        x += float(np.mean([walk(i, got, 5) - got for i in range(3)]))
        expected.append(x)
    close(flown(toy, tmp_path, None, 5, compression=wire), expected)


def test_down_by_change_follows_ef21(toy, tmp_path):
    """x <- x + C(w - x): with signs of one coordinate C is exact, so clients have w itself."""
    wire = schema.Compression(down=Sign(), down_of="change")
    found = flown(toy, tmp_path / "a", None, 4, compression=wire)
    exact = flown(toy, tmp_path / "b", None, 4)
    np.testing.assert_allclose(found, exact, rtol=1e-5)
    assert found != exact, "float32 scales must leave a trace"


def test_what_a_change_left_out_is_in_the_next_one():
    """The model stands still: a tenth of the coordinates a version, and all are there after ten."""
    wire = schema.Compression(down=TopK(fraction=0.1), down_of="change")
    w, x = np.random.default_rng(0).normal(size=50), np.zeros(50)
    for version in range(1, 11):
        assert not np.array_equal(x, w)
        x = sent(wire, w, seed=0, version=version, before=x)
        np.testing.assert_allclose(np.count_nonzero(x), 5 * version)
    np.testing.assert_allclose(x, w, rtol=1e-12)
    assert np.array_equal(sent(wire, w, seed=0, version=0), w), "the first is made from the seed"


def test_signsgd_moves_where_most_want_to_go(toy, tmp_path):
    """m = (0, 1, -2) from 0: one wants up, one down, one stays (sign(0) = 1): up it goes."""
    config = load({"algorithm": "signsgd"}).config
    server = replace(config.server, weighting="uniform")
    x, expected = 0.3, []
    for _ in range(6):
        votes = [1 if walk(i, x, 5) - x >= 0 else -1 for i in range(len(A))]
        x += 0.01 * np.sign(sum(votes))
        expected.append(x)
    found = flown(toy, tmp_path, None, 6, server=server, compression=config.compression, start=0.3)
    close(found, expected)
    assert LR
    assert M[2] < 0.3 < M[1]


def test_error_feedback_settles_where_the_mean_does(toy, tmp_path):
    """With one coordinate the sign of the update times its mean is the update: a closed form."""
    wire = schema.Compression(up=Sign())
    client = schema.Client(steps=1, batch_size="full", lr=0.1)
    server = schema.Server(rounds=300, weighting="uniform")
    made = toy((1.0, 4.0), (0.0, 1.0), client=client, server=server, compression=wire)
    assert made.final(tmp_path) == pytest.approx(0.8, abs=1e-6)


def test_topk_with_feedback_is_the_paper_step_by_step(tmp_path):
    """Stich et al. 2018, algorithm 1, with a job's update in place of a gradient: k = 1 of 2."""
    import fedray
    from fedray.simulation.plan import build_plan

    asked = {
        "data": {"source": "linear_regression", "scenario": "non_iid", "standardize": True},
        "model": {"kind": "linear", "dtype": "float64"},
        "client": {"steps": 3, "batch_size": "full", "lr": 0.1},
        "server": {"rounds": 6, "weighting": "uniform"}, "output": {"report": False},
        "compression": {"up": {"kind": "topk", "fraction": 0.5}},
        "runtime": {"executor": "local"},
    }  # fmt: skip
    plan, federation = build_plan(load(asked).config, tmp_path)
    shards = [federation.shards.load(client) for client in range(federation.clients)]
    w, kept, switched = plan.initial(), [np.zeros(2) for _ in shards], set()
    for _ in range(6):
        arrived = []
        for (X, y), memory in zip(shards, kept, strict=True):
            local = w.copy()
            for _ in range(3):
                error = X[:, 0] * local[0] + local[1] - y
                local = local - 0.1 * np.array([np.mean(error * X[:, 0]), np.mean(error)])
            memory += local - w
            top = int(np.argmax(np.abs(memory)))
            switched.add(top)
            arrived.append(np.where(np.arange(2) == top, memory, 0.0))
            memory -= arrived[-1]
        w = w + np.mean(arrived, axis=0)
    assert switched == {0, 1}
    run = fedray.launch(asked, out=tmp_path / "run")
    named = plan.work.model.named(w)
    for name, value in run.model.items():
        np.testing.assert_allclose(value, named[name], rtol=1e-10)


def test_bytes_are_those_of_the_messages(tmp_path):
    import fedray

    asked = {
        "partition": {"clients": 4}, "server": {"rounds": 2}, "output": {"report": False},
        "runtime": {"executor": "local"}, "algorithm": "scaffold",
        "compression": {"up": {"kind": "topk", "fraction": 0.1}, "down": {"kind": "int8"}},
    }  # fmt: skip
    run = fedray.launch(asked, out=tmp_path / "run")
    size, single = 650, np.dtype(np.float32)
    up = 2 * TopK(fraction=0.1).encoded_bytes(size, single)
    down = 2 * Int8().encoded_bytes(size, single)
    assert set(run.updates["bytes_up"].to_pylist()) == {up}
    assert set(run.updates["bytes_down"].to_pylist()) == {down}
    assert run.summary["bytes"] == {"down": 2 * 4 * down, "up": 2 * 4 * up}


@pytest.mark.parametrize(("settings", "key"), [
    ({"down": {"kind": "topk"}}, "compression.down.kind"),
    ({"down": {"kind": "sign"}}, "compression.down.kind"),
    ({"down": {"kind": "qsgd"}, "down_of": "change"}, "compression.down.kind"),
    ({"down": {"kind": "randomk", "error_feedback": False}, "down_of": "change"},
     "compression.down.error_feedback"),
    ({"down_of": "change"}, "compression.down_of"),
    ({"up": {"kind": "topk", "fraction": 0}}, "compression.up.fraction"),
])  # fmt: skip
def test_refuses_what_is_not_sound(settings, key):
    with pytest.raises(InputError) as caught:
        load({"compression": settings})
    assert caught.value.key == key


@pytest.mark.parametrize("settings", [
    {"server": {"clients_per_round": 5}},
    {"server": {"schedule": {"mode": "buffered"}}},
    {"server": {"schedule": {"deadline_s": 3.0}}},
    {"devices": {"dropout": 0.1}},
    {"devices": {"availability": {"kind": "cycle", "on_s": 5.0, "off_s": 5.0}}},
    {"algorithm": "scaffold"},
    {"server": {"selection": "tiers"}},
])  # fmt: skip
def test_changes_go_down_only_where_nobody_misses_one(settings):
    wire = {"down": {"kind": "topk"}, "down_of": "change"}
    load({"compression": wire})
    with pytest.raises(InputError) as caught:
        load({**settings, "compression": wire})
    assert caught.value.key == "compression.down_of"
