"""Robust rules against few-line references, and against anything that attackers could send."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_aggregators import arrivals, reordered

import fedray
from fedray import rng
from fedray.config.load import load
from fedray.errors import InputError
from fedray.parts.aggregators import AGGREGATORS
from fedray.parts.aggregators.base import Aggregator
from fedray.parts.aggregators.bucketing import Bucketing
from fedray.parts.aggregators.bulyan import Bulyan
from fedray.parts.aggregators.centered_clipping import CenteredClipping
from fedray.parts.aggregators.distances import distances_from, squared_distances
from fedray.parts.aggregators.geometric_median import GeometricMedian
from fedray.parts.aggregators.krum import Krum
from fedray.parts.aggregators.mean import Mean
from fedray.parts.aggregators.median import Median
from fedray.parts.aggregators.norm_bound import NormBound
from fedray.parts.aggregators.trimmed_mean import TrimmedMean
from fedray.parts.arrivals import Arrivals

COUNTS = st.integers(3, 14)
SEEDS = st.integers(0, 2**32)
FEW = settings(deadline=None, max_examples=40)


def update(rule: Aggregator, group: Arrivals) -> np.ndarray:
    return rule.combine(group, {}).update


def distance(x, y) -> float:
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)))


# --- references: plain Python, one coordinate or one pair at a time --------------------------


def krum_order(rows: list[list[float]], f: int) -> list[int]:
    """Indices from the best to the worst score."""
    scores = []
    for i, x in enumerate(rows):
        others = sorted(distance(x, y) ** 2 for j, y in enumerate(rows) if j != i)
        scores.append(sum(others[: max(1, len(rows) - f - 2)]))
    return sorted(range(len(rows)), key=lambda i: scores[i])


def bulyan(rows: list[list[float]], f: int) -> list[float]:
    left, picked = list(rows), []
    while len(picked) < len(rows) - 2 * f:
        picked.append(left.pop(krum_order(left, f)[0]))
    keep = len(picked) - 2 * f
    result = []
    for values in zip(*picked, strict=True):
        middle = statistics.median(values)
        result.append(statistics.fmean(sorted(values, key=lambda v: abs(v - middle))[:keep]))
    return result


def weiszfeld(rows: np.ndarray, p: np.ndarray, steps: int, smoothing: float) -> np.ndarray:
    v = sum(p_i * x for p_i, x in zip(p, rows, strict=True)) / sum(p)
    for _ in range(steps):
        beta = [p_i / max(smoothing, distance(v, x)) for p_i, x in zip(p, rows, strict=True)]
        v = sum(b * x for b, x in zip(beta, rows, strict=True)) / sum(beta)
    return v


@FEW
@given(COUNTS, SEEDS)
def test_the_median_is_the_median_of_every_coordinate(count, seed):
    group = arrivals(seed, count)
    expected = [statistics.median(column) for column in group.updates.T.tolist()]
    np.testing.assert_allclose(update(Median(), group), expected, rtol=1e-12)


@FEW
@given(COUNTS, SEEDS, st.sampled_from([0.1, 0.2, 0.25, 0.45]))
def test_the_trimmed_mean_leaves_out_the_ends_of_every_coordinate(count, seed, trim):
    group = arrivals(seed, count)
    cut = min(math.ceil(round(trim * count, 9)), (count - 1) // 2)
    expected = [
        statistics.fmean(sorted(column)[cut : count - cut]) for column in group.updates.T.tolist()
    ]
    np.testing.assert_allclose(update(TrimmedMean(trim=trim), group), expected, rtol=1e-9)


def test_a_tenth_of_seven_is_one_and_not_none():
    """The trap: rounded down, a trimmed mean of a few updates would be the mean."""
    assert [TrimmedMean(trim=0.1).cut(n) for n in (7, 10, 11, 20)] == [1, 1, 2, 2]


@FEW
@given(st.integers(5, 12), SEEDS, st.integers(0, 2))
def test_krum_is_the_update_with_the_closest_company(count, seed, f):
    group = arrivals(seed, count)
    f = min(f, (count - 3) // 2)
    order = krum_order(group.updates.tolist(), f)
    assert Krum().stands(count) == (count - 3) // 2
    one = Krum(f=f).combine(group, {})
    np.testing.assert_array_equal(one.update, group.updates[order[0]])
    assert np.flatnonzero(one.weights).tolist() == [order[0]]
    auto = Krum(f=f, m="auto").combine(group, {})
    chosen = order[: count - f - 2]
    np.testing.assert_allclose(auto.update, group.updates[chosen].mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(auto.weights @ group.updates, auto.update, rtol=1e-9, atol=1e-12)


def test_multi_krum_over_all_is_the_mean():
    group = arrivals(count=7)
    np.testing.assert_allclose(update(Krum(m=7), group), group.updates.mean(axis=0), rtol=1e-12)


@FEW
@given(st.integers(7, 13), SEEDS, st.integers(0, 2))
def test_bulyan_is_krum_again_and_again_and_a_mean_around_the_median(count, seed, f):
    group = arrivals(seed, count)
    f = min(f, (count - 3) // 4)
    by_client = group.updates[np.argsort(group.clients)]  # which decides between equal scores
    expected = bulyan(by_client.tolist(), f)
    np.testing.assert_allclose(update(Bulyan(f=f), group), expected, rtol=1e-9, atol=1e-12)


@FEW
@given(COUNTS, SEEDS)
def test_the_geometric_median_makes_weiszfelds_steps(count, seed):
    group = arrivals(seed, count)
    p = np.random.default_rng(seed).dirichlet(np.ones(count))
    group = group._replace(weights=p, shares=p)
    rule = GeometricMedian(iterations=4, smoothing=0.01)
    expected = weiszfeld(group.updates, p, 4, 0.01)
    np.testing.assert_allclose(update(rule, group), expected, rtol=1e-6, atol=1e-9)


@FEW
@given(st.integers(3, 10), SEEDS)
def test_at_the_geometric_median_all_pulls_cancel_out(count, seed):
    """Where it is none of the updates, sum_i p_i (x_i - v) / |x_i - v| = 0."""
    group = arrivals(seed, count, 8)
    v = update(GeometricMedian(iterations=5000), group)
    pulls = group.updates - v
    lengths = np.linalg.norm(pulls, axis=1)
    if lengths.min() > 1e-3:
        assert np.linalg.norm((pulls / lengths[:, None]).sum(axis=0)) < 1e-3


def test_four_steps_from_the_mean_leave_a_distant_attacker_his_influence():
    """Why the steps go on: share 1/5 pulls by a factor of about 4 less with every step."""
    group = arrivals(count=10)
    group.updates[:2] += 1e4
    far = np.linalg.norm(update(GeometricMedian(iterations=4), group))
    assert far > 5
    assert np.linalg.norm(update(GeometricMedian(), group)) < 2


@FEW
@given(COUNTS, SEEDS, st.floats(0.1, 5))
def test_centered_clipping_follows_its_formula_over_versions(count, seed, radius):
    v, memory = np.zeros(5), {}
    for version in range(3):
        group = arrivals(seed + version, count)
        for _ in range(2):
            pulls = [x - v for x in group.updates]
            clipped = [p * min(1, radius / np.linalg.norm(p)) for p in pulls]
            v = v + sum(clipped) / count
        found = CenteredClipping(radius=radius, iterations=2).combine(group, memory)
        memory = found.memory
        np.testing.assert_allclose(found.update, v, rtol=1e-9, atol=1e-12)


def test_nobody_moves_centered_clipping_by_more_than_his_part():
    group = arrivals(count=8)
    rule, before = CenteredClipping(radius=0.5), update(CenteredClipping(radius=0.5), group)
    group.updates[3] = 1e9
    assert np.linalg.norm(update(rule, group) - before) <= 2 * 0.5 / 8 + 1e-12


@FEW
@given(COUNTS, SEEDS, st.one_of(st.just("median"), st.floats(0.1, 5)))
def test_a_norm_bound_shortens_what_is_longer(count, seed, bound):
    group = arrivals(seed, count)
    lengths = [float(np.linalg.norm(x)) for x in group.updates]
    limit = statistics.median(lengths) if bound == "median" else bound
    expected = sum(x / max(1, n / limit) for x, n in zip(group.updates, lengths, strict=True))
    found = NormBound(bound=bound).combine(group, {})
    np.testing.assert_allclose(found.update, expected / count, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.weights @ group.updates, found.update, atol=1e-12)
    assert np.linalg.norm(found.update) <= limit * (1 + 1e-9)


@FEW
@given(COUNTS, SEEDS, st.integers(1, 4))
def test_bucketing_averages_in_the_order_of_its_permutation(count, seed, size):
    group = arrivals(seed, count)
    by_client = group.updates[np.argsort(group.clients)]
    order = rng.generator(group.seed, rng.Stream.BUCKETS, group.version).permutation(count)
    means = [by_client[order[i : i + size]].mean(axis=0) for i in range(0, count, size)]
    np.testing.assert_allclose(
        update(Bucketing(size=size), group), np.median(means, axis=0), rtol=1e-9, atol=1e-12
    )
    for inner in (Mean(), GeometricMedian()):  # rules with weights get the buckets' shares
        stale = group._replace(weights=group.weights * np.linspace(0.1, 1, count))
        found = Bucketing(size=size, inner=inner).combine(stale, {})
        np.testing.assert_allclose(found.weights @ group.updates, found.update, atol=1e-9)
    np.testing.assert_allclose(
        update(Bucketing(size=size, inner=Mean()), group), group.updates.mean(axis=0), atol=1e-12
    )


def test_buckets_change_from_version_to_version_and_not_with_the_order_of_arrival():
    rule = Bucketing(size=3)
    group = arrivals(count=12)
    other = reordered(group, np.random.default_rng(5).permutation(12))
    np.testing.assert_allclose(update(rule, group), update(rule, other), rtol=1e-12)
    assert not np.allclose(update(rule, group), update(rule, group._replace(version=2)))


RULES = [
    Median(), TrimmedMean(), Krum(), GeometricMedian(), Bulyan(), CenteredClipping(radius=1.0),
    NormBound(bound=1e9), NormBound(bound=1e9, inner=Median()), Bucketing(size=1, inner=Krum()),
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_stale_update_counts_as_a_shorter_one(rule):
    """s(tau) is a factor on the vector, so that s = 1 is the paper and the mean is FedBuff's."""
    group, s = arrivals(), np.array([1.0, 0.5, 1.0, 0.7, 0.3, 1.0, 1.0])
    stale = group._replace(weights=group.shares * s)
    shorter = group._replace(updates=s[:, None] * group.updates)
    np.testing.assert_allclose(update(rule, stale), update(rule, shorter), rtol=1e-9)


