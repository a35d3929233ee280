"""Privacy: what one user can change, the noise that is added, and what it is said to cost."""

from __future__ import annotations

import math
from dataclasses import replace

import dp_accounting as dp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quadratics import A, M, flown

from fedray.config import schema
from fedray.config.load import load
from fedray.errors import InputError
from fedray.parts.privacy.central import Central
from fedray.parts.privacy.clipping import Adaptive, Flat, clip
from fedray.parts.privacy.local import ClipAndNoise, LocalNoise
from fedray.parts.selection.poisson import Poisson
from fedray.parts.summation import LONG, dots, total
from fedray.parts.transforms import Sender
from fedray.simulation.accounting import Guarantee, guarantee
from fedray.simulation.guard import Guard

quick = settings(deadline=None, max_examples=40)


def promised(privacy: dict, clients: int = 100, cohort: int = 10, **server: object) -> Guarantee:
    """What a configuration comes to for so many clients."""
    asked = {"weighting": "uniform", "rounds": 50, "clients_per_round": cohort, **server}
    config = load({"privacy": privacy, "server": asked}).config
    found = guarantee(config, clients, cohort)
    assert found is not None
    return found


POISSON = {"selection": "poisson"}

# --- clipping ---------------------------------------------------------------------------------


@quick
@given(
    st.integers(0, 2**32), st.sampled_from([np.float32, np.float64]),
    st.floats(1e-3, 1e3), st.lists(st.integers(0, 3), min_size=1, max_size=8),
)  # fmt: skip
def test_no_user_moves_the_sum_by_more_than_the_bound(seed, dtype, bound, clients):
    updates = np.random.default_rng(seed).normal(size=(len(clients), 20)).astype(dtype) * 10
    cut, lengths, fits = clip(updates, np.array(clients), bound)
    cut = np.asarray(cut)
    assert cut.dtype == dtype
    for client in set(clients):
        own = cut[np.array(clients) == client].astype(np.float64)
        assert np.linalg.norm(own.sum(axis=0)) <= bound
        assert np.linalg.norm(own, axis=1).sum() <= bound
        assert abs(fits[np.array(clients) == client].sum()) <= 0.5 + 1e-12
    np.testing.assert_allclose(np.linalg.norm(cut, axis=1), lengths, rtol=1e-5)


@pytest.mark.parametrize("size", [1000, LONG + 77])
@pytest.mark.parametrize("scale", [1e-25, 1e-3, 1.0, 1e25])
def test_in_float32_nothing_is_longer_than_the_bound_and_hardly_shorter(size, scale):
    updates = np.random.default_rng(size).normal(size=(6, size)).astype(np.float32)
    updates *= np.float32(scale)
    exact = np.linalg.norm(updates.astype(np.float64), axis=1)
    clients, bound = np.arange(6), float(np.median(exact))
    cut, lengths, fits = clip(updates, clients, bound)
    of = np.linalg.norm(np.asarray(cut).astype(np.float64), axis=1)
    assert (of <= bound).all()
    np.testing.assert_allclose(of, np.minimum(exact, bound), rtol=1e-5)
    np.testing.assert_allclose(lengths, np.minimum(exact, bound), rtol=1e-5)
    assert fits.tolist() == np.where(exact <= bound, 0.5, -0.5).tolist()
    weights, other = np.full(6, 1 / 6), updates[0] / np.float32(scale)
    summed = weights @ np.asarray(cut).astype(np.float64)
    np.testing.assert_allclose(total(cut, weights, clients), summed, atol=1e-6 * scale)
    pulls = np.asarray(cut).astype(np.float64) @ other.astype(np.float64)
    np.testing.assert_allclose(dots(cut, other), pulls, atol=1e-6 * scale * size)


