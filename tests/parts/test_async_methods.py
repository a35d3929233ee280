"""CA2FL, FADAS, delay-adaptive steps and AREA against their papers, on stale schedules."""

from __future__ import annotations

import math

import numpy as np
import pytest
from arriving import by_count, play
from quadratics import LR, A, M, close, flown, walk

from fedray.config import schema
from fedray.config.load import load
from fedray.errors import InputError
from fedray.parts.methods.area import Area
from fedray.parts.methods.ca2fl import Ca2fl
from fedray.parts.methods.delay_adaptive import DelayAdaptive
from fedray.parts.methods.fadas import Fadas
from fedray.report.run import Run

DURATION_S, VERSIONS, N = [1.0, 1.3, 4.7], 10, len(A)
CONSTANT = schema.ConstantWeight()


def buffered(k: int, concurrency: int = N, **more) -> schema.BufferedSchedule:
    return schema.BufferedSchedule(
        concurrency=concurrency, buffer_size=k, staleness_weight=CONSTANT, **more
    )


def fly(toy, folder, method, k: int, *, versions: int = VERSIONS, **more) -> list[float]:
    server = schema.Server(schedule=buffered(k), weighting="uniform", **more)
    return flown(toy, folder, method, versions, server=server, duration_s=DURATION_S)


def apart(found, other) -> bool:
    return bool(np.abs(np.subtract(found, other)).max() > 1e-3)


def rest(toy, folder, method, k: int, versions: int = 300, **more) -> float:
    """Where a run with two local steps and one very slow client comes to."""
    server = schema.Server(
        rounds=versions, weighting="uniform", schedule=more.pop("schedule", buffered(k))
    )
    client = schema.Client(steps=2, batch_size="full", lr=LR)
    more = {"duration_s": DURATION_S} | more
    return toy(A, M, client=client, server=server, method=method, **more).final(folder)


def fedavg_point(steps: int) -> float:
    """sum (1 - rho_i) m_i / sum (1 - rho_i): where all clients' updates add up to nothing."""
    went = [1 - (1 - LR * a) ** steps for a in A]
    return float(np.dot(went, M) / sum(went))


class TestCa2fl:
    def paper(self, k: int, *, cache_first: bool = False) -> list[float]:
        """Algorithm 2: v is made of the h of before, then h is replaced."""
        h = np.zeros(N)

        def step(w, arrived):
            news = sum(delta - h[i] for i, _, delta in arrived) / k
            v = h.mean() + news
            for i, _, delta in arrived:
                h[i] = delta
            if cache_first:
                v = h.mean() + news
            return float(w + v)

        return play(by_count(DURATION_S, VERSIONS, k), step)

    @pytest.mark.parametrize("k", [1, 2])
    def test_is_the_paper_step_by_step(self, toy, tmp_path, k):
        found = fly(toy, tmp_path, Ca2fl(), k)
        close(found, self.paper(k))
        assert apart(found, self.paper(k, cache_first=True))

    def test_the_first_version_by_hand(self, toy, tmp_path):
        """h = 0: the plain mean of the two that came first, nothing of h in it yet."""
        found = fly(toy, tmp_path, Ca2fl(), 2, versions=1)
        close(found, [(walk(0, 0.0, 5) + walk(1, 0.0, 5)) / 2])

    def test_comes_to_rest_where_fedavg_with_all_does_and_fedbuff_does_not(self, toy, tmp_path):
        assert rest(toy, tmp_path / "a", Ca2fl(), 2) == pytest.approx(fedavg_point(2), abs=1e-6)
        assert abs(rest(toy, tmp_path / "b", None, 2) - fedavg_point(2)) > 0.05


