"""The commands around runs: launch, plan, report, compare. All in this process, without Ray."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from signal import SIGINT

import pytest
from click.testing import CliRunner, Result
from signalled import quick, signalled

from fedray.cli import COMMANDS, cli
from fedray.report.run import Run

SMALL = {
    "runtime.executor": "local",
    "data.source": "blobs",
    "data.samples": "300",
    "data.dimensions": "2",
    "partition.clients": "6",
    "server.rounds": "10",
    "server.schedule.concurrency": "4",
    "server.schedule.buffer_size": "2",
    "output.report": "false",
}
HEAVY = ("ray", "pyarrow", "sklearn", "pydantic", "plotly", "matplotlib", "numpy", "rich", "yaml")


def settings(**more: str) -> list[str]:
    dotted = {key.replace("__", "."): value for key, value in more.items()}
    return [part for k, v in {**SMALL, **dotted}.items() for part in ("--set", f"{k}={v}")]


def fedray(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    for name, seed in (("a", "1"), ("b", "2")):
        done = fedray("launch", *settings(seed=seed, name=name), "--out", folder / name)
        assert done.exit_code == 0, done.output
    return folder / "a", folder / "b"


# --- launch -----------------------------------------------------------------------------


def test_json_is_the_summary_and_all_of_stdout(tmp_path: Path) -> None:
    done = fedray("launch", *settings(), "--out", tmp_path / "a", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == json.loads((tmp_path / "a/summary.json").read_text())
    assert "10/10" in done.stderr


def test_what_a_library_prints_stays_off_stdout(tmp_path: Path) -> None:
    pairs = {**SMALL, "server.rounds": "1", "partition.scheme": "iid"}
    estimator = "sklearn.neural_network.MLPClassifier"
    pairs["model"] = f"{{kind: sklearn, estimator: {estimator}, params: {{verbose: true}}}}"
    arguments = [part for k, v in pairs.items() for part in ("--set", f"{k}={v}")]
    done = fedray("launch", *arguments, "--out", tmp_path / "a", "--json")
    assert "Iteration 1, loss" in done.stderr
    assert json.loads(done.stdout)["rounds"] == 1


def test_the_table_has_the_run_s_own_figures(tmp_path: Path) -> None:
    done = fedray("launch", *settings(output__report="true"), "--out", tmp_path / "a")
    rows = {line[:16].strip(): line[16:].strip() for line in done.stdout.splitlines()}
    summary = Run(tmp_path / "a").summary
    assert rows["final accuracy"] == f"{100 * summary['final']['accuracy']:.1f}%"
    assert rows["versions"] == "10"
    assert rows["updates"] == f"{summary['updates']['applied']} applied"
    assert Path(rows["report"]).is_file()


def test_a_regression_shows_its_own_figures(tmp_path: Path) -> None:
    kept = ("runtime.executor", "server.rounds", "output.report")
    pairs = {k: SMALL[k] for k in kept} | {"data.source": "diabetes", "model.kind": "linear"}
    pairs["partition.scheme"] = "iid"
    regression = [part for k, v in pairs.items() for part in ("--set", f"{k}={v}")]
    done = fedray("launch", *regression, "--out", tmp_path / "a")
    assert "final R²" in done.stdout
    assert "final squared error" in done.stdout
    assert "accuracy" not in done.stdout + done.stderr


def test_an_early_end_says_why(tmp_path: Path) -> None:
    done = fedray("launch", *settings(stop__bytes="500"), "--out", tmp_path / "a")
    assert "ended early: its byte budget was spent" in done.stdout


def test_without_out_the_folder_is_named_after_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fedray("launch", *settings(name="mine")).exit_code == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("mine-")
    assert Run(folder).finished


def test_ctrl_c_ends_with_a_checkpoint_and_says_how_to_go_on(tmp_path: Path) -> None:
    long = quick(server__rounds="60", eval__every="20", checkpoint__every="0")
    folder = tmp_path / "with space"
    done = signalled("version 6/60", SIGINT, "launch", *long, "--out", folder, "--json")
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, done.stdout) == (130, "")
    assert last.startswith("interrupted at version ")
    assert last.endswith(f"continue with: fedray launch --resume '{folder}'")
    assert "Traceback" not in done.stderr
    assert fedray("launch", "--resume", folder).exit_code == 0
    assert Run(folder).summary["rounds"] == 60


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "server.rouns=3"], "did you mean"),
        (["nowhere.yaml"], "no such file"),
        (["--out", "full"], "--resume"),
        (["--resume", "full"], "not a run folder"),
        (["--resume", "full", "--out", "x"], "takes neither"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    done = fedray("launch", *settings() if "--resume" not in arguments else [], *arguments)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert (done.exit_code, len(lines), done.stdout) == (2, 1, "")
    assert lines[0].startswith("error: ")
    assert said in lines[0]


# --- plan -------------------------------------------------------------------------------


def test_plan_writes_nothing_and_foresees_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    facts = json.loads(fedray("plan", *settings(), "--json").stdout)
    assert list(tmp_path.iterdir()) == []
    summary = json.loads(fedray("launch", *settings(), "--json").stdout)
    known = facts["forecast"]
    assert known["exact"]
    assert known["versions"] == summary["rounds"]
    assert known["applied"] == summary["updates"]["applied"]
    assert known["virtual_time_s"] == summary["virtual_time_s"]
    assert known["bytes"] == summary["bytes"]
    assert known["staleness"]["mean"] == summary["staleness"]["mean"]
    assert sum(known["participation"]["applied"]) == known["applied"]
    assert facts["partition"]["heterogeneity"] == summary["heterogeneity"]
    assert facts["model"]["parameters"] == summary["parameters"]


def test_plan_says_who_attacks() -> None:
    crowd = settings(attack="{kind: gaussian, share: 0.5}")
    facts = json.loads(fedray("plan", *crowd, "--json").stdout)
    assert facts["attack"]["kind"] == "gaussian"
    assert facts["attack"]["malicious"] == facts["partition"]["clients"] // 2
    assert f"gaussian by {facts['attack']['malicious']} of" in fedray("plan", *crowd).stdout
    assert "attack" not in fedray("plan", *settings()).stdout


def test_plan_counts_actors_and_their_memory() -> None:
    few = json.loads(fedray("plan", *settings(runtime__executor="ray"), "--json").stdout)
    assert few["actors"]["actors"] == 6
    assert few["memory"]["actors_bytes"] == 6 * (64 << 20)
    many = settings(
        runtime="{executor: ray, cpus: 3}", partition__clients="30", partition__scheme="iid"
    )
    assert json.loads(fedray("plan", *many, "--json").stdout)["actors"]["actors"] == 3


def test_plan_warns_when_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedray.distributed.machine.available_bytes", lambda: 1 << 30)
    assert "warning: memory" not in fedray("plan", *settings()).stdout
    crowd = settings(runtime="{executor: ray, clients_per_actor: 1}", partition__clients="20")
    assert "clients_per_actor" in fedray("plan", *crowd).stdout.split("warning: memory")[1]


def test_plan_says_when_its_figures_are_extrapolated_or_conditional() -> None:
    cut = fedray("plan", *settings(server__rounds="1000"), "--max-events", "100").stdout
    assert "about 1,000" in cut
    assert "in the part replayed" in cut
    early = fedray("plan", *settings(stop__accuracy="0.9")).stdout
    assert "fewer if stop.accuracy is met" in early


def test_plan_draws_each_client_s_labels() -> None:
    shown = fedray("plan", *settings(partition__alpha="0.01")).stdout
    assert "labels (" in shown
    assert "█" in shown.split("Machine")[0]  # somebody has a class to itself


def test_plan_has_no_forecast_for_the_wall_clock() -> None:
    facts = json.loads(fedray("plan", *settings(clock="wall"), "--json").stdout)
    assert facts["forecast"] is facts["devices"] is None
    assert "No forecast" in fedray("plan", *settings(clock="wall")).stdout


# --- report and compare -----------------------------------------------------------------


def test_report_prints_each_page(pair: tuple[Path, Path]) -> None:
    done = fedray("report", *pair)
    assert done.stdout.split() == [f"{run}/report.html" for run in pair]
    assert all((run / "report.html").is_file() for run in pair)


def test_compare_shows_figures_and_what_differs(pair: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "c.html"
    done = fedray("compare", *pair, "--out", page)
    assert done.exit_code == 0
    (seeds,) = [line.split() for line in done.stdout.splitlines() if line.startswith("seed")]
    assert seeds == ["seed", "1", "2"]
    assert page.is_file()
    found = json.loads(fedray("compare", *pair, "--json").stdout)
    assert found["differences"] == {"seed": [1, 2]}
    finals = [Run(run).summary["final"]["accuracy"] for run in pair]
    assert [row["final"] for row in found["rows"]] == finals


def test_many_runs_have_a_row_each(pair: tuple[Path, Path]) -> None:
    shown = fedray("compare", *pair * 3).stdout
    assert sum(line.startswith(str(pair[0])) for line in shown.splitlines()) >= 3


@pytest.mark.parametrize("command", ["report", "compare"])
def test_what_is_no_run_is_one_line(pair: tuple[Path, Path], tmp_path: Path, command: str) -> None:
    for bad in (tmp_path, tmp_path / "none"):
        done = fedray(command, pair[0], bad)
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_one_run_can_not_be_compared(pair: tuple[Path, Path]) -> None:
    assert fedray("compare", pair[0]).exit_code == 2


# --- all of them ------------------------------------------------------------------------


def test_help_of_every_command_has_an_example_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom fedray.cli import cli\n"
        f"for name in {list(COMMANDS)}: cli([name, '--help'], standalone_mode=False)\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for name in COMMANDS:
        assert f"  fedray {name}" in done.stdout