# --- breakdown points ------------------------------------------------------------------------

LIES = st.lists(st.floats(-1e30, 1e30), min_size=5, max_size=5)


@FEW
@given(st.integers(1, 3), SEEDS, st.data())
def test_less_than_half_cannot_move_the_median_out_of_the_others_range(f, seed, data):
    check_range(Median(), 2 * f + 1, f, seed, data)


@FEW
@given(st.integers(1, 3), SEEDS, st.data())
def test_those_that_are_trimmed_cannot_move_the_trimmed_mean_out_of_range(f, seed, data):
    check_range(TrimmedMean(trim=f / 10), 10, f, seed, data)


@FEW
@given(st.integers(1, 2), SEEDS, st.data())
def test_f_attackers_cannot_move_bulyan_farther_than_the_others_are_wide(f, seed, data):
    """The median is in the others' range, and enough of theirs are as near as that is wide."""
    check_range(Bulyan(f=f), 4 * f + 3, f, seed, data, beyond=1.0)


def check_range(
    rule: Aggregator, count: int, f: int, seed: int, data: st.DataObject, beyond: float = 0.0
) -> None:
    """f lies leave the rule in the others' range, in every coordinate, or so many widths beyond."""
    group = arrivals(seed, count)
    for i in range(f):
        group.updates[i] = data.draw(LIES)
    honest = group.updates[f:]
    margin = beyond * np.ptp(honest, axis=0)
    low, high = honest.min(axis=0) - margin, honest.max(axis=0) + margin
    found = update(rule, group)
    assert ((low - 1e-9 <= found) & (found <= high + 1e-9)).all()


