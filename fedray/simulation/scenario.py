"""The three regression scenarios: what averaging makes of the clients' own fits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.parts.aggregators.pairwise import pairwise_weights
from fedray.simulation.plan import Plan
from fedray.types import Federation, Floats


def scenario_facts(plan: Plan, federation: Federation) -> dict[str, Any]:
    """Each client's least squares line, two averages of them, and the line of all data.

    Lines are [slope, intercept]; R^2 is that of a line on the test set.
    """
    shards = [federation.shards.load(c) for c in range(federation.clients)]
    lines = np.array([_least_squares(X, y) for X, y in shards])
    pooled = _least_squares(*(np.concatenate(part) for part in zip(*shards, strict=True)))
    pairwise = pairwise_weights(np.arange(len(lines))) @ lines
    mean = lines.mean(axis=0)
    X, y = federation.X_test[:, 0], federation.y_test

    def r2(line: Floats) -> float:
        return float(
            1.0 - np.square(y - line[0] * X - line[1]).sum() / np.square(y - y.mean()).sum()
        )

    return {
        "scenario": getattr(plan.config.data, "scenario", ""),
        "client_models": lines.tolist(),
        "pairwise": pairwise.tolist(),
        "mean": mean.tolist(),
        "pooled": pooled.tolist(),
        "r2_pairwise": r2(pairwise),
        "r2_mean": r2(mean),
        "r2_pooled": r2(pooled),
    }


def _least_squares(X: NDArray[Any], y: NDArray[Any]) -> Floats:
    A = np.column_stack([X[:, 0], np.ones(len(y))]).astype(np.float64)
    return np.asarray(np.linalg.lstsq(A, y, rcond=None)[0])
