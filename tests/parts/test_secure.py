"""Secure aggregation: the sum, exactly; nothing of a single update; recovery of who drops out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quadratics import A, M, flown, walk

from fedray.config import schema
from fedray.config.load import load
from fedray.errors import InputError
from fedray.parts.privacy.central import Central
from fedray.parts.privacy.clipping import Flat
from fedray.parts.secure import field
from fedray.parts.secure.bonawitz import Bonawitz, _Round
from fedray.simulation.accounting import guarantee
from fedray.simulation.plan import build_plan

quick = settings(deadline=None, max_examples=25)


def dice(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- the field ------------------------------------------------------------------------------------


@quick
@given(st.integers(0, 2**32), st.integers(2, 28), st.floats(0.01, 100))
def test_fixed_point_is_within_a_step_and_never_longer(seed, bits, bound):
    v = dice(seed).normal(size=(3, 40)) * bound
    units = field.quantise(v, bound, bits)
    found = field.value(units, bound, bits)
    inside = np.clip(v, -bound, bound)
    step = bound / 2 ** (bits - 1)
    assert (np.abs(found) <= np.abs(inside)).all()
    assert (np.abs(found - inside) <= step + 1e-12 * bound).all()
    assert np.abs(units).max() < 2 ** (bits - 1)


@quick
@given(st.lists(st.integers(-(2**29), 2**29), min_size=1, max_size=9))
def test_whole_numbers_come_back_from_the_field(numbers):
    units = np.array(numbers)
    assert np.array_equal(field.whole(field.residues(units)), units)


@quick
@given(st.integers(0, field.KEYS - 1), st.integers(1, 9), st.integers(0, 5), st.integers(0, 2**32))
def test_any_shares_of_a_threshold_tell_the_secret(secret, threshold, more, seed):
    parties = list(range(threshold + more))
    dealt = field.shares(secret, parties, threshold, dice(seed))
    chosen = sorted(dice(seed + 1).permutation(parties)[:threshold].tolist())
    coefficients = dict(zip(chosen, field.at_zero(chosen), strict=True))
    assert field.secret(dealt, coefficients) == secret


def test_one_share_too_few_tells_nothing():
    """Shares of 0 and of another secret, from the same dice, differ; each alone is uniform."""
    firsts = [field.shares(0, [0], 2, dice(seed))[0] / field.KEYS for seed in range(500)]
    assert 0.4 < np.mean(firsts) < 0.6
    assert 0.25 < np.std(firsts) * math.sqrt(12) / 2 < 0.75


# --- the protocol ---------------------------------------------------------------------------------


@quick
@given(st.integers(2, 9), st.integers(0, 2**32), st.data())
def test_the_unmasked_sum_is_the_sum_whoever_drops_out(parties, seed, data):
    protocol = Bonawitz(threshold=0.51, bits=20)
    least = protocol.least(parties)
    count = data.draw(st.integers(least, parties))
    answering = sorted(dice(seed).permutation(parties)[:count].tolist())
    units = dice(seed + 1).integers(-(2**19) + 1, 2**19, (count, 30))
    assert np.array_equal(
        protocol.sum(units, parties, answering, dice(seed + 2)), units.sum(axis=0)
    )
    too_few = answering[: least - 1]
    assert protocol.sum(units[: least - 1], parties, too_few, dice(seed)) is None


def test_what_the_server_gets_of_one_client_is_uniform():
    """The same update, masked in many rounds: every element of the field is as likely."""
    x = {i: field.residues(np.full(50, 12345)) for i in range(3)}
    sent = np.stack([_Round(3, 2, dice(seed)).masked(dict(x))[1] for seed in range(400)])
    share = sent / field.VALUES
    assert share.mean() == pytest.approx(0.5, abs=5 / math.sqrt(12 * share.size))
    assert share.var() == pytest.approx(1 / 12, rel=0.03)
    assert len(np.unique(sent)) > 0.99 * sent.size


def test_without_the_masks_of_who_dropped_out_the_sum_would_be_noise():
    """Two of three answer. Their masks with the third stay, until its key is recovered."""
    round_ = _Round(3, 2, dice())
    x = {i: field.residues(np.full(20, 7)) for i in (0, 2)}
    sent = round_.masked(dict(x))
    assert field.whole(round_.unmasked(sent)).tolist() == [14] * 20
    own = [field.mask(round_._own[i], 20) for i in (0, 2)]
    naive = (sent[0] + sent[2] + 2 * field.VALUES - own[0] - own[1]) % field.VALUES
    assert (field.whole(naive) != 14).any()


def test_both_ends_agree_on_a_secret():
    round_ = _Round(4, 3, dice())
    keys = round_._keys
    assert round_.agreed(1, keys[1], 3) == round_.agreed(3, keys[3], 1)


# --- in a run -------------------------------------------------------------------------------------


def test_a_run_is_fedavg_in_fixed_point(toy, tmp_path):
    protocol = Bonawitz(bound=10.0, bits=24)
    x, expected = 0.0, []
    for _ in range(4):
        moves = np.array([[walk(i, x, 5) - x] for i in range(3)])
        x += field.value(field.quantise(moves, 10.0, 24).sum(axis=0), 10.0, 24)[0] / 3
        expected.append(x)
    assert flown(toy, tmp_path, None, 4, secure=protocol) == pytest.approx(expected, abs=1e-15)


def test_dropouts_are_recovered_and_below_the_threshold_the_version_is_given_up(toy, tmp_path):
    server = schema.Server(rounds=40, weighting="uniform")
    client = schema.Client(steps=2, batch_size="full", lr=0.02)
    made = toy(
        A * 3, M * 3, client=client, server=server, dropout=0.35,
        secure=Bonawitz(threshold=0.7, bound=10.0, bits=24), eval_every=1,
    )  # fmt: skip
    run = made.fly(tmp_path)
    rows = run.updates.to_pandas()
    came = rows[rows["status"] != "dropped_out"].groupby("base_version").size()
    applied = rows[rows["status"] == "applied"].groupby("base_version").size()
    enough = came[came >= 7]
    assert 0 < len(enough) < 40
    assert applied.to_dict() == enough.to_dict()
    losses = run.rounds["loss"].to_pylist()
    for version in range(40):
        assert (losses[version + 1] == losses[version]) == (version not in enough.index)


def test_a_private_sum_is_cut_and_noised_as_ever(toy, tmp_path):
    tight = Central(noise_multiplier=1e-12, clipping=Flat(norm=0.125))
    found = flown(toy, tmp_path, None, 2, privacy=tight, secure=Bonawitz(bits=20), start=50.0)
    np.testing.assert_allclose(found, [49.875, 49.75], atol=1e-5)


def test_nobody_is_summed_alone():
    """Of who joins by chance there may be one, and of two one may drop out."""
    protocol = Bonawitz(threshold=0.51)
    assert [protocol.least(parties) for parties in (1, 2, 3, 4, 100)] == [2, 2, 2, 3, 51]
    alone = np.ones((1, 4), np.int64)
    assert protocol.sum(alone, 1, [0], dice()) is None
    assert protocol.sum(alone, 2, [1], dice()) is None


def test_refuses_a_cohort_of_one(tmp_path):
    config = load({"algorithm": "secagg", "server": {"clients_per_round": 0.01}}).config
    with pytest.raises(InputError) as caught:
        build_plan(config, tmp_path)
    assert caught.value.key == "server.clients_per_round"


def test_who_diverges_in_private_does_not_show_in_whether_enough_answered(toy, tmp_path):
    """Of two clients the second's steps overflow: it counts as zeros, and 1 of 2 is too few."""
    server = schema.Server(rounds=2, weighting="uniform")
    client = schema.Client(steps=400, batch_size="full", lr=1.0)
    asked = {"client": client, "server": server, "secure": Bonawitz(bound=10.0)}
    tight = Central(noise_multiplier=1e-12, clipping=Flat(norm=0.25))
    private = toy((0.5, 1e3), (8.0, 1.0), privacy=tight, **asked).trace(tmp_path / "a")
    np.testing.assert_allclose(private, [0.125, 0.25], atol=1e-5)
    assert toy((0.5, 1e3), (8.0, 1.0), **asked).trace(tmp_path / "b") == [0.0, 0.0]


