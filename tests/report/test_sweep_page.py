"""The page of a sweep: what is in the tables is on it, and it opens from a file."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from sweep_folder import ALGORITHMS, GRID, SEVERITIES, by_severity, write_sweep
from test_diagnosis_page import rows_of

from fedray.errors import StorageError
from fedray.report.sweep.page import build_sweep_page, render_sweep
from fedray.report.sweep.reader import Sweep
from fedray.report.sweep.settings import open_trials
from fedray.report.sweep.tables import collect, findings
from fedray.rng import Stream, generator

STALE = "server.schedule.max_staleness"
STATES = {"t0004": "failed", "t0043": "missing", "t0044": "unfinished"}


def page_of(path):
    """The page without plotly.js, and the pictures' data."""
    of = open_trials(path)
    text = render_sweep(of, findings(of)["words"])
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL)
    assert "<" not in scripts[0]
    pictures, text = json.loads(scripts[0]), text.replace(max(scripts, key=len), "")
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert all(f'data-picture="{name}"' in text for name in pictures)
    return text, pictures


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    path = tmp_path_factory.mktemp("s") / "grid"
    return write_sweep(path, by_severity, grid=GRID, states=STATES)


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    rng = generator(5, Stream.DATA)
    draws = [
        {"client.lr": float(10 ** rng.uniform(-3, 0)), "client.epochs": int(rng.integers(1, 6)),
         "algorithm": str(rng.choice(["fedavg", "fedprox"]))}
        for _ in range(24)
    ]  # fmt: skip
    space = {
        "client.lr": {"loguniform": [1e-3, 1]}, "client.epochs": {"randint": [1, 5]},
        "algorithm": {"choice": ["fedavg", "fedprox"]},
    }  # fmt: skip
    states = {f"t{i:04d}": "stopped" for i in range(12, 24)}
    path = tmp_path_factory.mktemp("s") / "search"
    return write_sweep(
        path, lambda s, _: 0.9 - 0.1 * (np.log10(s["client.lr"]) + 1) ** 2,
        search=space, draws=draws, seeds=1, states=states, scheduler="asha",
    )  # fmt: skip


@pytest.fixture(scope="module")
def shown(grid):
    """Page and pictures of `grid`."""
    return page_of(grid)


def curves_in(picture):
    """The named curves of a picture, without bands."""
    return {t["name"]: t for t in picture["data"] if t.get("showlegend", True)}


def test_everything_is_on_the_page(shown):
    page, pictures = shown
    assert set(pictures) == {
        "response", "importance", "cost-s", "cost-bytes", *(f"learning-{i}" for i in range(5)),
    }  # fmt: skip
    for words in ("Best is FedAvg, severity 0: accuracy 95.5%",
                  "FedProx overtakes FedAvg above measured severity 0.5",
                  "Of 45 trials, 1 failed and 2 did not come to an end",
                  "15 settings of severity, algorithm", "seeds 7, 8, 9"):  # fmt: skip
        assert words in page


def test_nothing_is_fetched_and_nothing_runs_that_a_user_wrote(shown):
    page, _ = shown
    assert "default-src 'none'" in page
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?!#)[^"'>\s]+|url\(|@import""", page)
    assert "http://" not in page
    assert "https://" not in page
    assert "lr <b>too</b> high" not in page
    assert rows_of(page, "Failed: 1")["t0004"][-1] == "ValueError: lr &lt;b&gt;too&lt;/b&gt; high"


def test_the_table_of_settings_is_the_trials(grid, shown):
    page, _ = shown
    table = collect(grid).to_pandas()
    done = table[table.status == "finished"].groupby("setting")["value"]
    rows = rows_of(page, "95% t-intervals")
    assert len(rows) == 15
    best = rows["1"]
    assert best[:2] == ["0", "FedAvg"]
    assert best[2].startswith(f"{100 * done.mean()[0]:.1f}% (")
    # Settings that lack trials come last, and say so.
    assert [rows[place][4] for place in ("13", "14", "15")] == ["3", "2 of 3", "1 of 3"]
    second = table[table.setting == 2]["value"].to_numpy()
    first = table[table.setting == 0]["value"].to_numpy()
    assert rows["2"][3] == f"{100 * (first - second).mean():.1f} points"


