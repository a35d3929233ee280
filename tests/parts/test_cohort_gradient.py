"""Mime, MimeLite and FedLin against their papers, and what it costs to ask a cohort first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from quadratics import LR, A, M, close, flown, grad, walk

from fedray.config import schema
from fedray.config.load import load
from fedray.errors import InputError
from fedray.parts.methods.fedlin import FedLin
from fedray.parts.methods.mime import Mime, MimeLite
from fedray.simulation.plan import build_plan

COHORTS = [[0, 1], [2, 0], [1, 2], [0, 1], [2, 0], [1, 2]]
IN_TURN = {"weighting": "uniform", "clients_per_round": 2, "selection": "round_robin"}
BETA = 0.6


def mime(rounds: int, steps: int, chosen=None, *, lite: bool = False) -> list[float]:
    """Algorithm 1 with SGD with momentum."""
    x = m = 0.0
    found = []
    for r in range(rounds):
        cohort = chosen[r] if chosen else range(3)
        c = float(np.mean([grad(i, x) for i in cohort]))
        models = []
        for i in cohort:
            y = x
            for _ in range(steps):
                g = grad(i, y) if lite else grad(i, y) - grad(i, x) + c
                y -= LR * ((1 - BETA) * g + BETA * m)
            models.append(y)
        m = (1 - BETA) * c + BETA * m
        x = float(np.mean(models))
        found.append(x)
    return found


def fedlin(rounds: int, steps: int, chosen=None, p=(1, 1, 1)) -> list[float]:
    x, found = 0.0, []
    for r in range(rounds):
        cohort = list(chosen[r] if chosen else range(3))
        share = np.array([p[i] for i in cohort]) / sum(p[i] for i in cohort)
        c = float(share @ [grad(i, x) for i in cohort])
        models = []
        for i in cohort:
            y = x
            for _ in range(steps):
                y -= LR * (grad(i, y) - grad(i, x) + c)
            models.append(y)
        x = float(share @ models)
        found.append(x)
    return found


def mimelite(rounds: int, steps: int, chosen=None) -> list[float]:
    return mime(rounds, steps, chosen, lite=True)


@pytest.mark.parametrize(("method", "reference"), [
    (Mime(beta=BETA), mime), (MimeLite(beta=BETA), mimelite), (FedLin(), fedlin),
])  # fmt: skip
class TestAll:
    def test_is_the_paper_step_by_step(self, toy, tmp_path, method, reference):
        close(flown(toy, tmp_path, method, 4), reference(4, 5))

    def test_with_part_of_the_clients_the_cohort_is_asked(self, toy, tmp_path, method, reference):
        server = schema.Server(**IN_TURN)
        close(flown(toy, tmp_path, method, 6, server=server), reference(6, 5, COHORTS))


def test_fedlin_weighs_gradients_as_it_does_models(toy, tmp_path):
    server = schema.Server(weighting="examples")
    found = flown(toy, tmp_path, FedLin(), 3, server=server, samples=(1, 5, 2))
    close(found, fedlin(3, 5, p=(1, 5, 2)))


@pytest.mark.parametrize(("weighting", "p"), [("uniform", (1, 1, 1)), ("examples", (1, 5, 2))])
@pytest.mark.parametrize("method", [Mime(beta=BETA), MimeLite(beta=BETA)])
def test_one_local_step_is_the_central_optimizer(toy, tmp_path, method, weighting, p):
    x = m = 0.0
    expected = []
    for _ in range(5):
        g = float(np.average([grad(i, x) for i in range(3)], weights=p))
        m = BETA * m + (1 - BETA) * g
        x -= LR * m
        expected.append(x)
    server = schema.Server(weighting=weighting)
    close(flown(toy, tmp_path, method, 5, steps=1, server=server, samples=(1, 5, 2)), expected)


def test_mimelite_without_momentum_is_fedavg(toy, tmp_path):
    expected, x = [], 0.0
    for _ in range(3):
        x = float(np.mean([walk(i, x, 5) for i in range(3)]))
        expected.append(x)
    close(flown(toy, tmp_path, MimeLite(beta=0.0), 3), expected)


@pytest.mark.parametrize("method", [Mime(beta=0.5), FedLin(), None])
def test_settles_at_the_optimum_where_fedavg_does_not(toy, tmp_path, method):
    """Of clients with 2 and 20 samples, as many local steps: (2 * 0 + 80 * 1) / 82."""
    client = schema.Client(epochs=1, batch_size=1, lr=0.02)
    server = schema.Server(rounds=300)
    made = toy((1.0, 4.0), (0.0, 1.0), client=client, server=server, method=method,
               samples=(2, 20))  # fmt: skip
    away = abs(made.final(tmp_path) - 80 / 82)
    assert away < 1e-8 if method else away > 0.01


def test_with_minibatches_the_correction_is_on_the_same_minibatch(toy, tmp_path):
    """Client 0 holds curvatures 1 and 5: g(y) - g(x) + c is curvature (y - x) + c, so that the
    second of two steps tells which minibatch both gradients were from."""
    client = schema.Client(epochs=1, batch_size=1, lr=0.1)
    server = schema.Server(rounds=1)
    made = toy((1.0,), (1.0,), client=client, server=server, method=Mime(beta=0.0), samples=(2,))
    federation = made.federation
    federation.shards.X[:, 0] = [1.0, 5.0]
    c = -(1.0 + 5.0) / 2
    y = 0.0 - 0.1 * c
    either = [y - 0.1 * (a * y + c) for a in (1.0, 5.0)]
    found = trained(made, federation, np.array([0.0]), np.array([c]))
    assert min(abs(found - e) for e in either) < 1e-12


def trained(made, federation, m: np.ndarray, c: np.ndarray) -> float:
    """The model of client 0, sent 0 with these vectors."""
    from fedray.learning.work import train

    zero = np.zeros(1, np.int64)
    found = train(made.plan.work, federation.shards, np.zeros(1), 0, zero, zero, broadcast=(m, c))
    return float(found.deltas[0, 0])


def test_who_will_be_lost_is_not_asked(toy, tmp_path):
    """The reference over those whose updates were applied."""
    client = schema.Client(steps=3, batch_size="full", lr=LR)
    server = schema.Server(rounds=6, weighting="uniform")
    run = toy(A, M, client=client, server=server, method=FedLin(), dropout=0.4).fly(tmp_path)
    rows = run.updates.to_pandas()
    assert set(rows["status"]) == {"applied", "dropped_out"}
    kept = rows[rows["status"] == "applied"].groupby("base_version")["client"].apply(list)
    cohorts = [kept.get(version, []) for version in range(6)]
    expected = fedlin(6, 3, cohorts) if all(cohorts) else None
    assert expected is not None, "choose another seed: nobody was left in a round"
    close([float(run.model["w"][0])], expected[-1:])


@pytest.mark.parametrize(("name", "up", "down", "passes"), [
    ("fedavg", 1, 1, 2), ("fedlin", 2, 2, 3), ("mime", 2, 3, 5), ("mimelite", 2, 2, 3),
])  # fmt: skip
def test_costs_bytes_and_time(name, up, down, passes):
    """In vectors each way, and in passes over the shard, of which two are local training."""
    settings = {"algorithm": name, "client": {"epochs": 2}}
    settings["devices"] = {"compute": {"kind": "constant", "value": 100.0}}
    plan, _ = build_plan(load(settings).config, Path())
    vector = plan.work.model.size * plan.work.model.dtype.itemsize
    payload = plan.population.payload
    assert (payload.bytes_up, payload.bytes_down) == (up * vector, down * vector)
    np.testing.assert_allclose(plan.population.compute_s, passes * plan.sizes / 100.0)


@pytest.mark.parametrize(("name", "settings", "key"), [
    ("mime", {"server": {"schedule": {"mode": "buffered"}}}, "server.schedule.mode"),
    ("fedlin", {"server": {"schedule": {"mode": "async"}}}, "server.schedule.mode"),
    ("fedlin", {"clock": "wall"}, "clock"),
    ("mime", {"client": {"momentum": 0.5}}, "client.momentum"),
    ("mimelite", {"server": {"optimizer": {"kind": "adam"}}}, "server.optimizer.kind"),
])  # fmt: skip
def test_refuses_what_they_do_not_go_with(name, settings, key):
    with pytest.raises(InputError) as caught:
        load({"algorithm": name, **settings})
    assert caught.value.key == key
