"""A folder that is opened to be read, here or elsewhere."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import NamedTuple

from fedray.report.storage import Staging, Store, is_checkpoint, joined, local_path, uri_of


class Copy(NamedTuple):
    """What a folder of this machine is the copy of, and for how long it is there."""

    store: Store
    staging: Staging


class Opened:
    """A folder to read: one of this machine, or the local copy of one elsewhere.

    `place` is a folder, or the URI of one (s3://, gs://, ...), which is downloaded first, without
    checkpoints. `of` is for who has its local copy already, in `place`.
    """

    def __init__(self, place: str | Path, of: Copy | None = None) -> None:
        self._copy = of
        if of is None and (uri := uri_of(place)):
            self._copy = Copy(Store(uri), Staging())
            place = self._copy.staging.path
            self._copy.store.fetch(place, lambda name: not is_checkpoint(name))
        self.path = local_path(place)

    @property
    def place(self) -> str:
        """Where it is, as the user knows it: a path, or a URI whose local copy `path` is."""
        return self._copy.store.uri if self._copy else str(self.path)

    @property
    def there(self) -> bool:
        """Whether there is such a folder; elsewhere there are no empty ones."""
        return self.path.is_dir() if self._copy is None else any(self.path.iterdir())

    @property
    def folder_name(self) -> str:
        """The last part of `place`, without the options of a URI."""
        return PurePath(self.place.partition("?")[0] if self._copy else self.place).name

    def named(self, name: str) -> str:
        """A file or folder in it, as the user knows it."""
        return joined(self.place, name) if self._copy else str(self.path / name)

    def inner(self, name: str) -> Copy | None:
        """The copy that a folder in it is; None where it is here."""
        return self._copy and Copy(Store(self.named(name)), self._copy.staging)

    def fetch(self, part: str) -> None:
        """Downloads a folder of one that is elsewhere; of others it is here."""
        if self._copy is not None:
            self._copy.store.fetch(self.path, lambda name: name.startswith(f"{part}/"))

    def publish(self, *names: str) -> None:
        """Uploads files, or all below folders, of the local copy of one that is elsewhere."""
        for name in names if self._copy else ():
            path = self.path / name
            for each in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if each.is_file() and self._copy:
                    self._copy.store.put(each, each.relative_to(self.path).as_posix())
