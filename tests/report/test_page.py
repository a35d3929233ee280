"""The page: complete, self-contained, safe, small, and drawn by a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from decomposed import decompose
from run_folder import write_run

from fedray.errors import StorageError
from fedray.report.page import build_report, render
from fedray.report.run import Run

NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
REGRESSION = {
    "data": {"source": "linear_regression", "scenario": "non_iid", "clients": 3},
    "partition": {"scheme": "natural"},
    "model": {
        "kind": "sklearn",
        "estimator": "sklearn.linear_model.LinearRegression",
        "fit": "full",
    },
    "server": {"aggregator": {"kind": "pairwise"}, "schedule": {"mode": "sync"}},
}
LINES = {
    "client_models": [[1, 1], [2, 2], [3, 3]],
    "pairwise": [2.25, 2.25], "mean": [2, 2], "pooled": [2.7, 1.1],
    "r2_pairwise": 0.7, "r2_mean": 0.61, "r2_pooled": 0.78,
}  # fmt: skip


def page_of(path):
    """The page without plotly.js, and the pictures' data."""
    text = render(Run(path))
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL)
    assert "<" not in scripts[0]  # or a string could end the element
    pictures = json.loads(scripts[0])
    return text.replace(max(scripts, key=len), ""), pictures


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "quick")


def test_everything_is_on_the_page(quick):
    page, pictures = page_of(quick)
    assert set(pictures) == {
        "accuracy-version", "accuracy-time", "loss-version", "loss-time", "staleness", "timeline",
        "classes", "dynamics-cancellation", "dynamics-cosine_mean", "dynamics-drift_mean",
        "dynamics-update_norm", "dynamics-n_effective", "dynamics-staleness_mean", "partition",
        "sizes",
    }  # fmt: skip
    for words in ("test accuracy is 90.0%", "11.4 points: 80.8% at version 20", "Label EMD",
                  "scheme: dirichlet", "recovered by version 25", "dropped out"):  # fmt: skip
        assert words in page
    assert all(f'data-picture="{name}"' in page for name in pictures)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_nothing_is_fetched(quick):
    page, _ = page_of(quick)
    assert "default-src 'none'" in page
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?!#)[^"'>\s]+|url\(|@import""", page)
    assert "http://" not in page
    assert "https://" not in page


def test_pngs_lie_beside_it(quick):
    build_report(quick)
    names = {path.name for path in (quick / "plots").iterdir()}
    assert names == {"accuracy.png", "loss.png", "staleness.png", "partition.png", "drift.png"}


def test_a_regression_has_r2_in_place_of_accuracy(tmp_path):
    build_report(write_run(tmp_path / "r", versions=2, classes=(), features=1))
    assert (tmp_path / "r/plots/r2.png").exists()
    assert not (tmp_path / "r/plots/accuracy.png").exists()


def test_equal_runs_make_equal_files(tmp_path):
    for name in "ab":
        build_report(write_run(tmp_path / name, versions=5))
    assert (tmp_path / "a/report.html").read_bytes() == (tmp_path / "b/report.html").read_bytes()
    for plot in (tmp_path / "a/plots").iterdir():
        assert plot.read_bytes() == (tmp_path / "b/plots" / plot.name).read_bytes()


def test_user_strings_are_text_wherever_they_go(tmp_path):
    path = write_run(tmp_path / "r", versions=3, classes=(NASTY, "$x$ & y"), config={"name": NASTY})
    page, pictures = page_of(path)
    assert "<img" not in page
    assert "<script>alert" not in page
    ticks = pictures["partition"]["layout"]["xaxis"]["ticktext"]
    assert not any("<" in tick or "$" in tick for tick in ticks)


def test_a_regression_shows_r2_and_what_the_scenario_teaches(tmp_path):
    path = write_run(tmp_path / "r", versions=5, clients=3, classes=(), features=1,
                     config=REGRESSION, summary={"scenario": LINES})  # fmt: skip
    page, pictures = page_of(path)
    assert {"r2-version", "r2-time", "lines"} <= set(pictures)
    assert "classes" not in pictures
    assert "partition" not in pictures
    for words in ("1/4, 1/4, 1/2", "cannot drift", "y = 2.25 x + 2.25", "0.780"):
        assert words in page


def test_a_drifting_regression_is_told_apart_from_a_closed_form(tmp_path):
    config = REGRESSION | {"model": {"kind": "linear"}, "client": {"epochs": 50}}
    path = write_run(tmp_path / "r", versions=5, clients=3, classes=(), features=1, config=config)
    page, pictures = page_of(path)
    assert "drift that is real" in page
    assert "cannot drift" not in page
    assert [line["name"] for line in pictures["lines"]["data"]] == ["global model"]


def test_an_interrupted_run_has_a_page_that_says_so(tmp_path):
    page, pictures = page_of(write_run(tmp_path / "r", interrupted=True))
    assert "fedray launch --resume" in page
    assert "accuracy-version" in pictures


@pytest.mark.parametrize(
    "case",
    [
        {"versions": 1, "clients": 1},
        {"versions": 0, "jobs": 0},
        {"versions": 3, "jobs": 0, "evaluated": False},
        {"versions": 3, "evaluated": False, "interrupted": True},
    ],
    ids=str,
)
def test_runs_with_little_to_show(tmp_path, case):
    page, _ = page_of(write_run(tmp_path / "r", **case))
    assert "<h1>quickstart</h1>" in page
    assert not re.search(r"\b(nan|None)\b", re.sub(r"<style>.*?</style>|<script.*", "", page,
                                                   flags=re.DOTALL))  # fmt: skip


def test_a_large_run_makes_a_small_page(tmp_path):
    path = write_run(tmp_path / "r", versions=3000, clients=2000, jobs=12_000)
    page, pictures = page_of(path)
    assert len(render(Run(path)).encode()) < 8e6
    assert len(pictures["accuracy-version"]["data"][1]["x"]) <= 1502
    assert sum(len(bars["x"]) for bars in pictures["timeline"]["data"]) <= 500
    assert "200 of 2,000 clients" in page
    assert "Slowest clients" in page


def test_a_page_that_cannot_be_written_is_bad_input(tmp_path):
    path = write_run(tmp_path / "r", versions=1)
    (path / "plots").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        build_report(path)


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_a_browser_draws_every_picture_without_complaint(tmp_path):
    """Those of decomposed steps and of an autopsy included."""
    path = decompose(write_run(tmp_path / "r"))
    shutil.copy(Path(__file__).parents[1] / "diagnosis" / "autopsy_sample.json",
                path / "autopsy.json")  # fmt: skip
    page = build_report(path)
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
        "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", f"--user-data-dir={tmp_path / 'browser'}", "--virtual-time-budget=2000",
        "--enable-logging=stderr", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "CONSOLE" not in done.stderr
    drawn = re.findall(r'data-picture="([^"]+)"[^>]*><div class="plot-container', done.stdout)
    assert set(drawn) == set(page_of(path)[1])
    assert len(drawn) == 15 + 2 + 8 + 3
