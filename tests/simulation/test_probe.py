"""The decomposition of whole runs, against its definition worked out the plain way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fedray import rng
from fedray.config import schema
from fedray.config.load import load
from fedray.errors import InputError
from fedray.learning import local
from fedray.learning.work import Results
from fedray.report.run import Run
from fedray.report.tables import TERMS
from fedray.simulation import flight
from fedray.simulation.executor import LocalExecutor
from fedray.simulation.plan import Plan, build_plan
from fedray.simulation.probe import Probe
from fedray.simulation.step import Step, describe
from fedray.types import Federation, Vector

BASE = {
    "seed": 2,
    "data": {"source": "iris"},
    "partition": {"scheme": "dirichlet", "clients": 6, "alpha": 0.5},
    "model": {"kind": "softmax", "l2": 0.01, "dtype": "float64"},
    "client": {"epochs": 2, "batch_size": 8, "lr": 0.1},
    "server": {"rounds": 9},
    "devices": {"duration": {"kind": "lognormal", "median": 1, "sigma": 1.2}},
    "diagnosis": {"decompose": 1},
    "runtime": {"executor": "local"},
    "output": {"report": False},
}
BUFFERED = {"mode": "buffered", "concurrency": 5, "buffer_size": 3, "on_stale": "keep"}
CASES: dict[str, dict[str, Any]] = {
    "sync": {},
    "partial participation": {"server.clients_per_round": 3, "server.selection": "size"},
    "late updates carried": {
        "server.schedule": {"mode": "sync", "deadline_s": 1.0, "late": "carry"},
        "server.clients_per_round": 4,
    },
    "buffered, decaying steps": {"server.schedule": BUFFERED, "client.lr_decay": 0.8},
    "weight decay": {"server.schedule": BUFFERED, "client.weight_decay": 0.2},
    "proximal": {"server.schedule": BUFFERED, "client.prox_mu": 0.5},
    "local momentum": {"server.schedule": BUFFERED, "client.momentum": 0.8},
    "server momentum": {"server.optimizer": {"kind": "momentum", "lr": 0.7, "nesterov": True}},
    "adam": {"server.schedule": BUFFERED, "server.optimizer": {"kind": "adam"}},
    "pairwise": {"server.aggregator.kind": "pairwise", "server.weighting": "uniform"},
    "async": {"server.schedule": {"mode": "async", "concurrency": 4}, "client.lr_decay": 0.9},
    "float32": {"server.schedule": BUFFERED, "model.dtype": "float32"},
}
LOCAL = {"proximal", "local momentum"}
SERVER = {"server momentum", "adam"}


@dataclass
class Seen:
    """What a probe was told of one version."""

    version: int
    jobs: list[Any]
    weights: np.ndarray
    before: Vector
    after: Vector
    bases: dict[int, Vector]


@dataclass
class Flown:
    plan: Plan
    federation: Federation
    run: Run
    seen: list[Seen] = field(default_factory=list)

    @property
    def rounds(self) -> pd.DataFrame:
        return self.run.rounds.to_pandas().set_index("version")

    @property
    def members(self) -> pd.DataFrame:
        return self.run.decomposition.to_pandas()


@pytest.fixture
def fly(tmp_path, monkeypatch) -> Callable[..., Flown]:
    """Flies `BASE` with other settings and writes down what the probe is told."""

    def flown(**settings: Any) -> Flown:
        config = load(BASE, settings).config
        plan, federation = build_plan(config, Path.cwd())
        seen: list[Seen] = []

        class Spy(Probe):
            def made(self, version, jobs, step, before, after, versions, *more) -> None:
                kept = [j for j, ok in zip(jobs, step.accepted, strict=True) if ok]
                weights = step.weights[step.accepted].copy()
                seen.append(Seen(version, kept, weights, before, after, dict(versions)))
                super().made(version, jobs, step, before, after, versions, *more)

        monkeypatch.setattr(flight, "Probe", Spy)
        folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "config.yaml").write_text("name: probe\n")
        executor = LocalExecutor(plan.work, federation)
        for _ in flight.Flight(plan, federation, executor, folder).run({"kind": "local"}):
            pass
        return Flown(plan, federation, Run(folder), seen)

    return flown


def gradient(flown: Flown, client: int, w: Vector) -> np.ndarray:
    """grad F_i(w), weight decay included."""
    model: Any = flown.plan.work.model
    out = np.empty_like(w)
    model.gradient(w, *flown.federation.shards.load(client), out)
    return out.astype(float) + flown.plan.config.client.weight_decay * w


@pytest.mark.parametrize(
    "schedule", [{"mode": "sync"}, BUFFERED, {"mode": "async", "concurrency": 4}]
)
def test_a_method_with_memories_is_taken_apart_from_what_its_clients_remembered(fly, schedule):
    """Members are walked again: were it not from their own memories, and with what the server
    sent them, their updates would be others and the terms would not add up."""
    flown = fly(algorithm="scaffold", **{"server.schedule": schedule, "client.epochs": 3})
    rounds = flown.rounds.loc[1:]
    assert (rounds["identity_error"] < 1e-9).all()
    assert rounds["local_norm"].iloc[-1] > 1e-3  # the corrections are in there


def by_definition(flown: Flown, seen: Seen) -> dict[str, Any]:
    """Every term of one version, written down as in the docstring, one job after another."""
    plan, config = flown.plan, flown.plan.config
    w = seen.before.astype(float)
    n = flown.federation.shards.sizes
    target = sum(n_i * gradient(flown, i, seen.before) for i, n_i in enumerate(n)) / n.sum()
    mixing = config.server.schedule.mode == "async"
    steps, etas, walks, finals = [], [], [], []
    for job in seen.jobs:
        raw: list[np.ndarray] = []
        full: list[np.ndarray] = []

        def watch(y: Vector, g: Vector, client: int = job.client, raw=raw, full=full) -> None:
            raw.append(g.astype(float))
            full.append(gradient(flown, client, y.copy()))

        eta = config.client.lr * config.client.lr_decay**job.base_version
        model: Any = plan.work.model
        trained = local.sgd(
            model, seen.bases[job.base_version], *flown.federation.shards.load(job.client),
            config.client, eta,
            rng.generator(config.seed, rng.Stream.TRAIN, job.client, job.dispatch), watch,
        )  # fmt: skip
        steps.append(trained.steps)
        etas.append(eta)
        walks.append((np.mean(raw, axis=0), np.mean(full, axis=0)))
        finals.append(trained.w.astype(float))
    d = seen.weights
    scale = float(np.sum(d * etas * np.array(steps)))
    q = d * etas * np.array(steps) / scale
    terms = {name: np.zeros(len(w)) for name in TERMS}
    terms["participation"] -= target
    update = np.zeros(len(w))
    for job, d_i, q_i, (raw_i, full_i), final in zip(seen.jobs, d, q, walks, finals, strict=True):
        b = seen.bases[job.base_version].astype(float)
        here = gradient(flown, job.client, seen.before)
        there = gradient(flown, job.client, seen.bases[job.base_version])
        terms["participation"] += q_i * here
        terms["staleness"] += q_i * (there - here) - mixing * d_i * (b - w) / scale
        terms["drift"] += q_i * (full_i - there)
        terms["noise"] += q_i * (raw_i - full_i)
        update += d_i * (final - (w if mixing else b))
    c = config.server.optimizer.lr * scale
    v = -(seen.after.astype(float) - w) / c
    walked = sum(q_i * raw_i for q_i, (raw_i, _) in zip(q, walks, strict=True))
    pull = sum(
        d_i * (seen.bases[j.base_version].astype(float) - w)
        for j, d_i in zip(seen.jobs, d, strict=True)
    )
    terms["residual"] = v - walked + mixing * pull / scale
    return {
        "v": v, "target": target, "c": c, "terms": terms, "q": q, "update": update,
        "server": v + update / scale,
    }  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_terms_are_those_of_the_definition_and_add_up(fly, case) -> None:
    flown = fly(**CASES[case])
    rounds, members = flown.rounds, flown.members
    wide = case != "float32"
    relative = 1e-9 if wide else 2e-5
    assert [s.version for s in flown.seen] == list(range(1, 10))
    for seen in flown.seen:
        row, expected = rounds.loc[seen.version], by_definition(flown, seen)
        target, v = expected["target"], expected["v"]
        size = np.linalg.norm(v - target)
        assert row["identity_error"] < 1e-9  # whatever the precision of the model
        assert row["step_size"] == pytest.approx(expected["c"])
        assert row["gradient_norm"] == pytest.approx(np.linalg.norm(target), rel=relative)
        assert row["direction_norm"] == pytest.approx(np.linalg.norm(v))
        assert row["direction_dot"] == pytest.approx(v @ target, rel=relative, abs=relative)
        total = np.zeros(len(v))
        for name, term in expected["terms"].items():
            close = {"rel": relative, "abs": relative * size}
            assert row[f"{name}_norm"] == pytest.approx(np.linalg.norm(term), **close), name
            assert row[f"{name}_dot"] == pytest.approx(term @ target, **close), name
            total += term
        np.testing.assert_allclose(total, v - target, rtol=0, atol=relative * size)
        rows = members[members["version"] == seen.version]
        for name in TERMS:
            parts = rows[f"{name}_dot"].sum()
            assert parts == pytest.approx(row[f"{name}_dot"], rel=1e-9, abs=1e-9 * size**2)
        assert rows["p"].sum() == pytest.approx(1.0)
        assert rows["q"].to_numpy()[:-1] == pytest.approx(expected["q"])
        clients = [job.client for job in seen.jobs]
        sizes = flown.federation.shards.sizes
        p = [sizes[c] / sizes.sum() / clients.count(c) for c in clients]
        assert rows["p"].to_numpy()[:-1] == pytest.approx(p)
        own = [gradient(flown, c, seen.before) @ target for c in clients]
        assert rows["participation_dot"].to_numpy()[:-1] == pytest.approx(
            (expected["q"] - p) * own, rel=relative, abs=relative * size
        )
        assert row["server_norm"] == pytest.approx(
            np.linalg.norm(expected["server"]), rel=relative, abs=relative * size
        )
    if wide:
        largest = rounds[["local_norm", "server_norm"]].max() / rounds["direction_norm"].max()
        assert (largest["local_norm"] > 1e-3) == (case in LOCAL)
        assert (largest["server_norm"] > 1e-3) == (case in SERVER)


def test_the_cases_have_all_that_makes_it_hard(fly) -> None:
    buffered = fly(**CASES["buffered, decaying steps"])
    groups = [[job.client for job in seen.jobs] for seen in buffered.seen]
    assert any(len(set(group)) < len(group) for group in groups)  # a client twice in a group
    assert buffered.rounds["staleness_max"].max() > 1
    assert buffered.rounds["staleness_norm"].max() > 0
    steps = buffered.run.updates.to_pandas()["steps"]
    assert steps.nunique() > 2
    late = fly(**CASES["late updates carried"])
    assert late.rounds["staleness_max"].max() > 0
    assert fly(**CASES["async"]).rounds["staleness_max"].max() > 1


def test_one_full_batch_step_of_everyone_is_a_gradient_step(fly) -> None:
    """The only thing that can be wrong is rounding."""
    rounds = fly(**{"client.epochs": 1, "client.batch_size": "full"}).rounds[1:]
    assert (rounds["gradient_norm"] > 1e-3).all()
    assert (rounds["participation_norm"] < 1e-14).all()
    assert (rounds["residual_norm"] < 1e-13).all()
    for name in ("staleness", "drift", "noise"):
        assert (rounds[f"{name}_norm"] == 0).all()


@pytest.mark.parametrize(
    ("zero", "settings"),
    [
        ("noise", {"client.batch_size": "full"}),
        ("drift", {"client.epochs": None, "client.steps": 1}),
        ("staleness", {}),
        ("staleness", {"server.clients_per_round": 2}),
    ],
)
def test_a_term_without_its_cause_is_exactly_zero(fly, zero, settings) -> None:
    settings = {key: value for key, value in settings.items() if value is not None}
    rounds = fly(**settings).rounds[1:]
    for name in ("drift", "noise", "staleness"):
        assert (rounds[f"{name}_norm"] == 0).all() == (name in (zero, "staleness")), name


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_effects_on_the_test_loss_add_up_to_the_step(fly, optimizer) -> None:
    server = {"server.optimizer": {"kind": optimizer, "lr": 0.4}, "server.rounds": 4}
    flown = fly(**{**CASES["buffered, decaying steps"], **server})
    model: Any = flown.plan.work.model
    data, eps = flown.federation, 1e-5
    for seen in flown.seen:
        step = seen.after - seen.before

        def loss(w: Vector) -> float:
            score = model.score(w, data.X_test, data.y_test)
            return score.loss_sum / score.samples

        slope = (loss(seen.before + eps * step) - loss(seen.before - eps * step)) / (2 * eps)
        rows = flown.members[flown.members["version"] == seen.version]
        assert rows["test_effect"].sum() == pytest.approx(slope, rel=1e-6, abs=1e-9)
        assert rows["client"].isna().tolist() == [False] * len(seen.jobs) + [True]
        # Plain steps are the updates' doing alone; what Adam makes of them is the server's.
        rest = abs(rows["test_effect"].iloc[-1])
        assert (rest < 1e-12) == (optimizer == "sgd")


def test_accuracies_of_members_are_those_of_their_models(fly) -> None:
    flown = fly(**CASES["async"], **{"server.rounds": 6})
    model: Any = flown.plan.work.model
    updates = flown.run.updates.to_pandas().set_index("dispatch")
    rows = flown.members.dropna(subset=["client"])
    data = flown.federation
    for _, row in rows.iterrows():
        job = updates.loc[row["dispatch"]]
        X, y = data.shards.load(int(row["client"]))
        base = flown.seen[int(row["version"]) - 1].bases[int(job["base_version"])]
        right = model.score(base, X, y).per_class[0].sum() / len(y)
        assert row["accuracy_before"] == pytest.approx(right)
        assert row["staleness"] == job["staleness"]
    rounds = flown.rounds[1:]
    for column, own in (("client_accuracy", "test_accuracy"), ("accuracy_after",) * 2):
        assert rounds[column].tolist() == pytest.approx(rows[own].tolist())  # one each
    assert (rows["accuracy_after"] > rows["accuracy_before"]).any()
    gap = rounds["client_accuracy"] - rounds["accuracy"]
    assert rounds["aggregation_gap"].tolist() == pytest.approx(gap.tolist())


# --- closed forms on quadratics: f_i = a_i (w - m_i)^2 / 2 ------------------------------


def quadratics(
    toy: Any, folder: Path, server: schema.Server, duration_s: Sequence[float], steps: int
) -> pd.DataFrame:
    made = toy(
        [1.0, 4.0], [0.0, 1.0], server=server, duration_s=duration_s, start=3.0,
        client=schema.Client(steps=steps, lr=0.1, batch_size="full"), eval_every=1,
    )  # fmt: skip
    object.__setattr__(made, "config", _with(made.config, diagnosis=schema.Diagnosis(decompose=1)))
    return made.fly(folder).rounds.to_pandas().set_index("version")


def _with(config: schema.Config, **changes: Any) -> schema.Config:
    return schema.Config(**{**vars(config), **changes})


def test_drift_of_quadratics(toy, tmp_path) -> None:
    """mean_k f_i'(y_ik) = f_i'(w) (1 - rho^K) / (K eta a_i) with rho = 1 - eta a_i."""
    rounds = quadratics(toy, tmp_path, schema.Server(rounds=1), [1.0, 1.0], 5)
    a, m, w = np.array([1.0, 4.0]), np.array([0.0, 1.0]), 3.0
    shrink = (1 - (1 - 0.1 * a) ** 5) / (5 * 0.1 * a)
    here = a * (w - m)
    row = rounds.loc[1]
    assert row["gradient_norm"] == pytest.approx(here.mean())
    assert row["drift_dot"] == pytest.approx((here * (shrink - 1)).mean() * here.mean())
    assert row["direction_dot"] == pytest.approx((here * shrink).mean() * here.mean())
    assert row["gradient_dissimilarity"] == pytest.approx((here**2).mean() / here.mean() ** 2)
    assert row["drift_dot"] < 0


def test_staleness_of_quadratics_in_mode_async(toy, tmp_path) -> None:
    """One member: a (b - w), minus the pull back to b, (b - w) / (eta K)."""
    server = schema.Server(
        rounds=3, schedule=schema.AsyncSchedule(concurrency=2, mixing=0.5)
    )  # client 1 needs 2.5: its first update comes third, from version 0
    rounds = quadratics(toy, tmp_path, server, [1.0, 2.5], 1)
    rho = 1 - 0.1 * 1.0
    w = 3.0 * (0.5 + 0.5 * rho) ** 2  # two fresh updates of client 0, whose minimum is 0
    b = 3.0
    row = rounds.loc[3]
    gradient_ = (1.0 * w + 4.0 * (w - 1)) / 2
    stale = 4.0 * (b - w) - (b - w) / 0.1
    assert row["staleness_dot"] == pytest.approx(stale * gradient_)
    assert row["staleness_norm"] == pytest.approx(abs(stale))
    assert row["participation_dot"] == pytest.approx((4.0 * (w - 1) - gradient_) * gradient_)
    assert rounds.loc[2, "staleness_norm"] == 0.0


# --- fewer clients, the companion, forgetting --------------------------------------------


def test_few_clients_stand_for_all_and_the_identity_still_holds(fly) -> None:
    flown = fly(**{"diagnosis.clients": 2})
    rounds = flown.rounds[1:]
    assert (rounds["identity_error"] < 1e-9).all()
    for version, rows in flown.members.groupby("version"):
        assert rows["test_accuracy"].notna().sum() == 2  # of six
        assert rows["p"].sum() == pytest.approx(1.0)
        for name in TERMS:
            expected = rounds.loc[version, f"{name}_dot"]
            assert rows[f"{name}_dot"].sum() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    exact = fly().rounds[1:]
    assert not np.allclose(rounds["gradient_norm"], exact["gradient_norm"], rtol=1e-3)
    assert np.allclose(rounds["accuracy"], exact["accuracy"])


def test_the_companion_takes_as_many_steps_as_the_clients(fly) -> None:
    """With a single client that has all samples, in full batches, it is the run itself."""
    alone = {
        "partition": {"scheme": "iid", "clients": 1}, "client.batch_size": "full",
        "diagnosis": {"decompose": 4, "pooled": True},
    }  # fmt: skip
    rounds = fly(**alone).rounds
    due = rounds.loc[[4, 8]]
    assert (due["divergence"] < 1e-12).all()
    assert due["pooled_accuracy"].tolist() == due["accuracy"].tolist()
    assert due["pooled_loss"].tolist() == pytest.approx(due["loss"].tolist())
    assert rounds.drop([4, 8])["divergence"].isna().all()
    apart = fly(**{"diagnosis.pooled": True}).rounds[1:]
    assert (apart["divergence"] > 1e-3).all()


def test_forgetting_is_what_each_class_has_lost_since_its_best(fly) -> None:
    rounds = fly(**{"server.clients_per_round": 1, "eval.every": 2}).rounds
    classes = rounds["accuracy_per_class"].dropna()
    now = np.stack(classes.to_list())
    expected = (np.maximum.accumulate(now) - now).mean(axis=1)
    assert expected.max() > 0
    np.testing.assert_allclose(rounds.loc[classes.index, "forgetting"], expected)
    assert rounds["forgetting"].notna().sum() == len(classes)


def test_nothing_is_recorded_that_was_not_asked_for(fly) -> None:
    flown = fly(**{"diagnosis.decompose": 4})
    rounds = flown.rounds
    assert rounds.index[rounds["gradient_norm"].notna()].tolist() == [4, 8]
    assert sorted(set(flown.members["version"])) == [4, 8]
    off = fly(**{"diagnosis.decompose": "off"})
    assert off.rounds["gradient_norm"].isna().all()
    assert len(off.members) == 0
    assert not (off.run.path / "decomposition.parquet").exists()
    assert off.seen == []
    pd.testing.assert_series_equal(off.rounds["loss"], rounds["loss"])


@pytest.mark.parametrize(
    ("diagnosis", "named"),
    [({"clients": 3}, "diagnosis.clients"), ({"pooled": True}, "diagnosis.pooled")],
)
def test_settings_that_do_nothing_are_refused(diagnosis, named) -> None:
    with pytest.raises(InputError, match=named):
        load({"diagnosis": diagnosis})


def test_estimators_without_gradients_are_refused() -> None:
    estimator = {"kind": "sklearn", "estimator": "sklearn.linear_model.SGDClassifier"}
    with pytest.raises(InputError, match=r"^diagnosis\.decompose: .*sklearn.*no gradients"):
        load({"model": estimator, "diagnosis": {"decompose": 5}})


@pytest.mark.parametrize("word", ["off", "false", False])
def test_off_is_off_however_it_is_written(word) -> None:
    assert load(f"seed: 1\ndiagnosis: {{decompose: {str(word).lower()}}}").config.diagnosis == (
        schema.Diagnosis()
    )


# --- figures of every run ----------------------------------------------------------------


def step_of(vectors: Sequence[Sequence[float]], weights: Sequence[float]) -> Step:
    d, a = np.array(vectors, float), np.array(weights, float)
    count, lengths = len(a), np.linalg.norm(d, axis=1)
    results = Results(d, np.ones(count, int), lengths, lengths, lengths)
    ages = np.zeros(count, int)
    return Step(
        ages, ages + 1, a, np.ones(count, bool), d, lengths, a @ d, results, np.arange(count)
    )


def test_cosine_of_pairs_is_the_mean_over_all_of_them() -> None:
    vectors = np.random.default_rng(3).normal(size=(5, 4))
    found = describe(step_of(vectors.tolist(), [0.2] * 5))
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [units[i] @ units[j] for i in range(5) for j in range(i)]
    assert found["cosine_pairwise"] == pytest.approx(np.mean(pairs))
    law = np.sqrt((1 + 4 * np.mean(pairs)) / 5)
    assert found["dilution_law"] == pytest.approx(law)
    # Updates of one length and one weight are diluted exactly as the law says.
    alike = describe(step_of(units.tolist(), [0.2] * 5))
    assert alike["cancellation"] == pytest.approx(law)


def test_cosine_of_pairs_leaves_out_who_did_not_move() -> None:
    found = describe(step_of([[3.0, 0.0], [0.0, 0.0], [0.0, 5.0]], [1 / 3] * 3))
    assert found["cosine_pairwise"] == pytest.approx(0.0)
    assert found["dilution_law"] == pytest.approx(np.sqrt(1 / 2))
    alone = describe(step_of([[3.0, 0.0], [0.0, 0.0]], [0.5] * 2))
    assert alone["cosine_pairwise"] is alone["dilution_law"] is None
