"""Sweeps on Ray Tune: the bits of launches, whatever is killed, stopped or moved on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pyarrow.parquet as pq
import pytest

from fedray.config.schema import Runtime
from fedray.config.sweep import SweepFile, load_sweep
from fedray.distributed.draws import drawn
from fedray.distributed.session import session
from fedray.distributed.sweep import SweepProgress, run_sweep
from fedray.distributed.sweep_watch import Listener, Tally
from fedray.distributed.trial import STOPPED, Alone, Library, Metric, Spec, TrialRun
from fedray.distributed.tuning import report_versions, trial_bundles
from fedray.errors import InputError
from fedray.simulation import checkpoint

ACCURACY = Metric("accuracy", "max")
DRIVER = """
import json, sys
from pathlib import Path
from fedray.config.schema import Runtime
from fedray.config.sweep import load_sweep
from fedray.distributed.sweep import run_sweep
from fedray.endings import exit_code
tree, folder, cpus, resume = json.loads(sys.argv[1])
def watch(p):
    print(p.finished, p.failed, *(version for _, _, version, _ in p.running), flush=True)
try:
    run_sweep(load_sweep(tree), Path(folder), resume=resume, max_concurrent=None,
              runtime=Runtime(cpus=cpus), verbose=False, say=lambda _: None, watch=watch)
except KeyboardInterrupt as end:
    sys.exit(exit_code(end))
"""


def tree(rounds: int = 20, clients: int = 6, **sweep: Any) -> dict[str, Any]:
    return {
        "data": {"source": "wine"},
        "partition": {"scheme": "dirichlet", "clients": clients},
        "client": {"lr": 0.1},
        "server": {"rounds": rounds},
        "checkpoint": {"every": 5},
        "devices": {"duration": {"kind": "uniform", "low": 1, "high": 3}},
        "sweep": sweep,
    }


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    """One Ray for all tests here that can share it, which `run_sweep` then does."""
    with session(Runtime(cpus=2)):
        yield


def run(file: SweepFile, folder: Path, *, resume: bool = False) -> SweepProgress:
    """The last that is told."""
    told: list[SweepProgress] = []
    run_sweep(
        file, folder, resume=resume, max_concurrent=None, runtime=Runtime(cpus=2),
        verbose=False, say=lambda _: None, watch=told.append,
    )  # fmt: skip
    return told[-1]


def trial(folder: Path, spec: Spec, **more: Any) -> TrialRun:
    """A trial in this process."""
    return TrialRun(folder, spec, ACCURACY, library=Library({}, Path.cwd()), cast=Alone(), **more)


def flown(trial: TrialRun) -> list[tuple[int, bool]]:
    """Flies to the end; versions reported, and whether that was the end."""
    found = []
    while not found or not found[-1][1]:
        report = trial.advance()
        found.append((report.version, report.finished))
    return found


def contents(folder: Path) -> dict[str, Any]:
    """What must not depend on where, when and by whom a run was computed."""
    found: dict[str, Any] = {}
    for name in ("rounds", "updates", "clients"):
        table = pq.read_table(folder / f"{name}.parquet")
        found[name] = {c: table[c].to_pylist() for c in table.column_names if c != "wall_time_s"}
    found["model"] = (folder / "model.npz").read_bytes()
    found["config"] = (folder / "config.yaml").read_text()
    return repr(found)  # type: ignore[return-value]  # NaN is itself here


def launched(spec: Any, folder: Path) -> Any:
    """What `launch` comes to for a trial's configuration."""
    from fedray.api.launch import launch
    from fedray.config.load import dump

    launch(dump(spec.config), out=folder, **{"runtime.executor": "local", "output.report": False})
    (folder / "config.yaml").write_text(dump(spec.config))
    return contents(folder)


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


# --- without Ray --------------------------------------------------------------------------


def specs(**more: Any) -> list[Spec]:
    return list(drawn(load_sweep(tree(**{"grid": {"client.lr": [0.1]}, **more}))))


