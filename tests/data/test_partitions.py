"""Every scheme: a split covers the data once, is reproducible, and is what it says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedray.config import schema
from fedray.data.heterogeneity import label_severity, quantity_gini
from fedray.data.partition import SCHEMES, partition
from fedray.data.partition.quantity import apportion
from fedray.data.partition.severity import TOLERANCE
from fedray.data.partition.tables import one_class_each, repair, stratified
from fedray.errors import InputError
from fedray.types import Dataset

RANDOM = {
    "iid": schema.IidPartition,
    "dirichlet": schema.DirichletPartition,
    "shards": schema.ShardsPartition,
    "quantity": schema.QuantityPartition,
    "feature_shift": schema.FeatureShiftPartition,
    "concept_shift": schema.ConceptShiftPartition,
}


def dataset(y, *, X=None, classes=None, client=None, features=("a",)):
    y = np.asarray(y)
    X = np.zeros((len(y), 1)) if X is None else X
    names = tuple(map(str, range(int(y.max()) + 1))) if classes is None else classes
    return Dataset(X, y, X[:1], y[:1], features, names, client)


def labels(n, classes, seed=0):
    y = np.random.default_rng(seed).integers(0, classes, n)
    y[:classes] = np.arange(classes)
    return y


def counts(owner, y, clients):
    classes = int(y.max()) + 1
    return np.bincount(owner * classes + y, minlength=clients * classes).reshape(clients, classes)


def test_every_scheme_of_the_schema_is_in_the_table():
    assert {*RANDOM, "temporal", "natural"} == set(SCHEMES)


@pytest.mark.parametrize("scheme", RANDOM)
@settings(deadline=None, max_examples=25)
@given(
    clients=st.integers(1, 40),
    spare=st.integers(0, 200),
    classes=st.integers(2, 8),
    seed=st.integers(0, 2**64),
)
def test_every_sample_in_exactly_one_client_and_no_client_empty(
    scheme, clients, spare, classes, seed
):
    config = RANDOM[scheme](clients=clients)
    y = labels(max(2 * clients + spare, classes), classes, seed % 1000)
    owner = partition(config, dataset(y), seed)
    assert owner.shape == y.shape
    assert owner.dtype == np.int64
    assert owner.min() >= 0
    sizes = np.bincount(owner, minlength=clients)
    assert len(sizes) == clients
    assert sizes.min() >= getattr(config, "min_samples", 1)


@pytest.mark.parametrize("scheme", RANDOM)
def test_seeds_reproduce_and_differ(scheme):
    data = dataset(labels(300, 5))
    config = RANDOM[scheme](clients=7)
    first = partition(config, data, 3)
    np.testing.assert_array_equal(first, partition(config, data, 3))
    assert not np.array_equal(first, partition(config, data, 4))


def test_iid_sizes_differ_by_one_at_most():
    sizes = np.bincount(partition(schema.IidPartition(clients=7), dataset(labels(100, 3)), 0))
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("alpha", [1e-12, 1e-3, 0.3, 1e9])
def test_dirichlet_at_any_alpha_keeps_the_minimum(alpha):
    y = labels(120, 4)
    config = schema.DirichletPartition(clients=40, alpha=alpha, min_samples=3)
    assert np.bincount(partition(config, dataset(y), 0), minlength=40).tolist() == [3] * 40


def test_dirichlet_shares_have_the_moments_of_a_dirichlet_distribution():
    """Var of a share of Dir(a, ..., a) over N clients is (N - 1) / (N^2 (N a + 1))."""
    clients, alpha, classes = 10, 0.5, 200
    y = np.repeat(np.arange(classes), 400)
    config = schema.DirichletPartition(clients=clients, alpha=alpha, min_samples=1)
    share = counts(partition(config, dataset(y), 1), y, clients) / 400
    expected = (clients - 1) / (clients**2 * (clients * alpha + 1))
    # 2,000 shares: the sample variance has a relative error of some 4 %.
    assert share.var() == pytest.approx(expected, rel=0.15)


def test_smaller_alpha_is_more_skewed():
    y = labels(2000, 10)
    skews = [
        label_severity(
            counts(partition(schema.DirichletPartition(clients=20, alpha=a), dataset(y), 5), y, 20)
        )
        for a in (100.0, 1.0, 0.1, 0.01)
    ]
    assert skews == sorted(skews)
    assert skews[0] < 0.15 < 0.85 < skews[-1]


@settings(deadline=None, max_examples=30)
@given(
    severity=st.floats(0.08, 0.9),
    clients=st.integers(10, 60),
    classes=st.integers(2, 10),
    seed=st.integers(0, 10**6),
)
def test_severity_is_what_is_measured(severity, clients, classes, seed):
    y = labels(4000, classes, seed)
    config = schema.DirichletPartition(clients=clients, severity=severity)
    owner = partition(config, dataset(y), seed)
    assert label_severity(counts(owner, y, clients)) == pytest.approx(severity, abs=TOLERANCE)
    assert np.bincount(owner, minlength=clients).min() >= config.min_samples


def test_severity_on_uneven_classes():
    y = np.repeat(np.arange(4), [2000, 300, 100, 30])
    for severity in (0.1, 0.5, 0.9):
        config = schema.DirichletPartition(clients=25, severity=severity)
        table = counts(partition(config, dataset(y), 1), y, 25)
        assert label_severity(table) == pytest.approx(severity, abs=TOLERANCE)


def test_severity_zero_is_stratified_and_one_is_one_class_per_client():
    y = np.repeat(np.arange(5), [100, 60, 40, 40, 20])
    zero = counts(
        partition(schema.DirichletPartition(clients=10, severity=0), dataset(y), 0), y, 10
    )
    assert (zero.max(axis=0) - zero.min(axis=0) <= 1).all()
    one = counts(partition(schema.DirichletPartition(clients=10, severity=1), dataset(y), 0), y, 10)
    assert (np.count_nonzero(one, axis=1) == 1).all()
    assert label_severity(one) == 1
    # 260 samples over 10 clients; D'Hondt: no client can have more than 20 at the least.
    assert one.sum(axis=1).min() == 20


def test_unreachable_severity_says_what_can_be_reached():
    few = dataset(labels(60, 10))
    with pytest.raises(
        InputError, match=r"severity: 0\.05 can not .* 0, 0\.7\d to [01]\.\d\d, and 1$"
    ) as error:
        partition(schema.DirichletPartition(clients=20, severity=0.05), few, 0)
    assert error.value.key == "partition.severity"
    with pytest.raises(InputError, match="as many clients as classes"):
        partition(schema.DirichletPartition(clients=3, severity=1), few, 0)
    crowded = dataset(np.repeat([0, 1], [58, 2]))
    with pytest.raises(InputError, match="min_samples 5"):
        partition(schema.DirichletPartition(clients=2, severity=1, min_samples=5), crowded, 0)


def test_alpha_and_severity_exclude_each_other():
    config = schema.DirichletPartition(clients=2, alpha=1.0, severity=0.5)
    with pytest.raises(InputError, match="exclude each other"):
        partition(config, dataset(labels(60, 3)), 0)


@settings(max_examples=50)
@given(
    table=st.lists(st.lists(st.integers(0, 30), min_size=3, max_size=3), min_size=2, max_size=9),
    least=st.integers(1, 5),
)
def test_repair_moves_as_little_as_possible_and_keeps_the_classes(table, least):
    before = np.array(table)
    if before.sum() < least * len(before):
        return
    after = repair(before, least)
    sizes, was = after.sum(axis=1), before.sum(axis=1)
    np.testing.assert_array_equal(after.sum(axis=0), before.sum(axis=0))
    assert after.min() >= 0
    assert sizes.min() >= least
    np.testing.assert_array_equal(sizes[was < least], least)
    assert (sizes[was >= least] <= was[was >= least]).all()


def test_tables_add_up():
    total = np.array([7, 0, 12, 5])
    for clients in (3, 5, 9):
        np.testing.assert_array_equal(stratified(total, clients).sum(axis=0), total)
        each = one_class_each(total, clients)
        np.testing.assert_array_equal(each.sum(axis=0), total)
    assert one_class_each(total, 2) is None


def test_shards_give_each_client_few_classes():
    y = np.repeat(np.arange(10), 60)
    owner = partition(schema.ShardsPartition(clients=30, classes_per_client=2), dataset(y), 0)
    table = counts(owner, y, 30)
    assert (table.sum(axis=1) == 20).all()
    assert np.count_nonzero(table, axis=1).max() == 2


def test_quantity_laws():
    n, clients = 10_000, 50
    data = dataset(labels(n, 2))
    power = schema.QuantityPartition(clients=clients, law="power", alpha=1.0, min_samples=1)
    sizes = np.sort(np.bincount(partition(power, data, 0)))[::-1]
    share = 1 / np.arange(1, clients + 1)
    np.testing.assert_allclose(sizes, 1 + (n - clients) * share / share.sum(), atol=1)
    even = schema.QuantityPartition(clients=clients, alpha=1000.0)
    skewed = schema.QuantityPartition(clients=clients, alpha=0.1)
    ginis = [quantity_gini(np.bincount(partition(c, data, 0))) for c in (even, skewed)]
    assert ginis[0] < 0.05
    assert ginis[1] > 0.7


def test_apportion_is_exact():
    assert apportion(10, np.array([1.0, 1.0, 1.0])).tolist() == [4, 3, 3]
    assert apportion(0, np.array([0.3, 0.7])).tolist() == [0, 0]


def test_temporal_cuts_along_the_column():
    X = np.random.default_rng(0).normal(size=(50, 2))
    data = dataset(labels(50, 2), X=X, features=("a", "when"))
    owner = partition(schema.TemporalPartition(clients=4, column="when"), data, 0)
    for k in range(3):
        assert X[owner == k, 1].max() < X[owner == k + 1, 1].min()
    in_order = partition(schema.TemporalPartition(clients=4), data, 0)
    assert (np.diff(in_order) >= 0).all()
    assert np.ptp(np.bincount(in_order)) <= 1


def test_natural_is_the_source_s_own():
    client = np.array([1, 0, 1, 2])
    data = dataset(np.array([0, 1, 0, 1]), client=client)
    np.testing.assert_array_equal(partition(schema.NaturalPartition(), data, 0), client)


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (schema.IidPartition(clients=11), "partition.clients"),
        (schema.DirichletPartition(clients=6, min_samples=2), "partition.clients"),
        (schema.QuantityPartition(clients=4, min_samples=3), "partition.clients"),
        (schema.ShardsPartition(clients=6, classes_per_client=2), "partition.classes_per_client"),
        (schema.TemporalPartition(clients=2, column="b"), "partition.column"),
        (schema.TemporalPartition(clients=99), "partition.clients"),
        (schema.NaturalPartition(), "partition.scheme"),
    ],
)
def test_infeasible_splits_name_the_key(config, key):
    with pytest.raises(InputError) as error:
        partition(config, dataset(labels(10, 2)), 0)
    assert error.value.key == key
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "config",
    [
        schema.DirichletPartition(clients=2),
        schema.ShardsPartition(clients=2),
        schema.ConceptShiftPartition(clients=2),
    ],
)
def test_label_schemes_refuse_a_regression(config):
    with pytest.raises(InputError, match="regression") as error:
        partition(config, dataset(np.linspace(0, 1, 30), classes=()), 0)
    assert error.value.key == "partition.scheme"
