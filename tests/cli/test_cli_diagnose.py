"""fedray diagnose on the command line, in this process and without Ray."""

from __future__ import annotations

import io
import json
from pathlib import Path
from signal import SIGINT

import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from signalled import quick, signalled

from fedray.api.diagnose import Outlook
from fedray.cli import cli, diagnose_view
from fedray.cli.diagnose_view import Bar, LiveArms, announce
from fedray.diagnosis.counterfactual.workload import Workload
from fedray.report.diagnosis.reader import Diagnosis

SMALL = {
    "name": "small",
    "runtime.executor": "local",
    "data.source": "blobs",
    "data.samples": "240",
    "data.dimensions": "2",
    "partition.clients": "6",
    "server.rounds": "6",
    "server.schedule.concurrency": "4",
    "server.schedule.buffer_size": "2",
    "output.report": "false",
}
WORKLOAD = Workload(
    clients=20, versions=60, updates=240, classification=True, window=None, inert={},
    nbytes=1000, steps=2064, participation=5.0, everyone=False,
)  # fmt: skip
OUTLOOK = Outlook(
    "small", "runs/small-diagnosis", (7, 8, 9), WORKLOAD,
    {"staleness": "every update was trained from the newest version"}, 16, 8, 2, 5,
)  # fmt: skip


def settings(**more: str) -> list[str]:
    dotted = {key.replace("__", "."): value for key, value in more.items()}
    return [part for k, v in {**SMALL, **dotted}.items() for part in ("--set", f"{k}={v}")]


def fedray(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["diagnose", *(str(a) for a in arguments)])


