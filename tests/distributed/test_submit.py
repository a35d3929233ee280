"""Jobs on a cluster that is only reached through its jobs port."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from jobs_head import jobs_head

import fedray
from fedray.api.launch import Interrupted, Watcher
from fedray.cli import cli
from fedray.report.diagnosis.reader import Diagnosis
from fedray.report.run import Run
from fedray.report.storage import Store
from fedray.report.sweep.reader import Sweep
from fedray.simulation import checkpoint

pytestmark = [
    pytest.mark.ray,
    # Of Ray's own call into aiohttp.
    pytest.mark.filterwarnings("ignore:.*ssl=True:DeprecationWarning"),
]

ROOT = Path(__file__).parents[2]
Fedray = Callable[..., Result]
TINY = ["--set", "data.source=iris", "--set", "partition.clients=4", "--set", "server.rounds=3",
        "--set", "server.schedule.concurrency=4", "--set", "output.report=false"]  # fmt: skip
HERE = ["--set", "runtime.executor=local"]


@pytest.fixture(scope="module")
def head() -> Iterator[dict[str, str]]:
    with jobs_head() as environment:
        yield environment


@pytest.fixture
def run(head: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fedray:
    """Calls fedray where the environment leads to the cluster."""
    for name, value in head.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(cli, [str(each) for each in arguments])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder: a table, what devices there are, and an estimator of their own."""
    folder = tmp_path / "project"
    folder.mkdir()
    rows = [f"{i % 7 - 3},{i % 5 - 2},{int(i % 7 + i % 5 > 4)},site{i % 4}" for i in range(80)]
    (folder / "t.csv").write_text("\n".join(["a,b,y,site", *rows]))
    (folder / "d.csv").write_text(
        "\n".join(["client,duration_s", *(f"site{i},1.{i}" for i in range(4))])
    )
    (folder / "homemade.py").write_text(
        "from sklearn.linear_model import SGDClassifier\n\n\n"
        "class Homemade(SGDClassifier):\n    pass\n"
    )
    (folder / "own.yaml").write_text(
        "name: own\n"
        "data: {source: csv, path: t.csv, label: y, client_column: site}\n"
        "partition: {scheme: natural}\n"
        "model: {kind: sklearn, estimator: homemade.Homemade, params: {loss: log_loss}}\n"
        "server: {rounds: 3}\n"
        "devices: {table: d.csv}\n"
        "runtime: {clients_per_actor: 4}\n"
        "output: {report: false}\n"
    )
    return folder


