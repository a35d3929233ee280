"""The section on clients' own models: what it says is what the tables hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import fedray
from fedray.report.page import render
from fedray.report.personal_section import personal_section
from fedray.report.personal_words import in_words, one_line, own_models
from fedray.report.run import Run
from fedray.report.tables import clients_schema, rounds_schema, write_table


def folder(path: Path, gain: list[float], examples: list[int], *, compared: bool = True) -> Run:
    """A finished run of so many clients, of whose files only those that count are there."""
    path.mkdir()
    count = len(gain)
    shared = np.full(count, 0.6)
    columns = {
        "client": range(count), "name": [f"c{i}" for i in range(count)], "examples": examples,
        "test_examples": [20] * count, "personal_accuracy": shared + gain,
        "malicious": [None] * count,
    }  # fmt: skip
    if compared:
        columns |= {"global_accuracy": shared, "gain": gain}
    schema = clients_schema(True, True)
    arrays = [
        pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(count, f.type)
        for f in schema
    ]
    write_table(pa.Table.from_arrays(arrays, schema=schema), path / "clients.parquet")
    write_table(rounds_schema(True).empty_table(), path / "rounds.parquet")
    (path / "config.yaml").write_text("name: own\n")
    gains = np.array(gain)
    spread = {"mean": 0.6, "median": 0.6, "worst_decile": 0.5}
    found = {"kind": "ditto", "metric": "accuracy", "personal": spread, "global": None}
    if compared:
        error = float(gains.std(ddof=1) / np.sqrt(count))
        found |= {
            "global": spread,
            "gain": {
                "mean": float(gains.mean()), "standard_error": error,
                "median": float(np.median(gains)), "clients_that_gain": int((gains > 0).sum()),
                "clients_that_lose": int((gains < 0).sum()),
            },
        }  # fmt: skip
    (path / "summary.json").write_text(json.dumps({"classification": True, "personal": found}))
    return Run(path)


def said(run: Run) -> str:
    of = own_models(run)
    assert of is not None
    return " ".join(in_words(of))


def test_losers_with_few_samples_are_told_so(tmp_path):
    run = folder(tmp_path / "r", [0.1] * 37 + [-0.05] * 3, [100] * 37 + [9, 8, 4])
    text = said(run)
    assert "37 of 40 clients gain by a model of their own (ditto), 3 lose: median +10.0" in text
    assert "The 3 that are worse off lose 5.0 points at most, and have 9 samples or fewer" in text
    assert "pay on the whole" in text


def test_losers_with_as_many_samples_are_not_blamed_on_that(tmp_path):
    run = folder(tmp_path / "r", [0.1] * 9 + [-0.05], [100] * 10)
    text = said(run)
    assert "The one that is worse off loses 5.0 points; it is not for want of samples" in text


@pytest.mark.parametrize(("gain", "advice"), [
    ([0.1, 0.12, 0.11, 0.1], "nobody loses"),
    ([0.1, -0.1, 0.05, -0.06], "no gain that these samples can show"),
    ([-0.1, -0.12, -0.11, 0.0], "cost clients more than they gain"),
])  # fmt: skip
def test_advice_follows_from_the_mean_gain_and_its_error(tmp_path, gain, advice):
    assert advice in said(folder(tmp_path / "r", gain, [50] * 4))


def test_without_a_global_model_there_is_no_gain_to_speak_of(tmp_path):
    run = folder(tmp_path / "r", [0.1] * 4, [50] * 4, compared=False)
    text = said(run)
    assert "nothing in this run to gain on" in text
    assert "finetune" in text
    section = personal_section(run, {})
    assert [p.id for p in section.pictures] == ["personal-scores"]


def test_gains_are_drawn_in_order_losers_in_red(tmp_path):
    run = folder(tmp_path / "r", [0.2, -0.1, 0.0, 0.1], [50] * 4)
    section = personal_section(run, {1: "the second"})
    scores, gains = (picture.chart["data"] for picture in section.pictures)
    assert [trace["name"] for trace in scores] == ["global model", "own model"]
    assert scores[1]["x"] == [50.0, 60.0, 70.0, 80.0]
    assert scores[1]["y"] == [25.0, 50.0, 75.0, 100.0]
    assert gains[0]["y"] == [-10.0, 0.0, 10.0, 20.0]
    colours = [colour["css"] for colour in gains[0]["marker"]["color"]]
    assert colours == ["red", "blue", "blue", "blue"]
    assert gains[0]["customdata"][0][0] == "the second"
    assert [table.caption for table in section.tables][1:] == ["Lose most", "Gain most"]


def test_a_run_without_has_no_section(tmp_path):
    asked = {"data": {"source": "iris"}, "partition": {"scheme": "iid", "clients": 3}}
    more = {"server": {"rounds": 2}, "output": {"report": False}}
    local = {"runtime": {"executor": "local"}}
    plain = fedray.launch({**asked, **more, **local}, out=tmp_path / "plain")
    assert own_models(plain) is None
    assert "Models of the clients&#39; own" not in render(plain)
    own = fedray.launch({**asked, **more, **local, "algorithm": "ditto"}, out=tmp_path / "own")
    assert "Models of the clients&#39; own" in render(own)
    assert one_line(own_models(own)).startswith("ditto: ")