class TestFadas:
    def paper(self, k: int, lr: float, cut, b1: float = 0.9, b2: float = 0.99) -> list[float]:
        """Algorithm 1; `cut` is the step size by the largest staleness."""
        m = v = u = 0.0

        def step(w, arrived):
            nonlocal m, v, u
            d = sum(delta for _, _, delta in arrived) / k
            m, v = b1 * m + (1 - b1) * d, b2 * v + (1 - b2) * d * d
            u = max(u, v)
            return w + cut(max(tau for _, tau, _ in arrived)) * m / (math.sqrt(u) + 1e-8)

        return play(by_count(DURATION_S, VERSIONS, k), step)

    @pytest.mark.parametrize(("lr", "method", "cut"), [
        (0.6, Fadas(tau_c=1), lambda tau: 0.6 if tau <= 1 else min(0.6, 1 / tau)),
        (0.6, Fadas(tau_c=None), lambda _: 0.6),
        (0.1, Fadas(tau_c=1, beyond="relative"), lambda tau: 0.1 if tau <= 1 else 0.1 / tau),
        (0.6, Fadas(tau_c=2, beta1=0.5, beta2=0.9), None),
    ])  # fmt: skip
    def test_is_the_paper_step_by_step(self, toy, tmp_path, lr, method, cut):
        betas = (method.beta1, method.beta2)
        cut = cut or (lambda tau: lr if tau <= 2 else min(lr, 1 / tau))
        found = fly(toy, tmp_path, method, 2, optimizer=schema.SgdOptimizer(lr=lr))
        close(found, self.paper(2, lr, cut, *betas))
        if method.tau_c is not None:
            assert apart(found, self.paper(2, lr, lambda _: lr, *betas))

    def test_the_second_moment_that_counts_never_falls(self, toy, tmp_path):
        """As updates get smaller, u stays where the first ones put it: the steps shrink."""
        found = fly(toy, tmp_path, Fadas(tau_c=None, beta2=0.1), 2)
        assert np.isfinite(found).all()
        assert apart(found, self.adam(2))

    def adam(self, k: int) -> list[float]:
        m = v = 0.0

        def step(w, arrived):
            nonlocal m, v
            d = sum(delta for _, _, delta in arrived) / k
            m, v = 0.9 * m + 0.1 * d, 0.1 * v + 0.9 * d * d
            return w + m / (math.sqrt(v) + 1e-8)

        return play(by_count(DURATION_S, VERSIONS, k), step)

    @pytest.mark.parametrize(("settings", "key"), [
        ({"server.optimizer.kind": "adam"}, "server.optimizer.kind"),
        ({"method.tau_c": None, "method.beyond": "relative"}, "method.beyond"),
    ])  # fmt: skip
    def test_refuses_what_contradicts_it(self, settings, key):
        with pytest.raises(InputError) as caught:
            load({"algorithm": "fadas"}, settings)
        assert caught.value.key == key


class TestDelayAdaptive:
    def paper(self, factor, k: int = 1) -> list[float]:
        return play(
            by_count(DURATION_S, VERSIONS, k),
            lambda w, arrived: w + sum(factor(tau) * delta for _, tau, delta in arrived) / k,
        )

    @pytest.mark.parametrize(("method", "factor"), [
        (DelayAdaptive(tau_c=2), lambda tau: 1 if tau <= 2 else 2 / tau),
        (DelayAdaptive(tau_c=1, beyond="drop"), lambda tau: float(tau <= 1)),
        (
            DelayAdaptive(tau_c=1, smoothness=4.0),
            lambda tau: 1 if tau <= 1 else min(1, 1 / (4 * 4.0 * LR * tau)),
        ),
    ])  # fmt: skip
    def test_is_the_paper_step_by_step(self, toy, tmp_path, method, factor):
        found = fly(toy, tmp_path, method, 1)
        close(found, self.paper(factor))
        assert apart(found, self.paper(lambda _: 1.0))

    def test_the_normal_delay_is_the_concurrency_over_the_buffer(self, toy, tmp_path):
        close(fly(toy, tmp_path, DelayAdaptive(), 1),
              self.paper(lambda tau: 1 if tau <= 3 else 3 / tau))  # fmt: skip
        tau = np.arange(9)
        hinge = np.where(tau <= 3, 1.0, 1 / ((1 / 3) * np.maximum(tau - 3, 0) + 1))
        close(DelayAdaptive().factors(tau, 3, np.ones(9)), hinge)

    def test_converges_where_late_updates_with_full_steps_diverge(self, toy, tmp_path):
        """The slow client alone has a curvature; 30 versions late, it is pushed too far."""
        client = schema.Client(steps=1, batch_size="full", lr=1.0)
        server = schema.Server(rounds=500, weighting="uniform", schedule=buffered(1, 2))
        two = {"client": client, "server": server, "duration_s": [1.0, 30.1]}
        curved = ((0.05, 2.4), (1.0, 1.0))
        plain = toy(*curved, **two).final(tmp_path / "plain")
        adaptive = toy(*curved, method=DelayAdaptive(), **two).final(tmp_path / "adaptive")
        assert adaptive == pytest.approx(1.0, abs=1e-3)
        assert not abs(plain - 1.0) < 1.0


