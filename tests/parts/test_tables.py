"""FedVARP and MIFA, whose server remembers every client's last update, against their papers."""

from __future__ import annotations

import numpy as np
import pytest
from arriving import by_count, play
from quadratics import LR, A, M, close, flown, walk

from fedray.config import schema
from fedray.config.load import load
from fedray.errors import InputError
from fedray.parts import summation
from fedray.parts.arrivals import newest
from fedray.parts.methods.fedvarp import FedVarp, once
from fedray.parts.methods.mifa import Mifa
from fedray.simulation.memories import Memories

COHORTS = [[0, 1], [2, 0], [1, 2], [0, 1], [2, 0], [1, 2]]
IN_TURN = {"weighting": "uniform", "clients_per_round": 2, "selection": "round_robin"}


def fedavg_point(steps: int) -> float:
    """sum (1 - rho_i) m_i / sum (1 - rho_i): where all clients' updates add up to nothing."""
    went = [1 - (1 - LR * a) ** steps for a in A]
    return float(np.dot(went, M) / sum(went))


def varp(rounds: int, steps: int, chosen=COHORTS) -> list[float]:
    """FedVARP, algorithm 2."""
    w, y, found = 0.0, np.zeros(len(A)), []
    for r in range(rounds):
        moves = {i: walk(i, w, steps) - w for i in chosen[r]}
        v = np.mean([move - y[i] for i, move in moves.items()]) + y.mean()
        for i, move in moves.items():
            y[i] = move
        w = float(w + v)
        found.append(w)
    return found


def mifa(rounds: int, steps: int, chosen=COHORTS) -> list[float]:
    """MIFA, algorithm 1, over those who have answered."""
    w, table, found = 0.0, {}, []
    for r in range(rounds):
        for i in chosen[r]:
            table[i] = (w - walk(i, w, steps)) / LR
        w = float(w - LR * np.mean(list(table.values())))
        found.append(w)
    return found


@pytest.mark.parametrize(("method", "reference"), [(FedVarp(), varp), (Mifa(), mifa)])
class TestBoth:
    def test_is_the_paper_step_by_step(self, toy, tmp_path, method, reference):
        server = schema.Server(**IN_TURN)
        close(flown(toy, tmp_path, method, 6, server=server), reference(6, 5))

    def test_with_all_clients_it_is_fedavg(self, toy, tmp_path, method, reference):
        expected, w = [], 0.0
        for _ in range(3):
            w = float(np.mean([walk(i, w, 5) for i in range(len(A))]))
            expected.append(w)
        close(flown(toy, tmp_path, method, 3), expected)
        close(reference(3, 5, [[0, 1, 2]] * 3), expected)

    def test_one_at_a_time_comes_to_rest_where_fedavg_does_with_all(
        self, toy, tmp_path, method, reference
    ):
        client = schema.Client(steps=2, batch_size="full", lr=LR)
        asked = {"weighting": "uniform", "clients_per_round": 1, "selection": "round_robin"}
        ends = {
            (kind.kind if kind else "plain", rounds): toy(
                A, M, client=client, server=schema.Server(rounds=rounds, **asked), method=kind
            ).final(tmp_path / f"{bool(kind)}-{rounds}")
            for kind in (method, None) for rounds in (150, 151)
        }  # fmt: skip
        for rounds in (150, 151):
            assert ends[method.kind, rounds] == pytest.approx(fedavg_point(2), abs=1e-6)
        assert abs(ends["plain", 150] - ends["plain", 151]) > 0.01

    @pytest.mark.parametrize("schedule", [
        schema.BufferedSchedule(concurrency=3, buffer_size=2),
        schema.AsyncSchedule(concurrency=3, mixing=0.3),
    ])  # fmt: skip
    def test_comes_to_rest_there_with_stale_updates_too(
        self, toy, tmp_path, method, reference, schedule
    ):
        client = schema.Client(steps=2, batch_size="full", lr=LR)
        server = schema.Server(rounds=300, weighting="uniform", schedule=schedule)
        made = toy(A, M, client=client, server=server, method=method, duration_s=[1.0, 1.3, 2.9])
        assert made.final(tmp_path) == pytest.approx(fedavg_point(2), abs=1e-6)

    @pytest.mark.parametrize(("k", "mixing"), [(1, 0.3), (2, 1.0)])
    def test_staleness_and_mixing_hold_for_what_is_remembered_too(
        self, toy, tmp_path, method, reference, k, mixing
    ):
        """Inverse staleness weights s, and in mode async mixing: as much of the table's mean as
        is left of the updates, sum_i s_i / k."""
        duration_s, inverse = [1.0, 1.3, 4.7], schema.InverseWeight()
        schedule = (
            schema.AsyncSchedule(concurrency=3, mixing=mixing, staleness_weight=inverse)
            if k == 1 else
            schema.BufferedSchedule(concurrency=3, buffer_size=k, staleness_weight=inverse)
        )  # fmt: skip
        table: dict[int, float] = {}

        def step(w, arrived):
            weights = [mixing / (1 + tau) / k for _, tau, _ in arrived]
            known = sum(table.values()) / len(A)
            news = sum(
                a * (delta - table.get(i, 0.0))
                for a, (i, _, delta) in zip(weights, arrived, strict=True)
            )
            table.update({i: delta for i, _, delta in arrived})
            if isinstance(method, Mifa):
                return w + sum(weights) * sum(table.values()) / len(table)
            return w + news + sum(weights) * known

        server = schema.Server(weighting="uniform", schedule=schedule)
        found = flown(toy, tmp_path, method, 12, server=server, duration_s=duration_s)
        close(found, play(by_count(duration_s, 12, k), step))

    def test_a_slow_client_counts_no_less_than_a_fast_one(self, toy, tmp_path, method, reference):
        """The fast client answers ten times as often, and FedAsync goes most of the way to him."""
        schedule = schema.AsyncSchedule(
            concurrency=2, mixing=0.5, staleness_weight=schema.ConstantWeight()
        )
        client = schema.Client(steps=1, batch_size="full", lr=LR)
        server = schema.Server(rounds=250, weighting="uniform", schedule=schedule)
        two = {"client": client, "server": server, "duration_s": [1.0, 10.1]}
        found = toy((1.0, 1.0), (0.0, 1.0), method=method, **two).final(tmp_path / "table")
        plain = toy((1.0, 1.0), (0.0, 1.0), **two).final(tmp_path / "plain")
        assert found == pytest.approx(0.5, abs=0.01)
        assert plain < 0.3

    def test_refuses_weights_by_examples(self, method, reference):
        with pytest.raises(InputError) as caught:
            load({"algorithm": method.kind, "server": {"weighting": "examples"}})
        assert caught.value.key == "server.weighting"


