"""Unbiased weights and FedStale against their papers: step by step, and where they settle."""

from __future__ import annotations

import math

import numpy as np
import pytest
from arriving import Group, by_clock, by_count, play
from quadratics import LR, A, M, close, flown, walk

import fedray
from fedray.api.launch import Interrupted, Watcher
from fedray.config import schema
from fedray.config.load import load
from fedray.errors import InputError
from fedray.parts.methods.fedstale import FedStale
from fedray.parts.methods.fedvarp import FedVarp
from fedray.parts.methods.unbiased import Unbiased
from fedray.parts.stragglers import Stragglers
from fedray.simulation.frequencies import frequency

DURATION_S, SIZES, VERSIONS, N = [1.0, 1.3, 4.7], [3, 1, 2], 10, len(A)
SHARES = np.array(SIZES) / sum(SIZES)
CONSTANT = schema.ConstantWeight()


def by_arrivals(k: int) -> schema.BufferedSchedule:
    return schema.BufferedSchedule(concurrency=N, buffer_size=k, staleness_weight=CONSTANT)


def by_time(every_s: float, concurrency: int = N) -> schema.BufferedSchedule:
    return schema.BufferedSchedule(
        concurrency=concurrency, every_s=every_s, staleness_weight=CONSTANT
    )


def server(schedule, **more) -> schema.Server:
    return schema.Server(schedule=schedule, weighting="uniform", **more)


def fly(toy, folder, method, schedule, **more) -> list[float]:
    asked = {"duration_s": DURATION_S, "samples": SIZES} | more
    return flown(toy, folder, method, VERSIONS, server=server(schedule), **asked)


def async_weights(k: int) -> np.ndarray:
    """d_i = (sum_j 1 / T_j) T_i p_i, for K updates per version a K-th of it."""
    T = np.array(DURATION_S)
    return (1 / T).sum() * T * SHARES / k


def fix_weights(every_s: float) -> np.ndarray:
    """d_i = ceil(T_i / every_s) p_i."""
    return np.array([math.ceil(T / every_s) for T in DURATION_S]) * SHARES


def summed(groups: list[Group], d: np.ndarray) -> list[float]:
    return play(groups, lambda w, arrived: w + sum(d[i] * delta for i, _, delta in arrived))


