"""Conformance of the models that local SGD trains, and what each of them means."""

import pickle
from itertools import product

import numpy as np
import pytest

from fedray.config import schema
from fedray.errors import InputError
from fedray.models import LinearModel, MlpModel, SoftmaxModel, build_model

F64 = np.dtype(np.float64)
MODELS = {
    "linear": LinearModel(4, l2=0.3, initial="normal", dtype=F64),
    "softmax": SoftmaxModel(4, 3, l2=0.3, initial="normal", dtype=F64),
    "softmax-2": SoftmaxModel(4, 2, dtype=F64),
    "mlp": MlpModel(4, 3, (6, 5), l2=0.3, dtype=F64),
    "mlp-regression": MlpModel(4, 0, (7,), l2=0.1, dtype=F64),
}


def classes_of(model):
    return getattr(model, "classes", 0)


def data(model, n=11, seed=1):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, model.features)).astype(model.dtype)
    classes = classes_of(model)
    return X, rng.integers(0, classes, n) if classes else rng.standard_normal(n)


def somewhere(model, seed=2):
    w = 0.7 * np.random.default_rng(seed).standard_normal(model.size)
    return w.astype(model.dtype)


def gradient(model, w, X, y):
    out = np.full(model.size, np.nan, model.dtype)
    model.gradient(w, X, y, out)
    return out


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]


@pytest.mark.parametrize("n", [1, 60])
def test_gradient_is_the_finite_difference_of_the_loss(model, n):
    X, y = data(model, n)
    w, eps = somewhere(model), 1e-6
    steps = eps * np.eye(model.size)
    numeric = [(model.loss(w + s, X, y) - model.loss(w - s, X, y)) / (2 * eps) for s in steps]
    np.testing.assert_allclose(gradient(model, w, X, y), numeric, rtol=1e-6, atol=1e-8)


def test_float32_gradient_agrees_with_float64(model):
    small = type(model)(**{**vars_of(model), "dtype": np.dtype(np.float32)})
    X, y = data(model)
    w = somewhere(model)
    expected = gradient(model, w, X, y)
    found = gradient(small, w.astype(np.float32), X.astype(np.float32), y)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


def vars_of(model):
    return {name: getattr(model, name) for name in model.__dataclass_fields__}


def test_loss_is_the_mean_score_plus_penalty(model):
    X, y = data(model)
    w = somewhere(model)
    coefs = [part for name, part in model.named(w).items() if name.startswith("coef")]
    penalty = model.l2 / 2 * sum((c**2).sum() for c in coefs)
    assert model.loss(w, X, y) == pytest.approx(model.score(w, X, y).loss_sum / 11 + penalty)


def test_nothing_is_written_but_out(model):
    X, y = data(model)
    w = somewhere(model)
    before = [a.copy() for a in (w, X, y)]
    for array in (w, X, y):
        array.flags.writeable = False
    gradient(model, w, X, y)
    model.loss(w, X, y)
    model.score(w, X, y)
    for array, old in zip((w, X, y), before, strict=True):
        np.testing.assert_array_equal(array, old)


def test_init_follows_the_generator_and_survives_pickling(model):
    again = pickle.loads(pickle.dumps(model))
    w = model.init(np.random.default_rng(3))
    assert again == model
    assert w.shape == (model.size,)
    assert w.dtype == model.dtype
    np.testing.assert_array_equal(w, again.init(np.random.default_rng(3)))
    X, y = data(model)
    np.testing.assert_array_equal(gradient(model, w, X, y), gradient(again, w, X, y))


def test_named_parameters_are_views_that_cover_the_vector(model):
    w = np.arange(model.size, dtype=model.dtype)
    parts = model.named(w)
    flat = np.concatenate([part.ravel() for part in parts.values()])
    np.testing.assert_array_equal(np.sort(flat), w)
    assert all(np.shares_memory(part, w) for part in parts.values())


def test_named_shapes():
    shapes = {
        name: {k: v.shape for k, v in model.named(np.zeros(model.size)).items()}
        for name, model in MODELS.items()
    }
    assert shapes["linear"] == {"coef": (1, 4), "intercept": (1,)}
    assert shapes["softmax"] == {"coef": (3, 4), "intercept": (3,)}
    assert shapes["mlp"] == {
        "coef_0": (4, 6), "intercept_0": (6,), "coef_1": (6, 5), "intercept_1": (5,),
        "coef_2": (5, 3), "intercept_2": (3,),
    }  # fmt: skip


@pytest.mark.parametrize("n", [1, 3, 32, 130])
@pytest.mark.parametrize(
    "model",
    [LinearModel(1), LinearModel(13), SoftmaxModel(13, 3), SoftmaxModel(784, 10),
     MlpModel(13, 3, (9, 7)), MlpModel(13, 0, (9,))],
    ids=lambda m: f"{type(m).__name__}-{m.features}",
)  # fmt: skip
def test_bits_do_not_depend_on_where_the_arrays_lie(model, n):
    rng = np.random.default_rng(4)
    X, y = data(model, n + 16)
    w = (0.1 * rng.standard_normal(model.size)).astype(np.float32)
    expected = gradient(model, w, X[3 : 3 + n].copy(), y[3 : 3 + n].copy())
    score = model.score(w, X[3 : 3 + n].copy(), y[3 : 3 + n].copy())
    for at_w, at_x, at_out in product((0, 1, 5), range(0, 16, 3), (0, 3)):
        w_there, X_there = np.empty(model.size + 16, "f4"), np.empty(n * model.features + 16, "f4")
        w_there = w_there[at_w : at_w + model.size]
        X_there = X_there[at_x : at_x + n * model.features].reshape(n, model.features)
        w_there[:], X_there[:] = w, X[3 : 3 + n]
        out = np.empty(model.size + 16, "f4")[at_out : at_out + model.size]
        model.gradient(w_there, X_there, y[3 : 3 + n], out)
        np.testing.assert_array_equal(out, expected)
        found = model.score(w_there, X_there, y[3 : 3 + n])
        assert found.loss_sum == score.loss_sum


