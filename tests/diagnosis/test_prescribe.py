"""Prescriptions: who is tried for how long, who wins, and that a trial is what it says."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedray.api.launch import launch
from fedray.config import schema
from fedray.config.load import Loaded, load
from fedray.diagnosis.counterfactual.arms import RUN
from fedray.diagnosis.counterfactual.curve import Curve
from fedray.diagnosis.counterfactual.replay import fly
from fedray.diagnosis.counterfactual.study import Study, build_study
from fedray.diagnosis.remedies.halving import Task, prescribe, trials_at_most
from fedray.diagnosis.remedies.rules import Situation
from fedray.diagnosis.remedies.table import Candidate, candidates
from fedray.diagnosis.remedies.trials import Spent, Trial, trial

# --- the planner, with curves made by hand ----------------------------------------------------

UPDATES, EVALUATIONS = 400, 40
SHARES = {"non_iid": 0.01, "drift": 0.05, "staleness": -0.02, "averaging": 0.0}


def curve(level: float, updates: int = UPDATES, *, loss: float = 1.0, dip: float = 0.0) -> Curve:
    """Accuracy `level` throughout, but for a dip at 50; an evaluation every 10 updates."""
    n = updates // (UPDATES // EVALUATIONS) + 1
    counts = np.arange(n) * (UPDATES // EVALUATIONS)
    accuracy, losses = np.full(n, level), np.full(n, 1.0)
    accuracy[5] -= dip
    losses[-1] = loss
    return Curve(counts, counts.astype(float), counts, counts, counts, counts, accuracy, losses,
                 np.zeros(1))  # fmt: skip


def spent(factor: float = 1.0) -> Spent:
    return Spent(versions=50, updates=UPDATES, virtual_time_s=100.0 * factor,
                 bytes=round(1000 * factor), samples=round(500 * factor))  # fmt: skip


def candidate(name: str, place: int, **settings: Any) -> Candidate:
    """Told apart in the tasks by the rounds of its configuration."""
    config = schema.Config(server=schema.Server(rounds=1000 + place))
    return Candidate(name, "drift", "helps", settings or {f"made.up{place}": 1}, config)


Answer = Callable[[int, str, int], Trial | None]
"""(place of the seed, name, updates) -> what comes of it."""


def play(
    remedies: Sequence[Candidate], runs: Sequence[Curve], answer: Answer
) -> tuple[dict[str, Any], list[list[Task]]]:
    """Plays the trials' part; a combined remedy is answered for by its joint name."""
    names = {id(one.config): one.name for one in remedies}
    combined = schema.Config(server=schema.Server(rounds=2000))
    planner = prescribe(
        remedies, runs, seeds=range(7, 7 + len(runs)), metric="accuracy",
        configure=lambda _: combined, command="fedray launch x.yaml", shares=SHARES,
    )  # fmt: skip
    asked: list[list[Task]] = []
    try:
        batch = next(planner)
        while True:
            asked.append(batch)
            batch = planner.send(
                [
                    Trial(None, spent())
                    if config is None
                    else answer(seed, names.get(id(config), "both"), updates)
                    for seed, config, updates in batch
                ]
            )
    except StopIteration as stop:
        json.dumps(stop.value, allow_nan=False)
        return stop.value, asked


def levels(by_name: dict[str, float], base: float = 0.5) -> Answer:
    return lambda _, name, updates: Trial(curve(by_name.get(name, base), updates), spent())


def test_each_rung_keeps_the_better_half_and_gives_it_more_updates() -> None:
    """16 for a quarter, 8 for half, 4 for all; never fewer than 4."""
    remedies = [candidate(f"r{i:02}", i) for i in range(16)]
    gains = {one.name: 0.5 + 0.001 * i for i, one in enumerate(remedies)}
    found, asked = play(remedies, [curve(0.5)] * 3, levels(gains))
    assert [(r["tried"], r["kept"], r["updates"], r["seeds"]) for r in found["rungs"]] == [
        (16, 8, 100, 1),
        (8, 4, 200, 1),
        (4, 4, 400, 1),
        (4, 4, 400, 3),
    ]
    assert [one["name"] for one in found["ranking"]] == ["r15", "r14", "r13", "r12", "r15 + r14"]
    out = {one["name"]: one["rung"] for one in found["dropped"]}
    assert out == {f"r{i:02}": 1 if i < 8 else 2 for i in range(12)}
    assert found["dropped"][0]["recovered"] == pytest.approx(0.007)
    assert found["tried"] == 17
    assert [len(batch) for batch in asked] == [16, 8, 4, 3 + 2 * 4, 3]


