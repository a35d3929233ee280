"""Which swept keys matter: the share of the metric's variance that each is behind."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np

from fedray.report.sweep.rows import canonical, finite
from fedray.report.sweep.settings import Setting, Trials
from fedray.types import Floats

LEAST = 20
"""Settings below which a forest is not asked."""
_TREES, _FOLDS, _SHUFFLES = 50, 5, 3

ANOVA = (
    "Analysis of variance over the complete grid: a key's share is the variance of the means "
    "over everything else, over the variance of all values."
)
FOREST = (
    "Permutation importance of a random forest: half of what shuffling a key's values adds to "
    "the squared error on settings that the forest has not seen, over the variance. This is a "
    "key's share with all its interactions, so that shares may add up to more than one."
)


@dataclass(frozen=True)
class Importance:
    """Shares of variance. `shares`: by key; `together`: by `key*key`, beyond the keys' own."""

    method: str
    shares: dict[str, float]
    together: dict[str, float]
    seeds: float | None
    """Share of the seed's main effect; None where seeds were averaged or there is one."""
    explained: float
    """Share that all of these explain; for a forest, R^2 on settings that it has not seen."""
    settings: int


@lru_cache(maxsize=2)
def importance(of: Trials) -> Importance | None:
    """Analysis of variance of a complete grid (Fisher); of all else, a random forest's.

    The forest's: Breiman 2001, with half the increase as the total effect (Wei et al. 2015).
    None where fewer than two keys have two values, where all values are equal, and for a
    forest where fewer than `LEAST` settings have a value, or where it cannot predict
    settings that it has not seen.
    """
    keys = [key for key in of.keys if len(_levels(of, key)) > 1]
    return (_variance(of, keys) or _forest(of, keys)) if len(keys) > 1 else None


def _levels(of: Trials, key: str) -> list[str]:
    return list(dict.fromkeys(canonical(row["settings"].get(key)) for row in of.rows))


def _variance(of: Trials, keys: list[str]) -> Importance | None:
    """Main effects and pairwise interactions of keys, beside the seeds; None if not balanced."""
    values = _grid(of, keys)
    if values is None:
        return None
    mean, axes = float(values.mean()), range(values.ndim)
    total = float(((values - mean) ** 2).mean())
    if total <= 1e-24 * max(mean**2, 1e-300):
        return None

    def of_means(*kept: int) -> float:
        means = values.mean(axis=tuple(axis for axis in axes if axis not in kept))
        return float(((means - mean) ** 2).mean()) / total

    main = {key: of_means(axis) for axis, key in enumerate(keys)}
    together = {
        f"{keys[a]}*{keys[b]}": max(of_means(a, b) - main[keys[a]] - main[keys[b]], 0.0)
        for a, b in combinations(range(len(keys)), 2)
    }
    seeds = of_means(len(keys)) if values.shape[-1] > 1 else None
    explained = sum(main.values()) + sum(together.values()) + (seeds or 0.0)
    return Importance(ANOVA, main, together, seeds, min(explained, 1.0), len(of.settings))


def _grid(of: Trials, keys: list[str]) -> Floats | None:
    """Values by level of every key and by seed, or their means over seeds where some lack.

    None unless every combination of levels is one setting with a value.
    """
    levels = [_levels(of, key) for key in keys]
    shape = [*map(len, levels), len(of.seeds)]
    if of.searched or len(of.settings) != int(np.prod(shape[:-1])):
        return None
    values = np.full(shape, np.nan)
    for each in of.settings:
        at = [
            one.index(canonical(each.settings.get(key)))
            for key, one in zip(keys, levels, strict=True)
        ]
        for seed, value in each.by_seed().items():
            values[(*at, of.seeds.index(seed))] = value
    known = np.isfinite(values)
    if known.all():
        return values
    if not known.any(axis=-1).all():
        return None
    return np.asarray(np.nanmean(values, axis=-1, keepdims=True))


def _forest(of: Trials, keys: list[str]) -> Importance | None:
    """Cross-fitted: every fold's forest is asked about settings of the other folds only."""
    known = [(each, value) for each in of.settings if (value := _mean(each)) is not None]
    y = np.array([value for _, value in known])
    if len(known) < LEAST or np.ptp(y) == 0:
        return None
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import KFold

    X, model = _encoded([each.settings for each, _ in known], keys)
    unexplained, gains = 0.0, np.zeros(len(keys))
    for train, test in KFold(_FOLDS, shuffle=True, random_state=0).split(X):
        fitted = model().fit(X[train], y[train])
        unexplained += float(((fitted.predict(X[test]) - y[test]) ** 2).sum())
        shuffled = permutation_importance(
            fitted, X[test], y[test], scoring="neg_mean_squared_error", n_repeats=_SHUFFLES,
            random_state=0,
        )  # fmt: skip
        gains += shuffled["importances_mean"] * len(test)
    total = float(((y - y.mean()) ** 2).sum())
    predicted = 1 - unexplained / total
    if predicted <= 0:
        return None
    shares = np.clip(gains / 2 / total, 0, 1)
    return Importance(
        FOREST, dict(zip(keys, map(float, shares), strict=True)), {}, None, predicted, len(known)
    )


def _mean(of: Setting) -> float | None:
    """Of all its trials that have a value, those that were stopped early with their last."""
    values = [row["value"] for row in of.trials if row["value"] is not None]
    return sum(values) / len(values) if values else None


def _encoded(settings: list[Any], keys: list[str]) -> tuple[Any, Any]:
    """Settings as a matrix, a column per key, and what makes a forest for it: words one-hot."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    X = np.empty((len(settings), len(keys)), dtype=object)
    spelt = []
    for j, key in enumerate(keys):
        values = [each.get(key) for each in settings]
        numbers = [finite(value) for value in values]
        if any(number is None for number in numbers):
            spelt.append(j)
            X[:, j] = [canonical(value) for value in values]
        else:
            X[:, j] = numbers

    def model() -> Any:
        words = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        forest = RandomForestRegressor(_TREES, random_state=0)
        return make_pipeline(
            ColumnTransformer([("words", words, spelt)], remainder="passthrough"), forest
        )

    return X, model
