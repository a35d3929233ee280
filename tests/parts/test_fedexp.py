"""FedExP against its paper: step by step, and the model that is reported."""

from __future__ import annotations

import numpy as np
import pytest
from arriving import by_count, play
from quadratics import LR, A, M, close, flown, walk

from fedray.config import schema
from fedray.config.load import load
from fedray.errors import InputError
from fedray.parts.methods.fedexp import FedExP


def reference(
    rounds: int, steps: int, epsilon: float, p=(1.0, 1.0, 1.0), chosen=None
) -> list[float]:
    """Algorithm 1: the mean of the last two iterates after every round."""
    before = w = 0.0
    found = []
    for r in range(rounds):
        cohort = chosen[r] if chosen else range(3)
        moves = np.array([walk(i, w, steps) - w for i in cohort])
        q = np.array([p[i] for i in cohort]) / sum(p[i] for i in cohort)
        d = q @ moves
        eta = max(1.0, (q @ moves**2) / (2 * (d**2 + epsilon)))
        before, w = w, w + eta * d
        found.append((before + w) / 2)
    return found


@pytest.mark.parametrize("epsilon", [1e-3, 1.0])
def test_is_the_paper_step_by_step(toy, tmp_path, epsilon):
    expected = reference(5, 5, epsilon)
    close(flown(toy, tmp_path, FedExP(epsilon=epsilon), 5), expected)
    if epsilon < 1:  # the updates do disagree, so that something is extrapolated
        assert expected != pytest.approx(reference(5, 5, 1e9))


def test_counts_examples(toy, tmp_path):
    client = schema.Client(steps=2, batch_size="full", lr=LR)
    server = schema.Server(rounds=4)
    made = toy(A, M, client=client, server=server, method=FedExP(), samples=(1, 5, 2))
    close([made.final(tmp_path)], reference(4, 2, 1e-3, (1.0, 5.0, 2.0))[-1:])


def test_with_part_of_the_clients_the_cohort_is_what_counts(toy, tmp_path):
    server = schema.Server(
        rounds=4, weighting="uniform", clients_per_round=2, selection="round_robin"
    )
    client = schema.Client(steps=3, batch_size="full", lr=LR)
    final = toy(A, M, client=client, server=server, method=FedExP()).final(tmp_path)
    close([final], reference(4, 3, 1e-3, chosen=[[0, 1], [2, 0], [1, 2], [0, 1]])[-1:])


def test_does_not_extrapolate_what_all_agree_on(toy, tmp_path):
    """Three times the same client: eta is 1, so that two versions are two FedAvg rounds."""
    client = schema.Client(steps=2, batch_size="full", lr=LR)
    server = schema.Server(rounds=2, weighting="uniform")
    same = toy((2.0,) * 3, (1.0,) * 3, client=client, server=server, method=FedExP())
    one = 1 - (1 - LR * 2.0) ** 2
    two = 1 - (1 - LR * 2.0) ** 4
    assert same.final(tmp_path) == pytest.approx((one + two) / 2, rel=1e-12)


def test_stale_updates_are_shorter_in_both_sums(toy, tmp_path):
    """s delta in place of delta, s = 1 / (1 + tau): d = mean s delta, and mean |s delta|^2."""
    duration_s, found = [1.0, 1.3, 4.7], []

    def step(w, arrived):
        moves = np.array([delta / (1 + tau) for _, tau, delta in arrived])
        eta = max(1.0, (moves**2).mean() / (2 * (moves.mean() ** 2 + 1e-3)))
        found.append((w, w + eta * moves.mean()))
        return found[-1][1]

    play(by_count(duration_s, 12, 2), step)
    schedule = schema.BufferedSchedule(
        concurrency=3, buffer_size=2, staleness_weight=schema.InverseWeight()
    )
    server = schema.Server(weighting="uniform", schedule=schedule)
    models = flown(toy, tmp_path, FedExP(), 12, server=server, duration_s=duration_s)
    close(models, [(before + w) / 2 for before, w in found])


def test_refuses_async():
    with pytest.raises(InputError, match="disagreement") as caught:
        load({"algorithm": "fedexp", "server": {"schedule": {"mode": "async"}}})
    assert caught.value.key == "server.schedule.mode"