@FEW
@given(st.integers(1, 4), SEEDS, st.data())
def test_krum_never_moves_by_an_update_that_is_far_from_all(f, seed, data):
    """f lies that are farther away than the honest ones are wide, together or not."""
    count = 2 * f + 3
    group = arrivals(seed, count)
    for i in range(f):
        direction = np.array(data.draw(LIES)) + 1.0
        group.updates[i] = 100 * direction / np.linalg.norm(direction)
    assert np.flatnonzero(Krum(f=f).combine(group, {}).weights)[0] >= f


@FEW
@given(st.integers(0, 4), SEEDS, st.floats(1, 1e12))
def test_less_than_half_moves_the_geometric_median_within_the_bound(f, seed, far):
    """Lopuhaa & Rousseeuw 1991, theorem 2.2: |v - c| <= 2 (1 - a) / (1 - 2 a) max |x_i - c|."""
    count = 9
    group = arrivals(seed, count)
    group.updates[:f] = far * np.random.default_rng(seed).normal(size=5)
    honest = group.updates[f:]
    alike = np.full(count - f, 1 / (count - f))
    centre = update(GeometricMedian(), group._replace(updates=honest, weights=alike, shares=alike))
    spread = np.linalg.norm(honest - centre, axis=1).max()
    share = f / count
    moved = np.linalg.norm(update(GeometricMedian(iterations=2000), group) - centre)
    assert moved <= 2 * (1 - share) / (1 - 2 * share) * spread