def test_finalists_are_six_at_most_and_other_seeds_are_only_theirs() -> None:
    remedies = [candidate(f"r{i:02}", i) for i in range(32)]
    gains = {one.name: 0.5 + 0.001 * i for i, one in enumerate(remedies)}
    found, asked = play(remedies, [curve(0.5)] * 2, levels(gains))
    assert [r["kept"] for r in found["rungs"]] == [16, 8, 6, 6]
    elsewhere = [config for batch in asked[:-1] for seed, config, _ in batch if seed == 1]
    assert len(elsewhere) == 1 + 6
    assert [len(batch) for batch in asked] == [32, 16, 8, 2 + 6, 2]


def test_few_candidates_go_straight_to_the_full_budget() -> None:
    remedies = [candidate(f"r{i}", i) for i in range(3)]
    _, asked = play(remedies, [curve(0.5)] * 2, levels({"r1": 0.6, "r2": 0.55}))
    assert {updates for batch in asked for _, _, updates in batch} == {UPDATES}
    assert [len(batch) for batch in asked] == [n for n, _ in trials_at_most(3, 2)]


def test_the_run_is_cut_like_the_candidate() -> None:
    """A run that learns all along, against candidates that do exactly the same."""
    run = curve(0.0)
    run = replace(run, accuracy=np.linspace(0.1, 0.9, len(run.version)))

    def same(_: int, name: str, updates: int) -> Trial:
        cut = int(np.searchsorted(run.updates, updates)) + 1
        return Trial(replace(run, **{k: v[:cut] for k, v in vars(run).items() if k != "final"}),
                     spent())  # fmt: skip

    found, _ = play([candidate(f"r{i}", i) for i in range(9)], [run, run], same)
    figures = [one["recovered"] for one in found["dropped"]]
    figures += [one["recovered"]["value"] for one in found["ranking"]]
    assert figures == [0.0] * 9
    assert found["verdict"].startswith("Nothing here beats what you have")


def test_a_winner_is_told_from_luck_by_differences_of_pairs() -> None:
    """Seeds differ by far more than the remedy gains, but the gain is there on each of them.

    Gains 0.028, 0.03, 0.032: mean 0.03, standard error 0.002 / sqrt(3), t_2 = 4.3027, so the
    interval is 0.03 -+ 0.00497; with 95% confidence for two or three at once it is above 0,
    too. A lucky one gains 0.2 on one seed and loses on another.
    """
    runs = [curve(0.5), curve(0.7), curve(0.3)]
    gains = {"sure": [0.028, 0.03, 0.032], "lucky": [0.2, -0.05, 0.05]}

    def answer(seed: int, name: str, updates: int) -> Trial:
        gain = gains.get(name, [0.0] * 3)[seed]
        return Trial(curve(float(runs[seed].accuracy[0]) + gain, updates), spent(1.5))

    remedies = [candidate("sure", 0, **{"client.prox_mu": 0.1}), candidate("lucky", 1)]
    found, _ = play(remedies, runs, answer)
    entries = {one["name"]: one for one in found["ranking"]}
    half = 4.302653 * 0.002 / math.sqrt(3)
    assert entries["sure"]["recovered"] == pytest.approx(
        {"value": 0.03, "low": 0.03 - half, "high": 0.03 + half}
    )
    assert [name for name, one in entries.items() if one["beats"]] == ["sure"]
    assert found["ranking"][0]["name"] == "lucky"
    assert found["verdict"].startswith("Try sure (client.prox_mu=0.1, server.rounds=50) first")
    assert "3.0 points (95% interval 2.5 to 3.5)" in found["verdict"]
    assert "which the diagnosis found to cost 5.0 points" in found["words"][0]
    assert "1.5 times the bytes" in found["words"][0]
    assert [entries["sure"][k] for k in ("bytes_ratio", "time_ratio", "compute_ratio")] == [1.5] * 3