def test_short_updates_stay_as_they_are_and_long_ones_keep_their_direction():
    updates = np.array([[0.3, 0.4], [3.0, 4.0]])
    cut, lengths, fits = clip(updates, np.array([0, 1]), 1.0)
    cut = np.asarray(cut)
    assert cut[0].tolist() == [0.3, 0.4]
    np.testing.assert_allclose(cut[1], [0.6, 0.8], rtol=1e-12)
    np.testing.assert_allclose(lengths, [0.5, 1.0])
    assert fits.tolist() == [0.5, -0.5]


@pytest.mark.parametrize(("z", "sigma"), [(1.0, 5.0), (0.5, 0.6), (3.0, 2.0)])
def test_bits_and_updates_together_cost_what_z_does(z, sigma):
    """Two Gaussian mechanisms compose to one: z_delta^-2 + (2 sigma_b)^-2 = z^-2."""
    found = Adaptive(bit_noise=sigma).noise(z, expected=1e9)
    assert found**-2 + (2 * sigma) ** -2 == pytest.approx(z**-2)
    assert found > z
    assert Adaptive().noise(1.0, expected=100.0) == pytest.approx((1 - 1 / 100) ** -0.5)


def test_bits_that_cost_too_much_are_refused():
    asked = {"kind": "central", "noise_multiplier": 1.0, "clipping": {"kind": "adaptive"}}
    assert promised(asked, cohort=20, **POISSON).update_noise > 1.0
    with pytest.raises(InputError, match="below 2 sigma_b = 1") as caught:
        promised(asked, cohort=10, **POISSON)
    assert caught.value.key == "privacy.noise_multiplier"


def test_the_bound_comes_to_the_quantile_of_the_lengths():
    lengths = np.linspace(1.0, 2.0, 101)
    for quantile in (0.5, 0.9):
        adaptive, bound = Adaptive(quantile=quantile, bit_noise=1e-9), 0.1
        for step in range(200):
            fits = np.where(lengths <= bound, 0.5, -0.5)
            bound = adaptive.follow(bound, fits, 101.0, np.random.default_rng(step))
        assert bound == pytest.approx(1.0 + quantile, abs=0.03)


def test_one_step_of_the_bound_by_hand():
    """3 of 4 fit: b = 0.75, C exp(-0.2 (0.75 - 0.5)); of 8 expected, the others count as a half."""
    fits, rng = np.array([0.5, 0.5, 0.5, -0.5]), np.random.default_rng(0)
    exact = Adaptive(bit_noise=1e-12)
    assert exact.follow(2.0, fits, 4.0, rng) == pytest.approx(2 * math.exp(-0.05))
    assert exact.follow(2.0, fits, 8.0, rng) == pytest.approx(2 * math.exp(-0.2 * 0.125))


# --- the server's noise -------------------------------------------------------------------------


def guard(noise: float = 1.0, clipping: Flat | Adaptive | None = None, **server: object) -> Guard:
    privacy = Central(noise_multiplier=noise, clipping=clipping or Flat(norm=3.0))
    config = replace(schema.Config(), privacy=privacy, server=schema.Server(**server))
    found = guarantee(config, clients=50, cohort=20)
    assert found is not None
    return Guard(config, found)


def test_noise_is_z_c_over_m_on_the_sum_over_m_updates():
    """N(0, (z C / m)^2) with z = 2, C = 3, m = 20: 0.3, whatever has arrived."""
    of = guard(noise=2.0)
    for arrived in (0, 5, 30):
        mean = np.full(200, 1.0)
        found = np.stack([of.release(mean, arrived, version) for version in range(200)])
        assert found.mean() == pytest.approx(arrived / 20, abs=5 * 0.3 / 200)
        assert found.std() == pytest.approx(0.3, rel=0.02)
    assert np.array_equal(of.release(mean, 1, 7), of.release(mean, 1, 7))
    assert not np.array_equal(of.release(mean, 1, 7), of.release(mean, 1, 8))


