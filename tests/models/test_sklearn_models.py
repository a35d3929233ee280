"""The scikit-learn adapter: the estimators' own results, from a flat vector and back."""

import pickle

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier

from fedray.config import schema
from fedray.errors import FedrayError, InputError
from fedray.models import build_model, metrics
from fedray.models.estimators import parameters

LINEAR = "sklearn.linear_model."
SMALL = {"hidden_layer_sizes": [6, 5]}
CASES = {
    "SGDClassifier": (LINEAR + "SGDClassifier", {}, 4),
    "SGDClassifier-binary": (LINEAR + "SGDClassifier", {"loss": "log_loss"}, 2),
    "SGDClassifier-average": (LINEAR + "SGDClassifier", {"average": True}, 3),
    "SGDRegressor": (LINEAR + "SGDRegressor", {}, 0),
    "SGDRegressor-average": (LINEAR + "SGDRegressor", {"average": 2}, 0),
    "LinearRegression": (LINEAR + "LinearRegression", {}, 0),
    "Ridge": (LINEAR + "Ridge", {"fit_intercept": False}, 0),
    "LogisticRegression": (LINEAR + "LogisticRegression", {}, 4),
    "RidgeClassifier": (LINEAR + "RidgeClassifier", {}, 4),
    "LinearSVC": ("sklearn.svm.LinearSVC", {}, 2),
    "MLPClassifier": ("sklearn.neural_network.MLPClassifier", SMALL, 4),
    "MLPClassifier-binary": ("sklearn.neural_network.MLPClassifier", SMALL, 2),
    "MLPClassifier-lbfgs": (
        "sklearn.neural_network.MLPClassifier",
        {"hidden_layer_sizes": 6, "solver": "lbfgs", "max_iter": 20},
        4,
    ),
    "MLPRegressor": ("sklearn.neural_network.MLPRegressor", SMALL, 0),
}


def build(estimator, params=None, classes=0, fit="auto", dtype="float64", features=3):
    config = schema.SklearnModel(estimator=estimator, params=params or {}, fit=fit, dtype=dtype)
    return build_model(config, features=features, classes=classes)


def data(classes, n=40, seed=1):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 3))
    if not classes:
        return X, X @ [1.0, -2.0, 0.5] + 3 + 0.1 * rng.standard_normal(n)
    y = np.arange(n) % classes
    return X + 1.5 * rng.standard_normal((classes, 3))[y], y


def state(seed):
    """The RandomState that the adapter hands to an estimator for default_rng(seed)."""
    return np.random.RandomState(
        np.random.MT19937(int(np.random.default_rng(seed).integers(2**63)))
    )


def flat(estimator):
    return np.concatenate([part.ravel() for part in parameters(estimator).values()])


@pytest.fixture(params=CASES)
def case(request):
    estimator, params, classes = CASES[request.param]
    return build(estimator, params, classes), *data(classes)


def train(model, base, X, y, epochs=2, seed=7):
    return model.train(base, X, y, epochs=epochs, rng=np.random.default_rng(seed))


def test_training_is_a_function_of_its_arguments(case):
    model, X, y = case
    base = model.init(np.random.default_rng(0))
    for array in (base, X, y):
        array.flags.writeable = False
    again = pickle.loads(pickle.dumps(model))
    first = train(model, base, X, y)
    assert first.shape == base.shape == (model.size,)
    assert first.dtype == base.dtype == model.dtype
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(train(model, base, X, y), first)  # nothing is left behind
    np.testing.assert_array_equal(train(again, base, X, y), first)
    before, after = (metrics(model.score(w, X, y)) for w in (base, first))
    assert after != before
    np.testing.assert_array_equal(again.init(np.random.default_rng(0)), base)


def test_parameters_make_the_round_trip(case):
    model, *_ = case
    w = np.random.default_rng(0).standard_normal(model.size)
    named = model.named(w)
    np.testing.assert_array_equal(np.concatenate([p.ravel() for p in named.values()]), w)
    np.testing.assert_array_equal(flat(model._with(w)), w)


