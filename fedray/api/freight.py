"""A job's folder on its way back: packed on the cluster, unpacked here.

The jobs port hands out nothing but a job's log, which is text. So a second, short job on the
node that has the folder prints it: a compressed tar in base64, with its SHA-256 at the end.
Both ends work in pieces of fixed size. The log is cut to nothing once all has arrived.

    python -m fedray.api.freight JOB [FOLDER OF JOBS]

Only the standard library is needed there.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import shutil
import signal
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from fedray.api.records import read, write
from fedray.errors import FedrayError

PIECE = 96 * 1024
"""Bytes in a line: a multiple of 3, so that no line but the last one is padded."""
_LEFT_THERE = (".lock",)
_WAIT_S = 120


class _Lines:
    """A binary file that writes itself as lines of base64 to another one."""

    def __init__(self, to: IO[str]) -> None:
        self._to, self._rest = to, b""
        self.sha256, self.nbytes = hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.nbytes += len(data)
        self._rest += data
        while len(self._rest) >= PIECE:
            self._line(self._rest[:PIECE])
            self._rest = self._rest[PIECE:]
        return len(data)

    def flush(self) -> None:
        self._to.flush()

    def close(self) -> None:
        if self._rest:
            self._line(self._rest)
            self._rest = b""

    def _line(self, data: bytes) -> None:
        self._to.write(f"{base64.b64encode(data).decode('ascii')}\n")


def pack(folder: Path) -> None:
    """Prints a folder's files, as records and lines of base64. Raises OSError."""
    files = sorted(
        path for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and path.name not in _LEFT_THERE
    )  # fmt: skip
    nbytes = sum(path.stat().st_size for path in files)
    write({"freight": "begins", "files": len(files), "bytes": nbytes})
    lines = _Lines(sys.stdout)
    with (
        gzip.GzipFile("", "wb", compresslevel=4, fileobj=lines, mtime=0) as squeezed,
        tarfile.open(fileobj=squeezed, mode="w|") as archive,
    ):
        for path in files:
            archive.add(path, arcname=str(path.relative_to(folder)), recursive=False)
    lines.close()
    write({"freight": "ends", "sha256": lines.sha256.hexdigest(), "bytes": lines.nbytes})


def receive(lines: Iterator[str], to: IO[bytes]) -> int:
    """Writes the archive that lines of a log carry, and returns the bytes that it unpacks to.

    Lines around it are passed over. Raises FedrayError where it is not what was sent.
    """
    expected, digest, nbytes = None, hashlib.sha256(), 0
    for line in lines:
        _, record = read(line)
        if record is not None:
            if record.get("freight") == "begins":
                expected = int(record["bytes"])
            elif record.get("freight") == "ends":
                if (record["sha256"], record["bytes"]) != (digest.hexdigest(), nbytes):
                    raise FedrayError("what arrived is not what was sent; fetch it once more")
                return expected or 0
            elif "freight" in record:
                raise FedrayError(str(record.get("error")))
        elif expected is not None:
            try:
                piece = base64.b64decode(line, validate=True)
            except ValueError:
                continue  # a warning of Ray's between the lines; the hash tells if it was ours
            digest.update(piece)
            nbytes += to.write(piece)
    raise FedrayError("the transfer ended early; fetch it once more")


def unpack(archive: IO[bytes], folder: Path, nbytes: int) -> None:
    """Unpacks regular files into a new folder, and nothing anywhere else.

    nbytes: what they come to at most. Raises FedrayError for links, devices, names that lead
    out of the folder or come twice, and for an archive that is larger than it said.
    """
    folder.mkdir(parents=True)
    left = nbytes
    try:
        with tarfile.open(fileobj=archive, mode="r|gz") as files:
            for member in files:
                target = folder / _safe(member)
                left -= member.size
                if left < 0:
                    raise FedrayError("the archive is larger than it said")
                content = files.extractfile(member)
                if content is None:
                    raise FedrayError(f"{member.name!r} in the archive is no file")
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as file:
                    shutil.copyfileobj(content, file)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise FedrayError(f"what arrived cannot be unpacked: {error}") from error


def _safe(member: tarfile.TarInfo) -> Path:
    path = Path(member.name)
    if not member.isreg() or path.is_absolute() or ".." in path.parts or "\0" in member.name:
        raise FedrayError(f"{member.name!r} in the archive is not allowed in a run folder")
    return path


def job_folder(job: str, parent: str | None) -> Path:
    """Where a job leaves its results on the cluster: below `parent`, or in a temporary folder.

    It has to outlive the job, and so the folder that Ray gives to it.
    """
    if parent:
        return Path(parent) / job
    return Path(tempfile.gettempdir()) / f"fedray-jobs-{os.getuid()}" / job


def main(folder: Path) -> None:
    """Packs, waits until it is told that all has arrived, and takes the log away."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is not there: the job left nothing, or it is gone")
        pack(folder)
    except OSError as error:
        write({"freight": "failed", "error": str(error)})
    signal.sigtimedwait({signal.SIGTERM}, _WAIT_S)
    os.ftruncate(sys.stdout.fileno(), 0)


if __name__ == "__main__":
    main(job_folder(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