def test_noise_of_one_update_that_is_mixed_in_is_mixed_in_too():
    of = guard(schedule=schema.AsyncSchedule(mixing=0.5), noise=2.0)
    found = np.stack([of.release(np.zeros(200), 1, version) for version in range(200)])
    assert found.std() == pytest.approx(2.0 * 3.0 * 0.5, rel=0.02)


def test_adaptive_clipping_takes_the_larger_noise_and_moves_on():
    of = guard(noise=1.0, clipping=Adaptive(initial=3.0, bit_noise=1.0))
    of.cut(np.zeros((20, 4)), np.arange(20))
    before = of.bound
    found = of.release(np.zeros(40_000), 20, 1)
    assert found.std() == pytest.approx((1 - 1 / 4) ** -0.5 * 3.0 / 20, rel=0.02)
    assert of.bound < before


def test_without_noise_and_with_a_wide_bound_it_is_fedavg(toy, tmp_path):
    wide = Central(noise_multiplier=1e-12, clipping=Flat(norm=1e3))
    found = flown(toy, tmp_path / "a", None, 4, privacy=wide)
    np.testing.assert_allclose(found, flown(toy, tmp_path / "b", None, 4), atol=1e-8)


def test_a_bound_on_every_update_is_kept_in_a_run(toy, tmp_path):
    """m = 0, 1, -2 from far away: everybody goes C = 0.1 per round, so does the mean."""
    tight = Central(noise_multiplier=1e-12, clipping=Flat(norm=0.1))
    found = flown(toy, tmp_path, None, 3, privacy=tight, start=50.0)
    np.testing.assert_allclose(found, [49.9, 49.8, 49.7], atol=1e-8)
    assert len(A) == len(M) == 3


def test_two_updates_of_one_client_in_a_buffer_share_its_bound(toy, tmp_path):
    """Client 0 answers three times while client 1 does once: a buffer of its updates alone moves
    the model by C / 2, not by C."""
    server = schema.Server(
        rounds=1, weighting="uniform",
        schedule=schema.BufferedSchedule(concurrency=2, buffer_size=2),
    )  # fmt: skip
    made = toy(
        (1.0, 1.0), (0.0, 0.0), client=schema.Client(steps=1, batch_size="full", lr=0.5),
        server=server, duration_s=[1.0, 10.0], start=50.0,
        privacy=Central(noise_multiplier=1e-12, clipping=Flat(norm=0.1)),
    )  # fmt: skip
    run = made.fly(tmp_path)
    assert run.updates["client"].to_pylist() == [0, 0]
    moved = 50.0 - float(run.model["w"][0])
    assert moved == pytest.approx(0.05, abs=1e-8)


# --- local noise ----------------------------------------------------------------------------------


def test_local_noise_has_the_right_mean_and_variance():
    code = ClipAndNoise(norm=2.0, deviation=0.5)
    v, none = np.full(100, 1.0), np.zeros((0, 100))  # of length 10, cut to 2
    found = np.stack([code.apply(v, none, Sender(3, job, 0, 0))[0] for job in range(400)])
    assert found.mean() == pytest.approx(0.2, abs=5 * 0.5 / 200)
    assert found.std() == pytest.approx(0.5, rel=0.02)
    others = code.apply(v, none, Sender(4, 0, 0, 0))[0], code.apply(v, none, Sender(3, 0, 0, 1))[0]
    assert all(not np.array_equal(found[0], other) for other in others)


def test_who_diverges_sends_noise_alone(toy, tmp_path):
    """Client 1 overflows. Without noise it would be told from the others by its silence."""
    client = schema.Client(steps=400, batch_size="full", lr=1.0)
    server = schema.Server(rounds=1, weighting="uniform")
    noise = LocalNoise(noise_multiplier=1e-9, clip_norm=0.25)
    made = toy((0.5, 1e3), (8.0, 1.0), client=client, server=server, privacy=noise)
    run = made.fly(tmp_path)
    assert run.updates["status"].to_pylist() == ["applied", "applied"]
    assert run.model["w"][0] == pytest.approx(0.25 / 2, abs=1e-6)


