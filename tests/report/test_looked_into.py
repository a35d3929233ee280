"""The report's sections on decomposed steps and on falls that had an autopsy."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from decomposed import TERMS, decompose
from run_folder import write_run

from fedray.errors import InputError
from fedray.report.client_effects import client_effects
from fedray.report.decomposition_section import steps
from fedray.report.diagnosis.effects import MINUS
from fedray.report.page import render
from fedray.report.run import Run

SAMPLE = Path(__file__).parents[1] / "diagnosis" / "autopsy_sample.json"
STEPS = {"steps-effects", "steps-norms", "steps-local", "steps-aggregation", "steps-dissimilarity",
         "steps-divergence", "steps-pooled", "steps-clients"}  # fmt: skip


def page_of(path):
    """The page without plotly.js, and the pictures' data."""
    text = render(Run(path))
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL)
    return text.replace(max(scripts, key=len), ""), json.loads(scripts[0])


def rows_of(page, caption):
    """{first cell: other cells} of a table."""
    table = next(t for t in re.findall(r"<table>.*?</table>", page, re.DOTALL) if caption in t)
    body = re.findall(r"<tr>\s*<th scope=\"row\">(.*?)</th>(.*?)</tr>", table, re.DOTALL)
    return {name: re.findall(r"<td[^>]*>(.*?)</td>", cells) for name, cells in body}


@pytest.fixture(scope="module")
def looked(tmp_path_factory):
    """Every fifth of 50 versions, and an autopsy."""
    path = decompose(write_run(tmp_path_factory.mktemp("runs") / "looked"))
    shutil.copy(SAMPLE, path / "autopsy.json")
    return path


def test_every_section_is_on_the_page(looked):
    page, pictures = page_of(looked)
    assert set(pictures) >= {*STEPS, "dynamics-cosine_pairwise", "dynamics-forgetting"}
    assert all(f'data-picture="{name}"' in page for name in pictures)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    law = pictures["dynamics-cancellation"]["data"][-1]
    assert law["name"] == "unrelated directions"
    assert "Dashed: what the cancellation would be" in page


def test_effects_are_minus_step_size_times_inner_product(looked):
    rounds = pq.read_table(looked / "rounds.parquet").filter(
        pq.read_table(looked / "rounds.parquet")["step_size"].is_valid()
    )
    _, pictures = page_of(looked)
    *bars, total = pictures["steps-effects"]["data"]
    assert [bar["name"] for bar in bars] == [*TERMS[:-1], "gradient"]  # no residual: it is zero
    size = rounds["step_size"].to_numpy()
    for bar in bars[:-1]:
        assert bar["x"] == rounds["version"].to_pylist()
        assert bar["y"] == pytest.approx(-size * rounds[f"{bar['name']}_dot"].to_numpy(), rel=1e-5)
    assert bars[-1]["y"] == pytest.approx(-size * rounds["gradient_norm"].to_numpy() ** 2, rel=1e-5)
    assert total["y"] == pytest.approx(-size * rounds["direction_dot"].to_numpy(), rel=1e-5)


def test_the_table_of_terms_sums_them_up(looked):
    of = steps(Run(looked).rounds)
    page, _ = page_of(looked)
    rows = rows_of(page, "over the 10 versions looked into")
    assert float(rows["Participation"][1].replace(MINUS, "-")) == pytest.approx(
        of.effects["participation"].sum(), rel=1e-3
    )
    assert rows["Residual"][:2] == ["0", "0"]
    assert rows["Gradient"][2] == "0.0%"  # the gradient itself never raises the loss


def test_the_first_steps_do_not_flatten_all_others(tmp_path):
    path = decompose(write_run(tmp_path / "r"), 1)
    table = pq.read_table(path / "rounds.parquet").to_pydict()
    for name in [n for n in table if n.endswith("_dot")]:
        table[name][1] *= 1000
    table["gradient_norm"][1] *= 30
    rounds = Run(path).rounds
    pq.write_table(type(rounds).from_pydict(table, schema=rounds.schema), path / "rounds.parquet")
    page, pictures = page_of(path)
    low, _ = pictures["steps-effects"]["layout"]["yaxis"]["range"]
    bars = [bar["y"] for bar in pictures["steps-effects"]["data"][:-1]]
    below = [sum(min(v, 0) for v in step) for step in zip(*bars, strict=True)]
    assert below[0] < 10 * low
    assert sum(low <= v for v in below) >= 0.8 * len(below)
    assert "The tallest bars are cut off" in page


def test_many_versions_share_bars(tmp_path):
    path = decompose(write_run(tmp_path / "r", versions=500), 1)
    page, pictures = page_of(path)
    bars = pictures["steps-effects"]["data"][0]
    assert len(bars["x"]) == 120
    assert "mean of up to 5 of the versions" in page
    of = steps(Run(path).rounds)
    assert bars["y"][0] == pytest.approx(of.effects["participation"][:4].mean(), rel=1e-5)
    assert bars["customdata"][0] == "versions 1 to 4"


def test_the_client_that_harms_is_named(looked):
    run = Run(looked)
    first, *others = client_effects(run.decomposition, run.rounds)
    rows = run.decomposition.to_pylist()
    mine = [row["test_effect"] for row in rows if row["client"] == 3]
    assert first.client == 3
    assert first.updates == len(mine)
    assert first.effect == pytest.approx(sum(mine))
    assert first.against == 1
    assert sum(one.updates for one in others) + len(mine) == 40
    page, pictures = page_of(looked)
    table = rows_of(page, "harm that their updates did")
    assert next(iter(table)) == "client 3"
    assert table["client 3"][3] == "100.0%"
    bars = pictures["steps-clients"]["data"][0]
    assert bars["x"][0] == pytest.approx(0.05 * len(mine))
    assert bars["marker"]["color"][0] == {"css": "costs"}
    assert bars["marker"]["color"][-1] == {"css": "helps"}


