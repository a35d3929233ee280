"""FedAsync and FedBuff on stale schedules, and what known implementations make of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from arriving import by_count, play
from quadratics import A, close, flown, walk

from fedray.config import schema
from fedray.config.load import load
from fedray.parts.methods.plain import Plain

DURATION_S, VERSIONS = [1.0, 1.3, 4.7], 9
POLYNOMIAL = schema.PolynomialWeight(exponent=0.5)
WEIGHTS = {
    "constant": (schema.ConstantWeight(), lambda _: 1.0),
    "polynomial": (POLYNOMIAL, lambda tau: (1 + tau) ** -0.5),
    "hinge": (
        schema.HingeWeight(a=10.0, b=2.0),
        lambda tau: 1.0 if tau <= 2 else 1 / (10 * (tau - 2) + 1),
    ),
}


def fly(toy, folder, server: schema.Server) -> list[float]:
    return flown(toy, folder, Plain(), VERSIONS, server=server, duration_s=DURATION_S)


def fedasync(s, *, cumulative: bool = False) -> list[float]:
    """Xie et al., algorithm 1; or with a mixing weight that every update multiplies anew."""
    models, mixing = [0.0], 0.6
    for group in by_count(DURATION_S, VERSIONS):
        ((i, base),) = group
        weight = mixing * s(len(models) - 1 - base)
        if cumulative:
            mixing = weight
        models.append((1 - weight) * models[-1] + weight * walk(i, models[base], 5))
    return models[1:]


def fedbuff(s, k: int = 2, *, scale: float = 1.0) -> list[float]:
    return play(
        by_count(DURATION_S, VERSIONS, k),
        lambda w, arrived: w + scale * sum(s(tau) * delta for _, tau, delta in arrived) / k,
    )


def apart(found, other) -> bool:
    return bool(np.abs(np.subtract(found, other)).max() > 1e-3)


class TestFedAsync:
    @pytest.mark.parametrize("kind", WEIGHTS)
    def test_is_the_paper_step_by_step(self, toy, tmp_path, kind):
        law, s = WEIGHTS[kind]
        schedule = schema.AsyncSchedule(concurrency=len(A), mixing=0.6, staleness_weight=law)
        found = fly(toy, tmp_path, schema.Server(schedule=schedule))
        close(found, fedasync(s))
        assert apart(found, fedasync(s, cumulative=True)) == (kind != "constant")

    def test_weights_differ_on_this_schedule(self):
        one, two, three = (fedasync(s) for _, s in WEIGHTS.values())
        assert apart(one, two)
        assert apart(two, three)


class TestFedBuff:
    def server(self, law=POLYNOMIAL, k: int = 2, **more) -> schema.Server:
        schedule = schema.BufferedSchedule(concurrency=len(A), buffer_size=k, staleness_weight=law)
        return schema.Server(schedule=schedule, weighting="uniform", **more)

    @pytest.mark.parametrize("kind", WEIGHTS)
    def test_is_the_paper_step_by_step(self, toy, tmp_path, kind):
        law, s = WEIGHTS[kind]
        close(fly(toy, tmp_path, self.server(law)), fedbuff(s))

    def test_is_none_of_the_known_mistakes(self, toy, tmp_path):
        _, s = WEIGHTS["polynomial"]
        found = fly(toy, tmp_path, self.server())
        assert apart(found, fedbuff(lambda _: 1.0))  # Plato: stale as good as fresh
        assert apart(found, fedbuff(lambda tau: s(tau) / s(1)))  # FLSim: by s(1)
        assert apart(found, fedbuff(s, scale=2.0))  # FLSim: a sum, not a mean

    def test_the_mean_of_the_buffer_drives_server_momentum(self, toy, tmp_path):
        v = 0.0

        def step(w, arrived):
            nonlocal v
            v = 0.9 * v + sum((1 + tau) ** -0.5 * delta for _, tau, delta in arrived) / 2
            return w + 0.3 * v

        expected = play(by_count(DURATION_S, VERSIONS, 2), step)
        momentum = schema.MomentumOptimizer(lr=0.3, momentum=0.9)
        close(fly(toy, tmp_path, self.server(optimizer=momentum)), expected)

    def test_the_mean_of_the_buffer_drives_server_adam(self, toy, tmp_path):
        m, v, tau_ = 0.0, 1e-3**2, 1e-3

        def step(w, arrived):
            nonlocal m, v
            d = sum((1 + tau) ** -0.5 * delta for _, tau, delta in arrived) / 2
            m, v = 0.9 * m + 0.1 * d, 0.99 * v + 0.01 * d * d
            return w + 0.05 * m / (math.sqrt(v) + tau_)

        expected = play(by_count(DURATION_S, VERSIONS, 2), step)
        adam = schema.AdamOptimizer(lr=0.05, beta1=0.9, beta2=0.99, tau=tau_)
        close(fly(toy, tmp_path, self.server(optimizer=adam)), expected)

    def test_momentum_and_adam_are_one_key_away_from_the_preset(self):
        for kind in ("momentum", "adam"):
            config = load({"algorithm": "fedbuff", "server": {"optimizer": {"kind": kind}}}).config
            assert config.server.optimizer.kind == kind
            assert config.server.schedule.mode == "buffered"
