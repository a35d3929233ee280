"""How often clients are expected to be heard, against timelines that are played through."""

from __future__ import annotations

import numpy as np
import pytest

from fedray.config import schema
from fedray.simulation.availability import Always
from fedray.simulation.events import Aggregate
from fedray.simulation.fleet import Fleet
from fedray.simulation.frequencies import frequencies
from fedray.simulation.policies import build_policy
from fedray.simulation.population import Payload, Population
from fedray.simulation.timeline import Timeline

CLIENTS = 30
DURATION_S = np.random.default_rng(7).lognormal(0.0, 1.0, CLIENTS)


def heard(schedule, cohort: int, versions: int, dropout: float = 0.0) -> np.ndarray:
    """Updates per version of each client, in a timeline that is played through."""
    none = np.zeros(CLIENTS)
    population = Population(
        none, DURATION_S, none, schema.Constant(value=1.0), dropout, Always(), Payload(1, 1)
    )
    policy = build_policy(schedule, Fleet(population, seed=1), cohort)
    count = np.zeros(CLIENTS)
    for commands in Timeline(policy, rounds=versions):
        for command in commands:
            if isinstance(command, Aggregate):
                for job in command.jobs:
                    count[job.client] += 1
    return count / versions


BUFFERED, PERIODIC = schema.BufferedSchedule, schema.BufferedSchedule
CASES = {
    "all at work": (BUFFERED(concurrency=CLIENTS, buffer_size=4), 0.0),
    "a third at work": (BUFFERED(concurrency=10, buffer_size=4), 0.0),
    "one at work": (BUFFERED(concurrency=1, buffer_size=1), 0.0),
    "one by one": (schema.AsyncSchedule(concurrency=20), 0.2),
    "by the clock": (PERIODIC(concurrency=CLIENTS, every_s=0.5), 0.0),
    "a third by the clock": (PERIODIC(concurrency=10, every_s=0.5), 0.2),
    "rounds": (schema.SyncSchedule(), 0.2),
    "rounds in time": (schema.SyncSchedule(deadline_s=1.0, late="carry"), 0.0),
}


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_timeline(name):
    """Thirds of the clients by speed, whose counts are large enough to be compared."""
    schedule, dropout = CASES[name]
    expected = frequencies(schedule, DURATION_S, 5, dropout)
    found = heard(schedule, 5, 4000, dropout)
    for third in np.array_split(np.argsort(DURATION_S), 3):
        assert found[third].mean() == pytest.approx(expected[third].mean(), rel=0.05)


def exactly(T: np.ndarray, concurrency: int) -> np.ndarray:
    """Shares of the arrivals: sets at work have chances proportional to the products of T."""

    def products(of: np.ndarray, size: int) -> float:
        sums = np.zeros(size + 1)
        sums[0] = 1.0
        for t in of:
            sums[1:] += t * sums[:-1].copy()
        return float(sums[size])

    rates = np.array([products(np.delete(T, i), concurrency - 1) for i in range(len(T))])
    return rates / rates.sum()


@pytest.mark.parametrize("concurrency", [1, 2, 10, 25, 29, 30])
def test_is_close_to_the_exact_law(concurrency):
    schedule = schema.BufferedSchedule(concurrency=concurrency, buffer_size=1)
    found = frequencies(schedule, DURATION_S, 1)
    np.testing.assert_allclose(found, exactly(DURATION_S, concurrency), rtol=0.02)


def test_where_few_are_at_work_speed_hardly_matters():
    """Uniform draws: with one client at a time all are heard equally often."""
    np.testing.assert_allclose(exactly(DURATION_S, 1), 1 / CLIENTS, rtol=1e-12)
    everyone = exactly(DURATION_S, CLIENTS)
    np.testing.assert_allclose(everyone, 1 / DURATION_S / (1 / DURATION_S).sum(), rtol=1e-12)


@pytest.mark.parametrize("k", [1, 3])
def test_with_everybody_at_work_it_is_the_papers(k):
    """Fraboni et al.: d_i = (sum_j 1 / T_j) T_i p_i, that is p_i / f_i."""
    T = DURATION_S
    found = frequencies(schema.BufferedSchedule(concurrency=CLIENTS, buffer_size=k), T, 1)
    np.testing.assert_allclose(1 / found, (1 / T).sum() * T / k, rtol=1e-12)
    fix = frequencies(schema.BufferedSchedule(concurrency=CLIENTS, every_s=0.3), T, 1)
    np.testing.assert_allclose(1 / fix, np.ceil(T / 0.3), rtol=1e-12)


def test_a_job_that_takes_exactly_a_period_is_one_period_long():
    schedule = schema.BufferedSchedule(concurrency=3, every_s=0.1)
    np.testing.assert_allclose(
        frequencies(schedule, np.array([0.1, 0.3, 0.7]), 1), [1, 1 / 3, 1 / 7]
    )
