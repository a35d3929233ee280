"""fedray autopsy on the command line: text, JSON, the page, and bad input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fedray.cli import cli
from fedray.report.page import render
from fedray.report.run import Run

RUN = {
    "runtime.executor": "local",
    "output.report": "false",
    "data.source": "blobs",
    "data.samples": "600",
    "data.dimensions": "5",
    "data.spread": "4",
    "partition.clients": "8",
    "partition.alpha": "0.2",
    "client.lr": "0.3",
    "server.rounds": "25",
    "server.schedule.concurrency": "6",
    "server.schedule.buffer_size": "3",
    "diagnosis.decompose": "off",
}


def fedray(*arguments: str | Path | int) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], terminal_width=100)


def launched(folder: Path, **more: str) -> Path:
    settings = RUN | {key.replace("__", "."): value for key, value in more.items()}
    lines = [part for k, v in settings.items() for part in ("--set", f"{k}={v}")]
    done = fedray("launch", *lines, "--out", folder)
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return launched(tmp_path_factory.mktemp("runs") / "a")


def refused(*arguments: str | Path) -> str:
    done = fedray("autopsy", *arguments)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_it_tells_what_happened(run: Path) -> None:
    done = fedray("autopsy", run)
    assert done.exit_code == 0, done.output
    found = json.loads((run / "autopsy.json").read_text())
    assert "equal to the run's bit for bit" in done.stdout
    text = " ".join(done.stdout.split())
    for number, fall in enumerate(found["falls"], 1):
        assert f"{number}. " in text
        assert all(sentence in text for sentence in fall["words"])
    for one in found["mitigations"]:
        assert all(f"--set {setting}" in text for setting in one["set"])
    assert str(run / "autopsy.json") in done.stdout
    assert done.stderr == ""


def test_json_is_the_file_and_all_of_stdout(run: Path) -> None:
    done = fedray("autopsy", run, "--json", "--at", 7)
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert found == json.loads((run / "autopsy.json").read_text())
    assert found["asked"] == 7
    (step,) = found["falls"]
    assert (step["kind"], step["from"]["version"], step["to"]["version"]) == ("step", 6, 7)


def test_fewer_falls_can_be_asked_for(run: Path) -> None:
    def count(top: int) -> int:
        found: dict[str, Any] = json.loads(fedray("autopsy", run, "--json", "--top", top).stdout)
        return sum(fall["kind"] == "fall" for fall in found["falls"])

    assert count(1) == 1 < count(3)


def test_the_page_has_it(tmp_path: Path) -> None:
    folder = launched(tmp_path / "a", server__rounds="8")
    before = render(Run(folder))
    (folder / "report.html").write_text(before)
    assert fedray("autopsy", folder, "--at", 3).exit_code == 0
    after = (folder / "report.html").read_text()
    assert "step to version 3" in after
    assert "step to version 3" not in before


def test_a_run_without_falls_is_no_error(tmp_path: Path) -> None:
    folder = launched(tmp_path / "a", data__spread="0.5", eval__every="10", server__rounds="20")
    done = fedray("autopsy", folder)
    assert done.exit_code == 0, done.output
    assert "no fall" in done.stdout
    assert json.loads((folder / "autopsy.json").read_text())["falls"] == []


def test_a_run_that_is_still_going_can_be_looked_at(run: Path, tmp_path: Path) -> None:
    going = shutil.copytree(run, tmp_path / "a")
    for name in ("summary.json", "model.npz"):
        (going / name).unlink()
    assert fedray("autopsy", going).exit_code == 0


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    assert "not a run folder" in refused(tmp_path)
    assert "no such folder" in refused(tmp_path / "nowhere")


def test_versions_that_were_not_made_are_refused(run: Path) -> None:
    assert "--at: 26" in refused(run, "--at", "26")
    assert "1 to 25" in refused(run, "--at", "0")
    assert "--top" in refused(run, "--top", "0")


def test_estimators_without_gradients_are_refused(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "data: {source: iris}\npartition: {scheme: iid, clients: 4}\n"
        "model: {kind: sklearn, estimator: sklearn.linear_model.SGDClassifier}\n"
        "server: {rounds: 4}\nruntime: {executor: local}\noutput: {report: false}\n"
    )
    folder = tmp_path / "a"
    assert fedray("launch", config, "--out", folder).exit_code == 0
    assert "model.kind: sklearn" in refused(folder, "--at", "2")


def test_data_that_is_gone_is_named(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    rows = [f"{x},{x * x % 7},{x % 3}" for x in range(120)]
    table.write_text("\n".join(["a,b,y", *rows]))
    config = tmp_path / "config.yaml"
    config.write_text(
        f"data: {{source: csv, path: {table}}}\n"
        "partition: {scheme: iid, clients: 4}\n"
        "server: {rounds: 5}\nruntime: {executor: local}\noutput: {report: false}\n"
    )
    assert fedray("launch", config, "--out", tmp_path / "a").exit_code == 0
    table.unlink()
    assert "table.csv" in refused(tmp_path / "a", "--at", "2")


def test_a_run_that_diverged_is_no_trouble(tmp_path: Path) -> None:
    folder = launched(
        tmp_path / "a", model__kind="mlp", client__lr="1", server__optimizer__lr="100",
        server__rounds="8",
    )  # fmt: skip
    for version in range(1, 9):
        done = fedray("autopsy", folder, "--at", version)
        assert done.exit_code == 0, done.output
    assert "diverged" in done.output