def test_a_submitted_launch_comes_back_with_the_bits_of_a_local_one(
    run: Fedray, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ["--module", project / "homemade.py"]
    done = run("submit", project / "own.yaml", *module, "--json", "--out", "there")
    assert (done.exit_code, done.exception) == (0, None), done.stderr
    there = Run("there")
    assert json.loads(done.stdout) == there.summary
    assert there.summary["executor"]["kind"] == "ray"
    for line in ("own: fedavg, sync, 3 versions; t.csv, ", "run folder: there\n", "version 3/3 · "):
        assert line in done.stderr
    monkeypatch.syspath_prepend(project)
    here = fedray.launch(project / "own.yaml", **{"runtime.executor": "local"})
    assert (there.path / "model.npz").read_bytes() == (here.path / "model.npz").read_bytes()
    for name in ("rounds", "updates", "clients"):
        mine, theirs = (getattr(each, name).to_pandas() for each in (here, there))
        mine, theirs = (
            each.drop(columns="wall_time_s", errors="ignore") for each in (mine, theirs)
        )
        assert mine.equals(theirs), name
    assert {**there.config, "runtime": {}} == {**here.config, "runtime": {}}  # paths, too
    assert there.config["data"]["path"] == str(project / "t.csv")


def test_a_job_is_detached_from_followed_stopped_and_fetched(
    run: Fedray, head: dict[str, str]
) -> None:
    endless = ["--set", "server.rounds=1000000", "--set", "checkpoint.every=5"]
    sent = run("submit", *TINY, *HERE, *endless, "--detach", "--name", "long")
    assert (sent.exit_code, sent.stdout) == (0, "long\n"), sent.stderr
    for command in ("logs long --follow", "stop long", "fetch long --out runs/long"):
        assert f"fedray {command}\n" in sent.stderr

    following = subprocess.Popen(
        [sys.executable, "-m", "fedray", "logs", "long", "--follow"],
        env={**os.environ, **head, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert following.stderr is not None
    next(line for line in following.stderr if line.startswith("version "))
    following.send_signal(signal.SIGINT)
    out, rest = following.communicate(timeout=60)
    assert (following.returncode, out) == (130, "")
    assert "detached; long goes on\n  follow  fedray logs long --follow\n" in rest

    early = run("fetch", "long", "--out", "early")
    assert (early.exit_code, early.stderr) == (
        2, "error: long is still running; wait for its end, or stop it\n",
    )  # fmt: skip
    assert not Path("early").exists()
    stopped = run("stop", "long")
    assert stopped.exit_code == 0
    assert "long has ended: stopped\n" in stopped.stderr
    listed = json.loads(run("jobs", "--json").stdout)
    assert [(job["kind"], job["status"]) for job in listed if job["job"] == "long"] == [
        ("launch", "STOPPED")
    ]
    again = run("logs", "long", "--follow")
    assert again.exit_code == 130
    assert "long was stopped, with a checkpoint\n" in again.stderr

    fetched = run("fetch", "long")
    assert fetched.exit_code == 0
    assert "continue it here with: fedray launch --resume runs/long\n" in fetched.stderr
    snapshot, complaints = checkpoint.load_newest(Path("runs/long/checkpoints"))
    assert snapshot is not None
    assert complaints == []
    assert max(Run("runs/long").rounds["version"].to_pylist()) == snapshot.version


@pytest.mark.slow
def test_sweeps_and_diagnoses_are_submitted(run: Fedray, options: str) -> None:
    varied = ["--set", "sweep.grid.client.lr=[0.1, 0.2]"]
    alone = ["--max-concurrent", "1"]  # one actor for both
    into = f"s3://bucket/swept{options}"
    swept = run("submit", "--sweep", *TINY, *varied, *alone, "--out", into)
    assert swept.exit_code == 0, swept.stderr
    assert "2 trials: 2 settings\n" in swept.stderr
    assert "lr 0.1" in swept.stdout
    assert f"folder  {into}\n" in swept.stdout
    assert [trial["status"] for trial in Sweep(into).trials.to_pylist()] == ["finished"] * 2

    # A Python without Ray, as `python` is where a cluster's environment is not activated.
    other = ["--python", getattr(sys, "_base_executable", sys.executable)]
    found = run("submit", "--diagnose", "--seeds", "1", *TINY, *HERE, *other, "--out", "why")
    assert found.exit_code == 0, found.stderr
    assert "arms: 16 per seed" in found.stderr
    local = fedray.diagnose(
        None, [each for each in TINY if "=" in each], seeds=1, out="local",
        **{"runtime.executor": "local"},
    )  # fmt: skip
    assert Diagnosis("why").findings["level"] == local.findings["level"]


def test_a_launch_writes_to_other_storage_by_itself(run: Fedray, options: str) -> None:
    into = ["--set", f"output.dir=s3://bucket/runs{options}"]
    done = run("submit", *TINY, *HERE, *into, "--name", "away")
    assert done.exit_code == 0, done.stderr
    assert f"run folder      s3://bucket/runs/away{options}" in done.stdout
    assert "model.npz" in Store(f"s3://bucket/runs/away{options}").names()
    fetched = run("fetch", "away")
    assert fetched.exit_code == 2
    assert "away has its results at s3://bucket/runs/away" in fetched.stderr


def test_what_was_left_at_a_uri_is_gone_on_with_there(
    run: Fedray, options: str, tmp_path: Path
) -> None:
    class Impatient(Watcher):
        def progress(self, progress: Any) -> None:
            if progress.version == 2:
                raise KeyboardInterrupt

    uri, changes = f"s3://bucket/left{options}", [each for each in TINY + HERE if "=" in each]
    changes.append("checkpoint.every=1")
    with pytest.raises(Interrupted):
        fedray.launch(None, changes, out=uri, watcher=Impatient())
    done = run("submit", "--resume", uri, "--set", "output.report=true")
    assert done.exit_code == 0, done.stderr
    assert "resuming from the checkpoint of version 1\n" in done.stderr
    assert f"run folder      {uri}" in done.stdout
    left, here = Run(uri), fedray.launch(None, changes, out=tmp_path / "here")
    assert (left.path / "report.html").exists()
    assert (left.path / "model.npz").read_bytes() == (here.path / "model.npz").read_bytes()
    assert left.updates == here.updates
    again = run("submit", "--resume", uri)
    assert again.exit_code == 2
    assert "is finished; there is nothing to resume" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["submit", "nope.yaml"], "nope.yaml: no such file"),
        (["submit", "--set", "client.lr=0"], "client.lr: must be a number > 0, not 0"),
        (["submit", "--set", "sweep.seeds=2"], "sweep: makes this a sweep; submit it with --sweep"),
        (["submit", "s3://b/a", "--diagnose"], "s3://b/a is a folder; only a configuration can be"),
        (["submit", "--resume", "a"], "--resume: a is no URI, which the cluster could go on from"),
        (["submit", "x.yaml", "--resume", "s3://b/a"], "--resume: takes neither a configuration"),
        (["submit", "--seeds", "3"], "--seeds: has no effect without --diagnose"),
        (["submit", "--module", "x.py"], "--module: x.py: no such file or folder"),
        (["submit", "--name", "a/b"], "--name: 'a/b' is not allowed; letters, digits"),
        (["submit", "--out", "."], "--out: . exists and is not an empty folder"),
        (["submit", "--address", "127.0.0.1:9"], "--address: '127.0.0.1:9' does not begin with"),
        (["jobs", "--address", "http://127.0.0.1:1"], "--address: no Ray takes jobs at http://"),
        (["logs", "nobody"], "no job 'nobody' at http://127.0.0.1:"),
        (["stop", "nobody"], "no job 'nobody' at http://127.0.0.1:"),
        (["fetch", "nobody"], "no job 'nobody' at http://127.0.0.1:"),
    ],
)
def test_bad_input_is_one_line(run: Fedray, arguments: list[str], complaint: str) -> None:
    Path("something").touch()  # so that the folder is not empty
    done = run(*arguments)
    last = done.stderr.splitlines()[-1]
    assert (done.exit_code, done.stdout) == (2, "")
    assert last.startswith(f"error: {complaint}"), last


