"""Remedies: whatever the table offers for a run is a configuration that runs."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from fedray.config import layers
from fedray.config.load import Loaded, as_tree, load
from fedray.config.presets import ALGORITHMS
from fedray.data.sources import load_dataset
from fedray.diagnosis.counterfactual.study import build_study
from fedray.diagnosis.counterfactual.trace import groups
from fedray.diagnosis.remedies.rules import Situation, retimes
from fedray.diagnosis.remedies.table import REMEDIES, Candidate, candidates, together
from fedray.errors import InputError
from fedray.simulation.plan import build_plan

SKLEARN = "sklearn.linear_model."
SLOW = {"duration": {"kind": "pareto", "minimum": 1, "shape": 1.2}}
BASE: dict[str, Any] = {
    "seed": 3,
    "data": {"source": "blobs", "samples": 200, "dimensions": 4, "classes": 3},
    "partition": {"scheme": "quantity", "clients": 8},
    "client": {"epochs": 4, "batch_size": 8},
    "server": {"rounds": 12},
    "devices": SLOW,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "all in rounds": {},
    "some in rounds": {"server.clients_per_round": 3},
    "deadline": {"server.clients_per_round": 3, "server.schedule.deadline_s": 1.5},
    "over-selected": {"server.clients_per_round": 3, "server.schedule.over_select": 1.5},
    "carry": {
        "server.clients_per_round": 4,
        "server.schedule.deadline_s": 1.5,
        "server.schedule.late": "carry",
    },
    "momentum": {"server.optimizer": {"kind": "momentum", "nesterov": True}},
    "buffered": {"algorithm": "fedbuff", "server.schedule.buffer_size": 2,
                 "server.schedule.concurrency": 4},
    "buffered, waiting": {
        "algorithm": "fedbuff", "server.schedule.buffer_size": 2,
        "server.schedule.concurrency": 4, "server.schedule.on_stale": "wait",
        "server.schedule.max_staleness": 3,
    },
    "by the clock": {"algorithm": "fedbuff", "server.schedule.every_s": 0.3,
                     "server.schedule.concurrency": 4},
    "async": {"algorithm": "fedasync", "server.schedule.concurrency": 5, "server.rounds": 60},
    "async, mixing 1": {"algorithm": "fedasync", "server.schedule.mixing": 1.0},
    "async, one at a time": {"algorithm": "fedasync", "server.schedule.concurrency": 1},
    "one local step": {"algorithm": "fedsgd", "client.steps": 1},
    "steps": {"client.steps": 6},
    "estimator": {"model": {"kind": "sklearn", "estimator": SKLEARN + "SGDClassifier",
                            "params": {"loss": "log_loss"}}},
    "closed form": {
        "data": {"source": "linear_regression", "clients": 3},
        "partition": {"scheme": "natural"},
        "model": {"kind": "sklearn", "estimator": SKLEARN + "LinearRegression", "fit": "full"},
        "server.weighting": "uniform",
        "server.aggregator": {"kind": "pairwise"},
    },
    "regression": {"data": {"source": "diabetes"}, "partition": {"scheme": "iid", "clients": 8},
                   "model": {"kind": "linear"}, "client.lr": 0.01},
}  # fmt: skip
STUDIED = {"optimisation", "asynchronous"}
"""Families of algorithms that are made of what a study knows; methods are not studied."""
for _algorithm, _card in ALGORITHMS.items():
    if _card.family in STUDIED and "method" not in _card.values:
        CONFIGS[_algorithm] = {"algorithm": _algorithm}


@cache
def found(name: str) -> tuple[Loaded, Situation, list[Candidate]]:
    loaded = load(BASE, CONFIGS[name])
    situation = Situation(build_study(loaded.config, loaded.base_dir, reshuffled=False))
    return loaded, situation, candidates(loaded, situation)


def names(name: str) -> set[str]:
    return {one.name for one in found(name)[2]}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_remedy_that_applies_is_a_configuration_that_runs(name: str) -> None:
    loaded, _, remedies = found(name)
    assert remedies
    configs = [loaded.config]
    data = load_dataset(loaded.config.data, loaded.config.seed, base_dir=loaded.base_dir)
    for one in remedies:
        assert (one.config.data, one.config.seed) == (loaded.config.data, loaded.config.seed)
        build_plan(one.config, loaded.base_dir, data)  # raises where the data does not allow it
        resolved = as_tree(one.config)
        for key, value in one.settings.items():
            assert layers.get(resolved, key) in (value, {"kind": value})
        assert one.config not in configs
        configs.append(one.config)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_folder_and_the_command_line_come_to_the_same(name: str) -> None:
    """A run's config.yaml has every key written out; a command has values as text."""
    loaded, situation, remedies = found(name)
    written_out = load(as_tree(loaded.config))
    assert candidates(written_out, situation) == [
        one._replace(config=load(written_out.explicit, one.settings).config) for one in remedies
    ]
    for one in remedies:
        texts = [f"{key}={value}" for key, value in one.settings.items()]
        assert load(loaded.explicit, texts).config == one.config