@pytest.mark.parametrize("algorithm", ["fedavg", "scaffold"])  # whose clients remember
def test_a_trial_that_is_paused_and_moved_comes_to_the_same_bits(
    tmp_path: Path, algorithm: str
) -> None:
    given = {**tree(grid={"client.lr": [0.1]}), "algorithm": algorithm}
    spec = next(iter(drawn(load_sweep(given))))
    whole = flown(trial(tmp_path / "whole", spec))
    assert whole == [(20, True)]
    here = trial(tmp_path / "here", spec, marks={7, 12}, news=False)
    assert here.advance()[:3:2] == (7, False)
    here.save(tmp_path / "saved")
    kept = [p.name for p in (tmp_path / "saved" / "checkpoints").iterdir()]
    assert [name[:10] for name in kept if name.startswith("v")] == ["v000000007"]
    assert here.advance().version == 12  # goes on after the save, and is left behind
    elsewhere = trial(tmp_path / "there", spec, marks={7, 12}, news=False)
    elsewhere.load(tmp_path / "saved")
    assert flown(elsewhere) == [(12, False), (20, True)]
    assert contents(tmp_path / "there") == contents(tmp_path / "whole")
    assert flown(here) == [(20, True)]
    assert contents(tmp_path / "here") == contents(tmp_path / "whole")


def test_a_report_has_the_scores_of_its_own_version(tmp_path: Path) -> None:
    spec = specs()[0]
    paused = trial(tmp_path, spec, marks={3, 9}, news=False)
    reports = [paused.advance(), paused.advance(), paused.advance()]
    accuracy = pq.read_table(tmp_path / "rounds.parquet")["accuracy"].to_pylist()
    assert [(r.version, r.value) for r in reports] == [(v, accuracy[v]) for v in (3, 9, 20)]


def test_an_interrupted_trial_goes_on_from_where_it_was(tmp_path: Path) -> None:
    spec = specs()[0]
    flown(trial(tmp_path / "whole", spec))
    first = trial(tmp_path / "parts", spec, marks={8}, news=False)
    first.advance()
    first.leave()
    newest = checkpoint.found(tmp_path / "parts" / "checkpoints")[0]
    assert 8 <= checkpoint.version_of(newest) <= 10
    assert not (tmp_path / "parts" / "summary.json").exists()
    again = trial(tmp_path / "parts", spec, marks={8, 15}, news=False, replay=True)
    assert flown(again) == [(8, False), (15, False), (20, True)]
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_a_finished_trial_is_not_run_again(tmp_path: Path) -> None:
    spec = specs()[0]
    flown(trial(tmp_path, spec))
    before = (tmp_path / "summary.json").read_bytes()
    assert flown(trial(tmp_path, spec, marks={5, 10})) == [(20, True)]
    again = trial(tmp_path, spec, marks={5, 10}, replay=True)
    assert flown(again) == [(5, False), (10, False), (20, True)]
    assert (tmp_path / "summary.json").read_bytes() == before  # wall_time_s is in it


@pytest.mark.parametrize("crash", [False, True])
def test_a_trial_that_is_ended_early_is_complete(tmp_path: Path, crash: bool) -> None:
    spec = specs()[0]
    flown(trial(tmp_path / "whole", spec))
    ended = trial(tmp_path / "ended", spec, marks={6}, news=False)
    ended.advance()
    (tmp_path / "ended" / STOPPED).write_text("6")
    if crash:  # the process died before it could see to it
        ended.close()
        report = trial(tmp_path / "ended", spec, marks={6}, news=False).advance()
        assert (report.version, report.finished, report.early) == (6, True, True)
    else:
        ended.leave()
    found = summary(tmp_path / "ended")
    assert (found["stopped_by"], found["rounds"]) == ("scheduler", 6)
    rounds = pq.read_table(tmp_path / "ended" / "rounds.parquet").drop_columns("wall_time_s")
    whole = pq.read_table(tmp_path / "whole" / "rounds.parquet").drop_columns("wall_time_s")
    assert repr(rounds.to_pylist()) == repr(whole.slice(0, 7).to_pylist())
    clients = pq.read_table(tmp_path / "ended" / "clients.parquet")
    assert clients["accuracy"].null_count == 0  # the final evaluation was made