@pytest.mark.parametrize(
    "name", [name for name in CASES if name.startswith(("SGD", "MLP")) and "lbfgs" not in name]
)
def test_partial_starts_from_the_base(name):
    estimator, params, classes = CASES[name]
    model, (X, y) = build(estimator, params, classes, fit="partial"), data(classes)
    base = train(model, model.init(np.random.default_rng(0)), X, y, epochs=20)
    near = train(model, base, X, y, epochs=1)
    far = train(model, model.init(np.random.default_rng(0)), X, y, epochs=1)
    assert not np.array_equal(near, far)
    np.testing.assert_array_equal(train(model, base, X, y, epochs=0), base)


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("classes", [2, 4])
def test_sgd_classifier_is_scikit_learns(classes, average):
    X, y = data(classes)
    model = build(LINEAR + "SGDClassifier", {"loss": "log_loss", "average": average}, classes)
    theirs = SGDClassifier(loss="log_loss", average=average, random_state=state(7))
    for _ in range(3):
        theirs.partial_fit(X, y, classes=np.arange(classes))
    np.testing.assert_array_equal(train(model, np.zeros(model.size), X, y, epochs=3), flat(theirs))


def test_sgd_from_a_base_continues_there():
    X, y = data(4)
    model = build(LINEAR + "SGDClassifier", {"learning_rate": "constant", "eta0": 0.01}, 4)
    base = np.random.default_rng(5).standard_normal(model.size)
    theirs = SGDClassifier(
        learning_rate="constant", eta0=0.01, random_state=state(7), max_iter=1, tol=None
    )
    theirs.fit(X, y, coef_init=base[:12].reshape(4, 3).copy(), intercept_init=base[12:].copy())
    np.testing.assert_array_equal(train(model, base, X, y, epochs=1), flat(theirs))


def test_sgd_regressor_is_scikit_learns():
    X, y = data(0)
    model = build(LINEAR + "SGDRegressor")
    theirs = SGDRegressor(random_state=state(7)).partial_fit(X, y).partial_fit(X, y)
    np.testing.assert_array_equal(train(model, np.zeros(4), X, y), flat(theirs))


def test_linear_regression_is_scikit_learns():
    X, y = data(0)
    model = build(LINEAR + "LinearRegression")
    theirs = LinearRegression().fit(X, y)
    w = train(model, np.full(4, 9.0), X, y)
    np.testing.assert_array_equal(w, [*theirs.coef_, theirs.intercept_])
    score = metrics(model.score(w, X, y))
    assert score.r2 == pytest.approx(theirs.score(X, y))
    assert {k: v.shape for k, v in model.named(w).items()} == {"coef": (3,), "intercept": ()}


def test_mlp_is_scikit_learns():
    X, y = data(4)
    model = build("sklearn.neural_network.MLPClassifier", {"hidden_layer_sizes": [6]}, 4)
    base = model.init(np.random.default_rng(0))
    # Their start and shuffles come from one generator: give them ours for each in turn.
    theirs = MLPClassifier([6], random_state=state(0), learning_rate_init=1e-300)
    theirs.partial_fit(X, y, classes=range(4))
    np.testing.assert_array_equal(flat(theirs), base)
    del theirs._optimizer
    theirs.set_params(random_state=state(7), learning_rate_init=0.001)
    theirs.loss_curve_, theirs.best_loss_, theirs.n_iter_, theirs.t_ = [], np.inf, 0, 0
    theirs.partial_fit(X, y).partial_fit(X, y)
    np.testing.assert_array_equal(train(model, base, X, y), flat(theirs))


@pytest.mark.parametrize("name", ["SGDClassifier-binary", "LogisticRegression", "MLPClassifier"])
def test_score_is_scikit_learns_log_loss(name):
    estimator, params, classes = CASES[name]
    model = build(estimator, params, classes)
    X, y = data(classes)
    w = train(model, model.init(np.random.default_rng(0)), X, y, epochs=3)
    theirs = model._with(w)
    found = metrics(model.score(w, X, y))
    assert found.accuracy == theirs.score(X, y)
    assert found.loss == pytest.approx(log_loss(y, theirs.predict_proba(X)))


