"""The page of a diagnosis: what is in the files is on it, and nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
from diagnosis_folder import COSTS, prescribed, write_diagnosis

from fedray.errors import InputError, StorageError
from fedray.report.diagnosis.arm_curves import arm_curves
from fedray.report.diagnosis.effects import MINUS, Effect, Measure
from fedray.report.diagnosis.page import build_diagnosis_page, render_diagnosis
from fedray.report.diagnosis.reader import Diagnosis

WHY = "all updates are fresh, as every round of a synchronous run starts from one version"
NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def page_of(path):
    """The page without plotly.js, and the pictures' data."""
    text = render_diagnosis(Diagnosis(path))
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL)
    assert "<" not in scripts[0]
    return text.replace(max(scripts, key=len), ""), json.loads(scripts[0])


def rows_of(page, caption):
    """{first cell: other cells} of a table."""
    table = next(t for t in re.findall(r"<table>.*?</table>", page, re.DOTALL) if caption in t)
    body = re.findall(r"<tr>\s*<th scope=\"row\">(.*?)</th>(.*?)</tr>", table, re.DOTALL)
    return {name: re.findall(r"<td[^>]*>(.*?)</td>", cells) for name, cells in body}


def written(value, measure):
    return measure.interval(Effect(value["value"], value["low"], value["high"]))


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return write_diagnosis(tmp_path_factory.mktemp("d") / "full", prescription=prescribed())


def test_everything_is_on_the_page(full):
    page, pictures = page_of(full)
    assert set(pictures) == {
        "waterfall-level", "waterfall-fall", "arms-updates", "arms-virtual_time_s",
        "interactions-level", "interactions-fall", "prescription-ranking",
    }  # fmt: skip
    assert all(f'data-picture="{name}"' in page for name in pictures)
    for words in ("ends 6.8 points below pooled training", "seeds 7, 8, 9", "60 versions",
                  "All 48 arms were computed", "The server&#39;s momentum is replayed",
                  "equal within seed noise", "algorithm: fedbuff", "240 updates"):  # fmt: skip
        assert words in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_nothing_is_fetched(full):
    page, _ = page_of(full)
    assert "default-src 'none'" in page
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?!#)[^"'>\s]+|url\(|@import""", page)
    assert "http://" not in page
    assert "https://" not in page


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_the_tables_hold_the_numbers_of_the_file(tmp_path, metric):
    path = write_diagnosis(tmp_path / "d", metric=metric)
    found, measure = json.loads((path / "diagnosis.json").read_text()), Measure(metric)
    page, _ = page_of(path)
    names = dict(zip(COSTS["level"], ("Non-IID data", "Client drift", "Staleness and communication",
                                      "Averaging"), strict=True))  # fmt: skip
    for caption, view in (("At equal updates", found), ("At equal virtual time", found["by_time"])):
        rows = rows_of(page, caption)
        for cause, name in names.items():
            expected = [written(view[q]["shares"][cause], measure) for q in COSTS]
            assert rows[name] == expected
        gaps = [written(view[q]["gap"], measure) for q in COSTS]
        assert rows["All together: the gap"] == gaps
    control = rows_of(page, "The run and its control")
    assert control["Largest fall"][1:] == [
        written(found["participation"][key], measure) for key in ("fall", "fall_gain")
    ]
    (check,) = rows_of(page, "program of its own").values()
    assert check[2] == written(found["reference"]["difference"], measure)


@pytest.mark.parametrize(("question", "sign"), [("level", -1), ("fall", 1)])
def test_the_waterfall_leads_from_pooled_to_run(full, question, sign):
    found = json.loads((full / "diagnosis.json").read_text())
    _, pictures = page_of(full)
    bars, whiskers, numbers, start, end, _ = pictures[f"waterfall-{question}"]["data"]
    costs = sorted(COSTS[question].values(), reverse=True)
    assert bars["y"] == pytest.approx([100 * sign * cost for cost in costs])
    assert start["y"] == pytest.approx([100 * found["pooled"][question]["value"]] * 2)
    assert end["y"] == pytest.approx([100 * found["run"][question]["value"]] * 2)
    at = 100 * found["pooled"][question]["value"]
    for base, change in zip(bars["base"], bars["y"], strict=True):
        assert base == pytest.approx(at, abs=1e-3)
        at += change
    assert end["y"][0] == pytest.approx(at, abs=1e-3)
    # A cost on top of accuracy is a minus; whiskers have the interval's length.
    prefix = MINUS if sign < 0 else "+"
    assert numbers["text"][0] == f"{prefix}{100 * costs[0]:.1f}"
    assert numbers["text"][-1][0] != prefix
    assert [a + b for a, b in zip(whiskers["error_y"]["array"], whiskers["error_y"]["arrayminus"],
                                  strict=True)] == pytest.approx(
        [2 * 100 * (0.004 + 0.2 * abs(cost)) for cost in costs]
    )  # fmt: skip


