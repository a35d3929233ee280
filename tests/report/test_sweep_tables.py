"""The table of a sweep's trials says what is in their folders, whatever state they are in."""

from __future__ import annotations

import json
import shutil

import pyarrow as pa
import pytest
from sweep_folder import BYTES, GRID, VERSIONS, by_severity, write_sweep

import fedray
from fedray.errors import InputError
from fedray.report.sweep.columns import TRIALS
from fedray.report.sweep.reader import Sweep
from fedray.report.sweep.rows import override
from fedray.report.sweep.settings import open_trials, short_names
from fedray.report.sweep.tables import collect, summarise

LR = {"client.lr": [0.01, 0.1, 1.0]}


def best_at_a_tenth(settings, seed):
    """0.8 at lr 0.1, 0.6 beside it; a seed above 8 is 0.01 better."""
    return (0.8 if settings["client.lr"] == 0.1 else 0.6) + 0.01 * (seed - 8)


def rows_of(path):
    return {row["id"]: row for row in collect(path).to_pylist()}


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    states = {"t0004": "failed", "t0043": "missing", "t0044": "unfinished", "t0042": "stopped"}
    path = tmp_path_factory.mktemp("s") / "grid"
    return write_sweep(path, by_severity, grid=GRID, states=states)


def test_a_row_per_trial_in_every_state(grid):
    table = collect(grid)
    assert table.num_rows == 45
    assert table.schema.names == [*TRIALS.names, "set.partition.severity", "set.algorithm"]
    assert [table.schema.field(f.name).type for f in TRIALS] == TRIALS.types
    assert table.schema.field("set.partition.severity").type == pa.float64()
    assert table.schema.field("set.algorithm").type == pa.string()
    rows = {row["id"]: row for row in table.to_pylist()}
    assert [rows[t]["status"] for t in ("t0000", "t0004", "t0042", "t0043", "t0044")] == [
        "finished", "failed", "stopped_early", "unfinished", "unfinished",
    ]  # fmt: skip
    assert rows["t0004"]["error"] == "ValueError: lr <b>too</b> high"
    assert (rows["t0004"]["versions"], rows["t0044"]["versions"]) == (3, 5)
    assert rows["t0043"]["versions"] is None
    assert rows["t0043"]["seed"] == 8
    assert json.loads(rows["t0043"]["settings"]) == {
        "partition.severity": 1.0, "algorithm": "fedbuff",
    }  # fmt: skip
    assert [row["error"] for row in rows.values() if row["status"] != "failed"] == [None] * 44


def test_the_figures_are_the_runs(grid):
    rows = rows_of(grid)
    row = rows["t0001"]
    final = by_severity({"partition.severity": 0.0, "algorithm": "fedavg"}, 8)
    assert row["final"] == row["value"] == pytest.approx(final)
    assert row["final_loss"] == pytest.approx(1.2 - final)
    assert row["worst_decile"] == pytest.approx(final - 0.09)  # of the two worst of 20
    assert row["bytes"] == 2 * BYTES * VERSIONS
    assert row["virtual_time_s"] == 2.0 * VERSIONS
    assert (row["label_severity"], row["algorithm"]) == (pytest.approx(0.05), "fedavg")
    assert row["bytes_to_target"] is None
    run = Run_of(grid, "t0001")
    values = run.rounds["accuracy"].to_pylist()
    assert row["best"] == max(values)
    assert row["largest_fall"] == pytest.approx(values[9] - values[10])


def Run_of(path, name):  # noqa: N802
    return fedray.Run(path / "trials" / name)


def test_without_a_list_the_folders_tell(grid, tmp_path):
    path = write_sweep(tmp_path / "s", by_severity, grid=GRID, seeds=1, listed=False)
    found, listed = rows_of(path), rows_of(grid)
    assert len(found) == 15
    for row in found.values():
        twin = next(r for r in listed.values() if r["settings"] == row["settings"])
        assert (row["setting"], row["seed"]) == (twin["setting"], 7)


def test_a_trial_says_itself_what_it_has_become(tmp_path):
    """As settings change under population based training."""
    path = write_sweep(tmp_path / "s", best_at_a_tenth, grid=LR, seeds=1)
    told = {"id": "t0000", "setting": 0, "seed": 7, "settings": {"client.lr": 0.05, "seed": 7}}
    (path / "trials" / "t0000" / "trial.json").write_text(json.dumps(told))
    assert collect(path)["set.client.lr"].to_pylist() == [0.05, 0.1, 1.0]