@pytest.mark.parametrize("classes", [2, 3])
def test_without_probabilities_the_score_is_of_the_softmax_of_decisions(classes):
    X, y = data(classes)
    model = build(LINEAR + "SGDClassifier", {}, classes)
    w = train(model, np.zeros(model.size), X, y)
    Z = model._with(w).decision_function(X)
    Z = np.column_stack((-Z / 2, Z / 2)) if classes == 2 else Z
    chance = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
    score = model.score(w, X, y)
    assert score.loss_sum == pytest.approx(-np.log(chance[np.arange(40), y]).sum())
    assert metrics(score).accuracy == model._with(w).score(X, y)


@pytest.mark.parametrize("name", ["SGDClassifier", "MLPClassifier"])
@pytest.mark.parametrize("present", [[2], [0, 2], [1, 2, 3]])
def test_partial_takes_clients_that_lack_classes(name, present):
    estimator, params, classes = CASES[name]
    faster = {"learning_rate_init": 0.05} if name.startswith("MLP") else {}
    model = build(estimator, params | faster, classes)
    X, y = data(4)
    here = np.isin(y, present)
    w = train(model, model.init(np.random.default_rng(0)), X[here], y[here], epochs=30)
    assert metrics(model.score(w, X[here], y[here])).accuracy > 0.5


@pytest.mark.parametrize(
    ("name", "params"),
    [("LogisticRegression", {}), ("RidgeClassifier", {}), ("SGDClassifier", {}),
     ("RidgeClassifier", {"fit_intercept": False})],
)  # fmt: skip
@pytest.mark.parametrize("present", [[1, 3], [0, 1, 3]])
def test_full_keeps_the_base_for_classes_that_a_client_lacks(name, params, present):
    model = build(LINEAR + name, params, 4, fit="full")
    X, y = data(4)
    here = np.isin(y, present)
    base = np.random.default_rng(0).standard_normal(model.size)
    w = train(model, base, X[here], y[here])
    absent = [c for c in range(4) if c not in present]
    np.testing.assert_array_equal(model.named(w)["coef"][absent], model.named(base)["coef"][absent])
    own = train(build(LINEAR + name, params, len(present), fit="full"), base,
                X[here], np.searchsorted(present, y[here]))  # fmt: skip
    if len(present) == 3:
        np.testing.assert_array_equal(model.named(w)["coef"][present].ravel(), own[:9])
    # Among the present classes, the predictions are those of the client's own fit.
    Z = X[here] @ model.named(w)["coef"][present].T
    if "fit_intercept" not in params:
        Z += model.named(w)["intercept"][present]
    direct = model._fresh(np.random.default_rng(7)).fit(X[here], y[here])
    np.testing.assert_array_equal(np.array(present)[Z.argmax(axis=1)], direct.predict(X[here]))


def test_two_classes_of_a_joint_fit_keep_their_probabilities():
    model = build(LINEAR + "LogisticRegression", {}, 4)
    X, y = data(4)
    here = np.isin(y, [1, 3])
    w = train(model, np.zeros(model.size), X[here], y[here])
    Z = X[here] @ model.named(w)["coef"][[1, 3]].T + model.named(w)["intercept"][[1, 3]]
    theirs = LogisticRegression().fit(X[here], y[here]).predict_proba(X[here])
    np.testing.assert_allclose(np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True), theirs)


def test_full_network_maps_its_last_layer():
    params = SMALL | {"max_iter": 300, "tol": 0.1}
    model = build("sklearn.neural_network.MLPClassifier", params, 4, fit="full")
    X, y = data(4)
    base = model.init(np.random.default_rng(0))
    for present in ([1, 3], [0, 1, 3]):
        here = np.isin(y, present)
        w = train(model, base, X[here], y[here])
        old, new = model.named(base), model.named(w)
        absent = [c for c in range(4) if c not in present]
        np.testing.assert_array_equal(new["coef_2"][:, absent], old["coef_2"][:, absent])
        direct = model._fresh(np.random.default_rng(7)).fit(X[here], y[here])
        np.testing.assert_array_equal(new["coef_0"], direct.coefs_[0])
        chance = model._with(w).predict_proba(X[here])[:, present]
        chance /= chance.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(chance, direct.predict_proba(X[here]), rtol=1e-9)


