"""Folders elsewhere: s3://, gs:// and whatever else Arrow reaches.

Everything is read and written in a local copy, the *staging* folder: what a run, a sweep or a
diagnosis writes is uploaded while it goes on, what is read is downloaded first. So all the rest
of fedray knows folders of this machine only, and nothing waits for a network.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from fedray.errors import InputError, StorageError

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)
EVERY_S = 5.0
"""Between two uploads of what is new."""
_AT_A_TIME = 8
"""Downloads: a sweep is thousands of small files, each of which waits for an answer."""
_CHECKPOINTS, _TABLE = "checkpoints", ".parquet"
_FIRST = ("config.yaml", "request.json", "sweep.yaml", "trial.json")
"""Files without which nothing can be gone on with."""
_LAST = ("summary.json", "sweep.json", "diagnosis.json", "prescription.json")
"""Files that say that all the others are there."""


def uri_of(place: object) -> str | None:
    """The URI that names a place elsewhere; None for a place on this machine.

    One that went through a Path, which makes one slash of two, is put right.
    """
    found = _URI.fullmatch(str(place))
    if found is None or found[1].lower() == "file":
        return None
    return f"{found[1].lower()}://{found[2]}"


def local_path(place: str | Path) -> Path:
    """A place on this machine as a path; file:///a/b is /a/b."""
    found = _URI.fullmatch(str(place))
    if found is None or found[1].lower() != "file":
        return Path(place)
    return Path("/" + unquote(found[2].removeprefix("localhost/")))


def joined(uri: str, name: str) -> str:
    """The URI of `name` below `uri`, whose options (?endpoint_override=...) stay."""
    path, question, options = uri.partition("?")
    return f"{path.rstrip('/')}/{name}{question}{options}"


def staged(place: str | Path) -> Path:
    """The folder of this machine that what goes to a place is written to first."""
    return Path(tempfile.gettempdir()) if uri_of(place) else local_path(place)


