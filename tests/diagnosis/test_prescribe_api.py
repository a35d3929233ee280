"""fedray.diagnose(prescribe=True): what ends up in the folder, and how it goes on after a break."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import fedray
from fedray.api.diagnose import Watcher
from fedray.api.launch import Interrupted
from fedray.cli import cli
from fedray.diagnosis.remedies.trials import trial
from fedray.errors import InputError
from fedray.report.diagnosis.reader import PRESCRIPTION

CONFIG: dict[str, Any] = {
    "name": "small",
    "seed": 3,
    "data": {"source": "blobs", "samples": 240, "dimensions": 3, "spread": 4.0},
    "partition": {"scheme": "dirichlet", "clients": 6, "alpha": 0.3},
    "client": {"steps": 4, "batch_size": 8, "lr": 0.05},
    "server": {
        "rounds": 8,
        "schedule": {"mode": "buffered", "concurrency": 4, "buffer_size": 2},
    },
    "output": {"report": False},
    "runtime": {"executor": "local"},
}


class Onlooker(Watcher):
    """Remembers how far it came, and presses Ctrl-C after so many trials."""

    def __init__(self, patience: int = 10**9) -> None:
        self.notes: list[str] = []
        self.shares: list[float] = []
        self.trials: list[int] = []
        self._patience, self._arms = patience, True

    def note(self, text: str) -> None:
        self.notes.append(text)

    def computing(self, what: str, tasks: int, done: int, share: float) -> None:
        self._arms = what == "arms"

    def progress(self, done: int, share: float) -> None:
        if self._arms:
            return
        self.trials.append(done)
        self.shares.append(share)
        if len(self.trials) == self._patience:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Onlooker]:
    """A diagnosis with a prescription that nobody disturbs."""
    folder, onlooker = tmp_path_factory.mktemp("prescriptions") / "whole", Onlooker()
    fedray.diagnose(CONFIG, seeds=2, out=folder, prescribe=True, watcher=onlooker)
    return folder, onlooker


def test_the_prescription_is_about_the_diagnosis(whole: tuple[Path, Onlooker]) -> None:
    found = fedray.Diagnosis(whole[0])
    prescribed = found.prescription
    assert prescribed is not None
    assert prescribed["seeds"] == found.findings["seeds"] == [3, 4]
    assert prescribed["budget_updates"] == found.findings["updates"] == 16
    assert prescribed["rungs"][0]["tried"] > 20
    assert len(prescribed["ranking"]) >= 6
    names = [
        one["name"]
        for part in ("ranking", "dropped", "diverged")
        for one in prescribed[part]
    ]  # fmt: skip
    assert len(set(names)) == len(names) == prescribed["tried"]
    recovered = [one["recovered"]["value"] for one in prescribed["ranking"]]
    assert recovered == sorted(recovered, reverse=True)


def test_the_bar_gets_to_its_end_and_never_back(whole: tuple[Path, Onlooker]) -> None:
    _, onlooker = whole
    assert onlooker.notes == []
    assert onlooker.trials == sorted(set(onlooker.trials))
    assert onlooker.shares == sorted(onlooker.shares)
    assert onlooker.shares[-1] == 1.0


@pytest.mark.parametrize("patience", [40])
def test_an_interrupted_one_goes_on_and_comes_to_the_same(
    patience: int, whole: tuple[Path, Onlooker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "broken-off"
    with pytest.raises(Interrupted):
        fedray.diagnose(CONFIG, seeds=2, out=folder, prescribe=True, watcher=Onlooker(patience))
    trained: list[bool] = []

    def counted(study: Any, config: Any, updates: int, train: bool) -> Any:
        trained.append(train and config is not None)
        return trial(study, config, updates, train)

    monkeypatch.setattr("fedray.api.prescribe.trial", counted)
    fedray.diagnose(resume=folder)
    expected = (whole[0] / PRESCRIPTION).read_text().replace(str(whole[0]), str(folder))
    assert (folder / PRESCRIPTION).read_text() == expected
    assert any(trained)
    assert trained.count(False) >= patience  # kept ones, and what the run itself costs


def test_a_finished_diagnosis_can_get_its_prescription_later(
    whole: tuple[Path, Onlooker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No arm is computed again, a break is survived, and what comes of it is the same."""
    folder = tmp_path / "later"
    fedray.diagnose(CONFIG, seeds=2, out=folder)
    before = (folder / "diagnosis.json").read_bytes()
    with pytest.raises(InputError, match=r"--prescribe; for a new one use --out$"):
        fedray.diagnose(resume=folder)
    monkeypatch.setattr("fedray.api.diagnose._attribute", None)
    with pytest.raises(Interrupted):
        fedray.diagnose(resume=folder, prescribe=True, watcher=Onlooker(9))
    fedray.diagnose(resume=folder)
    expected = (whole[0] / PRESCRIPTION).read_text().replace(str(whole[0]), str(folder))
    assert (folder / PRESCRIPTION).read_text() == expected
    assert (folder / "diagnosis.json").read_bytes() == before
    for prescribe in (False, True):
        with pytest.raises(InputError, match="has a finished diagnosis and prescription: see"):
            fedray.diagnose(resume=folder, prescribe=prescribe)


def test_without_being_asked_nothing_is_tried(tmp_path: Path) -> None:
    found = fedray.diagnose(CONFIG, seeds=1, out=tmp_path / "a")
    assert found.prescription is None


def test_on_the_command_line(tmp_path: Path) -> None:
    """--json has both files' content; without it, the words and how to run the best."""
    (tmp_path / "small.yaml").write_text(json.dumps(CONFIG))
    arguments = ["diagnose", str(tmp_path / "small.yaml"), "--seeds", "1", "--prescribe"]
    done = CliRunner().invoke(cli, [*arguments, "--json", "--out", str(tmp_path / "a")])
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    written = fedray.Diagnosis(tmp_path / "a")
    assert shown.pop("prescription") == written.prescription
    assert shown == written.findings
    done = CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / "b")])
    assert f"try     fedray launch {tmp_path / 'b' / 'config.yaml'} --set " in done.stdout
    prescribed = fedray.Diagnosis(tmp_path / "b").prescription
    assert prescribed is not None
    assert prescribed["verdict"].split(":")[0] in " ".join(done.stdout.split())
