"""What is said of a machine, and what a run on it would come to, before anything starts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

import fedray
from fedray.api.launch import launch
from fedray.cli import cli
from fedray.config.load import load
from fedray.distributed import checkup, machine
from fedray.distributed.checkup import machine_findings
from fedray.distributed.preflight import memory, room
from fedray.errors import InputError
from fedray.simulation.plan import Plan, build_plan
from fedray.types import Federation

MIB = 1 << 20
SMALL: dict[str, Any] = {
    "data.source": "blobs",
    "data.samples": 300,
    "data.dimensions": 2,
    "partition.clients": 12,
    "server.rounds": 10,
    "server.schedule.concurrency": 4,
    "server.schedule.buffer_size": 2,
    "output.report": False,
}


@pytest.fixture(autouse=True)
def well(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that nothing is wrong with, whatever this one is like."""
    for name, value in {
        "cores": 4, "load": 0.5, "available_bytes": 16_000 * MIB, "memory_limit_bytes": None,
        "cpu_limit": None, "shared_bytes": 8000 * MIB, "open_files": 65536, "rays": [],
    }.items():  # fmt: skip
        monkeypatch.setattr(machine, name, lambda value=value: value)


def found(actors: int = 4, cpus: int | None = None) -> dict[str, Any]:
    return {each.what: each for each in machine_findings(actors, cpus)}


def test_nothing_is_wrong_with_a_machine_that_is_well() -> None:
    known = found()
    assert {each.level for each in known.values()} == {"ok"}
    assert set(known) == {
        "cores", "memory", "packages", "shared memory", "open files", "other Rays",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("what", "as_it_is", "said"),
    [
        ("cores", {"load": 9.3}, "9.3 processes want one"),
        ("memory", {"available_bytes": 800 * MIB}, "800 MiB are available"),
        ("shared memory", {"shared_bytes": 64 * MIB}, "/dev/shm has 64 MiB"),
        ("open files", {"open_files": 256}, "256 are allowed, and 4 actors take 696"),
        ("other Rays", {"rays": [17, 23]}, "2 on this machine (process 17, 23)"),
    ],
)
def test_what_is_wrong_is_a_warning_with_its_figures_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, what: str, as_it_is: dict[str, Any], said: str
) -> None:
    for name, value in as_it_is.items():
        monkeypatch.setattr(machine, name, lambda value=value: value)
    known = found()
    assert [each.what for each in known.values() if each.level != "ok"] == [what]
    assert said in known[what].text
    assert known[what].advice


