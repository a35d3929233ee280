"""`fedray init` looks at real files and writes configurations that load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from click.testing import CliRunner

from fedray.cli import cli
from fedray.config import schema
from fedray.config.load import load
from fedray.config.template import peek, write_template
from fedray.errors import InputError

ROWS = 120


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "age": rng.normal(size=ROWS),
            "sex": rng.integers(0, 2, ROWS),
            "town": ["x"] * ROWS,
            "out come": ["yes", "no", "no"] * (ROWS // 3),
            "hospital": ["A", "B", "C"] * (ROWS // 3),
            "cost": rng.normal(size=ROWS),
            "grade": rng.integers(0, 4, ROWS).astype(float),
            "days": np.arange(ROWS),
            "same": np.ones(ROWS),
        }
    )
    pa.parquet.write_table(table, tmp_path / "h.parquet")
    pa.csv.write_csv(table, tmp_path / "h.csv")
    np.savez(tmp_path / "h.npz", X=rng.normal(size=(ROWS, 2, 3)), y=np.arange(ROWS) % 3)
    return tmp_path


@pytest.mark.parametrize("name", ["h.parquet", "h.csv"])
def test_natural_clients(folder: Path, name: str) -> None:
    out = folder / "my.yaml"
    data = ["--data", str(folder / name), "--label", "out come", "--client-column", "hospital"]
    result = CliRunner().invoke(cli, ["init", str(out), *data])
    assert result.exit_code == 0, result.stderr
    assert f"{ROWS} rows, 6 features, 'out come' is 2 classes" in result.stdout
    assert "3 clients in 'hospital'" in result.stdout
    assert "left out: town" in result.stdout
    loaded = load(out)
    assert loaded.notes == []
    assert loaded.config.partition == schema.NaturalPartition()
    assert loaded.config.data == schema.TableData(
        source=name.removeprefix("h."),  # type: ignore[arg-type]
        path=str(folder / name),
        label="out come",
        client_column="hospital",
        task="classification",
    )


@pytest.mark.parametrize(
    ("label", "classes"),
    [("grade", 4), ("sex", 2), ("out come", 2), ("cost", None), ("days", None)],
)
def test_what_is_a_class(folder: Path, label: str, classes: int | None) -> None:
    assert peek(folder / "h.parquet", label, None).classes == classes


def test_without_client_column_rows_are_split(folder: Path) -> None:
    runner = CliRunner()
    for name, label, model, scheme in (
        ("h.csv", "cost", schema.LinearModel, "iid"),
        ("h.npz", "y", schema.SoftmaxModel, "dirichlet"),
    ):
        out = folder / "my.yaml"
        data = ["--data", str(folder / name), "--label", label, "--force"]
        assert runner.invoke(cli, ["init", str(out), *data]).exit_code == 0
        config = load(out).config
        assert isinstance(config.model, model)
        assert config.partition.scheme == scheme


def test_a_path_below_the_file_is_written_relative(folder: Path) -> None:
    out = folder / "my.yaml"
    data = ["--data", str(folder / "h.csv"), "--label", "sex"]
    assert CliRunner().invoke(cli, ["init", str(out), *data]).exit_code == 0
    assert "  path: h.csv\n" in out.read_text()


def test_without_data_it_is_the_quickstart(tmp_path: Path) -> None:
    out = tmp_path / "my.yaml"
    assert CliRunner().invoke(cli, ["init", str(out)]).exit_code == 0
    assert load(out).config == load(None).config


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--data", "h.parket", "--label", "cost"], "no such file; did you mean 'h.parquet'?"),
        (["--data", "h.csv", "--label", "cots"], "--label: no column 'cots'; did you mean 'cost'"),
        (["--data", "h.csv"], "--label: missing: which column to predict; there are age, sex"),
        (["--data", "h.csv", "--label", "same"], "--label: has the same value in all rows"),
        (
            ["--data", "h.csv", "--label", "cost", "--client-column", "hospitl"],
            "--client-column: no column 'hospitl'; did you mean 'hospital'?",
        ),
        (
            ["--data", "h.csv", "--label", "cost", "--client-column", "same"],
            "--client-column: all rows belong to one client",
        ),
        (["--data", "notes.txt", "--label", "y"], "must end in .parquet"),
        (["--data", "broken.parquet", "--label", "y"], "--data: broken.parquet"),
        (["--label", "y"], "--label: goes with --data"),
    ],
)
def test_bad_arguments(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(folder)
    (folder / "notes.txt").write_text("hello")
    (folder / "broken.parquet").write_text("hello")
    result = CliRunner().invoke(cli, ["init", "my.yaml", *arguments])
    assert result.exit_code == 2
    assert expected in result.stderr
    assert result.stderr.count("\n") == 1
    assert not Path("my.yaml").exists()


def test_nothing_is_overwritten_without_force(tmp_path: Path) -> None:
    out = tmp_path / "my.yaml"
    out.write_text("mine")
    result = CliRunner().invoke(cli, ["init", str(out)])
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert out.read_text() == "mine"
    assert CliRunner().invoke(cli, ["init", str(out), "--force"]).exit_code == 0
    assert out.read_text() != "mine"


def test_an_unwritable_place_is_bad_input(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["init", str(tmp_path / "none" / "my.yaml")])
    assert result.exit_code == 2
    assert "No such file" in result.stderr


def test_missing_values_are_refused_as_a_run_would(tmp_path: Path) -> None:
    table = tmp_path / "gap.csv"
    table.write_text("x,y\n1.5,0\n,1\n")
    with pytest.raises(InputError, match="--data: column 'x' has missing values"):
        write_template(tmp_path / "x.yaml", table, "y", None, force=False)
    assert not (tmp_path / "x.yaml").exists()