def test_what_helped_is_green_and_doubt_is_pale(full):
    _, pictures = page_of(full)
    marker = pictures["waterfall-fall"]["data"][0]["marker"]
    assert [c["css"] for c in marker["color"]] == ["costs", "costs", "helps", "helps"]
    assert marker["opacity"] == [1, 1, 0.45, 1]  # drift: -0.4 +- 0.48


def test_whiskers_follow_the_cost_where_it_goes(tmp_path):
    """A larger cost is a lower accuracy, so the interval's upper end lies below."""
    share = {"value": 0.02, "low": 0.01, "high": 0.05}
    path = write_diagnosis(tmp_path / "d")
    found = json.loads((path / "diagnosis.json").read_text())
    found["level"]["shares"]["non_iid"] = share
    found["fall"]["shares"]["non_iid"] = {"value": 0.06, "low": 0.05, "high": 0.09}
    (path / "diagnosis.json").write_text(json.dumps(found))
    _, pictures = page_of(path)
    level = pictures["waterfall-level"]["data"]
    said = "<b>Non-IID data</b> cost 2.0 (1.0 to 5.0) points"
    at = level[0]["customdata"].index(said)
    error = level[1]["error_y"]
    assert (error["array"][at], error["arrayminus"][at]) == pytest.approx((1.0, 3.0))
    error = pictures["waterfall-fall"]["data"][1]["error_y"]
    assert (error["array"][0], error["arrayminus"][0]) == pytest.approx((3.0, 1.0))


def test_only_what_is_distinguishable_from_zero_is_named_as_the_cause(tmp_path):
    doubt = {"value": 0.05, "low": -0.01, "high": 0.11}
    path = write_diagnosis(tmp_path / "d")
    found = json.loads((path / "diagnosis.json").read_text())
    found["level"]["shares"]["averaging"] = doubt
    found["fall"]["shares"] = dict.fromkeys(COSTS["fall"], doubt)
    (path / "diagnosis.json").write_text(json.dumps(found))
    page, _ = page_of(write_diagnosis(tmp_path / "sure"))
    assert "largest share: non-IID data, 4.1" in page
    page, pictures = page_of(path)
    tiles = page[page.index("<dl") : page.index("</dl>")]
    assert "in part: non-IID data, 4.1" in tiles  # averaging may cost more
    assert "no cause is distinguishable from zero" in tiles
    assert set(pictures["waterfall-fall"]["data"][0]["marker"]["opacity"]) == {0.45}


def test_every_arm_is_a_curve_once(full):
    _, pictures = page_of(full)
    named = [t["name"] for t in pictures["arms-updates"]["data"] if t.get("showlegend", True)]
    assert len(named) == len(set(named)) == 16 + 2
    assert named[-2:] == ["the run (all causes on)", "pooled (all causes off)"]
    bands = [t for t in pictures["arms-updates"]["data"] if t.get("fill") == "tonexty"]
    assert len(bands) == 2


def test_causes_that_make_no_difference(tmp_path):
    page, pictures = page_of(write_diagnosis(tmp_path / "d", inert={"staleness": WHY}))
    assert rows_of(page, "make no difference here")["Staleness and communication"] == [WHY]
    assert "24 of 48 arms were computed" in page
    assert rows_of(page, "At equal updates")["Staleness and communication"] == ["0", "0", "0"]
    named = [t["name"] for t in pictures["arms-updates"]["data"] if t.get("showlegend", True)]
    assert len(named) == 8 + 2
    assert "all but client drift" in named
    assert not any("staleness" in name for name in named)
    assert "The same as: staleness." in rows_of(page, "The arms")["pooled (all causes off)"][0]


