"""Runs side by side."""

from __future__ import annotations

import numpy as np
import pytest
from run_folder import write_run

import fedray
from fedray.errors import InputError, StorageError
from fedray.report.compare import compare, tables
from fedray.report.run import Run


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    config = {"client": {"epochs": 5.0, "batch_size": 32, "lr": 0.1}, "runtime": {"cpus": 2}}
    return [
        Run(write_run(folder / "a", versions=20)),
        Run(write_run(folder / "b", versions=40, seed=4, config=config)),
    ]


def test_costs_are_counted_to_the_best_that_all_reach(pair):
    found = compare(pair)
    assert found.target == min(row["best"] for row in found.rows)
    for run, row in zip(pair, found.rows, strict=True):
        accuracy = run.rounds.column("accuracy").to_numpy()
        version = int(np.flatnonzero(accuracy >= found.target)[0])
        assert row["target_version"] == version
        assert row["target_time_s"] == run.rounds.column("virtual_time_s")[version].as_py()
        # The fixture moves 4 updates of 5,200 bytes per version, each way.
        assert row["target_bytes"] == version * 4 * 5200 * 2


def test_only_what_differs_and_matters_is_listed(pair):
    assert compare(pair).differences == {"seed": [3, 4], "client.epochs": [2.0, 5.0]}


def test_runs_of_one_name_are_told_apart(pair):
    assert [row["run"] for row in compare(pair).rows] == ["quickstart (a)", "quickstart (b)"]


def test_the_page_has_three_overlays_and_fetches_nothing(pair, tmp_path):
    page = compare(pair, tmp_path / "deep" / "compare.html").page
    assert page is not None
    text = page.read_text(encoding="utf-8")
    assert all(f'data-picture="by-{x}"' in text for x in ("version", "time", "bytes"))
    assert "default-src 'none'" in text
    assert "client.epochs" in text


def test_a_run_without_evaluations_leaves_no_target(pair, tmp_path):
    blank = Run(write_run(tmp_path / "r", versions=2, evaluated=False))
    found = compare([pair[0], blank], tmp_path)
    assert found.target is None
    assert found.page == tmp_path / "compare.html"


def test_what_cannot_be_compared_is_refused(pair, tmp_path):
    with pytest.raises(InputError, match="two or more"):
        compare(pair[:1])
    regression = Run(write_run(tmp_path / "r", versions=2, classes=()))
    with pytest.raises(InputError, match="in common"):
        compare([pair[0], regression])
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        compare(pair, tmp_path / "file" / "compare.html")


def test_own_models_are_set_beside_the_global_one(pair, tmp_path):
    asked = {
        "data": {"source": "iris"}, "partition": {"scheme": "iid", "clients": 3},
        "server": {"rounds": 2}, "output": {"report": False}, "runtime": {"executor": "local"},
    }  # fmt: skip
    runs = [
        fedray.launch({**asked, "algorithm": name}, out=tmp_path / name)
        for name in ("finetune", "ifca")
    ]
    found = compare(runs)
    assert found.rows[0]["shared_mean"] == runs[0].summary["personal"]["global"]["mean"]
    assert found.rows[1]["shared_mean"] is None
    assert found.rows[1]["own_worst"] == runs[1].summary["personal"]["personal"]["worst_decile"]
    captions = [table.caption for table in tables(found)]
    assert any(caption.startswith("At the clients") for caption in captions)
    assert not any(t.caption.startswith("At the clients") for t in tables(compare(pair)))
