"""The benchmarks run, on a case that is tiny, and judge what they are given."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from math import inf
from pathlib import Path

import pytest

from fedray.config.presets import ALGORITHMS
from fedray.report.diagnosis.effects import Effect

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
BARE = """
import numpy as np, throughput
rng = np.random.default_rng(0)
y = rng.integers(0, 2, (8, 20))
X = (rng.normal(size=(8, 20, 2)) + 3.0 * y[..., None]).astype(np.float32)
for kind, size in (("softmax", 6), ("mlp", 41202)):
    start = 0.1 * rng.normal(size=size).astype(np.float32)
    rate, accuracy = throughput.bare.run(
        kind, list(zip(X, y)), X[0], y[0], cohort=4, batch=5, lr=0.1, rounds=10, warm=2,
        evaluate=True, start=start)
    print(rate > 0 and accuracy > 0.8)
"""


@pytest.fixture
def benchmark_module(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_the_bare_loop_that_throughput_is_held_against_learns_as_well():
    """In a process of its own, since it forks."""
    done = subprocess.run(
        [sys.executable, "-c", BARE], cwd=BENCHMARKS, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("True\nTrue\n", 0), done.stderr


def test_the_table_of_algorithms_comes_with_intervals_and_targets(benchmark_module):
    algorithms = benchmark_module("algorithms")
    found = algorithms.compare(
        ["fedavg", "fedasync"], 2, 2, {"source": "digits"}, algorithms.in_this_process,
        splits=["Dirichlet 0.5"], orderings=False,
    )  # fmt: skip
    rows = {(row.table, row.name): row for row in found.rows}
    assert set(rows) == {("sync", "fedavg"), ("buffered", "fedavg"), ("buffered", "fedasync")}
    assert found.left == {}
    plain, mixing = rows["sync", "fedavg"], rows["buffered", "fedasync"]
    assert plain.accuracy.low < plain.accuracy.value < plain.accuracy.high
    assert plain.ahead == Effect(0.0, 0.0, 0.0)
    assert mixing.bytes.value > plain.bytes.value  # of as many updates, and those in flight
    assert found.targets["Dirichlet 0.5"] == pytest.approx(0.95 * plain.accuracy.value)
    assert json.loads(algorithms.as_json(found))["rows"][0]["accuracy"]["low"] is not None


def test_every_algorithm_of_the_default_families_can_be_set_up_for_the_table(benchmark_module):
    algorithms = benchmark_module("algorithms")
    names = [n for n, c in ALGORITHMS.items() if c.family in algorithms.DEFAULT_FAMILIES]
    cells, left = algorithms.cells(names, 2, {"source": "digits"}, ["2 classes"])
    assert set(left) == {"fedfix"}  # by the clock; with a buffer it would be `unbiased`
    assert {cell.name for cell in cells} == set(names) - set(left)


def test_both_sides_of_every_ordering_are_configurations(benchmark_module):
    algorithms, orderings = benchmark_module("algorithms"), benchmark_module("orderings")
    for one in orderings.ORDERINGS:
        for side in (one.better, one.worse):
            algorithms.settled(algorithms.common(10, {"source": "digits"}) | one.setting(10), side)


def runs(algorithms, finals, costs=None):
    """Runs that end at `finals`, and are there after `costs`."""
    costs = costs or [1.0] * len(finals)
    return [
        algorithms.Run(final, final, cost, [0.0, min(cost, 9.0)], [0.0, min(cost, 9.0)], values)
        for final, cost in zip(finals, costs, strict=True)
        for values in [[0.1, 0.2 if cost == inf else final]]
    ]


def test_an_ordering_is_judged_by_paired_differences(benchmark_module):
    algorithms, orderings = benchmark_module("algorithms"), benchmark_module("orderings")

    def word(better, worse):
        return orderings.judged(ordering, runs(algorithms, better), runs(algorithms, worse)).word

    ordering = orderings.ORDERINGS[0]
    assert word([0.50, 0.70, 0.90], [0.49, 0.69, 0.89]) == "holds"  # though levels overlap
    assert word([0.49, 0.69, 0.89], [0.50, 0.70, 0.90]) == "does not hold"
    assert word([0.50, 0.70, 0.90], [0.60, 0.65, 0.89]) == "cannot be told"
    assert word([0.9], [0.1]) == "cannot be told"  # one seed


def test_a_target_that_the_worse_one_never_reaches_counts_with_all_that_it_spent(benchmark_module):
    algorithms, orderings = benchmark_module("algorithms"), benchmark_module("orderings")
    ordering = next(one for one in orderings.ORDERINGS if one.measure == "times")
    fast = runs(algorithms, [0.9] * 3, [1.0, 1.1, 1.2])
    never = runs(algorithms, [0.9] * 3, [inf] * 3)
    found = orderings.judged(ordering, fast, never)
    assert found.word == "holds"
    assert found.said.startswith("at least 8.2 ")
    assert orderings.judged(ordering, never, fast).word == "cannot be told"


def test_the_server_s_cost_is_measured_for_every_algorithm_that_acts_there(benchmark_module):
    server = benchmark_module("server")
    cases = {case.name for case in server.cases(40, (3,))}
    acting = {n for n, c in ALGORITHMS.items() if c.family not in server.ELSEWHERE}
    assert cases >= acting - set(server.APART)
    assert set(server.APART) <= acting
    found = list(server.measure_all(40, (3,), 1, ["fedavg", "scaffold", "fedasync", "mime"]))
    assert [each.name for each in found] == ["fedavg", "fedasync", "scaffold", "mime"]
    assert all(each.rule > 0 and each.all_us >= each.rule_us for each in found)
    assert set(server.DEMANDS) <= cases
    assert [each.name for each in found if each.bare] == ["fedasync", "scaffold"]


def test_what_costs_more_than_fedavg_is_held_against_its_arithmetic(benchmark_module):
    server = benchmark_module("server")
    of = server.Cost("scaffold", "optimisation", 60.0, 70.0, 2.0, 1.4, 28.0, 2.0)
    assert of.demanded
    assert of.reason == "a second vector per update"
    assert not of._replace(rule=3.1).demanded
    plain = server.Cost("qfedavg", "optimisation", 60.0, 70.0, 2.0, 1.4)
    assert not plain.demanded
    assert plain._replace(rule=1.4).demanded
    assert plain.reason == of._replace(rule=1.4).reason == ""