def test_response_curves_are_means_over_measured_severity(grid, shown):
    _, pictures = shown
    curves = curves_in(pictures["response"])
    assert list(curves) == ["FedAvg", "FedProx", "FedBuff"]
    table = collect(grid).to_pandas()
    done = table[(table.status == "finished") & (table.algorithm == "fedavg")]
    by_level = done.groupby("set.partition.severity")
    assert curves["FedAvg"]["y"] == pytest.approx(100 * by_level["value"].mean(), rel=1e-4)
    assert curves["FedAvg"]["x"] == pytest.approx(by_level["label_severity"].mean(), rel=1e-4)
    bands = [t for t in pictures["response"]["data"] if t.get("fill") == "tonexty"]
    assert [band["fillcolor"]["css"] for band in bands] == [f"series-{i}-faint" for i in range(3)]
    marks = pictures["response"]["layout"]["shapes"]
    assert len(marks) == len(pictures["response"]["layout"]["annotations"]) == 2
    found = findings(open_trials(grid))["crossovers"]
    assert [mark["x0"] for mark in marks] == [p["at"] for p in found if p["verdict"] == "crosses"]


def test_the_best_at_every_severity(shown):
    page, _ = shown
    rows = rows_of(page, "The best at every severity")
    assert [rows[str(s)][1] for s in (0, 0.25, 0.75, 1)] == ["FedAvg", "FedAvg"] + ["FedProx"] * 2
    assert "could be chance" in rows["0.5"][-1]
    assert "could be chance" not in rows["1"][-1]


def test_heat_maps_of_two_numeric_keys(tmp_path):
    def final(settings, seed):
        return by_severity(settings, seed) - 0.01 * settings[STALE] ** 0.5

    path = write_sweep(tmp_path / "s", final, grid={**GRID, STALE: [16, 0, 4]}, seeds=1)
    page, pictures = page_of(path)
    assert "Accuracy by max staleness and severity" in page
    maps = [pictures[f"heat-{i}"]["data"][0] for i in range(3)]
    for algorithm, shown in zip(ALGORITHMS, maps, strict=True):
        assert shown["y"] == ["0", "4", "16"]
        assert shown["x"] == ["0", "0.25", "0.5", "0.75", "1"]
        expected = [
            [100 * final({"algorithm": algorithm, STALE: stale, "partition.severity": s}, 7)
             for s in SEVERITIES]
            for stale in (0, 4, 16)
        ]  # fmt: skip
        np.testing.assert_allclose(shown["z"], expected, rtol=1e-4)
    assert len({(shown["zmin"], shown["zmax"]) for shown in maps}) == 1
    assert "heat-3" not in pictures


def test_costs_are_those_of_reaching_what_all_reach(grid, shown):
    page, pictures = shown
    table = collect(grid).to_pandas()
    target = table[table.status == "finished"]["best"].min()
    assert f"a test accuracy of {100 * target:.1f}%, the best that every" in page
    drawn = curves_in(pictures["cost-s"])["FedProx"]
    firsts = []
    for name in table[(table.setting == 13)]["id"]:
        values = Sweep_trial(grid, name).rounds["accuracy"].to_numpy()
        firsts.append(2.0 * int(np.argmax(values >= target)))
    assert drawn["y"][-1] == pytest.approx(np.mean(firsts))


def Sweep_trial(path, name):  # noqa: N802
    from fedray.report.run import Run

    return Run(path / "trials" / name)


def test_a_target_that_some_never_reach(tmp_path):
    path = write_sweep(
        tmp_path / "s", lambda s, _: 0.9 if s["client.lr"] == 0.1 else 0.6,
        grid={"client.lr": [0.1, 1.0]}, metric="virtual_time_to_target", target=0.8,
    )  # fmt: skip
    page, _ = page_of(path)
    assert (
        "accuracy of 80.0%, the sweep&#39;s target. 3 of 6 finished trials never got there" in page
    )
    assert rows_of(page, "95% t-intervals")["2"][1] == "not reached"


def test_the_best_setting_can_be_pasted(grid, shown):
    page, _ = shown
    pasted = re.search(r'<pre id="best-set"[^>]*>(.*?)</pre>', page, re.DOTALL)
    assert pasted[1] == "--set partition.severity=0.0 --set algorithm=fedavg"
    config = re.search(r'<pre id="best-config"[^>]*>(.*?)</pre>', page, re.DOTALL)
    assert config[1] == (grid / "trials" / "t0000" / "config.yaml").read_text()