def test_going_on_from_another_trials_model_is_told(tmp_path: Path) -> None:
    donor, heir = specs(grid={"client.lr": [0.1, 0.5]})
    good = trial(tmp_path / "donor", donor, marks={10}, news=False)
    good.advance()
    good.save(tmp_path / "saved")
    bad = trial(tmp_path / "heir", heir, marks={10}, news=False)
    bad.advance()
    bad.load(tmp_path / "saved")
    flown(bad)
    facts = json.loads((tmp_path / "heir" / "trial.json").read_text())
    assert (facts["id"], facts["settings"]) == ("t0001", {"client.lr": 0.5, "seed": 0})
    assert facts["history"] == [
        {"id": "t0000", "until": 10, "settings": {"client.lr": 0.1, "seed": 0}}
    ]
    flown(good)
    rows = {
        name: pq.read_table(tmp_path / name / "rounds.parquet")["loss"].to_pylist()
        for name in ("donor", "heir")
    }
    assert rows["donor"][:11] == rows["heir"][:11]
    assert rows["donor"][11:] != rows["heir"][11:]
    assert "lr: 0.5" in (tmp_path / "heir" / "config.yaml").read_text()


def test_what_was_complete_before_a_scheduler_ends_it_again_counts_as_it_is(tmp_path: Path) -> None:
    class Told:  # of Tune's trial, what is looked at
        last_result: ClassVar[dict[str, Any]] = {
            "version": 5, "value": 2.0, "known": True, "finished": False, "early": False,
        }  # fmt: skip

        def __str__(self) -> str:
            return "t0000"

    flown(trial(tmp_path / "t0000", specs()[0]))
    told: list[SweepProgress] = []
    tally = Tally(1, ACCURACY, told.append)
    Listener(tmp_path, tally, {}).on_trial_complete(0, [], Told())
    tally.tell(now=True)
    assert (told[-1].finished, told[-1].stopped_early) == (1, 0)
    assert not (tmp_path / "t0000" / STOPPED).exists()
    assert told[-1].best == ("t0000", summary(tmp_path / "t0000")["final"]["accuracy"])


def test_draws_are_the_same_beside_every_setting_and_within_their_bounds() -> None:
    space = {
        "client.lr": {"loguniform": [1e-3, 1.0]},
        "client.epochs": {"randint": [1, 3]},
        "client.batch_size": {"lograndint": [2, 32]},
        "partition.severity": {"uniform": [0.2, 0.4]},
        "server.weighting": {"choice": ["examples", "uniform"]},
    }
    grid = {"algorithm": ["fedavg", "fedprox"]}
    file = load_sweep(tree(grid=grid, search=space, samples=40, seeds=2))
    found = list(drawn(file))
    assert (
        [s.id for s in found]
        == [f"t{i:04d}" for i in range(160)]
        == sorted({*(s.id for s in found)})
    )
    settings = [{k: v for k, v in s.settings.items() if k != "algorithm"} for s in found]
    assert settings[:80] == settings[80:]
    assert [s.seed for s in found[:4]] == [0, 1, 0, 1]
    assert len({s.settings["client.lr"] for s in found}) == 40
    values = {key: {s.settings[key] for s in found} for key in space}
    assert values["client.epochs"] == {1, 2, 3}
    assert values["server.weighting"] == {"examples", "uniform"}
    assert min(values["client.batch_size"]) >= 2
    assert max(values["client.batch_size"]) <= 32
    low = sum(lr < 10**-1.5 for lr in values["client.lr"])
    assert 10 <= low <= 30  # binomial(40, 1/2) leaves this less than once in 1000
    assert list(drawn(file)) == found