def test_one_of_several_or_two_seeds_may_be_luck() -> None:
    """Alone, gains of 0.02, 0.03, 0.04 have 0.03 -+ 4.303 * 0.00577 > 0; of two finalists the
    interval that holds for both has t_2 = 6.205, which takes it below 0."""
    gains = [0.02, 0.03, 0.04]

    def ranked(names: list[str], seeds: int) -> dict[str, bool]:
        runs = [curve(0.5)] * seeds

        def answer(seed: int, name: str, updates: int) -> Trial:
            return Trial(curve(0.5 + (gains[seed] if name == "sure" else 0.0), updates), spent(1.5))

        found, _ = play([candidate(n, i) for i, n in enumerate(names)], runs, answer)
        return {one["name"]: one["beats"] for one in found["ranking"]}

    assert ranked(["sure"], 3) == {"sure": True}
    assert ranked(["sure", "other"], 3) == {"sure": False, "other": False}
    assert ranked(["sure"], 2) == {"sure": False}


def test_the_command_is_quoted_and_ends_where_the_trial_did() -> None:
    remedy = candidate("one", 0, **{"data.path": "a b", "client.lr": 0.2})
    limited = replace(remedy.config, stop=schema.Stop(bytes=1e6, virtual_time_s=5.0))
    found, _ = play([remedy._replace(config=limited)], [curve(0.5)], levels({"one": 0.6}))
    words = shlex.split(found["ranking"][0]["command"])
    assert words[:3] == ["fedray", "launch", "x.yaml"]
    assert dict(word.split("=") for word in words[4::2]) == {
        "data.path": "a b", "client.lr": "0.2", "stop.bytes": "null",
        "stop.virtual_time_s": "null", "server.rounds": "50",
    }  # fmt: skip


def test_diverged_candidates_never_win() -> None:
    """One diverges at once, one only on the second seed; both look perfect until then."""

    def answer(seed: int, name: str, updates: int) -> Trial:
        bad = name == "at once" or (name == "later" and seed == 1)
        return Trial(
            curve(1.0 if name != "fair" else 0.52, updates, loss=math.inf if bad else 1.0), spent()
        )

    remedies = [candidate(name, i) for i, name in enumerate(["at once", "later", "fair"])]
    found, _ = play(remedies, [curve(0.5), curve(0.5)], answer)
    assert [one["name"] for one in found["ranking"]] == ["fair"]
    assert {(one["name"], one["rung"]) for one in found["diverged"]} == {
        ("at once", 1),
        ("later", 2),
    }


def test_whoever_never_gets_to_the_budget_is_out() -> None:
    found, _ = play([candidate("starved", 0)], [curve(0.5)], lambda *_: None)
    assert found["dropped"] == [{"name": "starved", "cause": "drift", "rung": 1, "recovered": None}]
    assert found["ranking"] == []
    assert found["verdict"].startswith("Nothing here beats what you have")


def test_nothing_to_try_is_said() -> None:
    found, _ = play([], [curve(0.5), curve(0.5)], levels({}))
    assert (found["tried"], found["ranking"]) == (0, [])
    assert found["verdict"].startswith("Nothing to try")


def test_one_seed_does_not_beat_anything() -> None:
    found, _ = play([candidate("one", 0)], [curve(0.5)], levels({"one": 0.9}))
    assert found["ranking"][0]["recovered"] == {
        "value": pytest.approx(0.4), "low": None, "high": None,
    }  # fmt: skip
    assert not found["ranking"][0]["beats"]
    assert "one seed cannot tell help from luck" in found["verdict"]


def test_the_two_best_that_go_together_are_tried_as_one() -> None:
    settings: list[Any] = [
        {"server.optimizer.lr": 2.0},
        {"server.optimizer.kind": "adam"},
        {"client.lr": 1},
    ]
    remedies = [candidate(f"r{i}", i, **s) for i, s in enumerate(settings)]
    gains = {"r0": 0.6, "r1": 0.59, "r2": 0.58, "both": 0.7}
    found, asked = play(remedies, [curve(0.5)] * 2, levels(gains))
    assert [one["name"] for one in found["ranking"]] == ["r0 + r2", "r0", "r1", "r2"]
    assert found["ranking"][0]["set"]["client.lr"] == 1
    assert [seed for seed, _, _ in asked[-1]] == [0, 1]
    found, _ = play(remedies, [curve(0.5)] * 2, levels({"r0": 0.6, "r1": 0.4, "r2": 0.4}))
    assert len(found["ranking"]) == 3