def test_full_with_one_class_says_what_to_do():
    model = build(LINEAR + "LogisticRegression", {}, 4)
    X, y = data(4)
    with pytest.raises(FedrayError, match=r"only holds class 2; use .* partial_fit") as caught:
        train(model, np.zeros(model.size), X[y == 2], y[y == 2])
    assert "\n" not in str(caught.value)


def test_a_fit_that_overflows_is_nan_and_not_the_end():
    X, y = data(0)
    sgd = build(LINEAR + "SGDRegressor")
    large = {"hidden_layer_sizes": [3], "solver": "sgd", "learning_rate_init": 1e200}
    mlp = build("sklearn.neural_network.MLPRegressor", large)
    assert np.isnan(train(mlp, mlp.init(np.random.default_rng(0)), X, y, epochs=9)).all()
    for model in (sgd, mlp):  # scikit-learn clips SGD's gradients: only a bad base gets there
        bad = np.full(model.size, np.nan)
        assert np.isnan(train(model, bad, X, y)).all()
        assert not np.isfinite(model.score(bad, X, y).loss_sum)


def test_float32_is_trained_as_float32():
    for name in ("SGDClassifier", "MLPClassifier", "LogisticRegression", "LinearRegression"):
        estimator, params, classes = CASES[name]
        model = build(estimator, params, classes, dtype="float32")
        X, y = data(classes)
        w = train(model, model.init(np.random.default_rng(0)), X.astype("f4"), y)
        assert w.dtype == np.float32
        assert np.isfinite(w).all()


@pytest.mark.parametrize(
    ("config", "classes", "key", "words"),
    [
        ({"estimator": "sklearn.linear_modl.SGDClassifier"}, 3, "estimator", "can not import"),
        ({"estimator": "SGDClassifier"}, 3, "estimator", "import path like"),
        ({"estimator": LINEAR + "SGDClasifier"}, 3, "estimator", "did you mean 'SGDClassifier'"),
        ({"estimator": "numpy.mean"}, 3, "estimator", "no scikit-learn estimator"),
        ({"estimator": "sklearn.cluster.KMeans"}, 3, "estimator", "is not a classifier"),
        ({"estimator": LINEAR + "SGDClassifier"}, 0, "estimator", "is not a regressor"),
        ({"estimator": LINEAR + "LinearRegression"}, 3, "estimator", "is not a classifier"),
        ({"estimator": "sklearn.naive_bayes.GaussianNB"}, 3, "estimator", "no coef_"),
        ({"estimator": "sklearn.tree.DecisionTreeRegressor"}, 0, "estimator", "no coef_"),
        ({"estimator": "sklearn.svm.SVC", "params": {"kernel": "linear"}}, 3, "estimator",
         "can not be set"),
        ({"estimator": "sklearn.cross_decomposition.PLSRegression"}, 0, "estimator",
         "can not be averaged"),
        ({"estimator": LINEAR + "Ridge", "params": {"alfa": 1}}, 0, "params", "'alfa'"),
        ({"estimator": LINEAR + "Ridge", "params": {"alpha": "x"}}, 0, "params", "alpha"),
        ({"estimator": LINEAR + "SGDRegressor", "params": {"random_state": 1}}, 0, "params",
         "follows from seed"),
        ({"estimator": LINEAR + "SGDRegressor", "params": {"early_stopping": True}}, 0, "params",
         "early_stopping"),
        ({"estimator": LINEAR + "Ridge", "fit": "partial"}, 0, "fit", "no partial_fit"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_with_its_key(config, classes, key, words):
    with pytest.raises(InputError, match=words) as caught:
        build_model(schema.SklearnModel(**config), features=3, classes=classes)
    assert caught.value.key == f"model.{key}"
    assert "\n" not in str(caught.value)