def test_what_a_trial_asks_of_ray_always_fits() -> None:
    def file(actors: int) -> SweepFile:
        return load_sweep(tree(clients=20_000, grid={"client.lr": [0.1]}, actors_per_trial=actors))

    assert trial_bundles([2.0], file(0)) == [{"CPU": 1.0}]
    with pytest.raises(InputError, match="whole one"):
        trial_bundles([0.5, 0.5], file(0))
    for cpus in ([1.0], [2.0], [1.0, 1.0, 4.0], [16.0]):
        for actors in (1, 2, 3, 7, 40):
            server, *clients = [bundle["CPU"] for bundle in trial_bundles(cpus, file(actors))]
            assert len(clients) == actors
            assert len(set(clients)) == 1
            room = [max(cpus) - server, *sorted(cpus)[:-1]]
            assert sum(int(each / clients[0] + 1e-9) for each in room) >= actors
            assert clients[0] <= 1
    assert trial_bundles([4.0], file(2))[1]["CPU"] == 0.99
    with pytest.raises(InputError, match="do not fit"):
        trial_bundles([0.0], file(2))
    with pytest.raises(InputError, match="20000 client actors and a server do not fit"):
        trial_bundles([2.0], file(20_000))


def test_reports_are_where_a_scheduler_decides() -> None:
    def versions(every: int = 1, **sweep: Any) -> list[int]:
        given = tree(rounds=100, search={"client.lr": {"uniform": [0.1, 1]}}, samples=2, **sweep)
        return sorted(report_versions(load_sweep({**given, "eval": {"every": every}})))

    assert versions() == []
    assert versions(scheduler="asha", grace=5) == [5, 20, 80]
    assert versions(scheduler="asha", grace=5, every=3) == [6, 21, 81]
    assert versions(scheduler="pbt", grace=30) == [30, 60, 90]
    assert versions(scheduler="median", grace=20) == list(range(20, 101, 5))


# --- with Ray -------------------------------------------------------------------------------


@pytest.mark.ray
def test_a_grid_of_45_is_what_launches_of_the_same_settings_are(
    ray_session: None, tmp_path: Path
) -> None:
    modes = ["sync", "async", "buffered"]
    grid = {"partition.severity": [0.1, 0.3, 0.5, 0.7, 0.9], "server.schedule.mode": modes}
    given = tree(rounds=8, clients=8, grid=grid, seeds=3)
    given["server"]["schedule"] = {"mode": "sync"}
    file = load_sweep(given)
    last = run(file, tmp_path / "sweep")
    assert (last.total, last.finished, last.failed, last.running) == (45, 45, 0, [])
    values = {}
    for spec in file.trials():
        folder = tmp_path / "sweep" / "trials" / spec.id
        assert contents(folder) == launched(spec, tmp_path / spec.id), spec.settings
        assert not (folder / "report.html").exists()
        values[spec.id] = summary(folder)["final"]["accuracy"]
    assert last.best is not None
    assert last.best[1] == max(values.values()) == values[last.best[0]]
    assert {p.name for p in (tmp_path / "sweep").iterdir()} == {"trials"}


@pytest.mark.ray
def test_client_actors_of_a_trial_change_no_bit(ray_session: None, tmp_path: Path) -> None:
    grid = {"client.lr": [0.1, 0.5], "partition.clients": [4, 6]}
    file = load_sweep(tree(grid=grid, actors_per_trial=3))  # more than cores
    assert run(file, tmp_path / "sweep").finished == 4
    for spec in file.trials():
        folder = tmp_path / "sweep" / "trials" / spec.id
        assert contents(folder) == launched(spec, tmp_path / spec.id), spec.settings
        assert summary(folder)["executor"]["actors"] == 3


