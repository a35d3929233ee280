"""Clients' own models against their papers, on quadratics: step by step, and where they settle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from personal_models import START, close, models
from quadratics import LR, A, M, grad, walk

from fedray.config import schema
from fedray.parts.personal.apfl import Apfl
from fedray.parts.personal.ditto import Ditto
from fedray.parts.personal.finetune import Finetune
from fedray.parts.personal.ifca import Ifca
from fedray.parts.personal.interpolate import Interpolate
from fedray.parts.personal.pfedme import PFedMe

N = len(A)
UNIFORM = schema.Server(weighting="uniform")
PAIRS = schema.Server(weighting="uniform", clients_per_round=2, selection="round_robin")
COHORTS = [[0, 1], [2, 0], [1, 2], [0, 1]]


def fedavg(rounds: int, cohorts: list[list[int]] | None = None, steps: int = 5) -> list[float]:
    """w_0, w_1, ... of federated averaging."""
    found = [START]
    for r in range(rounds):
        cohort = cohorts[r] if cohorts else range(N)
        found.append(float(np.mean([walk(i, found[-1], steps) for i in cohort])))
    return found


# --- fine-tuning ----------------------------------------------------------------------------


def test_finetuning_walks_from_the_newest_model(toy, tmp_path):
    """v_i = m_i + (1 - lr a_i)^K (w - m_i), one full batch per pass."""
    w, own = models(toy, tmp_path, Finetune(epochs=3.0), rounds=2)
    close(w, [fedavg(2)[-1]])
    close(own, [M[i] + (1 - LR * A[i]) ** 3 * (w[0] - M[i]) for i in range(N)])


def test_finetuning_for_no_epoch_is_the_global_model_itself(toy, tmp_path):
    w, own = models(toy, tmp_path, Finetune(epochs=0.0), rounds=2)
    assert all(np.array_equal(v, w) for v in own)


# --- Ditto ----------------------------------------------------------------------------------


def ditto(rounds: int, pull: float, cohorts: list[list[int]] | None = None) -> list[float]:
    """Algorithm 1, line by line."""
    v: list[float | None] = [None] * N
    globals_ = fedavg(rounds, cohorts)
    for r in range(rounds):
        w = globals_[r]
        for i in cohorts[r] if cohorts else range(N):
            x = w if v[i] is None else v[i]
            for _ in range(5):
                x = x - LR * (grad(i, x) + pull * (x - w))
            v[i] = x
    return [globals_[-1] if x is None else x for x in v]


@pytest.mark.parametrize("rounds", [1, 4])
@pytest.mark.parametrize(("server", "cohorts"), [(UNIFORM, None), (PAIRS, COHORTS)])
def test_ditto_is_the_paper_step_by_step(toy, tmp_path, rounds, server, cohorts):
    """Who is not asked keeps his own; who never was has the global model."""
    w, own = models(toy, tmp_path, Ditto(pull=0.7), rounds=rounds, server=server)
    close(w, [fedavg(rounds, cohorts)[-1]])
    close(own, ditto(rounds, 0.7, cohorts))


@pytest.mark.parametrize("pull", [0.5, 8.0])
def test_ditto_settles_between_the_own_minimum_and_the_global_model(toy, tmp_path, pull):
    w, own = models(toy, tmp_path, Ditto(pull=pull), rounds=120)
    close(own, [(A[i] * M[i] + pull * w[0]) / (A[i] + pull) for i in range(N)])


def test_ditto_without_a_pull_is_local_training(toy, tmp_path):
    _, own = models(toy, tmp_path, Ditto(pull=0.0), rounds=3)
    close(own, [walk(i, START, 15) for i in range(N)])
    _, own = models(toy, tmp_path / "long", Ditto(pull=0.0), rounds=120)
    close(own, M)


def test_ditto_with_a_strong_pull_is_the_global_model(toy, tmp_path):
    """|v - w| = a |m - w| / (a + pull), at a step of 1 / pull."""
    w, own = models(toy, tmp_path, Ditto(pull=1e6, lr=1e-6), rounds=60)
    np.testing.assert_allclose(np.ravel(own), w[0], atol=2e-5)


# --- interpolation --------------------------------------------------------------------------


def test_interpolation_mixes_a_local_and_the_global_model(toy, tmp_path):
    w, own = models(toy, tmp_path, Interpolate(alpha=0.25), rounds=3)
    local = [walk(i, START, 15) for i in range(N)]
    close(own, [0.25 * local[i] + 0.75 * w[0] for i in range(N)])


def test_interpolation_has_the_global_and_the_local_model_at_its_ends(toy, tmp_path):
    w, own = models(toy, tmp_path / "0", Interpolate(alpha=0.0), rounds=3)
    assert all(np.array_equal(v, w) for v in own)
    _, own = models(toy, tmp_path / "1", Interpolate(alpha=1.0), rounds=3)
    _, local = models(toy, tmp_path / "d", Ditto(pull=0.0), rounds=3)
    assert [v.tolist() for v in own] == [v.tolist() for v in local]


# --- pFedMe ---------------------------------------------------------------------------------


def pfedme(
    rounds: int, pull: float, inner: int, inner_lr: float, beta: float
) -> tuple[float, list[float]]:
    """Algorithm 1, line by line; theta goes on from minibatch to minibatch."""
    w, theta = START, [START] * N
    for _ in range(rounds):
        ends = []
        for i in range(N):
            mine = theta[i] = w
            for _ in range(5):
                for _ in range(inner):
                    theta[i] -= inner_lr * (grad(i, theta[i]) + pull * (theta[i] - mine))
                mine -= LR * pull * (mine - theta[i])
            ends.append(mine)
        w = (1 - beta) * w + beta * float(np.mean(ends))
    return w, theta


@pytest.mark.parametrize("beta", [1.0, 1.7])
def test_pfedme_is_the_paper_step_by_step(toy, tmp_path, beta):
    """The server's step size is the paper's beta."""
    server = replace(UNIFORM, optimizer=schema.SgdOptimizer(lr=beta))
    personal = PFedMe(pull=3.0, inner_steps=2, lr=0.04)
    w, own = models(toy, tmp_path, personal, rounds=3, server=server)
    expected_w, theta = pfedme(3, 3.0, 2, 0.04, beta)
    close(w, [expected_w])
    close(own, theta)


def test_pfedme_finds_the_minimum_of_its_envelope(toy, tmp_path):
    """Of the mean of a_i pull / (a_i + pull) (w - m_i)^2 / 2, where theta_i is the proximal point
    of w. client.lr is small, so that all clients stay near w."""
    personal = PFedMe(pull=2.0, inner_steps=70, lr=0.1)
    w, own = models(toy, tmp_path, personal, rounds=150, steps=1, lr=0.15)
    c = [a * 2.0 / (a + 2.0) for a in A]
    assert w[0] == pytest.approx(np.dot(c, M) / np.sum(c), abs=1e-9)
    # theta_i belongs to the last downloaded model, which w has settled at
    close(own, [(A[i] * M[i] + 2.0 * w[0]) / (A[i] + 2.0) for i in range(N)])


# --- APFL -----------------------------------------------------------------------------------


def apfl(rounds: int, alpha: float, adaptive: bool) -> tuple[float, list[float], list[float]]:
    """Algorithm 1 and equation 10, line by line."""
    w, v, alphas = START, [START] * N, [alpha] * N
    for _ in range(rounds):
        ends = []
        for i in range(N):
            mine, a = w, alphas[i]
            for _ in range(5):
                slope = grad(i, a * v[i] + (1 - a) * mine)
                moved = a - LR * slope * (v[i] - mine) if adaptive else a
                v[i], mine = v[i] - LR * a * slope, mine - LR * grad(i, mine)
                a = min(1.0, max(0.0, moved))
            alphas[i] = a
            ends.append(mine)
        w = float(np.mean(ends))
    return w, [alphas[i] * v[i] + (1 - alphas[i]) * w for i in range(N)], alphas


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("rounds", [1, 6])
def test_apfl_is_the_paper_step_by_step(toy, tmp_path, rounds, adaptive):
    w, own = models(toy, tmp_path, Apfl(alpha=0.4, adaptive=adaptive), rounds=rounds)
    expected_w, mixtures, alphas = apfl(rounds, 0.4, adaptive)
    close(w, [expected_w])
    close(w, [fedavg(rounds)[-1]])
    close(own, mixtures)
    assert (len(set(alphas)) > 1) == (adaptive and rounds > 0)


def test_apfl_with_no_share_of_its_own_is_the_global_model(toy, tmp_path):
    w, own = models(toy, tmp_path, Apfl(alpha=0.0), rounds=3)
    assert all(np.array_equal(v, w) for v in own)


# --- IFCA -----------------------------------------------------------------------------------

GROUPS = ((1.0, 2.0, 1.5, 4.0, 0.5, 1.0), (-3.0, 5.0, -2.0, 4.0, -2.5, 4.5))
"""Curvatures and minima of two planted groups, who come in turn."""


def ifca(first: list[float], rounds: int, counts: list[int]) -> list[float]:
    """Algorithm 1 with option II, line by line; full batches, 5 steps."""
    a, m = GROUPS
    theta = list(first)
    for _ in range(rounds):
        ends: list[list[float]] = [[] for _ in theta]
        for i in range(len(a)):
            j = int(np.argmin([a[i] * (t - m[i]) ** 2 / 2 for t in theta]))
            x = theta[j]
            for _ in range(5):
                x = x - LR * a[i] * (x - m[i])
            ends[j].append(x)
            counts[j] += 1
        theta = [float(np.mean(e)) if e else t for e, t in zip(ends, theta, strict=True)]
    return theta


@pytest.mark.parametrize("rounds", [1, 3, 150])
def test_ifca_is_the_paper_step_by_step_and_recovers_planted_groups(toy, tmp_path, rounds):
    personal = Ifca(clusters=3, spread=1.0)
    made = toy(
        *GROUPS, client=schema.Client(steps=5, batch_size="full", lr=LR),
        server=schema.Server(weighting="uniform", rounds=rounds), personal=personal, start=START,
    )  # fmt: skip
    work = made.plan.work
    memory = work.method.start(work.model, 0)
    first = [START, *(float(memory[f"cluster_{j}"][0]) for j in (1, 2))]
    counts = [0, 0, 0]
    expected = ifca(first, rounds, counts)
    run = made.fly(tmp_path)
    close([run.model[f"cluster_{j}.w"] for j in range(3)], expected)
    most = int(np.argmax(counts))
    close(run.model["w"], [expected[most]])  # the test set is scored on the one trained most
    if rounds == 150:
        a, m = (np.array(each) for each in GROUPS)
        clusters = np.array(run.clients["cluster"].to_pylist())
        assert len(set(clusters[::2])) == len(set(clusters[1::2])) == 1
        assert clusters[0] != clusters[1]
        for group in (slice(0, None, 2), slice(1, None, 2)):
            q = 1 - (1 - LR * a[group]) ** 5  # FedAvg's fixed point within the group
            found = expected[int(clusters[group][0])]
            assert found == pytest.approx(np.dot(q, m[group]) / q.sum(), abs=1e-9)


def test_ifca_weighs_by_examples_within_a_cluster(toy, tmp_path):
    """The shares of those who chose a cluster come to 1, whatever those of the others are."""
    from fedray.parts.arrivals import Arrivals, ServerView
    from fedray.parts.personal.ifca import Clusters

    rule = Clusters(kind="clusters", clusters=2, spread=0.0)
    none = np.zeros(3, np.int64)
    group = Arrivals(
        updates=np.array([[1.0], [2.0], [4.0]]), weights=np.array([0.1, 0.6, 0.15]),
        clients=none, staleness=none, examples=none, steps=none, lr=np.ones(3), losses=np.ones(3),
        shares=np.array([0.1, 0.6, 0.3]), labels=np.array([1, 0, 1]),
    )  # fmt: skip
    view = ServerView(np.zeros(1), 3, np.ones(3) / 3, average=lambda _: None, server_lr=2.0)
    memory = {"cluster_1": np.array([10.0]), "updates": np.zeros(2)}
    found = rule.combine(group, view, memory)
    close(found.update, [2.0])
    # 0.1 / 0.4 and, late, half of 0.3 / 0.4; twice as far, which for model 0 the optimizer goes
    close(found.memory["cluster_1"], [10.0 + 2.0 * (0.25 * 1.0 + 0.375 * 4.0)])
    close(found.weights, [0.25, 1.0, 0.375])
    assert found.memory["updates"].tolist() == [1, 2]
    assert memory["cluster_1"].tolist() == [10.0]
