"""SCAFFOLD against its paper: fixed point, step by step, and the sum of control variates."""

from __future__ import annotations

import numpy as np
import pytest
from quadratics import LR, A, M, close, flown, grad

from fedray.config import schema
from fedray.config.load import load
from fedray.errors import InputError
from fedray.learning.work import train
from fedray.parts.methods.scaffold import Scaffold


def reference(rounds: int, steps: int, chosen: list[list[int]] | None = None) -> list[float]:
    """Algorithm 1 with option II, line by line."""
    n = len(A)
    x, c, own, found = 0.0, 0.0, [0.0] * n, []
    for r in range(rounds):
        cohort = chosen[r] if chosen else range(n)
        moves, changes = [], []
        for i in cohort:
            y = x
            for _ in range(steps):
                y = y - LR * (grad(i, y) - own[i] + c)
            new = own[i] - c + (x - y) / (steps * LR)
            moves.append(y - x)
            changes.append(new - own[i])
            own[i] = new
        x = x + float(np.mean(moves))
        c = c + len(moves) / n * float(np.mean(changes))
        found.append(x)
    return found


def test_is_the_paper_step_by_step(toy, tmp_path):
    close(flown(toy, tmp_path, Scaffold(), 4), reference(4, 5))


def test_settles_at_the_optimum_where_fedavg_does_not(toy, tmp_path):
    """a = (1, 4), m = (0, 1): the optimum is 0.8, FedAvg's fixed point for 5 steps 0.6925."""
    client = schema.Client(steps=5, batch_size="full", lr=0.1)
    server = schema.Server(rounds=400, weighting="uniform")
    two = {"client": client, "server": server}
    final = toy((1.0, 4.0), (0.0, 1.0), method=Scaffold(), **two).final(tmp_path / "scaffold")
    plain = toy((1.0, 4.0), (0.0, 1.0), **two).final(tmp_path / "plain")
    assert final == pytest.approx(0.8, abs=1e-9)
    assert plain == pytest.approx(0.692502, abs=1e-6)


def test_with_part_of_the_clients_variates_move_by_one_over_all_of_them(toy, tmp_path):
    """The trap: |S| / N on the change of c, and who is not asked keeps his own."""
    server = schema.Server(
        rounds=6, weighting="uniform", clients_per_round=2, selection="round_robin"
    )
    client = schema.Client(steps=3, batch_size="full", lr=LR)
    run = toy(A, M, client=client, server=server, method=Scaffold()).fly(tmp_path)
    cohorts = [[0, 1], [2, 0], [1, 2], [0, 1], [2, 0], [1, 2]]
    asked = run.updates.to_pandas().groupby("base_version")["client"].apply(sorted).tolist()
    assert asked == [sorted(cohort) for cohort in cohorts]
    close([float(run.model["w"][0])], reference(6, 3, cohorts)[-1:])


@pytest.mark.parametrize("schedule", [
    schema.BufferedSchedule(concurrency=3, buffer_size=2, staleness_weight=schema.ConstantWeight()),
    schema.AsyncSchedule(concurrency=3, mixing=0.3),
])  # fmt: skip
def test_settles_at_the_optimum_with_stale_updates_too(toy, tmp_path, schedule):
    """Each c_i + 0 is the gradient at w* once there, so that w* stays whoever arrives when."""
    server = schema.Server(rounds=600, weighting="uniform", schedule=schedule)
    client = schema.Client(steps=4, batch_size="full", lr=0.05)
    made = toy(
        (1.0, 4.0, 2.0), (0.0, 1.0, 0.5), client=client, server=server, method=Scaffold(),
        duration_s=[1.0, 1.3, 2.9],
    )  # fmt: skip
    assert made.final(tmp_path) == pytest.approx(5.0 / 7.0, abs=1e-6)


def test_who_diverges_remembers_what_it_did_before(toy):
    """Of two clients the second overflows; its variate stays, and it sends no update."""
    client = schema.Client(steps=400, batch_size="full", lr=1.0)
    server = schema.Server(weighting="uniform")
    made = toy((0.5, 1e3), (8.0, 1.0), client=client, server=server, method=Scaffold())
    before = [np.array([[3.0]]), np.array([[-2.0]])]
    both, base = np.arange(2), np.zeros(1)
    results = train(
        made.plan.work, made.federation.shards, base, 0, both, both, broadcast=(base,),
        states=before,
    )  # fmt: skip
    assert np.isfinite(results.norm).tolist() == [True, False]
    assert results.states[0] != before[0]
    assert results.states[1] == before[1]


def test_is_picked_by_name():
    config = load({"algorithm": "scaffold"}).config
    assert config.method == Scaffold()
    assert config.server.weighting == "uniform"


@pytest.mark.parametrize(("settings", "key"), [
    ({"client": {"momentum": 0.9}}, "client.momentum"),
    ({"client": {"prox_mu": 0.1}}, "client.prox_mu"),
    ({"model": {"kind": "sklearn", "estimator": "sklearn.linear_model.SGDClassifier"}},
     "method.kind"),
])  # fmt: skip
def test_refuses_what_it_does_not_go_with(settings, key):
    with pytest.raises(InputError) as caught:
        load({"algorithm": "scaffold", **settings})
    assert caught.value.key == key
    assert "scaffold" in str(caught.value)