def test_distances_survive_single_precision_far_from_the_origin():
    """|x|^2 + |y|^2 - 2 x.y in float32 would be all rounding here: 1e6 +- 1, squared."""
    rows = (1e3 * np.ones((4, 1000)) + np.eye(4, 1000)).astype(np.float32)
    found = squared_distances(rows)
    assert found[0, 1] == pytest.approx(2.0, rel=1e-3)
    assert np.isinf(np.diag(found)).all()


def test_distances_from_a_point_are_lengths_of_differences_also_beyond_float32():
    rows = np.random.default_rng(0).normal(size=(4, 1000)).astype(np.float32)
    rows[1] *= 1e30
    expected = np.linalg.norm(rows.astype(np.float64) - rows[0], axis=1)
    np.testing.assert_allclose(distances_from(rows[0], rows), expected, rtol=1e-5)


@pytest.mark.parametrize("count", [5, 6])
def test_order_statistics_of_more_parameters_than_are_sorted_at_a_time(count):
    group = arrivals(count=count, size=1500)
    np.testing.assert_allclose(update(Median(), group), np.median(group.updates, axis=0))
    ordered = np.sort(group.updates, axis=0)
    np.testing.assert_allclose(
        update(TrimmedMean(trim=0.2), group), ordered[count - 4 : 4 - count].mean(axis=0)
    )


@pytest.mark.parametrize("rule", [Krum(f=2), Krum(f=2, m="auto"), Bulyan(f=1), GeometricMedian(),
                                  Bucketing(size=1, inner=Krum(f=2))], ids=repr)  # fmt: skip
def test_what_is_beyond_all_numbers_is_far_from_everybody(rule):
    group = arrivals(count=9)
    group.updates[0] = 1e200
    found = rule.combine(group, {})
    assert np.isfinite(found.update).all()
    assert np.abs(found.update).max() < 10


# --- configurations ---------------------------------------------------------------------------