def test_terms_of_a_client_are_in_the_steps_units(looked):
    run = Run(looked)
    first = client_effects(run.decomposition, run.rounds)[0]
    size = dict(zip(run.rounds["version"].to_pylist(), run.rounds["step_size"].to_pylist(),
                    strict=True))  # fmt: skip
    expected = sum(
        -size[row["version"]] * row["drift_dot"]
        for row in run.decomposition.to_pylist()
        if row["client"] == 3
    )
    assert first.terms["drift"] == pytest.approx(expected)


def test_runs_that_were_not_looked_into_have_no_such_section(tmp_path):
    page, pictures = page_of(write_run(tmp_path / "r"))
    assert "What each step was made of" not in page
    assert "What happened where accuracy was lost" not in page
    assert not {name for name in pictures if name.startswith(("steps-", "autopsy-"))}


def test_folders_of_before_the_columns_still_have_a_page(tmp_path):
    path = write_run(tmp_path / "r")
    table = pq.read_table(path / "rounds.parquet")
    old = [name for name in table.column_names if name in (
        "version", "virtual_time_s", "wall_time_s", "accuracy", "loss", "updates", "cancellation",
        "bytes_up", "bytes_down")]  # fmt: skip
    pq.write_table(table.select(old), path / "rounds.parquet")
    page, pictures = page_of(path)
    assert "What each step was made of" not in page
    assert len(pictures["dynamics-cancellation"]["data"]) == 1
    assert "Dashed" not in page


def test_versions_without_members_or_gradient_are_left_out(tmp_path):
    path = decompose(write_run(tmp_path / "r"))
    table = pq.read_table(path / "rounds.parquet").to_pydict()
    at = table["version"].index(25)
    for name in table:
        if name.endswith(("_dot", "_norm")) or name == "step_size":
            table[name][at] = None
    table["drift_dot"][table["version"].index(30)] = float("nan")
    rounds = Run(path).rounds
    pq.write_table(type(rounds).from_pydict(table, schema=rounds.schema), path / "rounds.parquet")
    of = steps(Run(path).rounds)
    assert of.versions.tolist() == [5, 10, 15, 20, 35, 40, 45, 50]
    assert np.isfinite(of.all_together).all()
    page_of(path)


def test_a_regression_is_looked_into_as_well(tmp_path):
    path = decompose(write_run(tmp_path / "r", classes=(), features=1))
    _, pictures = page_of(path)
    local = pictures["steps-local"]
    assert local["layout"]["yaxis"]["title"]["text"] == "R²"
    assert max(local["data"][0]["y"]) < 1


def test_an_autopsy_tells_each_fall(looked):
    found = json.loads(SAMPLE.read_text())
    page, pictures = page_of(looked)
    assert "1. Fall from version 38 to 41: 8.6 points lost" in page
    assert "2. Shift of the level from version 50 to 51: 2.1 points lost" in page
    for fall in found["falls"]:
        assert all(sentence in page for sentence in fall["words"])
    assert rows_of(page, "Stale and fresh updates")["stale"] == [
        "8", "1.31", "0.152", "0.17", "85.0%"
    ]  # fmt: skip
    assert rows_of(page, "Most harmful clients")["client 3"][-2:] == [
        "60.0%", "7 (71%), 1 (20%), 4 (5%)"
    ]  # fmt: skip
    assert rows_of(page, "By the clients&#39; labels")["3"] == [f"{MINUS}0.0225"]
    assert rows_of(page, "Classes that were lost")["8"] == ["88.6%", "37.1%", "58.0%"]
    assert rows_of(page, "Clients unlike the others")["client 3"][0] == "9.4"
    tried = rows_of(page, "Worth trying")
    assert tried["Bound the staleness"] == [
        "Stale updates did 85% of the harm. Drops the stalest updates.",
        "--set server.schedule.max_staleness=2", "1",
    ]  # fmt: skip
    bars = pictures["autopsy-1-clients"]["data"][0]
    assert bars["x"] == [0.12, 0.05, -0.045]
    worst, usual = pictures["autopsy-1-terms"]["data"]
    assert worst["y"][0] == 0.091
    assert usual["y"][0] == 0.008
    assert "autopsy-2-terms" not in pictures
    assert "41 evaluations compared: all came out as recorded" in page.replace("\n", " ")


def test_an_autopsy_without_findings_says_so(tmp_path):
    path = write_run(tmp_path / "r", versions=3)
    nothing = json.loads(SAMPLE.read_text()) | {"falls": [], "outliers": [], "mitigations": []}
    (path / "autopsy.json").write_text(json.dumps(nothing))
    page, _ = page_of(path)
    assert "No fall and no shift of the level was found" in page


def test_terms_without_what_is_usual_stand_alone(tmp_path):
    path = write_run(tmp_path / "r", versions=3)
    found = json.loads(SAMPLE.read_text())
    found["falls"][0]["terms"]["usual"] = None
    (path / "autopsy.json").write_text(json.dumps(found))
    _, pictures = page_of(path)
    assert [bars["name"] for bars in pictures["autopsy-1-terms"]["data"]] == ["worst step"]


def test_a_broken_autopsy_is_bad_input(tmp_path):
    path = write_run(tmp_path / "r", versions=3)
    for text, says in (("{", "cannot be read"), ("[]", "holds no autopsy")):
        (path / "autopsy.json").write_text(text)
        with pytest.raises(InputError, match=says):
            render(Run(path))
