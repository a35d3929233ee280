"""What is sent with a job, and that it is found there."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedray.api import parcel
from fedray.config.load import load
from fedray.data import shipped
from fedray.errors import InputError
from fedray.simulation.plan import build_plan


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "mine" / "t.csv"
    path.parent.mkdir()
    path.write_text("a,y\n" + "".join(f"{i % 5},{i % 2}\n" for i in range(60)))
    return path


@pytest.fixture
def _forgetful() -> Iterator[None]:
    """No file counts as sent before and after."""
    shipped._sent.cache_clear()
    yield
    sys.modules.pop(shipped.PACKAGE, None)
    shipped._sent.cache_clear()


@pytest.mark.usefixtures("_forgetful")
def test_files_are_found_where_they_were_sent_to(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(
        {"data": {"source": "csv", "path": str(table)}, "partition": {"clients": 3}}
    ).config
    files = parcel.files_of([config, config])
    assert files == {"data.path": table}
    with parcel.packed({"kind": "launch"}, files, ()) as packages:
        package = Path(packages["py_modules"][1])
        monkeypatch.syspath_prepend(package.parent)
        table.rename(table.with_name("gone.csv"))  # as on another machine
        plan, _ = build_plan(config, tmp_path)
        assert plan.sizes.sum() == 48
        assert plan.config.data == config.data  # whose path stays as it was written
        request = Path(packages["working_dir"]) / parcel.REQUEST
        assert json.loads(request.read_text()) == {"kind": "launch"}
    assert not package.exists()


def test_fedray_goes_along_without_what_nobody_needs(tmp_path: Path) -> None:
    package = parcel.own_package(tmp_path)
    assert (package / "api" / "job.py").is_file()
    assert (package / "config" / "quickstart.yaml").is_file()
    assert list(package.rglob("__pycache__")) == []


def test_too_much_is_refused_before_it_is_sent(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parcel, "MOST_BYTES", 100)
    with (
        pytest.raises(InputError, match=r"^data\.path: .* MiB are more than .*--shared$"),
        parcel.packed({}, {"data.path": table}, ()),
    ):
        pytest.fail("packed")


def test_what_is_no_module_is_refused(tmp_path: Path) -> None:
    for name in ("a.txt", "my-own.py", "fedray.py"):
        (tmp_path / name).touch()
        with pytest.raises(InputError, match=r"^--module: "):
            parcel.check_modules([tmp_path / name])
    (tmp_path / "good").mkdir()
    parcel.check_modules([tmp_path / "good"])