@pytest.mark.parametrize(("algorithm", "overrides", "key", "said"), [
    ("krum", {"server.aggregator.f": 9}, "server.aggregator.f", "2 f + 3 = 21"),
    ("krum", {"server.aggregator.m": 21}, "server.aggregator.m", "20 updates"),
    ("bulyan", {"server.aggregator.f": 5}, "server.aggregator.f", "4 f + 3 = 23"),
    ("bulyan", {"server.schedule": {"mode": "buffered", "buffer_size": 6},
                "server.aggregator.f": 1}, "server.aggregator.f", "4 f + 3 = 7"),
    ("trimmed_mean", {"server.aggregator.trim": 0.4, "server.clients_per_round": 4},
     "server.aggregator.trim", "leaves nothing of 4"),
    ("median", {"server.clients_per_round": 2}, "server.aggregator.kind", "at least 3"),
    ("rfa", {"server.schedule": {"mode": "buffered", "buffer_size": 1}},
     "server.aggregator.kind", "at least 3"),
    ("norm_bound", {"server.clients_per_round": 2}, "server.aggregator.bound", "at least 3"),
    ("bucketing", {"server.aggregator.inner": {"kind": "krum", "f": 4}},
     "server.aggregator.inner.f", "means of 2 of 20 updates"),
    ("fedavg", {"server.aggregator.kind": "median"}, "server.weighting", "uniform"),
    ("fedasync", {"server.aggregator.kind": "krum"}, "server.schedule.mode", "every single update"),
    ("fedasync", {"server.aggregator.kind": "norm_bound"}, "server.schedule.mode", "a number"),
])  # fmt: skip
def test_groups_that_are_too_small_are_refused_before_anything_starts(
    algorithm, overrides, key, said
):
    with pytest.raises(InputError) as caught:
        load({"algorithm": algorithm}, {"partition.clients": 20, **overrides})
    assert caught.value.key == key
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tier_is_the_group_where_rounds_take_one(tmp_path):
    """20 clients in 5 tiers of 4, which is too few for f = 3, though 20 or 10 are not."""
    from fedray.simulation.plan import build_plan

    settings = {"partition.clients": 20, "server.aggregator.f": 3}
    build_plan(load({"algorithm": "krum"}, settings).config, tmp_path)
    for asked in ("all", 10):
        tiers = settings | {"server.selection": "tiers", "server.clients_per_round": asked}
        config = load({"algorithm": "krum"}, tiers).config
        with pytest.raises(InputError, match=r"server\.aggregator\.f: 3 is too many .* 4 updates"):
            build_plan(config, tmp_path)


def test_where_only_the_data_tell_the_number_of_clients_the_plan_refuses(tmp_path):
    from fedray.simulation.plan import build_plan

    rows = "\n".join(f"{i % 3},{i},{i % 2}" for i in range(60))
    (tmp_path / "d.csv").write_text("site,x,y\n" + rows + "\n")
    loaded = load({
        "algorithm": "krum", "data": {"path": str(tmp_path / "d.csv"), "client_column": "site"},
        "server": {"aggregator": {"f": 1}},
    })  # fmt: skip
    with pytest.raises(InputError, match=r"server\.aggregator\.f: 1 is too many .* 3 updates"):
        build_plan(loaded.config, loaded.base_dir)


@pytest.mark.parametrize("name", [card.name for rule in AGGREGATORS for card in rule.ALGORITHMS])
def test_every_rule_flies_where_any_number_may_arrive(name, tmp_path):
    """Dropouts, a deadline and late updates: of one update, of many, of stale ones."""
    run = fedray.launch({
        "partition": {"clients": 12, "scheme": "iid"}, "algorithm": name, "seed": 4,
        "client": {"steps": 1}, "attack": {"kind": "sign_flip"},
        "server": {"rounds": 12, "schedule": {
            "mode": "sync", "deadline_s": 0.6, "late": "carry",
            "staleness_weight": {"kind": "polynomial", "exponent": 0.5},
        }},
        "devices": {"duration": {"kind": "uniform", "low": 0.1, "high": 1.5}, "dropout": 0.5,
                    "jitter": {"kind": "exponential", "mean": 1.0}},
        "eval": {"every": 12, "local_losses": False}, "checkpoint": {"every": 0},
        "runtime": {"executor": "local"}, "output": {"report": False},
    }, out=tmp_path / "run")  # fmt: skip
    sizes = run.rounds["updates"].to_pylist()[1:]
    assert min(sizes) < 3 < max(sizes)
    assert max(run.updates["staleness"].to_pylist()) > 0
    assert np.isfinite(run.summary["final"]["loss"])


def test_rules_nest_in_a_file():
    config = load({"server": {"weighting": "uniform", "aggregator": {
        "kind": "norm_bound", "bound": 2.0,
        "inner": {"kind": "bucketing", "inner": {"kind": "krum", "f": 2, "m": "auto"}},
    }}}).config  # fmt: skip
    expected = NormBound(bound=2.0, inner=Bucketing(inner=Krum(f=2, m="auto")))
    assert config.server.aggregator == expected
    bounded = {"server.aggregator": {"kind": "norm_bound", "bound": 1.0}}
    assert load({"algorithm": "fedasync"}, bounded).config.server.aggregator.bound == 1.0