@pytest.mark.ray
def test_asha_ends_what_cannot_learn(ray_session: None, tmp_path: Path) -> None:
    lrs = [0.5, 1e-9, 0.4, 1e-8, 1e-7]
    file = load_sweep(tree(grid={"client.lr": lrs}, scheduler="asha", grace=4))
    last = run(file, tmp_path)
    found = [summary(tmp_path / "trials" / spec.id) for spec in file.trials()]
    assert [f["stopped_by"] for f in found][::2] == ["rounds", "rounds", "scheduler"]
    ends = [f["rounds"] for f in found if f["stopped_by"] == "scheduler"]
    assert ends
    assert set(ends) == {4}
    assert (last.stopped_early, last.finished) == (len(ends), 5 - len(ends))
    kept = {p: p.read_bytes() for p in tmp_path.glob("trials/*/summary.json")}
    again = run(file, tmp_path, resume=True)
    assert again[2:5] == last[2:5]
    assert {p: p.read_bytes() for p in tmp_path.glob("trials/*/summary.json")} == kept


@pytest.mark.ray
def test_a_population_ends_with_a_lineage(ray_session: None, tmp_path: Path) -> None:
    space = {"client.lr": {"loguniform": [1e-7, 1.0]}}
    file = load_sweep(tree(search=space, samples=4, scheduler="pbt", grace=4))
    assert run(file, tmp_path).finished == 4
    facts = [json.loads(p.read_text()) for p in sorted(tmp_path.glob("trials/*/trial.json"))]
    assert [f["id"] for f in facts] == ["t0000", "t0001", "t0002", "t0003"]
    heirs = [f for f in facts if "history" in f]
    assert heirs
    for each in heirs:
        assert each["history"][-1]["until"] % 4 == 0
        assert 1e-7 <= each["settings"]["client.lr"] <= 1.0
    whole = {p: pq.read_table(p) for p in tmp_path.glob("trials/*/rounds.parquet")}
    assert {table.num_rows for table in whole.values()} == {21}
    heir = tmp_path / "trials" / heirs[0]["id"]  # resumed as what it has become
    before = contents(heir)
    (heir / "summary.json").unlink()
    assert run(file, tmp_path, resume=True).finished == 4
    assert contents(heir) == before
    assert json.loads((heir / "trial.json").read_text()) == heirs[0]


