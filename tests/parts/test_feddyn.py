"""FedDyn against its paper: the optimum, step by step, and what is reported."""

from __future__ import annotations

import numpy as np
import pytest
from quadratics import LR, A, M, close, flown, grad, walk

from fedray.config import schema
from fedray.config.load import load
from fedray.errors import InputError
from fedray.parts.methods.feddyn import FedDyn

ALPHA = 0.7


def reference(
    rounds: int, steps: int, chosen: list[list[int]] | None = None
) -> tuple[list[float], list[float]]:
    """Algorithm 1, line by line: the server's models, and the means of the cohorts'."""
    n = len(A)
    w, h, g = 0.0, 0.0, [0.0] * n
    found, means = [], []
    for r in range(rounds):
        cohort = chosen[r] if chosen else range(n)
        models = []
        for i in cohort:
            theta = walk(i, w, steps, lambda x, i=i, w=w: -g[i] + ALPHA * (x - w))
            g[i] -= ALPHA * (theta - w)
            models.append(theta)
        h -= ALPHA / n * sum(theta - w for theta in models)
        w = float(np.mean(models)) - h / ALPHA
        found.append(w)
        means.append(float(np.mean(models)))
    return found, means


def test_is_the_paper_step_by_step(toy, tmp_path):
    close(flown(toy, tmp_path, FedDyn(alpha=ALPHA), 4), reference(4, 5)[0])


def test_reports_the_mean_of_the_models_where_asked(toy, tmp_path):
    method = FedDyn(alpha=ALPHA, report="average")
    close(flown(toy, tmp_path, method, 3), reference(3, 5)[1])


def test_with_part_of_the_clients_h_moves_by_one_over_all_of_them(toy, tmp_path):
    server = schema.Server(
        rounds=6, weighting="uniform", clients_per_round=2, selection="round_robin"
    )
    client = schema.Client(steps=3, batch_size="full", lr=LR)
    final = toy(A, M, client=client, server=server, method=FedDyn(alpha=ALPHA)).final(tmp_path)
    cohorts = [[0, 1], [2, 0], [1, 2], [0, 1], [2, 0], [1, 2]]
    close([final], reference(6, 3, cohorts)[0][-1:])


@pytest.mark.parametrize("steps", [400, 3])
def test_settles_at_the_optimum_where_fedavg_does_not(toy, tmp_path, steps):
    """400 steps solve the local problem: FedAvg then goes to the plain mean of the minima, 0.5."""
    client = schema.Client(steps=steps, batch_size="full", lr=0.1)
    server = schema.Server(rounds=30 if steps > 3 else 300, weighting="uniform")
    two = {"client": client, "server": server}
    method = FedDyn(alpha=1.0)
    final = toy((1.0, 4.0), (0.0, 1.0), method=method, **two).final(tmp_path / "dyn")
    plain = toy((1.0, 4.0), (0.0, 1.0), **two).final(tmp_path / "plain")
    assert final == pytest.approx(0.8, abs=1e-6)
    assert abs(plain - 0.8) > 0.05


@pytest.mark.parametrize("schedule", [
    schema.BufferedSchedule(concurrency=3, buffer_size=2),
    schema.AsyncSchedule(concurrency=3, mixing=0.2),
])  # fmt: skip
def test_settles_at_the_optimum_with_stale_updates_too(toy, tmp_path, schedule):
    server = schema.Server(rounds=700, weighting="uniform", schedule=schedule)
    client = schema.Client(steps=4, batch_size="full", lr=0.05)
    made = toy(
        (1.0, 4.0, 2.0), (0.0, 1.0, 0.5), client=client, server=server,
        method=FedDyn(alpha=3.0), duration_s=[1.0, 1.3, 2.9],
    )  # fmt: skip
    assert made.final(tmp_path) == pytest.approx(5.0 / 7.0, abs=1e-6)


def test_penalises_the_squared_norm(toy, tmp_path):
    """PFLlib's mistake is |x - w|, whose gradient does not grow with the distance. Two steps
    from 0, the second of them pulled back by alpha x."""
    (got,) = flown(toy, tmp_path, FedDyn(alpha=5.0), 1, steps=2)
    firsts = [-LR * grad(i, 0.0) for i in range(3)]
    seconds = [x - LR * (grad(i, x) + 5.0 * x) for i, x in enumerate(firsts)]
    assert got == pytest.approx(2 * np.mean(seconds), rel=1e-12)  # -h / alpha is the mean again


def test_refuses_weights_by_examples():
    assert load({"algorithm": "feddyn"}).config.method == FedDyn()
    with pytest.raises(InputError) as caught:
        load({"algorithm": "feddyn", "server": {"weighting": "examples"}})
    assert caught.value.key == "server.weighting"