class Staging:
    """A local folder that is gone with this object, or with the process, unless it is kept."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="fedray-staging-"))
        self._end = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def keep(self) -> None:
        """Leaves the folder on disk."""
        self._end.detach()


class Store:
    """A folder elsewhere, by its URI. Names of files are relative, with slashes.

    Raises InputError, one line, where nobody answers or the URI is none.
    """

    def __init__(self, uri: str, *, key: str | None = None) -> None:
        from pyarrow import fs

        self.uri = uri
        if re.search(r"//[^/@?]*:[^/@?]*@", uri):
            raise InputError(
                f"{_bare(uri)}: no passwords in a URI, which is written into config.yaml; the "
                "environment is the place for them (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)",
                key=key,
            )
        scheme, _, rest = uri.partition("://")
        if scheme in ("gs", "gcs") and "retry_limit_seconds" not in rest:
            # Without it, a wrong bucket or no credentials are a quarter of an hour of silence.
            uri += f"{'&' if '?' in rest else '?'}retry_limit_seconds=20"
        try:
            self._fs, root = fs.FileSystem.from_uri(uri)
        except Exception as error:  # Arrow raises what its many file systems raise
            raise InputError(f"{_bare(uri)}: {_line(error)}", key=key) from error
        self._root = root.rstrip("/")

    def check(self, key: str | None) -> None:
        """Raises InputError where this place cannot be written to, or has files already."""
        if self.names(key=key):
            raise InputError(
                f"{_bare(self.uri)} is not empty; choose another, or continue it with --resume",
                key=key,
            )
        try:
            with self._fs.open_output_stream(f"{self._root}/.probe") as file:
                file.write(b"fedray")
            self._fs.delete_file(f"{self._root}/.probe")
        except Exception as error:
            raise InputError(
                f"cannot write to {_bare(self.uri)}: {_line(error)}", key=key
            ) from error

    def names(self, *, key: str | None = None) -> list[str]:
        """All files below, in order. Raises InputError where they cannot be listed."""
        from pyarrow import fs

        selector = fs.FileSelector(self._root, recursive=True, allow_not_found=True)
        try:
            found = self._fs.get_file_info(selector)
        except Exception as error:
            raise InputError(f"{_bare(self.uri)}: {_line(error)}", key=key) from error
        files = [info.path for info in found if info.type == fs.FileType.File]
        return sorted(path.removeprefix(self._root).lstrip("/") for path in files)

    def fetch(self, to: Path, wanted: Callable[[str], bool] = lambda _: True) -> None:
        """Downloads files into a folder. What would lie outside of it is refused."""
        names = self.names()
        # A table that has just become one file may still have its parts.
        whole = {name for name in names if name.endswith(".parquet")}
        taken = []
        for name in names:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name:
                raise InputError(f"{_bare(self.uri)}: {name!r} would leave the run folder")
            if wanted(name) and not whole & {str(parent) for parent in path.parents}:
                taken.append(name)
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            for _ in pool.map(lambda name: self._get(name, to / name), taken):
                pass  # an error is raised here, with the others under way

    def _get(self, name: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with (
                self._fs.open_input_stream(f"{self._root}/{name}") as source,
                target.open("wb") as file,
            ):
                shutil.copyfileobj(source, file)
        except Exception as error:
            raise InputError(f"{_bare(self.uri)}: {name}: {_line(error)}") from error

    def put(self, path: Path, name: str) -> None:
        """Uploads a file; there it is whole or not at all. StorageError where that fails."""
        with path.open("rb") as source:
            try:
                with self._fs.open_output_stream(f"{self._root}/{name}") as file:
                    shutil.copyfileobj(source, file)
            except Exception as error:
                text = f"{_bare(self.uri)}: {name} cannot be written: {_line(error)}"
                raise StorageError(text) from error

    def delete(self, name: str) -> None:
        """Removes a file. Raises StorageError where that fails."""
        try:
            self._fs.delete_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return
        except Exception as error:
            raise StorageError(f"{_bare(self.uri)}: {name}: {_line(error)}") from error


class Mirror:
    """Uploads what changes in a folder, every few seconds, until it is finished."""

    def __init__(self, folder: Path, store: Store, say: Callable[[str], None]) -> None:
        self._folder, self._store, self._say = folder, store, say
        self._there: dict[str, tuple[int, int]] = {}
        self._over, self._thread = (
            threading.Event(),
            threading.Thread(target=self._run, daemon=True),
        )

    def start(self, there: Iterable[str] = (), *, as_it_goes: bool = True) -> None:
        """Begins. `there` are files that are in the store as they are here.

        `as_it_goes` False: nothing is uploaded until the end.
        """
        known = set(there)
        self._there = {name: mark for name, mark in self._marks().items() if name in known}
        if as_it_goes:
            self._thread.start()

    def finish(self) -> None:
        """The last upload. Raises StorageError where it fails."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        self.sync()

    def _run(self) -> None:
        failing = False
        while not self._over.wait(EVERY_S):
            try:
                self.sync()
                failing = False
            except StorageError as error:
                if not failing:
                    self._say(f"{error}; it is tried again")
                failing = True

    def sync(self) -> None:
        """Uploads what is new, then deletes what is gone.

        Checkpoints are looked at before the tables and uploaded after them, so that the
        tables in the store always have the rows that its checkpoints count on. Where a table
        is just taking another form, its run's checkpoints in the store stay as they are until
        the next time, and where one went meanwhile, so do those before it.
        """
        marks = self._marks()
        parts = {_part_of(name) for name in marks}
        missing = {_part_of(name) for name in self._there} - parts
        torn = {part.parent for part in missing if part.suffix == _TABLE}
        pruned: set[PurePosixPath] = set()
        for name in sorted(marks, key=_order):
            held = is_checkpoint(name) and _part_of(name).parent in torn
            if held or self._there.get(name) == marks[name]:
                continue
            try:
                self._store.put(self._folder / name, name)
            except (FileNotFoundError, NotADirectoryError):
                (pruned if is_checkpoint(name) else torn).add(_part_of(name).parent)
                continue
            self._there[name] = marks[name]
        gone = set(self._there) - set(marks)
        for name in gone - set(self._marks()) if gone else ():  # not just being replaced
            if _part_of(name).parent not in torn | pruned:
                self._store.delete(name)
                del self._there[name]

    def _marks(self) -> dict[str, tuple[int, int]]:
        """Time and size of every file but temporary ones; checkpoints are looked at first."""
        marks: dict[str, tuple[int, int]] = {}
        for checkpoints in (True, False):
            for folder, below, files in os.walk(self._folder):
                below[:] = [name for name in below if not name.startswith(".")]
                if checkpoints and _CHECKPOINTS not in Path(folder).parts:
                    continue
                for path in (Path(folder, name) for name in files if not name.startswith(".")):
                    with suppress(OSError):  # gone meanwhile
                        facts = path.stat()
                        name = path.relative_to(self._folder).as_posix()
                        marks.setdefault(name, (facts.st_mtime_ns, facts.st_size))
        return marks


def _order(name: str) -> tuple[int, str]:
    """The configuration first, checkpoints after tables, what says that all is there last."""
    path = PurePosixPath(name)
    if path.name in _LAST:
        return 3, name
    if is_checkpoint(name):
        return 2, name
    return int(path.name not in _FIRST), name


def _part_of(name: str) -> PurePosixPath:
    """The part of a run folder that a file belongs to: a table, the checkpoints, or itself."""
    path = PurePosixPath(name)
    for part in reversed(path.parents):
        if part.suffix == _TABLE or part.name == _CHECKPOINTS:
            return part
    return path


def is_checkpoint(name: str) -> bool:
    """Whether a file is one of those that only a run that goes on needs."""
    return _CHECKPOINTS in PurePosixPath(name).parts[:-1]


def _bare(uri: str) -> str:
    """Without what may hold a password or a key."""
    return re.sub(r"//[^/@?]*@", "//", uri)


def _line(error: Exception) -> str:
    """What Arrow has to say, as one line that is not too long."""
    text: Any = " ".join(str(error).split())
    return f"{text[:297]}..." if len(text) > 300 else text or type(error).__name__
