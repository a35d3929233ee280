"""Where results go: a new folder, one that is gone on with, here or elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

from fedray.config import schema
from fedray.errors import InputError, StorageError
from fedray.report.opened import Copy
from fedray.report.storage import Mirror, Staging, Store, joined, local_path, uri_of


class Folder(NamedTuple):
    """Where results go, and what was there before.

    `path` is on this machine. Of a folder elsewhere it is a `copy` that is uploaded.
    """

    path: Path
    was: Literal["absent", "empty", "resumed"]
    copy: Copy | None = None

    @property
    def place(self) -> str:
        """As the user knows it."""
        return self.copy.store.uri if self.copy else str(self.path)

    def withdraw(self) -> None:
        """Leaves things as they were before a start that failed; a resumed folder stays."""
        if self.copy is not None and self.was != "resumed":
            for name in self.copy.store.names():
                self.copy.store.delete(name)
        if self.was == "absent":
            shutil.rmtree(self.path)
        elif self.was == "empty":
            for path in self.path.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    @contextmanager
    def mirrored(self, say: Callable[[str], None], *, as_it_goes: bool = True) -> Iterator[None]:
        """Uploads what is written in this block, and at its end all that is left.

        `as_it_goes`: every few seconds, not only at the end. Raises StorageError where that
        fails; then the staging folder is kept.
        """
        if self.copy is None:
            yield
            return
        mirror = Mirror(self.path, self.copy.store, say)
        there = self.copy.store.names() if self.was == "resumed" else ()
        mirror.start(there, as_it_goes=as_it_goes)
        try:
            yield
        finally:
            if self.path.exists():  # else it was withdrawn
                try:
                    mirror.finish()
                except StorageError as error:
                    self.copy.staging.keep()
                    raise StorageError(f"{error}; its folder is kept in {self.path}") from error


def resumed_folder(place: str | Path, wanted: Callable[[str], bool] = lambda _: True) -> Folder:
    """A folder that is to be gone on with; of one elsewhere what is `wanted` is downloaded."""
    uri, key = uri_of(place), "--resume"
    if uri is None:
        return Folder(local_path(place), "resumed")
    store, staging = Store(uri, key=key), Staging()
    store.fetch(staging.path, wanted)
    return Folder(staging.path, "resumed", Copy(store, staging))


def new_folder(config: schema.Config, out: str | Path | None, *, kind: str = "") -> Folder:
    """Makes an empty folder: `out`, or <output.dir>/<name><kind>-<timestamp>.

    That it can be written to is tried out, also where it is elsewhere, by a URI.
    """
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S-%f")[:-3]
    key = "output.dir" if out is None else "--out"
    if uri := uri_of(config.output.dir if out is None else out):
        if out is None:
            uri = joined(uri, f"{config.name}{kind}-{stamp}")
        store, staging = Store(uri, key=key), Staging()
        store.check(key)
        return Folder(staging.path, "empty", Copy(store, staging))
    if out is not None:
        folder = local_path(out)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(
                f"{folder} exists and is not an empty folder; choose another, or continue it "
                "with --resume",
                key=key,
            )
    else:
        folder = local_path(config.output.dir) / f"{config.name}{kind}-{stamp}"
    was: Literal["absent", "empty"] = "empty" if folder.exists() else "absent"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".lock").touch()
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}", key=key) from None
    return Folder(folder, was)