def test_what_cannot_be_read_is_a_failure_and_no_crash(tmp_path):
    path = write_sweep(tmp_path / "s", best_at_a_tenth, grid=LR, seeds=1)
    (path / "trials" / "t0001" / "rounds.parquet").write_bytes(b"half")
    (path / "trials" / "t0002" / "summary.json").write_text("{")
    rows = rows_of(path)
    assert [rows[t]["status"] for t in rows] == ["finished", "failed", "failed"]
    assert "rounds.parquet: cannot be read" in rows["t0001"]["error"]
    assert "summary.json: cannot be read" in rows["t0002"]["error"]


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([1, 2], pa.int64()), ([1, 2.5], pa.float64()), ([1, "all"], pa.string()),
        ([True, False], pa.string()), ([[8], [8, 4]], pa.string()), ([None, 3], pa.int64()),
    ],
)  # fmt: skip
def test_the_column_of_a_key_fits_its_values(tmp_path, values, kept):
    path = write_sweep(tmp_path / "s", lambda *_: 0.5, grid={"model.x": values}, seeds=1)
    column = collect(path)["set.model.x"]
    assert column.type == kept
    given = [v if v is None or kept != pa.string() or isinstance(v, str) else json.dumps(v)
             for v in values]  # fmt: skip
    assert column.to_pylist() == given


def test_costs_to_a_target(tmp_path):
    path = write_sweep(tmp_path / "s", best_at_a_tenth, grid=LR, metric="bytes_to_target",
                       target=0.7)  # fmt: skip
    rows = rows_of(path)
    values = Run_of(path, "t0003").rounds["accuracy"].to_pylist()
    first = next(i for i, value in enumerate(values) if value >= 0.7)
    assert rows["t0003"]["bytes_to_target"] == rows["t0003"]["value"] == 2 * BYTES * first
    assert rows["t0003"]["virtual_time_to_target"] == 2.0 * first
    assert rows["t0000"]["value"] is None
    found = summarise(path)
    assert (found["mode"], found["target"]) == ("min", 0.7)
    assert found["best"]["settings"] == {"client.lr": 0.1}
    assert [each["value"] for each in found["ranking"]][1:] == [None, None]


def test_a_target_that_none_reaches_is_said(tmp_path):
    path = write_sweep(tmp_path / "s", best_at_a_tenth, grid=LR, metric="bytes_to_target",
                       target=0.999, listed=False)  # fmt: skip
    collect(path)
    count = len(rows_of(path))
    assert summarise(path)["words"] == [f"None of the {count} finished trials reached the target."]


def test_the_best_setting_and_how_sure_it_is(tmp_path):
    path = write_sweep(tmp_path / "s", best_at_a_tenth, grid=LR)
    found = summarise(path)
    assert found == json.loads((path / "sweep.json").read_text())
    best = found["best"]
    assert best["settings"] == {"client.lr": 0.1}
    assert best["set"] == ["client.lr=0.1"]
    assert best["trials"] == ["t0003", "t0004", "t0005"]
    # Values 0.79, 0.80, 0.81: s = 0.01, and t(2, 0.975) = 4.3027.
    half = 4.3027 * 0.01 / 3**0.5
    assert best["value"]["value"] == pytest.approx(0.8)
    assert best["value"]["high"] - best["value"]["value"] == pytest.approx(half, rel=1e-4)
    assert found["counts"] == {"finished": 9, "stopped_early": 0, "failed": 0, "unfinished": 0}
    assert "All others (2) are told from it" in " ".join(found["words"])


def test_chance_is_called_chance(tmp_path):
    """Differences of 0.02, -0.01 and 0 over seeds are nobody's victory."""

    def final(settings, seed):
        return 0.8 + {7: 0.02, 8: -0.01, 9: 0.0}[seed] * (settings["client.lr"] == 0.1)

    found = summarise(write_sweep(tmp_path / "s", final, grid={"client.lr": [0.1, 1.0]}))
    assert "Lr 1 cannot be told from it on these seeds." in found["words"]
    one = summarise(write_sweep(tmp_path / "one", final, grid={"client.lr": [0.1, 1.0]}, seeds=1))
    assert one["best"]["value"] == {"value": pytest.approx(0.82), "low": None, "high": None}
    assert "on one seed, so nothing says how much of it is chance" in one["words"][0]


def test_settings_that_lack_trials_do_not_win(tmp_path):
    """Whichever seed is missing, a mean over the others is not of the same thing."""
    states = {"t0005": "failed"}
    found = summarise(write_sweep(tmp_path / "s", best_at_a_tenth, grid=LR, states=states))
    assert found["best"]["settings"] != {"client.lr": 0.1}
    assert found["ranking"][-1]["settings"] == {"client.lr": 0.1}
    assert [each["id"] for each in found["failed"]] == ["t0005"]
    assert "Of 9 trials, 1 failed." in found["words"]