class TestUnbiased:
    @pytest.mark.parametrize("k", [1, 2])
    def test_by_arrivals_it_is_the_paper_step_by_step(self, toy, tmp_path, k):
        close(fly(toy, tmp_path, Unbiased(), by_arrivals(k)),
              summed(by_count(DURATION_S, VERSIONS, k), async_weights(k)))  # fmt: skip

    @pytest.mark.parametrize("every_s", [1.5, 0.8])
    def test_by_the_clock_it_is_fedfix_step_by_step(self, toy, tmp_path, every_s):
        close(fly(toy, tmp_path, Unbiased(), by_time(every_s)),
              summed(by_clock(DURATION_S, VERSIONS, every_s), fix_weights(every_s)))  # fmt: skip

    def test_in_mode_async_updates_count_from_the_model_that_was_sent(self, toy, tmp_path):
        mixing = schema.AsyncSchedule(concurrency=N, mixing=0.4, staleness_weight=CONSTANT)
        close(fly(toy, tmp_path, Unbiased(), mixing),
              summed(by_count(DURATION_S, VERSIONS), 0.4 * async_weights(1)))  # fmt: skip

    def test_the_other_target_counts_all_clients_alike(self, toy, tmp_path):
        alike = fly(toy, tmp_path / "a", Unbiased(target="uniform"), by_arrivals(2))
        close(alike, fly(toy, tmp_path / "b", Unbiased(), by_arrivals(2), samples=[1, 1, 1]))

    def test_with_all_clients_in_rounds_it_is_fedavg(self, toy, tmp_path):
        found = fly(toy, tmp_path / "a", Unbiased(), schema.SyncSchedule())
        weighted = schema.Server(weighting="examples")
        close(found, flown(toy, tmp_path / "b", None, VERSIONS, server=weighted, samples=SIZES))

    @pytest.mark.parametrize("schedule", [
        schema.AsyncSchedule(concurrency=2, mixing=0.01, staleness_weight=CONSTANT),
        by_time(1.0, 2),
    ])  # fmt: skip
    def test_settles_where_fedavg_does_and_fedasync_does_not(self, toy, tmp_path, schedule):
        """a = (1, 4), m = (0, 1), 5 steps, one client ten times as slow: .18381 without."""
        client = schema.Client(steps=5, batch_size="full", lr=0.1)
        by_clock = isinstance(schedule, schema.BufferedSchedule)
        optimizer = schema.SgdOptimizer(lr=0.01 if by_clock else 1.0)
        asked = server(schedule, rounds=900, optimizer=optimizer)
        two = {"client": client, "server": asked, "duration_s": [1.0, 9.95], "start": 0.5}
        ends = [
            toy((1.0, 4.0), (0.0, 1.0), method=method, **two).final(tmp_path / str(bool(method)))
            for method in (Unbiased(), None)
        ]
        assert ends[0] == pytest.approx(0.692502, abs=0.02)
        # By the clock nine versions are the fast client's alone, and every tenth is of both.
        fast = 0.95 if by_clock else 10 / 11
        pull = fast * (1 - 0.9**5), (1 - fast) * (1 - 0.6**5)
        assert ends[1] == pytest.approx(pull[1] / sum(pull), abs=0.02)

    def test_who_is_dropped_as_a_straggler_is_heard_less_often(self, toy):
        """Half of the jobs, and of the other half a fifth is lost: 0.4 answers per round."""
        half = schema.Client(steps=2, stragglers=Stragglers(share=0.5, partial="drop"))
        for client, expected in ((half, 0.4), (schema.Client(steps=2), 0.8)):
            plan = toy(A, M, client=client, server=server(schema.SyncSchedule()), dropout=0.2).plan
            np.testing.assert_allclose(frequency(plan), expected)

    @pytest.mark.parametrize(("settings", "key"), [
        ({"server.weighting": "examples"}, "server.weighting"),
        ({"server.selection": "size"}, "server.selection"),
        ({"server.schedule": {"mode": "sync"}, "server.selection": "tiers"}, "server.selection"),
        ({"server.schedule.max_staleness": 3}, "server.schedule.max_staleness"),
        ({"server.schedule": {"mode": "sync", "deadline_s": 3}}, "server.schedule.late"),
        ({"server.schedule": {"mode": "sync", "over_select": 1.5},
          "server.clients_per_round": 2}, "server.schedule.over_select"),
        ({"devices.availability": {"kind": "cycle", "on_s": 9, "off_s": 1}},
         "devices.availability"),
        ({"clock": "wall"}, "clock"),
    ])  # fmt: skip
    @pytest.mark.parametrize("name", ["unbiased", "fedstale"])
    def test_refuses_what_makes_frequencies_unknown(self, name, settings, key):
        buffered = {} if "server.schedule" in settings else {"server.schedule.mode": "buffered"}
        with pytest.raises(InputError) as caught:
            load({"algorithm": name}, buffered | settings)
        assert caught.value.key == key


def fedstale(groups: list[Group], frequency: np.ndarray, beta: float, p=SHARES) -> list[float]:
    """Algorithm 1, the server's part."""
    h = np.zeros(N)

    def step(w, arrived):
        moved = beta * float(p @ h)
        moved += sum(p[i] / frequency[i] * (delta - beta * h[i]) for i, _, delta in arrived)
        for i, _, delta in arrived:
            h[i] = delta
        return w + moved

    return play(groups, step)


