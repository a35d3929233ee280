"""What is told to Ray's metrics, with recorders in place of Ray's classes.

That Ray passes it on is for tests/cluster/test_local_cluster.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from ray.util import metrics as of_ray

from fedray.distributed.metrics import BOUNDARIES, exported, metered
from fedray.simulation.progress import Progress
from fedray.types import Metrics

Told = dict[str, list[float]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """All values by name, in order."""
    values: Told = defaultdict(list)

    class Recorder:
        def __init__(self, name: str, *_: Any) -> None:
            self._name = name

        def set_default_tags(self, tags: dict[str, str]) -> Recorder:
            assert tags == {"run": "mine"}
            return self

        def set(self, value: float) -> None:
            values[self._name].append(value)

        inc = observe = set

    for kind in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(of_ray, kind, Recorder)
    return values


def progress(version: int, **more: Any) -> Progress:
    usual = {"virtual_time_s": 1.0, "metrics": None, "staleness_mean": 0.0, "in_flight": 2,
             "updates": 0, "wall_time_s": 0.0}  # fmt: skip
    return Progress(version=version, rounds=9, **{**usual, **more})


def test_every_update_counts_once_though_the_last_version_is_told_twice(told: Told) -> None:
    steps = [
        progress(1, staleness=(0, 0), updates=2, bytes_up=16),
        progress(2, staleness=(1, 3), updates=4, bytes_up=32, bytes_down=8),
        progress(2, staleness=(1, 3), updates=4, bytes_up=32, bytes_down=8,
                 metrics=Metrics(loss=0.5, accuracy=0.75)),
    ]  # fmt: skip
    assert list(metered(steps, "mine", retries=lambda: 3)) == steps
    assert told["fedray_staleness"] == [0, 0, 1, 3]
    totals = {name: sum(told[f"fedray_{name}"]) for name in ("updates", "bytes_up", "bytes_down")}
    assert totals == {"updates": 4, "bytes_up": 32, "bytes_down": 8}
    assert sum(told["fedray_retries"]) == 3
    assert told["fedray_accuracy"] == [0.75]
    assert told["fedray_loss"] == [0.5]
    assert "fedray_r2" not in told
    assert told["fedray_version"][-1] == 2


def test_counters_are_never_told_nothing(told: Told) -> None:
    list(metered([progress(1), progress(2)], "mine", retries=lambda: 0))
    assert not {"fedray_updates", "fedray_retries", "fedray_bytes_up"} & told.keys()


def test_a_run_that_fails_has_told_where_it_was(told: Told) -> None:
    def fails() -> Iterator[Progress]:
        yield progress(1)
        yield progress(2, updates=5)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        list(metered(fails(), "mine", retries=lambda: 0))
    assert told["fedray_version"][-1] == 2
    assert sum(told["fedray_updates"]) == 5


def test_a_bucket_holds_whole_numbers_of_versions() -> None:
    assert all(bound % 1 == 0.5 for bound in BOUNDARIES)
    assert sorted(BOUNDARIES) == list(BOUNDARIES)


def test_names_are_those_that_the_page_explains() -> None:
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")
    parts = {"ray_fedray_staleness_count", "ray_fedray_staleness_sum"}
    assert [name for name in exported() - parts if name not in page] == []
