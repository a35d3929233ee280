"""The way back: what arrives is what was sent, and lands nowhere else."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.api import freight
from fedray.api.jobs import kind_of
from fedray.api.records import RS
from fedray.distributed.jobs import MARK, Job
from fedray.errors import FedrayError, InputError


@pytest.mark.parametrize("name", ["../../mine", "..", "a/b", "/etc", ".", ""])
def test_a_job_that_is_called_like_a_way_out_is_none_of_ours(name: str) -> None:
    """Its folder here would be called like it."""
    facts = {MARK: "1.0", "kind": "launch"}
    good = Job("mine-1.2_x", "SUCCEEDED", "", None, None, 0, "node", facts)
    assert kind_of(good) == "launch"
    with pytest.raises(InputError, match="is not a job of fedray"):
        kind_of(replace(good, id=name))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "run"
    (made / "checkpoints").mkdir(parents=True)
    (made / "config.yaml").write_text("name: ü\n")
    (made / "checkpoints" / "v1.npz").write_bytes(os.urandom(3 * freight.PIECE + 7))
    (made / "empty").touch()
    (made / ".lock").touch()
    (made / "elsewhere").symlink_to("/etc/hostname")
    return made


def printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    freight.pack(folder)
    return capsys.readouterr().out.split("\n")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and path.name != ".lock"
    }


def test_a_folder_arrives_as_it_was(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(folder, capsys)
    assert max(map(len, lines)) <= 4 * freight.PIECE // 3  # a piece at a time, never all of it
    noisy = ["2026-01-01 INFO job_manager.py", *lines[:2], "a warning of somebody's", *lines[2:]]
    archive = io.BytesIO()
    nbytes = freight.receive(iter(noisy), archive)
    archive.seek(0)
    freight.unpack(archive, tmp_path / "back", nbytes)
    assert contents(tmp_path / "back") == contents(folder)
    assert not (tmp_path / "back" / "elsewhere").exists()


@pytest.mark.parametrize("damage", ["cut", "lost line", "changed"])
def test_what_is_not_what_was_sent_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    lines = printed(folder, capsys)
    if damage == "cut":
        del lines[3:]
    elif damage == "lost line":
        del lines[2]
    else:
        lines[2] = lines[2].swapcase()
    with pytest.raises(FedrayError, match="fetch it once more"):
        freight.receive(iter(lines), io.BytesIO())


def test_what_went_wrong_there_is_said_here() -> None:
    with pytest.raises(FedrayError, match="the node is on fire"):
        freight.receive(
            iter([f'{RS}{{"freight": "failed", "error": "the node is on fire"}}']), io.BytesIO()
        )


def archive_of(*members: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    file.seek(0)
    return file


def member(name: str, kind: bytes = tarfile.REGTYPE, to: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


@pytest.mark.parametrize(
    "bad",
    [
        member("../out"), member("/tmp/out"), member("a/../../out"),
        member("link", tarfile.SYMTYPE, "/etc"), member("hard", tarfile.LNKTYPE, "/etc/passwd"),
        member("device", tarfile.CHRTYPE), member("pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda info: info.name,
)  # fmt: skip
def test_nothing_leaves_the_folder(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    with pytest.raises(FedrayError, match="is not allowed in a run folder"):
        freight.unpack(archive_of((bad, b"")), tmp_path / "in", 100)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_an_archive_is_no_larger_than_it_said_and_names_no_file_twice(tmp_path: Path) -> None:
    with pytest.raises(FedrayError, match="larger than it said"):
        freight.unpack(archive_of((member("a"), b"123")), tmp_path / "large", 2)
    twice = archive_of((member("a"), b"1"), (member("a"), b"2"))
    with pytest.raises(FedrayError, match="cannot be unpacked"):
        freight.unpack(twice, tmp_path / "twice", 2)


@given(st.binary(max_size=400))
def test_bytes_of_anybody_are_refused_in_a_line(tmp_path_factory, content: bytes) -> None:
    into = tmp_path_factory.mktemp("any") / "in"
    with pytest.raises(FedrayError):
        freight.unpack(io.BytesIO(content), into, 100)


def test_the_hash_is_of_the_archive(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, archive = printed(folder, capsys), io.BytesIO()
    freight.receive(iter(lines), archive)
    assert hashlib.sha256(archive.getvalue()).hexdigest() in lines[-2]


def test_jobs_leave_results_in_a_folder_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert freight.job_folder("j", "/shared") == Path("/shared/j")
    assert freight.job_folder("j", None).name == "j"
    assert freight.job_folder("j", None).parent.name == f"fedray-jobs-{os.getuid()}"