@pytest.mark.ray
def test_optuna_asks_for_settings_and_hears_the_mean_of_seeds(
    ray_session: None, tmp_path: Path
) -> None:
    pytest.importorskip("optuna")
    space = {"client.lr": {"loguniform": [1e-4, 1.0]}, "client.epochs": {"randint": [1, 2]}}
    file = load_sweep(tree(search=space, samples=3, seeds=2, searcher="optuna"))
    assert run(file, tmp_path).finished == 6
    facts = [json.loads(p.read_text()) for p in sorted(tmp_path.glob("trials/*/trial.json"))]
    assert [(f["id"], f["setting"], f["seed"]) for f in facts] == [
        (f"t{i:04d}", i // 2, i % 2) for i in range(6)
    ]
    lrs = [f["settings"]["client.lr"] for f in facts]
    assert lrs[::2] == lrs[1::2]
    assert len(set(lrs)) == 3
    # As if it had been killed before t0002 was through, and before t0003 and t0005 began.
    kept = {name: (tmp_path / "trials" / name / "summary.json").read_bytes()
            for name in ("t0000", "t0001", "t0004")}  # fmt: skip
    (tmp_path / "trials" / "t0002" / "summary.json").unlink()
    for name in ("t0003", "t0005"):
        shutil.rmtree(tmp_path / "trials" / name)
    assert run(file, tmp_path, resume=True).finished == 6
    again = [json.loads(p.read_text()) for p in sorted(tmp_path.glob("trials/*/trial.json"))]
    assert again == facts
    for name, content in kept.items():
        assert (tmp_path / "trials" / name / "summary.json").read_bytes() == content


@pytest.mark.ray
def test_a_dead_worker_is_replaced_and_a_hopeless_trial_kept(
    ray_session: None, tmp_path: Path
) -> None:
    # Long enough to be caught in the middle.
    given = tree(rounds=1500, grid={"partition.clients": [6, 4, 5000]}, retries=1)
    file = load_sweep(given)
    killed: list[int] = []
    told: list[SweepProgress] = []

    def watch(progress: SweepProgress) -> None:
        told.append(progress)
        folder = tmp_path / "trials" / "t0000"
        if not killed and checkpoint.found(folder / "checkpoints"):
            killed.extend(_writers_of(folder / ".lock"))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    run_sweep(
        file, tmp_path, resume=False, max_concurrent=1, runtime=Runtime(cpus=2),
        verbose=False, say=lambda _: None, watch=watch,
    )  # fmt: skip
    assert len(killed) == 1
    assert (told[-1].finished, told[-1].failed) == (2, 1)
    good, other, hopeless = file.trials()
    assert contents(tmp_path / "trials" / good.id) == launched(good, tmp_path / "launch")
    assert not (tmp_path / "trials" / good.id / "error.txt").exists()
    assert (tmp_path / "trials" / other.id / "summary.json").exists()
    first = (tmp_path / "trials" / hopeless.id / "error.txt").read_text().splitlines()[0]
    assert first.startswith("fedray.errors.InputError: partition.clients: 5000")
    assert "clients: 5000" in (tmp_path / "trials" / hopeless.id / "config.yaml").read_text()


def _writers_of(path: Path) -> list[int]:
    """Processes that have this file open."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and any(
                f.path == str(path) for f in process.open_files()
            ):
                found.append(process.pid)
    return found


def driver(given: Mapping[str, Any], folder: Path, *, cpus: int, resume: bool) -> Any:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, json.dumps([given, str(folder), cpus, resume])],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        start_new_session=True,
    )  # fmt: skip


def until(process: Any, finished: int, before: int) -> None:
    """Waits for so many finished trials, while another has begun and is far from this version."""
    for line in process.stdout:
        done, _, *versions = map(int, line.split())
        if done >= finished and any(0 < version < before for version in versions):
            return
    _, errors = process.communicate()
    raise AssertionError(f"the driver ended with {process.returncode}: {errors}")


@pytest.mark.ray
def test_after_ctrl_c_and_a_killed_driver_none_is_lost_and_none_run_twice(
    ray_session: None, tmp_path: Path
) -> None:
    given = tree(rounds=1500, grid={"client.lr": [0.1, 0.2, 0.3]}, seeds=2)
    given["checkpoint"] = {"every": 250}
    folder, file = tmp_path / "sweep", load_sweep(given)
    process = driver(given, folder, cpus=2, resume=False)
    until(process, 1, before=1200)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=180)  # two cores may have much else to do
    assert (process.returncode, errors) == (130, "")
    left = [p for p in sorted((folder / "trials").iterdir()) if not (p / "summary.json").exists()]
    assert left
    assert all(checkpoint.found(p / "checkpoints") for p in left)  # wherever they were

    kept = {p: p.read_bytes() for p in folder.glob("trials/*/summary.json")}
    process = driver(given, folder, cpus=2, resume=True)
    until(process, len(kept) + 1, before=1500)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    more = {p: p.read_bytes() for p in folder.glob("trials/*/summary.json")}
    assert len(kept) + 1 <= len(more) < 6
    assert {p: more[p] for p in kept} == kept  # wall_time_s is in it

    last = run(file, folder, resume=True)
    assert (last.finished, last.total) == (6, 6)
    assert {p: p.read_bytes() for p in more} == more
    for spec in file.trials()[2::3]:
        assert contents(folder / "trials" / spec.id) == launched(spec, tmp_path / spec.id)


@pytest.mark.ray
@pytest.mark.slow
def test_one_core_is_enough_for_trials_with_actors(tmp_path: Path) -> None:
    given = tree(grid={"client.lr": [0.1, 0.5]}, actors_per_trial=2)
    process = driver(given, tmp_path / "sweep", cpus=1, resume=False)
    out, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    assert out.splitlines()[-1] == "2 0"
    spec = replace(load_sweep(given)).trials()[1]
    assert contents(tmp_path / "sweep" / "trials" / spec.id) == launched(spec, tmp_path / "x")