def test_local_noise_adds_up_over_the_jobs_of_the_busiest_client(toy, tmp_path):
    """Client 0 is three times as fast. Each update is a Gaussian mechanism of multiplier z / 2."""
    server = schema.Server(
        rounds=6, weighting="uniform",
        schedule=schema.BufferedSchedule(concurrency=2, buffer_size=2),
    )  # fmt: skip
    made = toy(
        (1.0, 1.0), (0.0, 0.0), client=schema.Client(steps=1, batch_size="full", lr=0.1),
        server=server, duration_s=[1.0, 3.0], privacy=LocalNoise(noise_multiplier=4.0, delta=1e-3),
    )  # fmt: skip
    run = made.fly(tmp_path)
    jobs = run.updates.to_pandas().groupby("client").size()
    assert run.summary["privacy"]["releases"] == jobs.max() > 12 / 2
    exact = dp.get_epsilon_gaussian(2.0 / math.sqrt(jobs.max()), 1e-3)
    assert exact <= run.summary["privacy"]["epsilon"] <= 1.5 * exact
    spent = run.rounds["epsilon"].to_pylist()
    assert spent == sorted(spent)
    assert spent[0] == 0.0
    assert spent[-1] == run.summary["privacy"]["epsilon"]


# --- accounting -----------------------------------------------------------------------------------


def by_the_library(kind: str, event: dp.DpEvent, relation: str, delta: float) -> float:
    accountants = {"rdp": dp.rdp.RdpAccountant, "pld": dp.pld.PLDAccountant}
    accountant = accountants[kind](neighboring_relation=dp.NeighboringRelation[relation])
    return float(accountant.compose(event).get_epsilon(delta))


@pytest.mark.parametrize("kind", ["rdp", "pld"])
def test_poisson_sampling_costs_what_the_library_says(kind):
    asked = {"kind": "central", "noise_multiplier": 1.1, "delta": 1e-4, "accountant": kind}
    found = promised(asked, **POISSON)
    event = dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(0.1, dp.GaussianDpEvent(1.1)), 50)
    expected = by_the_library(kind, event, "ADD_OR_REMOVE_ONE", 1e-4)
    assert found.sampling == "poisson"
    assert found.epsilon(50) == pytest.approx(expected, rel=1e-6)
    assert found.facts(50)["adjacency"] == "one user more or less"


def test_cohorts_of_fixed_size_claim_nothing_unless_asked():
    """Without a claim 50 versions are one Gaussian mechanism with 1 / sqrt(50) of the noise."""
    asked = {"kind": "central", "noise_multiplier": 8.0, "delta": 1e-4}
    plain = promised({**asked, "accountant": "pld"})
    assert plain.sampling == "none"
    event = dp.SelfComposedDpEvent(dp.GaussianDpEvent(8.0), 50)
    for kind in ("rdp", "pld"):
        found = promised({**asked, "accountant": kind}).epsilon(50)
        library = by_the_library(kind, event, "ADD_OR_REMOVE_ONE", 1e-4)
        assert found == pytest.approx(library, rel=1e-3)
        assert found <= library * (1 + 1e-9)
    wor = promised({**asked, "amplification": "without_replacement"})
    event = dp.SelfComposedDpEvent(
        dp.SampledWithoutReplacementDpEvent(100, 10, dp.GaussianDpEvent(4.0)), 50
    )
    assert wor.epsilon(50) == pytest.approx(by_the_library("rdp", event, "REPLACE_ONE", 1e-4))
    assert wor.facts(50)["adjacency"] == "one user replaced by another"