class TestFedStale:
    @pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
    def test_is_the_paper_step_by_step_in_rounds(self, toy, tmp_path, beta):
        cohorts = [[0, 1], [2, 0], [1, 2]] * 3
        groups = [[(i, r) for i in cohort] for r, cohort in enumerate(cohorts)]
        turns = schema.Server(weighting="uniform", clients_per_round=2, selection="round_robin")
        found = flown(toy, tmp_path, FedStale(beta=beta), 9, server=turns, samples=SIZES)
        close(found, fedstale(groups, np.full(N, 2 / 3), beta))

    @pytest.mark.parametrize("every_s", [1.5, 0.8])
    def test_is_the_paper_step_by_step_by_the_clock(self, toy, tmp_path, every_s):
        groups = by_clock(DURATION_S, VERSIONS, every_s)
        found = fly(toy, tmp_path, FedStale(beta=0.3), by_time(every_s))
        frequency = SHARES / fix_weights(every_s)
        # Where nothing arrives, fedray makes no step; the paper would go on by the old updates.
        models = [0.0]
        h = np.zeros(N)
        for version, group in enumerate(groups):
            moved = 0.3 * float(SHARES @ h) if group else 0.0
            deltas = {i: walk(i, models[base], 5) - models[base] for i, base in group}
            for i, delta in deltas.items():
                moved += SHARES[i] / frequency[i] * (delta - 0.3 * h[i])
            for i, delta in deltas.items():
                h[i] = delta
            models.append(models[version] + moved)
        close(found, models[1:])

    def test_without_belief_in_old_updates_it_is_unbiased_averaging(self, toy, tmp_path):
        close(fly(toy, tmp_path / "a", FedStale(beta=0.0), by_arrivals(2)),
              fly(toy, tmp_path / "b", Unbiased(), by_arrivals(2)))  # fmt: skip

    def test_with_full_belief_and_equal_clients_it_is_fedvarp(self, toy, tmp_path):
        turns = schema.Server(weighting="uniform", clients_per_round=2, selection="round_robin")
        close(flown(toy, tmp_path / "a", FedStale(beta=1.0), 6, server=turns),
              flown(toy, tmp_path / "b", FedVarp(), 6, server=turns))  # fmt: skip

    def test_comes_to_rest_where_fedavg_does_one_client_at_a_time(self, toy, tmp_path):
        client = schema.Client(steps=2, batch_size="full", lr=LR)
        turns = schema.Server(
            rounds=200, weighting="uniform", clients_per_round=1, selection="round_robin"
        )
        found = toy(A, M, client=client, server=turns, method=FedStale(beta=1.0)).final(tmp_path)
        went = [1 - (1 - LR * a) ** 2 for a in A]
        assert found == pytest.approx(float(np.dot(went, M) / sum(went)), abs=1e-6)


class _Interrupts(Watcher):
    def progress(self, progress) -> None:
        if progress.version == 9:
            raise KeyboardInterrupt


def test_by_the_clock_a_run_goes_on_from_a_checkpoint_with_the_same_bits(tmp_path):
    asked = {
        "algorithm": "fedfix", "seed": 1, "partition": {"clients": 6, "alpha": 0.3},
        "server": {"rounds": 20, "schedule": {"concurrency": 4, "every_s": 0.7}},
        "devices": {"duration": {"kind": "uniform", "low": 0.5, "high": 2.0}},
        "checkpoint": {"every": 4}, "output": {"report": False},
        "runtime": {"executor": "local"},
    }  # fmt: skip
    calm = fedray.launch(asked, out=tmp_path / "calm")
    with pytest.raises((Interrupted, KeyboardInterrupt)):
        fedray.launch(asked, out=tmp_path / "run", watcher=_Interrupts())
    again = fedray.launch(resume=tmp_path / "run")
    for name, values in calm.model.items():
        assert np.array_equal(values, again.model[name])
    assert calm.rounds["virtual_time_s"].equals(again.rounds["virtual_time_s"])
    times = calm.rounds["virtual_time_s"].to_numpy()
    np.testing.assert_allclose(np.diff(times[1:]), 0.7, rtol=1e-12)
