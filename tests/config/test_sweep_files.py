"""Sweep files: what they expand to, and that nothing wrong with them is found out late."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedray.config import schema, sweep_axes
from fedray.config.load import dump, load
from fedray.config.sweep import SweepFile, load_sweep, sweeps
from fedray.errors import InputError

CONFIGS = Path(__file__).parents[2] / "configs" / "sweeps"
LRS = {"client.lr": [0.01, 0.1]}


def swept(overrides: tuple[str, ...] = (), **section: Any) -> SweepFile:
    tree = section.pop("tree", {})
    return load_sweep({**tree, "sweep": section}, overrides)


def wrong(*overrides: str, **section: Any) -> str:
    with pytest.raises(InputError) as caught:
        swept(overrides, **section)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_grid_is_the_product_in_the_order_of_the_file() -> None:
    file = swept(grid={"partition.severity": [0, 0.5], "algorithm": ["fedavg", "fedbuff"]}, seeds=3)
    given = [trial.settings for trial in file.trials()]
    assert given == [
        {"partition.severity": severity, "algorithm": algorithm, "seed": seed}
        for severity, algorithm, seed in product([0, 0.5], ["fedavg", "fedbuff"], [0, 1, 2])
    ]
    assert [trial.id for trial in file.trials()][:2] == ["t0000", "t0001"]
    assert [trial.setting for trial in file.trials()] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert file.total == len(given) == 12


def test_a_trial_is_what_launch_makes_of_the_same_settings() -> None:
    tree = {"name": "x", "server": {"clients_per_round": 5}, "client": {"epochs": 2}}
    grid = {
        "algorithm": ["fedavg", "fedprox", "fedasync"],
        "partition": [{"scheme": "shards", "clients": 10}, {"severity": 0.4}],
        "client.steps": [3, 7],
    }
    file = swept(tree=tree, grid=grid, seeds=2)
    assert len(file.trials()) == 24
    for trial in file.trials():
        assert load(tree, trial.settings).config == trial.config
        assert file.resolve(trial.settings) == trial.config


def test_what_set_says_holds_for_all_trials_and_stays_with_the_file(tmp_path: Path) -> None:
    file = swept(("client.batch_size=7", "seed=5"), grid=LRS)
    assert {trial.config.client.batch_size for trial in file.trials()} == {7}
    assert [trial.seed for trial in file.trials()] == [5, 5]
    (tmp_path / "sweep.yaml").write_text(file.dump())
    again = load_sweep(tmp_path / "sweep.yaml")
    assert again.trials() == file.trials()
    assert again.dump() == file.dump()


def test_set_changes_the_section_key_by_key() -> None:
    section = {"grid": {**LRS, "algorithm": ["fedavg", "fedprox"]}, "seeds": 3}
    file = swept(("sweep.grid.client.lr=[1]", "sweep.seeds=1"), **section)
    assert file.grid == {"client.lr": (1,), "algorithm": ("fedavg", "fedprox")}
    assert file.total == 2
    assert load_sweep({}, **{"sweep.grid.client.lr": [0.1, 0.2]}).total == 2
    assert load_sweep({"sweep": {"grid": {"client": {"lr": [0.1]}}}}).grid == {"client.lr": (0.1,)}


def test_files_in_a_grid_are_seen_from_the_sweep_file(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "data: {label: y, test_path: t.csv}\nsweep: {grid: {data.path: [a.csv, sub/b.csv]}}\n"
    )
    data = [trial.config.data for trial in load_sweep(path).trials()]
    assert all(isinstance(one, schema.TableData) for one in data)
    named = [one.path for one in data if isinstance(one, schema.TableData)]
    assert named == [str(tmp_path / "a.csv"), str(tmp_path / "sub/b.csv")]
    tests = {one.test_path for one in data if isinstance(one, schema.TableData)}
    assert tests == {str(tmp_path / "t.csv")}


def test_a_key_that_a_setting_makes_idle_goes_with_a_note_that_counts() -> None:
    file = swept(
        tree={"server": {"clients_per_round": 5}},
        grid={"algorithm": ["fedavg", "fedbuff"], "client.lr": [0.1, 0.2]},
    )
    (note,) = file.base.notes
    assert note.startswith("server.clients_per_round: dropped")
    assert note.endswith("(2 of 4 settings)")


def test_a_base_that_a_swept_key_completes_need_not_stand_alone() -> None:
    file = swept(
        tree={
            "algorithm": "fedbuff",
            "server": {"schedule": {"on_stale": "wait", "buffer_size": 4}},
        },
        grid={"server.schedule.max_staleness": [4, 8]},
    )
    assert file.total == 2


def test_metric_and_mode_are_decided() -> None:
    def decided(**more: Any) -> tuple[Any, Any]:
        sweep = swept(grid=LRS, **more).sweep
        return sweep.metric, sweep.mode

    assert decided() == ("accuracy", "max")
    assert decided(tree={"data": {"source": "diabetes"}}) == ("r2", "max")
    assert decided(metric="loss") == ("loss", "min")
    assert decided(metric="bytes_to_target", target=0.9) == ("bytes_to_target", "min")
    assert decided(mode="min") == ("accuracy", "min")


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({}, "sweep: says nothing to vary"),
        ({"grid": 5}, "sweep.grid: must be a mapping, not 5"),
        ({"grid": {"client.lr": []}}, "sweep.grid.client.lr: must not be empty"),
        ({"grid": {"client.lr": 1}}, "sweep.grid.client.lr: must be a list of values, not 1"),
        ({"grid": {"client.lr": [1, 2, 1.0]}}, "sweep.grid.client.lr: has 1.0 twice"),
        ({"grid": {"client.lrr": [1]}}, "client.lrr=1: unknown key; did you mean 'lr'?"),
        ({"grid": {"client.lr": [0.1, "x"]}}, "client.lr=x: must be a number > 0, not 'x'"),
        ({"grid": {"seed": [1, 2]}}, "sweep.grid.seed: cannot be swept: use sweep.seeds"),
        ({"grid": {"runtime.cpus": [1]}}, "sweep.grid.runtime.cpus: cannot be swept: it changes"),
        ({"grid": {"output.report": [True]}}, "sweep.grid.output.report: cannot be swept"),
        ({"grid": {"checkpoint.every": [1]}}, "sweep.grid.checkpoint.every: cannot be swept"),
        (
            {"grid": {"client.lr": [1]}, "actors_per_trial": 21},
            "sweep.actors_per_trial: 21 is more than there are clients, 20",
        ),
        ({"grid": {"name": ["a"]}}, "sweep.grid.name: cannot be swept: it is one for the whole"),
        ({"grid": {"client": [{}], "client.lr": [1]}}, "sweep.grid.client.lr: is part of client"),
        (
            {"grid": {"partition.alpha": [1], "partition.severity": [0.5]}},
            "partition.severity=0.5 with partition.alpha=1: alpha and severity exclude each other",
        ),
        (
            {"grid": {"server.schedule": [{"mode": "sync"}, {"mode": "async", "mixing": 2}]}},
            'server.schedule={"mode": "async", "mixing": 2}: server.schedule.mixing: must be',
        ),
        (
            {"grid": {"server.schedule": [{"mode": "sync"}, {}]}},
            'sweep.grid: server.schedule={"mode": "sync"} and server.schedule={} are the same run',
        ),
        ({"grid": LRS, "metric": "epsilon"}, "sweep.metric: no run reports epsilon, since"),
        ({"grid": LRS, "metric": "acuracy"}, "sweep.metric: must be one of accuracy, loss, r2"),
        ({"grid": LRS, "metric": "r2"}, "sweep.metric: no run reports r2, since the data is a cl"),
        ({"grid": LRS, "metric": "bytes_to_target"}, "sweep.target: missing: metric bytes_to_targ"),
        ({"grid": LRS, "target": 0.9}, "sweep.target: has no effect with metric accuracy"),
        ({"grid": LRS, "sedes": 1}, "sweep.sedes: unknown key; did you mean 'seeds'?"),
        ({"grid": LRS, "seeds": 0}, "sweep.seeds: must be an integer >= 1, not 0"),
        ({"grid": LRS, "seeds": 10**6}, "sweep: 2 x 1000000 seeds are 2,000,000 trials; at most"),
        ({"grid": LRS, "samples": 3}, "sweep.samples: has no effect without sweep.search"),
        ({"grid": LRS, "searcher": "optuna"}, "sweep.searcher: has no effect without sweep.search"),
        ({"grid": LRS, "grace": 3}, "sweep.grace: has no effect with scheduler none"),
        ({"grid": LRS, "scheduler": "asha", "grace": 50}, "sweep.grace: 50 is not below server.ro"),
        (
            {"grid": LRS, "scheduler": "asha", "metric": "worst_decile_accuracy"},
            "sweep.scheduler: asha compares trials while they run",
        ),
        ({"grid": LRS, "scheduler": "pbt"}, "sweep.scheduler: pbt changes what sweep.search draws"),
    ],
)
def test_a_bad_section_is_one_line(section: dict[str, Any], expected: str) -> None:
    assert wrong(**section).startswith(expected)


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ({"client.lr": [1, 2]}, "sweep.search.client.lr: must be one of choice, uniform, "),
        ({"client.lr": {"unifrom": [1, 2]}}, "sweep.search.client.lr: no distribution 'unifrom'; "),
        ({"client.lr": {"uniform": [1]}}, "sweep.search.client.lr.uniform: must be two numbers"),
        ({"client.lr": {"uniform": [2, 1]}}, "sweep.search.client.lr.uniform: low must be below"),
        ({"client.lr": {"loguniform": [0, 1]}}, "sweep.search.client.lr.loguniform: low must be >"),
        ({"client.steps": {"randint": [1, 2.5]}}, "sweep.search.client.steps.randint: must be two"),
        ({"client.lr": {"choice": []}}, "sweep.search.client.lr.choice: must not be empty"),
        ({"client.steps": {"uniform": [1, 5]}}, "client.steps=1.0: must be an integer >= 1"),
        ({"partition.severity": {"uniform": [0, 2]}}, "partition.severity=2.0: must be a number"),
        ({"algorithm": {"choice": ["fedavg", "fedprx"]}}, "algorithm=fedprx: no algorithm 'fedpr"),
        (
            {"algorithm": {"choice": ["fedbuff", "fedavg"]},
             "server.schedule.max_staleness": {"randint": [0, 9]}},
            "server.schedule.max_staleness=0: has no effect in mode sync",
        ),
    ],
)  # fmt: skip
def test_a_bad_search_is_one_line(space: dict[str, Any], expected: str) -> None:
    assert wrong(search=space).startswith(expected)


def test_optuna_and_pbt_say_what_they_cannot_do() -> None:
    lr: Any = {"client.lr": {"uniform": [0.1, 1]}}
    assert "beside a grid" in wrong(search=lr, grid={"client.steps": [1]}, searcher="optuna")
    lists = {"model": {"choice": [{"kind": "softmax"}, {"kind": "mlp"}]}}
    assert "numbers and words only" in wrong(search=lists, searcher="optuna")
    assert "which must share data" in wrong(search=lr, scheduler="pbt", seeds=2)
    severity: Any = {"partition.severity": {"uniform": [0, 1]}}
    assert "the same data, clients and schedule" in wrong(search=severity, scheduler="pbt")
    assert swept(search=lr, scheduler="pbt").total == 64


def test_an_error_names_the_settings_that_it_takes() -> None:
    grid = {
        "client.lr": [0.1, 0.2],
        "algorithm": ["fedbuff", "fedavg"],
        "server.schedule.max_staleness": [0, 4],
    }
    assert wrong(grid=grid) == (
        "server.schedule.max_staleness=0 with algorithm=fedavg: has no effect in mode sync "
        "unless server.schedule.late is carry"
    )


def test_what_is_wrong_with_the_file_itself_is_said_as_for_launch() -> None:
    for tree in ({"client": {"lr": 0}}, {"clinet": {}}, {"data": {"source": "digitz"}}):
        with pytest.raises(InputError) as launched:
            load(tree)
        assert wrong(tree=tree, grid={"client.steps": [1]}) == str(launched.value)


def test_values_that_a_swept_key_would_overrule_are_refused() -> None:
    assert wrong("client.lr=3", grid=LRS).startswith("client.lr: 3 would be ignored, since sweep.")
    assert wrong(grid=LRS, search={"client.lr": {"uniform": [1, 2]}}).startswith(
        "sweep.grid.client.lr: is in sweep.search as well"
    )


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("runtime.executor=local", "runtime.executor: must be ray in a sweep"),
        ("runtime.clients_per_actor=2", "runtime.clients_per_actor: has no effect in a sweep"),
        ("clock=wall", "clock: must be virtual in a sweep"),
    ],
)
def test_a_sweep_is_rays_and_virtual(override: str, expected: str) -> None:
    assert wrong(override, grid=LRS).startswith(expected)


def test_a_search_beside_a_grid_counts_both_and_resolves_what_is_drawn() -> None:
    file = swept(
        grid={"algorithm": ["fedavg", "fedprox"]},
        search={"client": {"lr": {"loguniform": [0.01, 1]}, "epochs": {"randint": [1, 5]}}},
        samples=5, seeds=3,
    )  # fmt: skip
    assert file.total == 30
    assert file.space == {
        "client.lr": sweep_axes.LogUniform(0.01, 1.0), "client.epochs": sweep_axes.RandInt(1, 5)
    }  # fmt: skip
    drawn = {"algorithm": "fedprox", "client.lr": 0.3, "client.epochs": 5, "seed": 2}
    assert file.resolve(drawn) == load({}, drawn).config
    with pytest.raises(InputError, match=r"client\.lr=-1: must be a number > 0"):
        file.resolve({"client.lr": -1})
    with pytest.raises(ValueError, match="before they are drawn"):
        file.trials()


def test_ids_sort_as_numbers_do() -> None:
    file = swept(grid={"client.lr": [i / 10 for i in range(1, 5)]}, seeds=3000)
    ids = [trial.id for trial in file.trials()]
    assert ids == sorted(ids)
    assert (ids[0], ids[-1]) == ("t00000", "t11999")


def test_launch_says_that_a_sweep_file_is_one(tmp_path: Path) -> None:
    path = tmp_path / "my sweep.yaml"
    path.write_text(yaml.safe_dump({"sweep": {"grid": LRS}}))
    with pytest.raises(InputError, match=r"sweep: .*: fedray sweep '.*my sweep.yaml'"):
        load(path)
    assert sweeps(path)
    assert not sweeps({})
    assert sweeps({}, ["sweep.seeds=2"])


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_files_that_come_along_load_and_survive_being_written(path: Path) -> None:
    file = load_sweep(path)
    again = load_sweep(file.dump())
    assert replace(again, base=file.base) == file
    assert dump(again.base.config) == dump(file.base.config)


def test_the_severity_file_is_five_by_three_by_three() -> None:
    file = load_sweep(CONFIGS / "severity.yaml")
    assert [len(values) for values in file.grid.values()] == [5, 3]
    assert (file.total, file.seeds) == (45, (7, 8, 9))