@pytest.mark.parametrize("server", [
    {}, POISSON, {"schedule": {"mode": "buffered"}, "clients_per_round": "all"},
    {"schedule": {"mode": "async"}, "clients_per_round": "all", "weighting": "examples"},
])  # fmt: skip
@pytest.mark.parametrize("target", [0.5, 3.0])
def test_noise_is_solved_from_a_target(server, target):
    found = promised({"kind": "central", "target_epsilon": target}, **server)
    assert 0.99 * target < found.epsilon(50) <= target
    claims = found.facts(50)["claimed"]
    assert ("Poisson" in claims) == (server == POISSON)


def test_local_noise_is_solved_for_as_many_jobs_as_rounds():
    found = promised({"kind": "local", "target_epsilon": 20.0, "delta": 1e-5})
    exact = dp.get_epsilon_gaussian(found.noise / 2 / math.sqrt(50), 1e-5)
    assert exact <= found.epsilon(50) <= 20.0


def test_delta_is_below_one_over_the_clients():
    assert promised({"kind": "central", "noise_multiplier": 1.0}).delta == pytest.approx(100**-1.1)


# --- Poisson sampling -----------------------------------------------------------------------------


class Everybody:
    """A pool in which all are free."""

    clients = 30

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.taken: set[int] = set()

    def draw(self, by: str = "uniform") -> int | None:
        free = sorted(set(range(self.clients)) - self.taken)
        if not free:
            return None
        client = free[int(self.rng.random() * len(free))]
        self.taken.add(client)
        return client


def test_every_client_joins_by_itself():
    """Sizes are binomial, everybody has the same chance, and two of them are independent."""
    selector, pool, joined = Poisson().selector(30, seed=5), Everybody(), np.zeros((3000, 30))
    for row in joined:
        pool.taken = set()
        row[selector.pick(pool, 6)] = 1
    sizes = joined.sum(axis=1)
    assert sizes.mean() == pytest.approx(6.0, abs=0.2)
    assert sizes.var() == pytest.approx(30 * 0.2 * 0.8, rel=0.1)
    np.testing.assert_allclose(joined.mean(axis=0), 0.2, atol=5 * math.sqrt(0.16 / 3000))
    both = np.corrcoef(joined.T) - np.eye(30)
    assert np.abs(both).max() < 5 / math.sqrt(3000)


def test_a_round_that_nobody_joined_makes_a_version_all_the_same(toy, tmp_path):
    """q = 1/3 of 3 clients: about 3 in 10 rounds are empty. No time passes in them, noise does."""
    server = schema.Server(rounds=60, weighting="uniform", clients_per_round=1, selection=Poisson())
    made = toy(A, M, client=schema.Client(steps=1, lr=0.05), server=server,
               privacy=Central(noise_multiplier=1.0))  # fmt: skip
    run = made.fly(tmp_path)
    rounds = run.rounds.to_pandas()
    assert rounds["version"].tolist() == list(range(61))
    assert 0.1 < (rounds["updates"][1:] == 0).mean() < 0.5
    assert rounds["updates"].max() > 1, "more than were asked for may join"
    assert (np.diff(rounds["virtual_time_s"]) == (rounds["updates"][1:] > 0)).all()
    assert rounds["epsilon"].is_monotonic_increasing


def test_a_timeline_by_chance_goes_on_from_any_version(toy):
    from fedray.simulation.legs import legs

    server = schema.Server(rounds=40, clients_per_round=1, selection=Poisson())
    plan = toy(A, M, client=schema.Client(steps=1), server=server).plan
    whole = list(legs(plan.timeline(), keep_state=lambda _: True))
    made = [leg.aggregate for leg in whole]
    assert any(not group.jobs for group in made)
    for place in range(39):
        again = plan.timeline()
        again.restore(whole[place].state["timeline"])
        rest = [leg.aggregate for leg in legs(again, keep_state=lambda _: False)]
        assert rest == made[place + 1 :]


# --- what is refused ------------------------------------------------------------------------------