def test_whoever_spares_falls_stays_in_unless_it_costs_as_much_in_level() -> None:
    """The run dips by 0.3. Three do not: two lose less than that in level, one loses more."""
    costs = {"r00": 0.05, "r01": 0.06, "r02": 0.07, "r03": 0.4}
    remedies = [candidate(f"r{i:02}", i) for i in range(16)]

    def answer(_: int, name: str, updates: int) -> Trial:
        if name in costs:
            return Trial(curve(0.5 - costs[name], updates), spent())
        return Trial(curve(0.51, updates, dip=0.3), spent())

    found, asked = play(remedies, [curve(0.5, dip=0.3)] * 2, answer)
    assert [(r["tried"], r["kept"]) for r in found["rungs"]] == [(16, 10), (10, 7), (7, 7), (7, 7)]
    assert [one["name"] for one in found["ranking"][-2:]] == ["r00", "r01"]
    assert {one["name"]: one["rung"] for one in found["dropped"]}["r02"] == 1
    assert [len(batch) for batch in asked[:3]] == [n for n, _ in trials_at_most(16, 2)][:3]


@pytest.mark.parametrize("candidates", [0, 1, 2, 4, 5, 9, 16, 33])
@pytest.mark.parametrize("seeds", [1, 3])
def test_there_are_never_more_trials_than_announced(candidates: int, seeds: int) -> None:
    """With a run that dips deep, and candidates that do not, every place is taken."""
    remedies = [candidate(f"r{i:02}", i) for i in range(candidates)]
    gains = {one.name: 0.6 + 0.001 * i for i, one in enumerate(remedies)}
    _, asked = play(remedies, [curve(0.5, dip=0.4)] * seeds, levels(gains))
    announced = trials_at_most(candidates, seeds)
    assert sum(map(len, asked)) <= sum(tasks for tasks, _ in announced)
    if candidates > 1:
        assert [len(batch) for batch in asked] == [tasks for tasks, _ in announced]


def test_falls_are_measured_too() -> None:
    """A run that dips by 0.3, against one that stays level and one that dips by 0.1."""
    dips = {"calm": 0.0, "better": 0.1}
    found, _ = play(
        [candidate(name, i) for i, name in enumerate(dips)],
        [curve(0.5, dip=0.3)] * 2,
        lambda _, name, updates: Trial(curve(0.5, updates, dip=dips.get(name, 0.3)), spent()),
    )
    falls = {one["name"]: one["fall_reduced"]["value"] for one in found["ranking"]}
    assert falls == {"calm": pytest.approx(0.3), "better": pytest.approx(0.2)}
    assert "Calm reduces the largest fall by 30.0 points." in found["words"][0]


# --- trials -------------------------------------------------------------------------------------

BASE: dict[str, Any] = {
    "seed": 3,
    "data": {"source": "blobs", "samples": 240, "dimensions": 4, "classes": 3, "spread": 4.0},
    "partition": {"scheme": "dirichlet", "clients": 8, "alpha": 0.3},
    "client": {"epochs": 2, "batch_size": 8},
    "devices": {"duration": {"kind": "pareto", "minimum": 1, "shape": 1.2}, "dropout": 0.1},
    "runtime": {"executor": "local"},
    "output": {"report": False},
}
MODES: dict[str, dict[str, Any]] = {
    "sync": {"server.clients_per_round": 3, "server.rounds": 7, "server.schedule.deadline_s": 3.0},
    "buffered": {"algorithm": "fedbuff", "server.rounds": 7, "server.schedule.buffer_size": 3,
                 "server.schedule.concurrency": 6},
    "async": {"algorithm": "fedasync", "server.rounds": 25, "server.schedule.concurrency": 4,
              "eval.every": 3, "stop.virtual_time_s": 12.0},
}  # fmt: skip


def studied(mode: str) -> tuple[Loaded, Study]:
    loaded = load(BASE, MODES[mode])
    return loaded, build_study(loaded.config, loaded.base_dir, reshuffled=False)


def updates_of(study: Study) -> int:
    return sum(len(group.jobs) for group in study.trace)


@pytest.mark.parametrize("mode", MODES)
def test_unchanged_settings_are_the_run_itself_on_any_seed(mode: str) -> None:
    loaded, _ = studied(mode)
    study = build_study(replace(loaded.config, seed=4), Path(), reshuffled=False)
    run, updates = fly(study, RUN), updates_of(study)
    made = trial(study, loaded.config, updates)
    assert made is not None
    assert made.curve is not None
    assert made.curve.updates[-1] == run.updates[-1]  # versions of nobody's may follow
    for name, values in vars(run).items():
        length = len(values) if name == "final" else len(made.curve.version)
        np.testing.assert_array_equal(getattr(made.curve, name), values[:length])
    assert trial(study, None, updates) == Trial(None, made.spent)
    assert trial(study, loaded.config, updates, train=False) == Trial(None, made.spent)


