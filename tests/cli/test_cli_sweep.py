"""fedray sweep on the command line: with a stand-in for Ray's part, and once for real."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from fedray.api.launch import launch
from fedray.api.sweep import Outlook
from fedray.cli import cli, sweep_view
from fedray.cli.sweep_view import Board, LiveSweep, announce
from fedray.config.load import as_tree
from fedray.config.sweep import SweepFile, load_sweep
from fedray.distributed import sweep as distributed
from fedray.distributed.sweep_watch import SweepProgress
from fedray.report.sweep.reader import Sweep
from fedray.simulation.checkpoint import load_newest

FILE = """
name: small
data: {source: blobs, samples: 240, dimensions: 2}
partition: {clients: 6}
server: {rounds: 3}
output: {report: false}
sweep:
  grid: {client.lr: [0.01, 0.1], algorithm: [fedavg, fedprox]}
  seeds: 2
"""
Run = Callable[..., None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(FILE)
    return tmp_path / "small.yaml"


def fedray(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["sweep", *(str(a) for a in arguments)])


def stand_in(
    *, fails: tuple[str, ...] = (), stops: tuple[str, ...] = (), ends_after: int = 10**9
) -> Run:
    """Runs trials in this process, one after the other; same interface as `run_sweep`."""

    def run(
        file: SweepFile, folder: Path, *, resume: bool, watch: Callable[..., None], **more: Any
    ) -> None:
        assert set(more) == {"max_concurrent", "runtime", "verbose", "say", "interrupting"}
        ended: list[str] = []
        failed = 0
        for trial in file.trials():
            place = folder / "trials" / trial.id
            if len(ended) >= ends_after:
                raise KeyboardInterrupt
            if trial.id in fails:
                place.mkdir(parents=True)
                (place / "error.txt").write_text("ValueError: on purpose\n\nTraceback\n")
                failed += 1
            elif not (place / "summary.json").exists():
                tree = as_tree(trial.config)
                launch({**tree, "runtime": {"executor": "local"}}, out=place)
                ended.append(trial.id)
            if trial.id in stops:
                summary = json.loads((place / "summary.json").read_text())
                summary["stopped_by"] = "scheduler"
                (place / "summary.json").write_text(json.dumps(summary))
            running = [("t0099", trial.settings, 1, 0.5)]
            best = ("t0000", 0.75)
            watch(SweepProgress(file.total, running, len(ended), failed, 0, best, 1.0))

    return run


def test_a_table_of_settings_best_first_and_where_there_is_more(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "run_sweep", stand_in())
    out = path.parent / "out"
    done = fedray(path, "--out", out)
    assert done.exit_code == 0, done.output
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    head = next(i for i, line in enumerate(lines) if line.startswith("lr "))
    assert lines[head].split() == ["lr", "algorithm", "accuracy", "(95%", "interval)", "trials"]
    rows = lines[head + 1 : head + 5]
    shown = [float(row.split("%")[0].split()[-1]) for row in rows]
    assert shown == sorted(shown, reverse=True)
    assert {row.split()[0] for row in rows} == {"0.01", "0.1"}
    assert all(row.endswith("  2") for row in rows)
    found = Sweep(out)
    assert found.best is not None
    best = found.best["settings"]
    trial = out / "trials" / found.best["trials"][0]
    assert f"folder  {out}" in lines
    assert f"best    fedray launch {trial}/config.yaml" in lines
    pasted = f"as keys --set client.lr={best['client.lr']} --set algorithm={best['algorithm']}"
    assert pasted in lines
    assert "8/8 trials" in done.stderr
    assert "8 trials: 4 settings x 2 seeds (0 to 1)" in done.stderr


def test_json_is_the_findings_and_all_of_stdout(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "run_sweep", stand_in(fails=("t0003",)))
    done = fedray(path, "--out", path.parent / "out", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found == json.loads((path.parent / "out/sweep.json").read_text())
    assert found["counts"] == {"finished": 7, "stopped_early": 0, "failed": 1, "unfinished": 0}


def test_failed_trials_are_shown_with_their_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "run_sweep", stand_in(fails=("t0003",)))
    done = fedray(path, "--out", path.parent / "out")
    assert done.exit_code == 0, done.output
    assert "failed  t0003, FedProx, lr 0.01, seed 1: ValueError: on purpose" in done.stdout
    assert "1 of 2, 1 failed" in done.stdout


def test_a_setting_whose_trials_were_ended_early_shows_where_they_were(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "run_sweep", stand_in(stops=("t0004", "t0005")))
    done = fedray(path, "--out", path.parent / "out")
    assert done.exit_code == 0, done.output
    row = next(line for line in done.stdout.splitlines() if "2 stopped early" in line)
    finals = [Sweep(path.parent / "out").trial(f"t000{i}").summary["final"] for i in (4, 5)]
    best = max(final["accuracy"] for final in finals)
    assert row.split("   ")[-1].strip() == "0 of 2, 2 stopped early"
    assert f"({100 * best:.1f}% at version 3)" in row


def test_nothing_but_failures_is_a_failure(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = tuple(f"t{i:04}" for i in range(8))
    monkeypatch.setattr(distributed, "run_sweep", stand_in(fails=everything))
    done = fedray(path, "--out", path.parent / "out")
    assert (done.exit_code, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: all 8 trials failed, the first with: ValueError: on purpose;")


def test_an_interrupted_sweep_says_how_to_go_on_and_does(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = path.parent / "out"
    monkeypatch.setattr(distributed, "run_sweep", stand_in(ends_after=4))
    done = fedray(path, "--out", out, "--set", "client.batch_size=8")
    assert (done.exit_code, done.stdout) == (130, "")
    assert done.stderr.splitlines()[-1].endswith(f"continue with: fedray sweep --resume {out}")
    assert (out / "trials.parquet").exists()
    before = {p: p.stat().st_mtime_ns for p in out.glob("trials/*/model.npz")}
    assert len(before) == 4
    refused = fedray("--resume", out, "--set", "client.lr=3")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "a resumed sweep keeps its configuration" in refused.stderr
    monkeypatch.setattr(distributed, "run_sweep", stand_in())
    assert fedray("--resume", out).exit_code == 0
    assert Sweep(out).summary["counts"]["finished"] == 8
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert Sweep(out).trial("t0007").config["client"]["batch_size"] == 8
    again = fedray("--resume", out)
    assert (again.exit_code, again.stdout) == (2, "")
    assert "is finished; there is nothing to resume" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--set", "sweep.grid.client.lr=[]"], "error: sweep.grid.client.lr: must not be empty"),
        (["--set", "sweep.grid.client.lrr=[1]"], "error: client.lrr=1: unknown key; did you mean"),
        (
            ["--set", "sweep.metric=epsilon"],
            "error: sweep.metric: no run reports epsilon, since",
        ),
        (["--set", "partition.clients=9999"], "error: partition"),
        (["--max-concurrent", "0"], "error: --max-concurrent: 0 is not allowed; at least 1"),
        (["--resume", "nowhere"], "error: --resume: takes neither a configuration nor --out"),
        (["--address", "nobody:1", "--set", "runtime.cpus=1"], "error: runtime.cpus: has no eff"),
    ],
)
def test_bad_input_is_one_line_before_anything_starts(
    path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("Ray would have started")

    monkeypatch.setattr(distributed, "run_sweep", never)
    monkeypatch.chdir(path.parent)
    done = fedray(path, *arguments)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.output
    assert done.stderr.startswith(expected)
    assert [p.name for p in path.parent.iterdir()] == ["small.yaml"]


def test_a_metric_that_the_data_turns_out_not_to_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "\n".join(f"{i % 7},{i / 3}" for i in range(60))
    (tmp_path / "t.csv").write_text(f"x,y\n{rows}\n")
    (tmp_path / "s.yaml").write_text(
        "data: {path: t.csv}\npartition: {scheme: iid, clients: 3}\nmodel: {kind: linear}\n"
        "sweep: {grid: {client.lr: [0.1, 0.2]}, metric: r2}\n"
    )
    monkeypatch.setattr(distributed, "run_sweep", lambda *_, **__: None)
    assert "must" not in fedray(tmp_path / "s.yaml", "--out", tmp_path / "a").stderr
    text = (tmp_path / "s.yaml").read_text().replace("linear", "softmax")
    (tmp_path / "s.yaml").write_text(text.replace("r2", "accuracy"))
    done = fedray(tmp_path / "s.yaml", "--out", tmp_path / "b")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "b").exists()


def test_plan_counts_the_trials_and_forecasts_the_first(path: Path) -> None:
    done = CliRunner().invoke(cli, ["plan", str(path)])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("8 trials: 4 settings x 2 seeds (0 to 1)\n")
    assert "The first trial:" in done.stdout
    facts = json.loads(CliRunner().invoke(cli, ["plan", str(path), "--json"]).stdout)
    assert (facts["sweep"]["trials"], facts["sweep"]["settings"]) == (8, 4)
    assert facts["forecast"]["versions"] == 3


def test_launch_of_a_sweep_file_names_the_command(path: Path) -> None:
    done = CliRunner().invoke(cli, ["launch", str(path)])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.endswith(f"run it with: fedray sweep {path}\n")


# --- what is seen while it runs -------------------------------------------------------------


def progressed(
    ended: int, version: int = 0, *, failed: int = 0, best: tuple[str, float] | None = None
) -> SweepProgress:
    running = [("t0004", {"client.lr": 0.1, "algorithm": "fedavg", "seed": 0}, version, 0.5)]
    return SweepProgress(8, running, ended - failed, failed, 0, best, 5.0)


def test_the_board_counts_a_running_trial_by_its_versions() -> None:
    board = Board()
    board.planned(load_sweep(FILE))
    board.take(progressed(0))
    assert (board.share, board.left_s) == (0.0, None)
    board.take(progressed(4, version=1, failed=1, best=("t0002", 0.9)))
    assert board.share == pytest.approx((4 + 1 / 3) / 8)
    assert board.left_s is not None
    assert board.counts() == "1 running · 3 finished · 1 failed"
    assert board.best() == "accuracy 90.0%, t0002: lr 0.01, algorithm fedprox, seed 0"


def test_the_live_table_has_what_runs_and_what_is_best() -> None:
    screen = Console(file=io.StringIO(), width=100, highlight=False)
    live = LiveSweep(screen)
    live.planned(Outlook(load_sweep(FILE), "out", False))
    live.progress(progressed(4, version=2, best=("t0002", 0.9)))
    screen.print(live.render())
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "4/8 trials" in text
    assert "best  accuracy 90.0%, t0002: lr 0.01, algorithm fedprox, seed 0" in text
    row = next(line for line in text.splitlines() if line.startswith("t0004"))
    assert row.split() == [
        "t0004",
        "lr",
        "0.1,",
        "algorithm",
        "fedavg,",
        "seed",
        "0",
        "2/3",
        "50.0%",
    ]
    assert live.leave()


def test_plain_lines_are_few(capsys: pytest.CaptureFixture[str]) -> None:
    lines = sweep_view.PlainSweep()
    lines.planned(Outlook(load_sweep(FILE), "out", False))
    said = len(capsys.readouterr().err.splitlines())
    for ended in range(9):
        for version in range(3):
            lines.progress(progressed(ended, version))
    told = capsys.readouterr().err.splitlines()
    assert said == len(announce(load_sweep(FILE))) + 1
    assert 8 <= len(told) <= 9
    assert told[-1].startswith("8/8 trials")


# --- for real -------------------------------------------------------------------------------


@pytest.mark.ray
def test_a_sweep_on_ray_is_the_launches_of_its_trials(path: Path) -> None:
    out = path.parent / "out"
    done = fedray(path, "--out", out, "--set", "runtime.cpus=2", "--set", "sweep.seeds=1")
    assert done.exit_code == 0, done.output
    found = Sweep(out)
    assert found.summary["counts"]["finished"] == found.trials.num_rows == 4
    for name in ("t0001", "t0002"):
        trial = found.trial(name)
        run = launch(
            out / "trials" / name / "config.yaml", out=path.parent / name,
            **{"runtime.executor": "local", "runtime.cpus": None},
        )  # fmt: skip
        assert trial.model["coef"].tobytes() == run.model["coef"].tobytes()
        assert trial.rounds.drop_columns(["wall_time_s"]).equals(
            run.rounds.drop_columns(["wall_time_s"])
        )
    assert "Best is " in done.stdout
    assert load_newest(out / "trials/t0000/checkpoints")[1] == []