def test_mifa_scales_what_it_remembers_to_the_step_size_of_now(toy, tmp_path):
    """lr halves from version to version: G_i is a gradient, not an update."""
    client = schema.Client(steps=1, batch_size="full", lr=LR, lr_decay=0.5)
    server = schema.Server(rounds=3, **IN_TURN)
    final = toy(A, M, client=client, server=server, method=Mifa()).final(tmp_path)
    w, table = 0.0, {}
    for r in range(3):
        for i in COHORTS[r]:
            table[i] = A[i] * (w - M[i])
        w -= LR * 0.5**r * np.mean(list(table.values()))
    close([final], [w])


def test_mifa_divides_stale_updates_by_the_step_size_that_they_were_made_with(toy, tmp_path):
    """lr falls from version to version; that of now is the newest among a buffer's updates."""
    duration_s, table, models = [1.0, 1.3, 4.7], {}, [0.0]
    for group in by_count(duration_s, 8, 2):
        for i, base in group:
            table[i] = A[i] * (models[base] - M[i])
        now = LR * 0.7 ** max(base for _, base in group)
        models.append(models[-1] - now * float(np.mean(list(table.values()))))
    schedule = schema.BufferedSchedule(
        concurrency=3, buffer_size=2, staleness_weight=schema.ConstantWeight()
    )
    client = schema.Client(steps=1, batch_size="full", lr=LR, lr_decay=0.7)
    server = schema.Server(rounds=8, weighting="uniform", schedule=schedule)
    made = toy(A, M, client=client, server=server, method=Mifa(), duration_s=duration_s)
    close(made.trace(tmp_path), models[1:])


def test_of_a_client_who_comes_twice_the_later_update_counts():
    clients = np.array([4, 7, 4, 1])
    assert sorted(newest(clients).tolist()) == [1, 2, 3]
    assert once(clients).tolist() == [0.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("size", [3, summation.LONG])
def test_an_exchange_sums_new_rows_less_old_ones_and_puts_them_there(tmp_path, size):
    """Of 40 clients, some of whom have no row and some of whom come twice."""
    rng = np.random.default_rng(0)
    table = Memories("table", 1, size, np.dtype(float), tmp_path)
    first = rng.normal(size=(30, size))
    table.put(np.arange(30), first)
    np.testing.assert_array_equal(table.rows(np.arange(30)), first)
    clients, rows, factors = (
        rng.integers(0, 40, 50),
        rng.normal(size=(50, size)),
        rng.normal(size=50),
    )
    new, old = rng.normal(size=(2, 50)), rng.normal(size=(2, 50))
    expected = new @ rows - old @ table.rows(clients)
    found = table.exchange(clients, rows, new, old, factors)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    last = newest(clients)
    np.testing.assert_array_equal(table.rows(clients[last]), factors[last, None] * rows[last])