@pytest.mark.parametrize("mode", MODES)
def test_every_remedy_gets_exactly_as_many_updates(mode: str) -> None:
    loaded, study = studied(mode)
    updates = updates_of(study) - 1  # which cuts a group of the run itself, too
    remedies = candidates(loaded, Situation(study))
    assert len(remedies) > 20
    for one in remedies:
        priced = trial(study, one.config, updates, train=False)
        assert priced is not None, one.name
        assert priced.spent.updates == updates, one.name
    made = trial(study, remedies[-1].config, updates)
    assert made is not None
    assert made.curve is not None
    assert made.curve.updates[-1] == updates


def test_the_last_group_is_cut() -> None:
    """Rounds of 5 up to 12 updates: 5, 5, and the first 2 to arrive."""
    loaded = load(BASE, {"server.clients_per_round": 5, "devices.dropout": 0.0})
    study = build_study(loaded.config, loaded.base_dir, reshuffled=False)
    made, whole = (trial(study, loaded.config, updates, train=False) for updates in (12, 15))
    assert made is not None
    assert whole is not None
    assert (made.spent.versions, made.spent.updates) == (3, 12)
    *_, last = study.trace[:3]
    assert made.spent.virtual_time_s == last.jobs[1].due_s < last.at_s == whole.spent.virtual_time_s
    assert whole.spent.bytes - made.spent.bytes == last.bytes - round(last.bytes * 2 / 5)


def test_work_whose_update_is_lost_is_paid_for() -> None:
    """Whole rounds of 8 until 3 have arrived: five clients train for nothing."""
    base = {**BASE, "partition": {"scheme": "iid", "clients": 8}, "devices": {}}
    some = load(base, {"server.clients_per_round": 3, "server.schedule.over_select": 8 / 3})
    study = build_study(some.config, some.base_dir, reshuffled=False)
    wasteful = trial(study, some.config, 9, train=False)
    frugal = trial(study, load(base, {"server.clients_per_round": 3}).config, 9, train=False)
    assert wasteful is not None
    assert frugal is not None
    samples = 2 * study.plan.sizes[0]
    assert (wasteful.spent.samples, frugal.spent.samples) == (24 * samples, 9 * samples)


def test_a_timeline_that_never_gets_there_is_given_up() -> None:
    loaded, study = studied("sync")
    config = load(loaded.explicit, {"server.schedule.deadline_s": 1e-9}).config
    assert trial(study, config, 6) is None


@pytest.mark.parametrize("mode", MODES)
def test_the_command_launches_what_was_tried(mode: str, tmp_path: Path) -> None:
    """From diagnosis to launch: the model that the winner's command trains is the trial's."""
    loaded, study = studied(mode)
    remedies = [
        one
        for one in candidates(loaded, Situation(study))
        if one.name in ("client lr x0.5", "server momentum 0.9", "rounds instead of arrivals")
    ]
    seeds = [study, build_study(replace(loaded.config, seed=4), Path(), reshuffled=False)]
    planner = prescribe(
        remedies, [fly(one, RUN) for one in seeds], seeds=(3, 4), metric="accuracy",
        configure=lambda settings: load(loaded.explicit, settings).config,
        command="fedray launch", shares=SHARES,
    )  # fmt: skip
    try:
        batch = next(planner)
        while True:
            made = [trial(seeds[seed], config, updates) for seed, config, updates in batch]
            batch = planner.send(made)
    except StopIteration as stop:
        found, launched = stop.value, 0
    for one in found["ranking"]:
        settings = shlex.split(one["command"])[3::2]
        again = load(loaded.explicit, settings).config
        expected = trial(study, again, updates_of(study))
        assert expected is not None
        assert expected.curve is not None
        if sum(len(g.jobs) for g in build_study(again, Path()).trace) > updates_of(study):
            continue  # the last version takes in more than the budget had room for
        run = launch(loaded.explicit, settings, out=tmp_path / one["name"].replace("/", "-"))
        launched += 1
        trained = np.concatenate([part.ravel() for part in run.model.values()])
        np.testing.assert_array_equal(trained, expected.curve.final)
    assert launched