def test_nothing_makes_a_difference(tmp_path):
    path = write_diagnosis(tmp_path / "d", inert=dict.fromkeys(COSTS["level"], "none does"))
    _, pictures = page_of(path)
    named = [t["name"] for t in pictures["arms-updates"]["data"] if t.get("showlegend", True)]
    assert set(named) == {"Pooled SGD", "Every client, every version", "the run (all causes on)"}


def test_one_seed_has_no_intervals_and_says_so(tmp_path):
    path = write_diagnosis(tmp_path / "d", seeds=(7,), prescription=prescribed((7,)))
    page, pictures = page_of(path)
    assert "One seed: no interval can be given" in page
    assert rows_of(page, "At equal updates")["Client drift"] == ["1.2", f"{MINUS}0.4", "0.1"]
    assert pictures["waterfall-level"]["data"][1]["x"] == []
    assert "Whiskers" not in page
    assert "nothing can be said to beat the run" in page


def test_a_regression_is_told_in_units_of_its_loss(tmp_path):
    page, pictures = page_of(write_diagnosis(tmp_path / "d", metric="loss"))
    assert "cost in units of the loss" in page
    assert "points" not in re.sub(r"<p class=\"lead\">.*?</header>", "", page, flags=re.DOTALL)
    bars = pictures["waterfall-level"]["data"][0]
    assert bars["y"][0] == pytest.approx(0.041)  # a cost is a higher loss
    assert "Loss" in pictures["arms-updates"]["layout"]["yaxis"]["title"]["text"]


def test_a_run_that_never_fell_has_no_picture_of_falls(tmp_path):
    path = write_diagnosis(tmp_path / "d", seeds=(7,))
    found = json.loads((path / "diagnosis.json").read_text())
    nothing = {"value": 0.0, "low": None, "high": None}
    found["run"]["fall"] = found["pooled"]["fall"] = nothing
    found["fall"]["shares"] = dict.fromkeys(COSTS["fall"], nothing)
    found["fall"]["interactions"] = dict.fromkeys(found["fall"]["interactions"], nothing)
    (path / "diagnosis.json").write_text(json.dumps(found))
    _, pictures = page_of(path)
    assert {"waterfall-level", "interactions-level"} <= set(pictures)
    assert not {"waterfall-fall", "interactions-fall"} & set(pictures)


def test_seeds_of_other_lengths_keep_their_last_value(tmp_path):
    """Virtual times differ by seed; the curve ends with the mean of what each ended with."""
    path = write_diagnosis(tmp_path / "d")
    curves = arm_curves(Diagnosis(path).arms, "accuracy", "virtual_time_s")
    rows = Diagnosis(path).arms.to_pylist()
    for curve in curves:
        ends = [r["accuracy"] for r in rows if r["arm"] == curve.name and r["version"] == 40]
        assert curve.mean[-1] == pytest.approx(sum(ends) / 3)
        assert (curve.low[-1], curve.high[-1]) == (min(ends), max(ends))
        assert curve.final == pytest.approx(sum(ends) / 3)


def test_no_control_no_window_and_one_that_is(tmp_path):
    page, _ = page_of(write_diagnosis(tmp_path / "a", participation=False))
    assert "full participation" not in page
    assert "consecutive arrivals" not in page
    page, _ = page_of(write_diagnosis(tmp_path / "b", window=8))
    assert "so 8 consecutive arrivals stand for a group" in page


def test_interactions_are_symmetric_with_shares_on_the_diagonal(full):
    _, pictures = page_of(full)
    z = pictures["interactions-level"]["data"][0]["z"]
    assert [z[i][i] for i in range(4)] == pytest.approx([100 * v for v in COSTS["level"].values()])
    assert z[0][1] == z[1][0] == pytest.approx(1.8)
    assert z[0][2] == z[2][0] == pytest.approx(0.9)
    assert z[1][2] == 0