CENTRAL = {"kind": "central", "noise_multiplier": 1.0}


@pytest.mark.parametrize(("settings_", "key"), [
    ({"privacy": {"kind": "central"}}, "privacy.noise_multiplier"),
    ({"privacy": {**CENTRAL, "target_epsilon": 1.0}}, "privacy.target_epsilon"),
    ({"privacy": CENTRAL, "server": {"weighting": "examples"}}, "server.weighting"),
    ({"privacy": {"kind": "local", "noise_multiplier": 1.0}, "server": {"weighting": "examples"}},
     "server.weighting"),
    ({"privacy": CENTRAL, "server": {"aggregator": {"kind": "median"}}}, "server.aggregator.kind"),
    ({"privacy": CENTRAL, "server": {"selection": "power_of_choice", "clients_per_round": 5}},
     "server.selection"),
    ({"privacy": CENTRAL, "algorithm": "scaffold"}, "method.kind"),
    ({"privacy": {"kind": "local", "noise_multiplier": 1.0}, "algorithm": "scaffold"},
     "method.kind"),
    ({"privacy": CENTRAL, "algorithm": "fedexp"}, "method.kind"),
    ({"privacy": CENTRAL, "algorithm": "fedlin"}, "method.kind"),
    ({"privacy": {"kind": "local", "noise_multiplier": 1.0}, "algorithm": "fedlin"},
     "method.kind"),
    ({"privacy": CENTRAL, "diagnosis": {"decompose": 5}}, "diagnosis.decompose"),
    ({"privacy": {"kind": "local", "target_epsilon": 9.0},
      "server": {"schedule": {"mode": "buffered"}}}, "privacy.target_epsilon"),
    ({"privacy": {"kind": "local", "target_epsilon": 9.0},
      "server": {"schedule": {"mode": "async"}}}, "privacy.target_epsilon"),
    ({"privacy": {**CENTRAL, "clipping": {"kind": "adaptive"}},
      "server": {"schedule": {"mode": "async"}}}, "server.schedule.mode"),
    ({"privacy": {**CENTRAL, "amplification": "without_replacement"}}, "privacy.amplification"),
    ({"privacy": {**CENTRAL, "amplification": "without_replacement", "accountant": "pld"},
      "server": {"clients_per_round": 5}}, "privacy.accountant"),
    ({"privacy": {**CENTRAL, "amplification": "without_replacement"},
      "server": {"schedule": {"mode": "buffered"}}}, "privacy.amplification"),
    ({"privacy": CENTRAL, "server": {**POISSON, "clients_per_round": 5, "schedule": {
        "mode": "sync", "deadline_s": 5.0, "late": "carry"}}}, "server.schedule.late"),
    ({"server": {**POISSON, "clients_per_round": 5, "schedule": {"over_select": 1.5}}},
     "server.schedule.over_select"),
    ({"server": {**POISSON, "schedule": {"mode": "buffered"}}}, "server.schedule.mode"),
    ({"server": {**POISSON, "clients_per_round": 5},
      "devices": {"availability": {"kind": "cycle", "on_s": 5.0, "off_s": 5.0}}},
     "devices.availability"),
])  # fmt: skip
def test_refuses_what_would_make_the_guarantee_untrue(settings_, key):
    given_ = dict(settings_)
    given_["server"] = {"weighting": "uniform", **given_.get("server", {})}
    if given_["server"].get("schedule", {}).get("mode") == "async":
        del given_["server"]["weighting"]
    with pytest.raises(InputError) as caught:
        load(given_)
    assert caught.value.key == key


def test_a_diagnosis_of_a_private_run_is_refused(tmp_path):
    from fedray.diagnosis.counterfactual.study import build_study

    config = load({"privacy": CENTRAL, "server": {"weighting": "uniform"}}).config
    with pytest.raises(InputError) as caught:
        build_study(config, tmp_path)
    assert caught.value.key == "privacy.kind"