def test_more_cores_than_there_are_and_limits_of_a_container(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert found(cpus=4)["cores"].level == "ok"
    assert "runtime.cpus asks for 5" in found(cpus=5)["cores"].text
    monkeypatch.setattr(machine, "cpu_limit", lambda: 2.5)
    monkeypatch.setattr(machine, "memory_limit_bytes", lambda: 2000 * MIB)
    assert "a container's limit of 2.5" in found()["cores"].text
    assert "a container's limit of 2,000 MiB" in found()["memory"].text


def test_packages_that_are_not_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["numpy>=99", "nowhere-to-be-found>=1", "optuna>=99; extra == 'sweep'", "click"]
    monkeypatch.setattr(checkup, "requires", lambda _: wanted)
    known = found()["packages"]
    assert known.level == "warning"
    assert "is not >=99; nowhere-to-be-found is missing" in known.text
    assert "optuna" not in known.text


def test_limits_are_read_where_the_kernel_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    assert (machine.memory_limit_bytes(), machine.cpu_limit()) == (None, None)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert (machine.memory_limit_bytes(), machine.cpu_limit()) == (None, None)
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert (machine.memory_limit_bytes(), machine.cpu_limit()) == (1000, 1.5)
    assert machine.open_files() > 0
    assert machine.load() >= 0


def test_of_a_run_it_says_what_it_needs_and_how_long_it_takes() -> None:
    known = fedray.doctor(**SMALL)
    assert known.fits
    assert known.needs is not None
    assert known.needs["actors"] == 12
    took = known.needs["computing"]
    more = fedray.doctor(**{**SMALL, "server.rounds": 1000}).needs
    assert more is not None
    assert 0 < took["job_s"] < took["total_s"] < more["computing"]["total_s"]
    assert known.needs["disk_bytes"] < more["disk_bytes"]
    assert fedray.doctor().needs is None


def test_of_what_clients_remember_only_those_count_that_can_train() -> None:
    def built(algorithm: str, clients: int, rounds: int = 3) -> tuple[Plan, Federation]:
        given = {"algorithm": algorithm, "partition.clients": clients, "server.rounds": rounds,
                 "server.schedule": {"mode": "sync"}, "server.clients_per_round": 2,
                 "data.source": "wine"}  # fmt: skip
        loaded = load(None, given)
        return build_plan(loaded.config, loaded.base_dir)

    def disk(*asked: Any) -> int:
        return room(built(*asked)[0], None)

    def actors(algorithm: str) -> int:
        return int(memory(*built(algorithm, 15), 2)["actors_bytes"])

    assert disk("scaffold", 60) == disk("scaffold", 15)
    row = 42 * 4  # parameters of softmax regression on wine, in single precision
    assert disk("fedvarp", 15) - disk("fedavg", 15) == 3 * 6 * row
    assert disk("fedvarp", 15, 300) - disk("fedavg", 15, 300) == 3 * 15 * row
    # An actor keeps a client's memories of its last job and of the one before.
    assert actors("scaffold") - actors("fedavg") == 2 * 6 * row


def test_on_the_wall_clock_nobody_knows_how_long_it_takes() -> None:
    given = {**SMALL, "clock": "wall", "runtime.executor": "ray"}
    needs = fedray.doctor(**given).needs
    assert needs is not None
    assert needs["computing"]["total_s"] is None


@pytest.mark.parametrize("what", ["memory", "disk"])
def test_what_cannot_fit_is_refused_with_the_numbers_and_the_setting_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "memory":
        monkeypatch.setattr(machine, "available_bytes", lambda: 900 * MIB)
        said = (
            "runtime.clients_per_actor: about 1,218 MiB of memory are needed (client actors 768, "
            "server 130, object store 0, Ray 320) and 900 MiB are available; put more clients into"
        )
    else:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0, total=0))
        said = "output.dir: about 1 MiB are needed and 0 MiB are free in"
    with pytest.raises(InputError) as caught:
        launch(None, out=tmp_path / "a", **SMALL)
    assert str(caught.value).startswith(said), str(caught.value)
    assert list(tmp_path.iterdir()) == []
    arguments = [part for k, v in SMALL.items() for part in ("--set", f"{k}={json.dumps(v)}")]
    done = CliRunner().invoke(cli, ["doctor", *arguments, "--json"])
    assert done.exit_code == 2
    facts = json.loads(done.stdout)
    assert not facts["fits"]
    assert said in facts["findings"][-1]["text"]


def test_a_run_in_one_process_needs_no_actors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_bytes", lambda: 900 * MIB)
    known = fedray.doctor(**{**SMALL, "runtime.executor": "local"})
    assert known.fits
    assert {each.what for each in known.findings} == {"cores", "memory", "packages", "this run"}


def test_on_the_command_line() -> None:
    done = CliRunner().invoke(cli, ["doctor"])
    assert done.exit_code == 0
    assert done.stdout.startswith("ok  cores")
    assert "none on this machine" in done.stdout
    wrong = CliRunner().invoke(cli, ["doctor", "nowhere.yaml"])
    assert (wrong.exit_code, wrong.stderr.count("\n")) == (2, 1)
    plan = CliRunner().invoke(cli, ["plan", "--json"])
    assert json.loads(plan.stdout)["computing"]["total_s"] > 0