def test_sampling_is_not_claimed_where_one_who_joins_may_turn_the_balance():
    asked = {"privacy": {"kind": "central", "noise_multiplier": 1.0}, "server": {
        "selection": "poisson", "clients_per_round": 5, "weighting": "uniform"}}  # fmt: skip
    alone, secure = load(asked).config, load({**asked, **SECURE}).config
    kinds = [guarantee(config, 20, 5).sampling for config in (alone, secure)]
    assert kinds == ["poisson", "none"]


def test_traffic_is_that_of_the_protocol(tmp_path):
    """5 clients of 650 parameters. Up: 2 keys, 4 pairs of shares, 31 bits each, 5 shares of 32
    bytes. Down besides the model: of 4 others 2 keys and a pair of shares, and 5 bits."""
    config = load({"algorithm": "secagg", "partition": {"clients": 5}}).config
    plan, _ = build_plan(config, tmp_path)
    up = 64 + 4 * 80 + math.ceil(650 * 31 / 8) + 5 * 32
    assert plan.population.payload.bytes_up == up
    assert plan.population.payload.bytes_down == 650 * 4 + 4 * (64 + 80) + 1


SECURE = {"secure_aggregation": {"kind": "bonawitz"}}


@pytest.mark.parametrize(("asked", "key"), [
    ({"server": {"schedule": {"mode": "buffered"}}}, "server.schedule.mode"),
    ({"server": {"schedule": {"mode": "sync", "deadline_s": 3.0, "late": "carry"}}},
     "server.schedule.late"),
    ({"server": {"aggregator": {"kind": "median"}}}, "server.aggregator.kind"),
    ({"server": {"weighting": "examples"}}, "server.weighting"),
    ({"compression": {"up": {"kind": "qsgd"}}}, "compression.up.kind"),
    ({"algorithm": "scaffold"}, "method.kind"),
    ({"algorithm": "fedlin"}, "method.kind"),
    ({"server": {"selection": "power_of_choice", "clients_per_round": 5}}, "server.selection"),
    ({"server": {"clients_per_round": 1}}, "server.clients_per_round"),
    ({"diagnosis": {"decompose": 2}}, "diagnosis.decompose"),
    ({"privacy": {"kind": "central", "noise_multiplier": 1.0, "clipping": {"kind": "adaptive"}}},
     "privacy.clipping.kind"),
])  # fmt: skip
def test_refuses_whatever_looks_at_single_updates(asked, key):
    server = {"weighting": "uniform", **asked.get("server", {})}
    with pytest.raises(InputError) as caught:
        load({**asked, **SECURE, "server": server})
    assert caught.value.key == key


def test_refuses_more_bits_than_the_field_has_room_for(tmp_path):
    asked = {"secure_aggregation": {"kind": "bonawitz", "bits": 28}}
    config = load({**asked, "server": {"weighting": "uniform"}}).config
    with pytest.raises(InputError, match="room for the sum of 7 updates") as caught:
        build_plan(config, tmp_path)
    assert caught.value.key == "secure_aggregation.bits"