def test_a_search_has_parallel_coordinates_and_slices(search):
    page, pictures = page_of(search)
    assert "response" not in pictures
    lines = pictures["parallel"]
    drawn = [x for trace in lines["data"] for x in trace["x"]]
    assert drawn.count(None) == 24
    assert lines["layout"]["xaxis"]["ticktext"][0] == "lr"
    assert lines["layout"]["xaxis"]["ticktext"][-1] == "accuracy"
    # The best line is drawn last, and starts where its lr is on the logarithmic axis.
    table = collect(search).to_pandas()
    by_value = table.sort_values("value")
    rates = np.log10(table["set.client.lr"])
    at = (np.log10(by_value["set.client.lr"].iloc[-1]) - rates.min()) / np.ptp(rates)
    first_of_best = lines["data"][-1]["y"][0]
    assert first_of_best == pytest.approx(at, abs=2e-3)
    notes = lines["layout"]["annotations"]
    epochs = lines["layout"]["xaxis"]["ticktext"].index("epochs")
    assert {n["text"] for n in notes if n["x"] == epochs} <= {"1", "2", "3", "4", "5"}
    slices = [pictures[f"slice-{i}"] for i in range(3)]
    assert slices[0]["layout"]["xaxis"]["type"] == "log"
    colours = [c["css"] for c in slices[0]["data"][0]["marker"]["color"]]
    assert (colours.count("blue"), colours.count("grey")) == (12, 12)
    assert "Stopped early by the scheduler: 12" in page
    assert "random forest" in page
    assert "another one's checkpoint" not in page


def test_what_pbt_has_mixed_is_said(tmp_path):
    path = write_sweep(
        tmp_path / "s", lambda s, _: s["client.lr"],
        search={"client.lr": {"uniform": [0.1, 0.5]}},
        draws=[{"client.lr": 0.2}, {"client.lr": 0.3}], seeds=1, scheduler="pbt",
    )  # fmt: skip
    page, _ = page_of(path)
    assert "another one's checkpoint" in page


def test_one_seed_and_one_key(tmp_path):
    path = write_sweep(tmp_path / "s", lambda s, _: s["client.lr"], grid={"client.lr": [0.1, 0.5]},
                       seeds=1)  # fmt: skip
    page, pictures = page_of(path)
    assert "One seed: no intervals" in page
    assert not [t for t in pictures["response"]["data"] if "fill" in t]
    assert "importance" not in pictures
    assert {"learning-version", "learning-time"} <= set(pictures)


def test_regression_and_loss(tmp_path):
    def final(settings, seed):
        return 0.5 + 0.1 * settings["client.lr"] + 0.001 * (seed % 2)

    grid = {"client.lr": [0.1, 0.5], "client.epochs": [1, 2]}
    path = write_sweep(tmp_path / "r", final, grid=grid, regression=True)
    page, pictures = page_of(path)
    assert "a test R² of" in page
    assert pictures["response"]["layout"]["yaxis"]["title"]["text"] == "R²"
    assert "worst tenth" not in page
    path = write_sweep(tmp_path / "l", final, grid=grid, metric="loss")
    _, pictures = page_of(path)
    assert pictures["response"]["layout"]["yaxis"]["title"]["text"] == "Loss"
    assert pictures["learning-0"]["layout"]["yaxis"]["title"]["text"] == "Loss"


@pytest.mark.parametrize("state", ["failed", "unfinished", "missing", "stopped"])
def test_sweeps_of_which_nothing_came(tmp_path, state):
    states = {f"t000{i}": state for i in range(4)}
    path = write_sweep(tmp_path / "s", lambda *_: 0.5, grid={"client.lr": [0.1, 0.5]}, seeds=2,
                       states=states)  # fmt: skip
    page, _ = page_of(path)
    assert "Trials that did not come to their end" in page
    assert ("ready to paste" in page) == (state == "stopped")


def test_the_page_is_written_with_the_findings(grid):
    page = build_sweep_page(grid)
    found = Sweep(grid)
    assert found.page == page == grid / "sweep.html"
    assert found.words[0] in page.read_text(encoding="utf-8")
    assert page.stat().st_size < 6e6
    (grid / "sweep.html").unlink()
    (grid / "sweep.html").mkdir()
    with pytest.raises(StorageError, match=r"sweep\.html: cannot be written"):
        build_sweep_page(grid)
    (grid / "sweep.html").rmdir()
