"""FedNova against its paper: where it settles, what a walk weighs, and the outer factor."""

from __future__ import annotations

import numpy as np
import pytest
from quadratics import LR, A, close, flown, grad

from fedray.config import schema
from fedray.config.load import load
from fedray.errors import InputError
from fedray.parts.methods.fednova import FedNova, path_length

TWO = {"a": (1.0, 4.0), "m": (0.0, 1.0), "samples": (2, 20)}
"""One pass of minibatches of one sample: 2 and 20 local steps, all of them exact."""
EACH = schema.Client(epochs=1, batch_size=1, lr=0.01)


def settled(toy, folder, method=None, client=EACH, **server):
    asked = schema.Server(rounds=120, weighting="uniform", **server)
    return toy(**TWO, client=client, server=asked, method=method).final(folder)


def test_settles_near_the_optimum_where_unequal_work_leads_fedavg_astray(toy, tmp_path):
    """rho_i = (1 - lr a_i)^tau_i; FedAvg: sum (1 - rho_i) m_i / sum (1 - rho_i); FedNova divides
    each (1 - rho_i) by tau_i. The optimum is 0.8."""
    assert settled(toy, tmp_path / "nova", FedNova()) == pytest.approx(0.737119, abs=1e-6)
    assert settled(toy, tmp_path / "plain") == pytest.approx(0.965565, abs=1e-6)


def test_the_step_is_the_mean_work_times_the_mean_direction(toy, tmp_path):
    """Weighted by examples: p = (1/11, 10/11) and tau_eff = 2/11 + 200/11."""
    server = schema.Server(rounds=1)
    got = toy(**TWO, client=EACH, server=server, method=FedNova(), start=3.0).final(tmp_path)
    p, tau = np.array([2, 20]) / 22, np.array([2, 20])
    went = np.array([(1 - 0.01 * a) ** t * (3.0 - m) + m - 3.0
                     for a, m, t in zip((1.0, 4.0), (0.0, 1.0), tau, strict=True)])  # fmt: skip
    assert got == pytest.approx(3.0 + (p @ tau) * (p @ (went / tau)), rel=1e-12)


@pytest.mark.parametrize(("momentum", "mu"), [(0.0, 0.0), (0.9, 0.0), (0.0, 0.5), (0.6, 0.5)])
def test_a_walk_weighs_what_its_gradients_do(momentum, mu):
    """By the walk itself, under a gradient of 1 everywhere."""
    lr, steps = np.array([0.1, 0.2, 0.1]), np.array([1, 4, 9])
    expected = []
    for eta, tau in zip(lr, steps, strict=True):
        w = velocity = 0.0
        for _ in range(tau):
            velocity = momentum * velocity + 1.0 + mu * w
            w -= eta * velocity
        expected.append(-w / eta)
    np.testing.assert_allclose(path_length(steps, lr, momentum, mu), expected, rtol=1e-12)


@pytest.mark.parametrize("mu", [0.0, 2.0])
def test_with_the_proximal_term_the_steps_stand_in_front(toy, tmp_path, mu):
    """The trap: sum p_i tau_i in front, a_i only below."""
    client = schema.Client(epochs=1, batch_size=1, lr=0.1, prox_mu=mu)
    server = schema.Server(rounds=1, weighting="uniform")
    got = toy(**TWO, client=client, server=server, method=FedNova(), start=3.0).final(tmp_path)
    step = 0.0
    for a, m, tau in zip((1.0, 4.0), (0.0, 1.0), (2, 20), strict=True):
        w, weight = 3.0, 0.0
        for _ in range(tau):
            w -= 0.1 * (a * (w - m) + mu * (w - 3.0))
            weight = (1 - 0.1 * mu) * weight + 1
        step += 0.5 * (w - 3.0) / weight
    assert got == pytest.approx(3.0 + (0.5 * 2 + 0.5 * 20) * step, rel=1e-12)


def test_with_equal_work_it_is_fedavg(toy, tmp_path):
    plain = []
    w = 0.0
    for _ in range(3):
        walks = []
        for i in range(len(A)):
            x = w
            for _ in range(4):
                x -= LR * grad(i, x)
            walks.append(x)
        w = float(np.mean(walks))
        plain.append(w)
    close(flown(toy, tmp_path, FedNova(), 3, steps=4), plain)


def test_in_buffers_shares_are_within_the_buffer(toy, tmp_path):
    schedule = schema.BufferedSchedule(
        concurrency=2, buffer_size=2, staleness_weight=schema.ConstantWeight()
    )
    found = settled(toy, tmp_path, FedNova(), schedule=schedule)
    assert found == pytest.approx(0.737119, abs=1e-6)


def test_refuses_async():
    with pytest.raises(InputError, match="FedAsync") as caught:
        load({"algorithm": "fednova", "server": {"schedule": {"mode": "async"}}})
    assert caught.value.key == "server.schedule.mode"
