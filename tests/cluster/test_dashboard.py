"""The Grafana dashboard asks for the metrics that a run exports: all of them, and no others."""

from __future__ import annotations

import json
import re

import pytest
from cluster_files import CLUSTER

from fedray.distributed.metrics import exported

DASHBOARD = json.loads((CLUSTER / "grafana" / "fedray.json").read_text(encoding="utf-8"))
QUERIES = [t["expr"] for panel in DASHBOARD["panels"] for t in panel["targets"]]


def test_queries_name_what_is_exported() -> None:
    named = {name for query in QUERIES for name in re.findall(r"ray_\w+", query)}
    # A histogram's count and sum come with its buckets; Ray's sum is an estimate.
    assert named == exported() - {"ray_fedray_staleness_count", "ray_fedray_staleness_sum"}


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_is_about_the_chosen_runs(query: str) -> None:
    assert len(re.findall(r'ray_\w+\{run=~"\$run"\}', query)) == len(re.findall(r"ray_\w+", query))
    for opening, closing in ("()", "{}", "[]"):
        assert query.count(opening) == query.count(closing)


def test_panels_have_places_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_runs_are_chosen_from_those_that_report() -> None:
    [runs] = [v for v in DASHBOARD["templating"]["list"] if v["name"] == "run"]
    [name] = re.findall(r"label_values\((\w+), run\)", runs["definition"])
    assert name in exported()