def test_regression_is_ranked_by_r2_or_loss(tmp_path):
    path = write_sweep(tmp_path / "r2", best_at_a_tenth, grid=LR, regression=True)
    found = summarise(path)
    assert (found["metric"], found["mode"]) == ("r2", "max")
    assert found["best"]["value"]["value"] == pytest.approx(0.8)
    row = rows_of(path)["t0000"]
    assert row["worst_decile"] is None
    assert row["label_severity"] is None
    path = write_sweep(tmp_path / "l", best_at_a_tenth, grid=LR, regression=True, metric="loss")
    found = summarise(path)
    assert (found["mode"], found["best"]["settings"]) == ("min", {"client.lr": 0.1})
    assert found["best"]["value"]["value"] == pytest.approx(1.2 - 0.8)


def test_a_score_that_is_not_finite_is_none(tmp_path):
    path = write_sweep(tmp_path / "s", best_at_a_tenth, grid=LR, seeds=1, metric="loss")
    place = path / "trials" / "t0001" / "summary.json"
    facts = json.loads(place.read_text())
    facts["final"]["loss"] = None  # as a launch writes infinity
    place.write_text(json.dumps(facts))
    assert rows_of(path)["t0001"]["value"] is None
    assert summarise(path)["best"]["settings"] != {"client.lr": 0.1}


def test_the_reader(grid):
    collect(grid)
    summarise(grid)
    found = Sweep(grid)
    assert found.trials.num_rows == 45
    assert found.best == found.summary["best"]
    assert found.page is None
    assert found.trial("t0001").finished
    assert repr(found).startswith(f"Sweep('{grid}': 45 trials (41 finished, 1 stopped early, 1 fa")
    assert "best accuracy" in repr(found)
    assert "45 trials" in found._repr_html_()
    with pytest.raises(InputError, match="t9: no such folder"):
        found.trial("t9")


def test_what_is_no_sweep_is_said_in_a_line(grid, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        Sweep(tmp_path / "none")
    with pytest.raises(InputError, match=r"not the folder of a sweep, sweep\.yaml missing"):
        collect(tmp_path)
    going = shutil.copytree(grid, tmp_path / "going")
    (going / "sweep.json").unlink(missing_ok=True)
    with pytest.raises(InputError, match="has not ended"):
        Sweep(going)
    (going / "trials.parquet").write_bytes(b"half")
    with pytest.raises(InputError, match=r"trials\.parquet: cannot be read"):
        summarise(going)


def test_keys_are_as_short_as_they_can_be_told_apart():
    keys = ["client.lr", "server.optimizer.lr", "server.schedule.max_staleness", "algorithm"]
    assert list(short_names(keys).values()) == [
        "client.lr", "optimizer.lr", "max staleness", "algorithm",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.1, "k=0.1"), (1e-5, "k=1e-05"), ("fedavg", "k=fedavg"), ("true", 'k="true"'),
     (True, "k=true"), ("a b", 'k="a b"'), ("1", 'k="1"'), (None, "k=null"),
     ([8, 4], "k=[8, 4]")],
)  # fmt: skip
def test_overrides_are_read_back_as_they_were(value, written):
    from fedray.config.text import parse

    assert override("k", value) == written
    assert parse(written.removeprefix("k="), "test") == value


def test_real_launches_make_a_sweep(tmp_path):
    """What is collected is what `launch` returns."""
    for name, lr in (("t0000", 0.01), ("t0001", 0.5)):
        fedray.launch(
            {"data": {"source": "synthetic", "clients": 4}, "server": {"rounds": 4}},
            out=tmp_path / "trials" / name,
            **{"client.lr": lr, "runtime.executor": "local", "output.report": False},
        )
    (tmp_path / "sweep.yaml").write_text("sweep: {grid: {client.lr: [0.01, 0.5]}}\n")
    rows = rows_of(tmp_path)
    for name, row in rows.items():
        run = Run_of(tmp_path, name)
        assert row["final"] == run.summary["final"]["accuracy"]
        assert row["best"] == run.summary["best"]["value"]
        assert row["bytes"] == run.summary["bytes"]["up"] + run.summary["bytes"]["down"]
        assert row["label_severity"] == run.summary["heterogeneity"]["label_severity"]
        fall = run.summary["largest_fall"]
        assert row["largest_fall"] == pytest.approx(fall["points"] if fall else 0.0)
        assert row["setting"] == int(name[-1])
    assert open_trials(tmp_path).best is not None