def test_json_is_the_findings_and_all_of_stdout(tmp_path: Path) -> None:
    done = fedray(*settings(), "--seeds", "2", "--out", tmp_path / "a", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads((tmp_path / "a/diagnosis.json").read_text())
    assert json.loads(done.stdout)["seeds"] == [7, 8]
    assert "36/36 arms  100%" in done.stderr


def test_words_and_a_table_whose_last_row_is_the_gap(tmp_path: Path) -> None:
    done = fedray(*settings(), "--seeds", "2", "--out", tmp_path / "a")
    found = Diagnosis(tmp_path / "a")
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    head = next(i for i, line in enumerate(lines) if line.startswith("cost in points of accuracy"))
    assert lines[head].split("   ")[-1].strip() == "whole curve"
    first = [line.split("  ")[0] for line in lines[head + 1 : head + 6]]
    assert first == [
        "Non-IID data", "Client drift", "Staleness and communication", "Averaging",
        "gap to pooled training",
    ]  # fmt: skip
    gap = found.findings["level"]["gap"]
    shown = found.measure.difference(gap["value"])
    assert f"{shown} ({found.measure.difference(gap['low'])} to " in lines[head + 5]
    assert " ".join(found.words[0].split())[:60] in " ".join(done.stdout.split())
    assert f"folder  {tmp_path / 'a'}" in lines


def test_a_run_without_out_is_diagnosed_inside_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    launched = CliRunner().invoke(cli, ["launch", *settings(), "--out", "run"])
    assert launched.exit_code == 0, launched.output
    assert fedray("run", "--seeds", "1").exit_code == 0
    assert Diagnosis("run").path == Path("run/diagnosis")
    again = fedray("run", "--seeds", "1")
    assert (again.exit_code, again.stdout) == (2, "")
    assert again.stderr.splitlines()[-1] == (
        "error: --out: run/diagnosis has a finished diagnosis: see run/diagnosis/diagnosis.json; "
        "to add what would help: fedray diagnose --resume run/diagnosis --prescribe; for a new one "
        "choose another folder"
    )


def test_without_out_the_folder_is_named_after_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fedray(*settings(), "--seeds", "1").exit_code == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("small-diagnosis-")


def test_the_page_is_made_where_reports_are(tmp_path: Path) -> None:
    done = fedray(*settings(output__report="true"), "--seeds", "1", "--out", tmp_path / "a")
    assert done.exit_code == 0, done.output
    assert f"page    {tmp_path / 'a/diagnosis.html'}" in done.stdout
    assert "drawing the page" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seeds", "0"], "--seeds: 0"),
        (["--seeds", "many"], "--seeds"),
        (["--resume", "full"], "not the folder of a diagnosis"),
        (["--resume", "full", "--seeds", "3"], "takes no configuration"),
        (["full"], "not a run folder"),
        (["nowhere.yaml"], "no such file"),
        (["--out", "full"], "--resume"),
        (["--set", "client.lrr=1"], "did you mean"),
        (["--set", "clock=wall"], "clock: wall"),
        (["--resume", "full", "--set", "client.lr=1"], "not the folder of a diagnosis"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    own = "--resume" not in arguments and arguments[0].startswith("--")
    done = fedray(*(settings() if own else []), *arguments)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert (done.exit_code, len(lines), done.stdout) == (2, 1, ""), done.stderr
    assert lines[0].startswith("error: ")
    assert said in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    arguments = [*quick(seed="7"), "--out", folder, "--json", "--seeds", "2"]
    ended = signalled("/36 arms", SIGINT, "diagnose", *arguments)
    assert (ended.returncode, ended.stdout) == (130, "")
    last = ended.stderr.splitlines()[-1]
    assert last == f"interrupted; continue with: fedray diagnose --resume '{folder}'"
    assert "Traceback" not in ended.stderr
    done = fedray("--resume", folder, "--json")
    assert "are finished already" in done.stderr
    assert json.loads(done.stdout)["seeds"] == [7, 8]


def test_what_is_announced_says_why_there_are_no_more_arms() -> None:
    assert announce(OUTLOOK) == [
        "small: 20 clients, 60 versions, 240 updates; seeds 7 to 9",
        "arms: 16 per seed, 8 of them distinct, and 2 controls",
        "staleness makes no difference: every update was trained from the newest version",
        "5 of all arms and controls are finished already",
        "diagnosis folder: runs/small-diagnosis",
    ]


def test_the_time_left_is_by_the_work_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(diagnose_view.time, "monotonic", lambda: now[0])
    bar = Bar()
    now[0] = 105.0
    bar.begin("arms", 10, 2, 0.5)  # half of the work was there before
    assert bar.left_s is None
    now[0] = 115.0
    bar.take(3, 0.6)
    assert bar.left_s == pytest.approx(40.0)  # 0.1 of the work took 10 s, 0.4 are left
    now[0] = 118.0
    assert bar.left_s == pytest.approx(37.0)
    assert bar.figures() == " 60%  0:00:18, 0:00:37 left"


@pytest.mark.parametrize("width", [40, 80, 160])
def test_the_live_display_fits_the_terminal_at_every_stage(width: int) -> None:
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=False)
    display = LiveArms(console)
    console.print(display.render())
    display.computing("arms", 54, 5, 0.1)
    console.print(display.render())
    display.progress(6, 0.12)
    console.print(display.render())
    display.reporting(Path("x"))
    console.print(display.render())
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert any("6/54 arms" in line for line in lines)
    assert any("drawing the page" in line for line in lines)
    assert display.leave()


@pytest.mark.parametrize(
    ("seeds", "gains", "beats", "tried"),
    [
        ([7, 8, 9], [0.02, 0.01], [False, True], "b"),
        ([7, 8, 9], [0.02, 0.01], [False, False], None),
        ([7, 8], [0.02, 0.01], [False, False], "a"),
        ([7], [-0.01, -0.02], [False, False], None),
        ([7, 8, 9], [], [], None),
    ],
)
def test_a_command_is_only_shown_for_what_is_worth_trying(
    seeds: list[int], gains: list[float], beats: list[bool], tried: str | None
) -> None:
    ranking = [
        {"command": name, "recovered": {"value": gain}, "beats": wins}
        for name, gain, wins in zip("ab", gains, beats, strict=False)
    ]
    best = diagnose_view.worth_trying({"seeds": seeds, "ranking": ranking})
    assert (best and best["command"]) == tried
