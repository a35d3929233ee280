"""FedPer and FedRep against their papers, on a tiny network: a body u and a head (h, c).

f_i = a_i (u1 h + c - m_i)^2 / 2 with u1 = coef + intercept of the first layer; the body's layers
are averaged and the head's stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from personal_models import close, models
from quadratics import LR, A, M

from fedray.config import schema
from fedray.models.mlp import MlpModel
from fedray.parts.personal.layers import FedPer, FedRep
from fedray.types import Score

N, STEPS = len(A), 5
FIRST = np.array([0.4, -0.1, 0.7, 0.2])


@dataclass(frozen=True)
class Net:
    """One unit per layer: (coef_0, intercept_0, coef_1, intercept_1), input 1."""

    size: int = 4
    dtype: np.dtype[Any] = np.dtype(np.float64)

    def init(self, rng: np.random.Generator) -> Any:
        return FIRST.copy()

    def named(self, w: Any) -> dict[str, Any]:
        names = ("coef_0", "intercept_0", "coef_1", "intercept_1")
        return {name: w[i : i + 1] for i, name in enumerate(names)}

    def gradient(self, w: Any, X: Any, y: Any, out: Any) -> None:
        out[:] = slope(w, X[0, 0], y[0])

    def loss(self, w: Any, X: Any, y: Any) -> float:
        return float(X[0, 0] * ((w[0] + w[1]) * w[2] + w[3] - y[0]) ** 2 / 2)

    def score(self, w: Any, X: Any, y: Any) -> Score:
        return Score(len(y), self.loss(w, X[:1], y[:1]) * len(y), None, 0.0, 1.0, 1.0)


def slope(w: np.ndarray, a: float, m: float) -> np.ndarray:
    """Gradient of a client's loss, by the chain rule."""
    d = a * ((w[0] + w[1]) * w[2] + w[3] - m)
    return np.array([d * w[2], d * w[2], d * (w[0] + w[1]), d])


def reference(rounds: int, head_first: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """FedPer (head_first = 0): both together; FedRep: so many head steps, then the body."""
    body, heads = FIRST[:2].copy(), [FIRST[2:].copy() for _ in range(N)]
    for _ in range(rounds):
        bodies = []
        for i in range(N):
            w = np.concatenate([body, heads[i]])
            for _ in range(head_first):
                w[2:] -= LR * slope(w, A[i], M[i])[2:]
            for _ in range(STEPS):
                step = LR * slope(w, A[i], M[i])
                if head_first:
                    step[2:] = 0
                w -= step
            bodies.append(w[:2])
            heads[i] = w[2:]
        body = np.mean(bodies, axis=0)
    return body, [np.concatenate([body, head]) for head in heads]


@pytest.mark.parametrize(("personal", "head_first"), [
    (FedPer(layers=1), 0), (FedRep(layers=1, head_epochs=3.0), 3),
])  # fmt: skip
@pytest.mark.parametrize("rounds", [1, 4])
def test_is_the_paper_step_by_step(toy, tmp_path, personal, head_first, rounds):
    w, own = models(toy, tmp_path, personal, rounds=rounds, model=Net())
    body, expected = reference(rounds, head_first)
    close(w[:2], body)
    assert w[2:].tolist() == FIRST[2:].tolist()  # heads never reach the server
    close(own, expected)


def test_fedrep_is_not_fedper():
    assert not np.allclose(reference(2, 3)[1], reference(2, 0)[1], rtol=0.01)


@pytest.mark.parametrize("layers", [1, 2])
def test_the_last_layers_of_an_mlp_stay(layers):
    """d = 3, hidden (4, 5), 2 classes: 16 + 25 + 12 parameters."""
    model = MlpModel(3, 2, (4, 5))
    kept = FedPer(layers=layers).kept(model)
    assert kept.sum() == {1: 12, 2: 37}[layers]
    assert not kept[: model.size - kept.sum()].any()


def test_what_stays_does_not_count_as_traffic(tmp_path):
    from fedray.config.load import load
    from fedray.simulation.plan import build_plan

    def payload(algorithm: str) -> Any:
        asked = {"algorithm": algorithm, "model": {"kind": "mlp", "hidden": [7]}}
        return build_plan(load(asked).config, tmp_path)[0].population.payload

    digits, classes = 64, 10
    assert payload("fedavg").bytes_up == 4 * (7 * (digits + 1) + classes * 8)
    assert payload("fedper") == payload("fedrep")
    assert payload("fedper").bytes_up == payload("fedper").bytes_down == 4 * 7 * (digits + 1)


def test_work_of_both_heads_and_body_takes_time(tmp_path):
    from fedray.config.load import load
    from fedray.simulation.plan import build_plan

    def seconds(**asked: Any) -> np.ndarray:
        config = load({"model": {"kind": "mlp", "hidden": [7]}, **asked}).config
        return build_plan(config, tmp_path)[0].population.compute_s

    one = {"client": {"epochs": 1}}
    plain = seconds(**one, algorithm="finetune")  # the same shards, and no work in a job
    for algorithm, times in (("fedper", 1), ("fedrep", 11), ("ditto", 2), ("apfl", 2),
                             ("interpolate", 2), ("ifca", 1 + 2 / 3)):  # fmt: skip
        np.testing.assert_allclose(seconds(**one, algorithm=algorithm), times * plain)
    steps = {"client": {"steps": 3, "batch_size": 8, "lr": 0.01}}
    tripled = {"algorithm": "pfedme", "personal": {"inner_steps": 3}}
    np.testing.assert_allclose(
        seconds(**steps, **tripled), 3 * seconds(**steps, algorithm="finetune")
    )
    assert isinstance(load(tripled).config.client, schema.Client)