def test_a_token_is_asked_for(run: Fedray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text()
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    monkeypatch.delenv("RAY_AUTH_MODE")
    monkeypatch.setenv("HOME", str(tmp_path))  # where Ray might find one
    without = run("jobs")
    assert without.exit_code == 2
    assert "wants a token; give it as RAY_AUTH_TOKEN" in without.stderr
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    assert "does not accept the token" in run("jobs").stderr
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    assert run("jobs").exit_code == 0


def test_what_goes_wrong_there_is_said_here(run: Fedray, project: Path) -> None:
    sent = ["submit", *TINY, *HERE, "--detach", "--name", "nowhere"]
    assert run(*sent, "--python", "python-of-nobody").exit_code == 0  # while the next one starts
    own = project / "own.yaml"
    own.write_text(own.read_text().replace("runtime: {clients_per_actor: 4}", ""))
    (project / "t.csv").rename(project / "elsewhere.csv")
    gone = run("submit", own, *HERE, "--shared", "--module", project / "homemade.py")
    assert gone.exit_code == 2
    assert gone.stderr.splitlines()[-1].startswith("error: data.path: no such file or folder: ")
    nowhere = run("logs", "nowhere", "--follow")
    assert nowhere.exit_code == 1
    assert "the cluster has no 'python-of-nobody' on its path" in nowhere.stderr.splitlines()[-1]