class TestArea:
    def paper(self, k: int, divided_by: int) -> list[float]:
        y = [0.0] * N
        models = [0.0]
        for group in by_count(DURATION_S, VERSIONS, k):
            w = models[-1]
            for i, base in group:
                new = walk(i, models[base], 5)
                w += (new - y[i]) / divided_by
                y[i] = new
            models.append(w)
        return models[1:]

    @pytest.mark.parametrize("k", [1, 2])
    def test_is_the_paper_step_by_step(self, toy, tmp_path, k):
        found = fly(toy, tmp_path, Area(), k)
        close(found, self.paper(k, N))
        assert apart(found, self.paper(k, k))

    @pytest.mark.parametrize("k", [1, 2])
    def test_comes_to_rest_exactly_where_fedavg_with_all_does(self, toy, tmp_path, k):
        found = rest(toy, tmp_path / "a", Area(), k, 600)
        assert found == pytest.approx(fedavg_point(2), abs=1e-11)
        assert abs(rest(toy, tmp_path / "b", None, k, 600) - fedavg_point(2)) > 0.05

    @pytest.mark.parametrize("trouble", [
        {"dropout": 0.4},
        {"schedule": buffered(1, 2, max_staleness=4)},
        {"schedule": schema.SyncSchedule(deadline_s=2.0, late="drop"), "duration_s": [1, 1.3, 1.8]},
        {"schedule": buffered(1, 2), "start": -3.0},
    ])  # fmt: skip
    def test_the_model_stays_the_mean_of_what_clients_remember(self, toy, tmp_path, trouble):
        """With updates that are lost, and with clients that are first asked late."""
        more = dict(trouble)
        start = more.get("start", 0.0)
        schedule = more.pop("schedule", buffered(1))
        server = schema.Server(rounds=40, weighting="uniform", schedule=schedule)
        client = schema.Client(steps=2, batch_size="full", lr=LR)
        more = {"duration_s": DURATION_S} | more
        made = toy(A, M, client=client, server=server, method=Area(), **more)
        models, run = made.trace(tmp_path), Run(tmp_path)
        rows = run.updates.to_pandas()
        last = rows[rows.status == "applied"].groupby("client").base_version.last()
        y = [start] * N
        for i, base in last.items():
            y[i] = walk(i, [start, *models][base], 2)
        assert set(last.index) == {0, 1, 2} or "schedule" in trouble
        np.testing.assert_allclose(models[-1], np.mean(y), rtol=1e-12)

    @pytest.mark.parametrize(("settings", "key"), [
        ({"server.weighting": "examples"}, "server.weighting"),
        ({"server.aggregator.kind": "median"}, "server.aggregator.kind"),
        ({"server.optimizer.lr": 0.5}, "server.optimizer"),
        ({"server.schedule.staleness_weight.kind": "inverse"},
         "server.schedule.staleness_weight.kind"),
        ({"compression.up.kind": "qsgd"}, "compression.up.kind"),
        ({"compression.up.kind": "topk", "compression.up.error_feedback": False},
         "compression.up.kind"),
    ])  # fmt: skip
    def test_refuses_what_would_not_add_up(self, settings, key):
        with pytest.raises(InputError) as caught:
            load({"algorithm": "area"}, settings)
        assert caught.value.key == key