def test_softmax_logits_in_blocks_are_the_logits():
    model = SoftmaxModel(2000, 10, dtype=F64)  # blocks of 40 rows
    X, y = data(model, 101)
    w = 0.1 * somewhere(model)
    rows = [model.loss(w, X[i : i + 1], y[i : i + 1]) for i in range(101)]
    assert model.loss(w, X, y) == pytest.approx(np.mean(rows), rel=1e-12)


@pytest.mark.parametrize("name", ["softmax", "mlp"])
def test_huge_logits_stay_numbers(name):
    model = MODELS[name]
    X, y = data(model)
    w = somewhere(model) * 1e60
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(gradient(model, w, X, y)).all()
    assert np.isfinite(model.score(w, X, y).loss_sum)


def test_non_finite_parameters_give_no_warning(model):
    X, y = data(model)  # the test run turns warnings into errors
    for bad in (np.nan, np.inf):
        w = np.full(model.size, bad)
        assert not np.isfinite(model.loss(w, X, y))
        assert model.score(w, X, y).samples == 11


def test_linear_minimiser_is_least_squares():
    model = LinearModel(4, dtype=F64)
    X, y = data(model, 30)
    w, *_ = np.linalg.lstsq(np.column_stack((X, np.ones(30))), y, rcond=None)
    np.testing.assert_allclose(gradient(model, w, X, y), 0, atol=1e-14)
    assert np.abs(gradient(model, w + 0.1, X, y)).max() > 1e-2


def test_softmax_optimum_is_scikit_learns():
    from sklearn.linear_model import LogisticRegression

    n, l2 = 60, 0.05
    model = SoftmaxModel(4, 3, l2=l2, dtype=F64)
    X, y = data(model, n)
    # sklearn minimises C * sum of losses + |coef|^2 / 2, which is n C times ours for C = 1/(n l2)
    fitted = LogisticRegression(C=1 / (n * l2), tol=1e-12, max_iter=1000).fit(X, y)
    w = np.concatenate((fitted.coef_.ravel(), fitted.intercept_))
    np.testing.assert_allclose(gradient(model, w, X, y), 0, atol=1e-7)
    score = model.score(w, X, y)
    chance = fitted.predict_proba(X)[np.arange(n), y]
    assert score.loss_sum == pytest.approx(-np.log(chance).sum())
    assert score.per_class[0].sum() == (fitted.predict(X) == y).sum()


def test_mlp_computes_what_scikit_learns_does():
    from sklearn.neural_network import MLPClassifier

    model = MlpModel(4, 3, (6, 5), dtype=F64)
    X, y = data(model, 40)
    theirs = MLPClassifier((6, 5), random_state=0).partial_fit(X, y, classes=range(3))
    w = np.concatenate(
        [
            part.ravel()
            for layer in zip(theirs.coefs_, theirs.intercepts_, strict=True)
            for part in layer
        ]
    )
    chance = theirs.predict_proba(X)[np.arange(40), y]
    assert model.score(w, X, y).loss_sum == pytest.approx(-np.log(chance).sum())


def test_mlp_starts_he_normal():
    model = MlpModel(400, 10, (300, 200))
    parts = model.named(model.init(np.random.default_rng(0)))
    for layer, inputs in enumerate((400, 300, 200)):
        spread = parts[f"coef_{layer}"].std()
        assert spread == pytest.approx(np.sqrt(2 / inputs), rel=0.05)
        assert not parts[f"intercept_{layer}"].any()


@pytest.mark.parametrize("kind", [schema.LinearModel, schema.SoftmaxModel])
def test_init_normal_only_touches_coefficients(kind):
    classes = 0 if kind is schema.LinearModel else 4
    model = build_model(kind(init="normal"), features=1000, classes=classes)
    parts = model.named(model.init(np.random.default_rng(0)))
    assert parts["coef"].std() == pytest.approx(0.01, rel=0.1)
    assert not parts["intercept"].any()
    model = build_model(kind(), features=1000, classes=classes)
    assert not model.init(np.random.default_rng(0)).any()


def test_build_passes_every_setting_on():
    built = build_model(
        schema.MlpModel(hidden=(3,), l2=0.5, dtype="float64"), features=2, classes=0
    )
    assert built == MlpModel(2, 0, (3,), 0.5, F64)
    built = build_model(
        schema.SoftmaxModel(l2=0.5, init="normal", dtype="float64"), features=2, classes=3
    )
    assert built == SoftmaxModel(2, 3, 0.5, "normal", F64)
    built = build_model(
        schema.LinearModel(l2=0.5, init="normal", dtype="float64"), features=2, classes=0
    )
    assert built == LinearModel(2, 0.5, "normal", F64)


@pytest.mark.parametrize(
    ("config", "classes", "words"),
    [
        (schema.LinearModel(), 3, "linear is a regression, the data has 3 classes"),
        (schema.SoftmaxModel(), 0, "softmax needs classes"),
        (schema.MlpModel(), 1, "at least two classes"),
    ],
)
def test_model_and_data_must_fit_each_other(config, classes, words):
    with pytest.raises(InputError, match=words) as caught:
        build_model(config, features=4, classes=classes)
    assert caught.value.key == "model.kind"
    assert "\n" not in str(caught.value)