def test_mitigations_are_ranked_with_price_and_command(full):
    page, pictures = page_of(full)
    rows = rows_of(page, "price as a multiple")
    assert rows["1. FedProx, mu 0.1"] == [
        "client drift", "2.1 (1.3 to 2.9)", "1.1 (0.4 to 1.7)", "1.06\N{MULTIPLICATION SIGN}",
        "0.50\N{MULTIPLICATION SIGN}", "\N{EN DASH}",
        "yes",
    ]  # fmt: skip
    assert rows["3. Every client in every version"][-1] == "unclear"
    assert rows["4. Fewer local steps"][-1] == "worse"
    dots = pictures["prescription-ranking"]["data"][0]
    assert dots["x"] == pytest.approx([2.1, 0.9, 0.2, -3.0])
    assert [c["css"] for c in dots["marker"]["color"]] == ["helps", "grey", "grey", "costs"]
    assert "--set client.proximal_mu=0.1" in page
    out = rows_of(page, "Went out on the way")
    assert out["Server Adam, lr 1"][-1] == "diverged"
    assert out["Bound staleness at 1"][-1] == "too few updates"


def test_nothing_that_beats_the_run_is_said_to(tmp_path):
    found = prescribed(beats=False)
    page, _ = page_of(write_diagnosis(tmp_path / "d", prescription=found))
    assert "Nothing here beats what you have." in page
    none = found | {"ranking": [], "dropped": [], "diverged": []}
    page, pictures = page_of(write_diagnosis(tmp_path / "e", prescription=none))
    assert "Nothing here beats what you have." in page
    assert "prescription-ranking" not in pictures


def test_user_strings_are_text_wherever_they_go(tmp_path):
    found = prescribed()
    found["ranking"][0]["name"] = NASTY
    path = write_diagnosis(tmp_path / "d", prescription=found, name=NASTY, words=[NASTY],
                           notes=[NASTY])  # fmt: skip
    page, pictures = page_of(path)
    assert "<img" not in page
    assert "<script>alert" not in page
    ticks = pictures["prescription-ranking"]["layout"]["yaxis"]["ticktext"]
    assert not any("<" in tick for tick in ticks)


def test_the_page_is_written_whole_or_not_at_all(tmp_path):
    path = write_diagnosis(tmp_path / "d")
    assert Diagnosis(path).page is None
    assert build_diagnosis_page(path) == path / "diagnosis.html" == Diagnosis(path).page
    first = (path / "diagnosis.html").read_bytes()
    build_diagnosis_page(path)
    assert (path / "diagnosis.html").read_bytes() == first
    (path / "diagnosis.html").unlink()
    (path / "diagnosis.html").mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        build_diagnosis_page(path)


def test_a_diagnosis_opens_by_its_folder_or_its_runs(tmp_path):
    path = write_diagnosis(tmp_path / "run" / "diagnosis")
    of = Diagnosis(tmp_path / "run")
    assert of.path == path
    assert of.shares("fall")["drift"].value == -0.004
    assert of.arms.num_rows == 3 * 18 * 41
    assert of.config["algorithm"] == "fedbuff"
    assert of.prescription is None
    assert repr(of).endswith(
        f"gap 6.8 pts: non-IID data 4.1, client drift 1.2, staleness 2.3, averaging {MINUS}0.8)"
    )
    card = of._repr_html_()
    assert "6.8 pts" in card
    assert "quickstart" in card


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda p: (p / "diagnosis.json").unlink(), "not the folder of a diagnosis"),
        (lambda p: ((p / "diagnosis.json").unlink(), (p / "arms").mkdir()), "has not ended"),
        (lambda p: shutil.rmtree(p), "no such folder"),
        (lambda p: (p / "diagnosis.json").write_text("{"), "cannot be read"),
        (lambda p: (p / "diagnosis.json").write_text("[]"), "holds no findings"),
        (lambda p: (p / "arms.parquet").write_text("no"), "cannot be read"),
    ],
    ids=["absent", "unfinished", "gone", "broken", "list", "parquet"],
)
def test_what_is_no_diagnosis_is_bad_input(tmp_path, spoil, says):
    path = write_diagnosis(tmp_path / "d")
    spoil(path)
    with pytest.raises(InputError, match=says):
        build_diagnosis_page(path)


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_a_browser_draws_every_picture_without_complaint(full, tmp_path):
    page = build_diagnosis_page(full)
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
        "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", f"--user-data-dir={tmp_path}", "--virtual-time-budget=2000",
        "--enable-logging=stderr", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "CONSOLE" not in done.stderr
    assert (
        len(re.findall(r'data-picture="[^"]+"[^>]*><div class="plot-container', done.stdout)) == 7
    )
