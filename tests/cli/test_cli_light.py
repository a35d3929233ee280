"""The command line itself: quick to import, one way to fail, results on stdout."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import click
import pytest
from click.testing import CliRunner

from fedray.cli import COMMANDS, cli
from fedray.config import schema
from fedray.config.load import load
from fedray.errors import FedrayError

HEAVY = ("ray", "pyarrow", "sklearn", "pydantic", "plotly", "matplotlib", "numpy", "rich", "yaml")


def test_import_and_help_pull_in_nothing_heavy() -> None:
    code = (
        "import sys; from fedray.cli import cli; cli(['--help'], standalone_mode=False); "
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_answers_quickly() -> None:
    code = "from fedray.cli import main; import sys; sys.argv = ['fedray', '--help']; main()"
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        times.append(time.perf_counter() - begin)
    assert min(times) < 1.0  # 0.1 s on an idle machine; the promise is 0.5


def test_help_lists_every_command() -> None:
    result = CliRunner().invoke(cli, ["--help"])
    assert all(f"  {name} " in result.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["lanch"], "error: no command 'lanch'; did you mean 'launch'?\n"),
        (["launch", "--ouy", "x"], "error: No such option '--ouy'"),
        (["launch", "a.yaml", "b.yaml"], "error: Got unexpected extra argument (b.yaml) ("),
        (["config", "shw"], "error: No such command 'shw'"),
    ],
)
def test_a_usage_error_is_one_line(arguments: list[str], expected: str) -> None:
    done = CliRunner().invoke(cli, arguments)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(expected)


@pytest.mark.parametrize(
    ("raised", "code", "expected"),
    [
        (FedrayError("two\nlines"), 1, "error: two lines\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, expected: str
) -> None:
    @click.command()
    def fails() -> None:
        raise raised

    monkeypatch.setattr(type(cli), "get_command", lambda *_: fails)
    result = CliRunner().invoke(cli, ["anything"])
    assert (result.exit_code, result.stderr) == (code, expected)


def test_config_show_prints_a_file_that_is_the_same_run() -> None:
    result = CliRunner().invoke(cli, ["config", "show", "--set", "client.lr=0.5"])
    assert result.exit_code == 0
    assert load(result.stdout).config == load(None, {"client.lr": 0.5}).config


def test_config_show_puts_notes_on_stderr_and_json_on_stdout() -> None:
    arguments = ["config", "show", "--json", "--set", "server.schedule.mode=sync"]
    result = CliRunner().invoke(cli, arguments)
    assert json.loads(result.stdout)["server"]["schedule"]["mode"] == "sync"
    assert result.stderr.startswith("note: server.schedule: mode sync replaces buffered")


def test_config_schema_is_json() -> None:
    result = CliRunner().invoke(cli, ["config", "schema"])
    assert "partition" in json.loads(result.stdout)["properties"]


def test_config_reference_is_markdown() -> None:
    assert CliRunner().invoke(cli, ["config", "reference"]).stdout.startswith("# Configuration\n")


def test_algorithms_are_listed_and_explained() -> None:
    assert "fedbuff" in CliRunner().invoke(cli, ["algorithms"]).stdout
    listed = json.loads(CliRunner().invoke(cli, ["algorithms", "--json"]).stdout)
    assert {one["name"] for one in listed} >= {"fedavg", "fedasync"}
    shown = CliRunner().invoke(cli, ["algorithms", "show", "fedbuff"]).stdout
    assert "Nguyen" in shown
    pasted = shown[shown.index("\nalgorithm: fedbuff") :]
    assert isinstance(load(pasted).config.server.schedule, schema.BufferedSchedule)
    unknown = CliRunner().invoke(cli, ["algorithms", "show", "fedbuf"])
    assert (unknown.exit_code, unknown.stderr.count("\n")) == (2, 1)