def test_every_remedy_applies_somewhere() -> None:
    assert {one.name for one in REMEDIES} == set().union(*map(names, CONFIGS))


def test_names_are_unique_and_reasons_given() -> None:
    assert len({one.name for one in REMEDIES}) == len(REMEDIES)
    assert all(one.reason and not one.reason.endswith(".") for one in REMEDIES)


def test_what_would_do_nothing_is_not_offered() -> None:
    about_staleness = {one.name for one in REMEDIES if one.target == "staleness"}
    assert not about_staleness & names("all in rounds")
    assert not about_staleness & names("async, one at a time") - {"rounds instead of arrivals"}
    assert not any(n.startswith(("FedProx", "local training")) for n in names("one local step"))
    assert not any(n.startswith(("FedProx", "client lr")) for n in names("estimator"))
    assert not any(n.startswith("local training") for n in names("closed form"))
    assert "everyone in every round" not in names("all in rounds")
    assert "carry late updates over" not in names("some in rounds") | names("carry")
    assert "server step x2" not in names("async, mixing 1")
    assert "discount (1 + staleness)^-0.5" not in names("buffered")
    assert "FedProx, mu 0.01" not in names("fedprox")


def test_what_fits_is_offered() -> None:
    assert {"cohort x2", "everyone in every round", "clients in turn"} <= names("some in rounds")
    assert {"carry late updates over", "draw 1.3 times the cohort"} <= names("deadline")
    assert {"buffer x2", "rounds instead of arrivals", "half as many clients at a time"} <= names(
        "buffered"
    )
    assert "buffered instead of async" in names("async")
    assert "proper mean" in names("closed form")
    assert "plain server step" in names("fedadam")


def test_momentum_keeps_the_step_of_a_steady_state() -> None:
    """Under a constant update d the velocity tends to d / (1 - 0.9), so lr has to be a tenth."""
    _, situation, remedies = found("all in rounds")
    one = next(one for one in remedies if one.name == "server momentum 0.9, same step")
    optimizer: Any = one.config.server.optimizer
    plain = situation.server.optimizer.lr
    assert optimizer.lr / (1 - optimizer.momentum) == pytest.approx(plain)


def test_bounds_are_at_quantiles_of_what_the_run_has() -> None:
    _, situation, remedies = found("async")
    schedules: dict[str, Any] = {one.name: one.config.server.schedule for one in remedies}
    half = schedules["staleness bound at the median, drop"].max_staleness
    most = schedules["staleness bound at 90 %, drop"].max_staleness
    ages = situation.ages
    assert (ages <= half).mean() >= 0.5 > (ages < half).mean()
    assert (ages <= most).mean() >= 0.9 > (ages < most).mean()


def test_the_trace_of_a_wall_clock_stays() -> None:
    loaded = load({**BASE, "devices": {}}, {"clock": "wall", "algorithm": "fedbuff",
                                            "server.schedule.concurrency": 4})  # fmt: skip
    _, virtual, _ = found("buffered")
    study = build_study(
        loaded.config, loaded.base_dir, reshuffled=False, trace=groups(virtual.study.plan)
    )
    remedies = candidates(loaded, Situation(study))
    assert remedies
    assert not [one.name for one in remedies if retimes(one.settings)]
    assert {"FedProx, mu 1", "server step x2", "no staleness discount"} <= {
        one.name for one in remedies
    }


def test_two_remedies_go_together_if_they_are_about_different_things() -> None:
    loaded, _, remedies = found("buffered")
    by_name = {one.name: one for one in remedies}
    step, momentum = by_name["server step x2"], by_name["server momentum 0.9"]
    buffer, rounds = by_name["buffer x2"], by_name["rounds instead of arrivals"]
    asked = []

    def configure(settings: Any) -> Any:
        asked.append(settings)
        return load(loaded.explicit, settings).config

    both = together([step, momentum, buffer, rounds], configure)
    assert both is not None
    assert both.name == "server step x2 + buffer x2"
    assert both.settings == {"server.optimizer.lr": 2.0, "server.schedule.buffer_size": 4}
    assert both.config.server.optimizer.lr == 2.0
    assert together([step, momentum], configure) is None
    assert together([buffer, rounds], configure) is None
    assert together([step], configure) is None

    def refuse(_: Any) -> Any:
        raise InputError("no")

    assert together([step, buffer], refuse) is None
