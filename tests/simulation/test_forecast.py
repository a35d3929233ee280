"""The forecast is the run: same jobs, same staleness, same clock, same bytes, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fedray.config.load import load
from fedray.report.run import Run
from fedray.simulation.events import Job
from fedray.simulation.executor import LocalExecutor
from fedray.simulation.flight import Flight
from fedray.simulation.forecast import fastest_share, forecast
from fedray.simulation.plan import Plan, build_plan
from fedray.types import Federation

SMALL = {
    "data": {"source": "blobs", "samples": 200, "dimensions": 2},
    "partition": {"scheme": "iid", "clients": 12},
    "server": {"rounds": 25},
    "client": {"steps": 1},
    "eval": {"every": 100},
    "checkpoint": {"every": 0},
    "devices": {
        "duration": {"kind": "lognormal", "median": 1, "sigma": 1},
        "jitter": {"kind": "exponential", "mean": 1},
    },
}


STEADY = (
    "devices.duration={kind: constant, value: 2}",
    "devices.jitter={kind: constant, value: 1}",
)
"""Every job takes two seconds."""


class Counting(LocalExecutor):
    dispatched = 0

    def submit(self, jobs: Sequence[Job]) -> None:
        self.dispatched += len(jobs)


def planned(*overrides: str) -> tuple[Plan, Federation]:
    loaded = load(SMALL, overrides)
    return build_plan(loaded.config, loaded.base_dir)


@pytest.mark.parametrize(
    "overrides",
    [
        ["server.schedule.mode=sync"],
        ["server.schedule.mode=sync", "server.clients_per_round=3", "devices.dropout=0.3"],
        ["server.schedule={mode: sync, over_select: 2, deadline_s: 1}",
         "server.clients_per_round=4"],
        ["server.schedule={mode: sync, deadline_s: 1, late: carry}", "server.clients_per_round=4"],
        ["server.schedule={mode: buffered, concurrency: 6, buffer_size: 3}"],
        ["server.schedule={mode: buffered, concurrency: 8, max_staleness: 2, on_stale: drop}"],
        ["server.schedule={mode: buffered, concurrency: 8, max_staleness: 2, on_stale: wait}"],
        ["server.schedule={mode: async, concurrency: 6}", "devices.dropout=0.2"],
        ["server.schedule.mode=async", "stop.virtual_time_s=1.5"],
        ["server.schedule.mode=buffered", "stop.bytes=2000"],
        ["server.schedule.mode=async", "devices.availability={kind: cycle, on_s: 1, off_s: 2}"],
    ],
)  # fmt: skip
def test_forecast_is_what_the_run_does(tmp_path: Path, overrides: list[str]) -> None:
    plan, federation = planned(*overrides)
    known = forecast(plan)
    executor = Counting(plan.work, federation)
    (tmp_path / "config.yaml").write_text("name: x\n")
    for _ in Flight(plan, federation, executor, tmp_path).run({}):
        pass
    run = Run(tmp_path)
    summary = run.summary
    assert known.exact
    if known.ends_by in ("rounds", "bytes"):
        assert known.dispatched == executor.dispatched
    else:  # jobs after the last version, which no executor needs to see
        assert known.dispatched >= executor.dispatched
    assert known.versions == summary["rounds"]
    assert known.ends_by == summary["stopped_by"]
    assert {"applied": known.applied, **known.dropped} == {
        status: count for status, count in summary["updates"].items() if count
    }
    assert known.staleness_mean == summary["staleness"]["mean"]
    assert known.staleness_max == summary["staleness"]["max"]
    assert known.virtual_time_s == summary["virtual_time_s"]
    assert {"down": known.bytes_down, "up": known.bytes_up} == summary["bytes"]
    assert known.applied_by_client.tolist() == run.clients["applied"].to_pylist()
    assert known.asked >= known.taking_part == np.count_nonzero(run.clients["applied"].to_numpy())


def test_a_cut_replay_is_extrapolated() -> None:
    """One client without jitter: every version is one job, so a line is the truth."""
    plan, _ = planned(
        "partition.clients=1", *STEADY, "server.schedule.mode=sync", "server.rounds=1000",
    )  # fmt: skip
    whole, part = forecast(plan), forecast(plan, max_events=101)  # the start, and 100 rounds
    assert (whole.ends_by, part.ends_by) == ("rounds", "cut")
    assert part.scale == 10
    assert not part.exact
    assert (part.versions, part.applied) == (whole.versions, whole.applied) == (1000, 1000)
    assert part.virtual_time_s == whole.virtual_time_s == 2000
    assert part.bytes_up == whole.bytes_up


def test_the_nearer_limit_decides_how_far_a_cut_replay_reaches() -> None:
    plan, _ = planned(
        "partition.clients=1", *STEADY, "server.schedule.mode=sync", "server.rounds=1000",
        "stop.virtual_time_s=400",
    )  # fmt: skip
    assert forecast(plan, max_events=101).versions == forecast(plan).versions == 200


def test_a_replay_without_a_version_says_nothing_about_the_rest() -> None:
    plan, _ = planned("server.schedule.mode=buffered")
    assert forecast(plan, max_events=1).scale is None


def test_rules_that_need_results_are_named() -> None:
    plan, _ = planned("stop.accuracy=0.9", "stop.patience=3")
    assert forecast(plan).may_end_earlier == ("accuracy", "patience")


def test_fastest_share() -> None:
    seconds = np.array([5.0, 1.0, 9, 9, 9, 9, 9, 9, 9, 2])
    applied = np.array([1, 6, 0, 0, 0, 0, 0, 0, 0, 3])
    assert fastest_share(seconds, applied) == 0.6
    assert fastest_share(seconds, np.zeros(10, np.int64)) is None
