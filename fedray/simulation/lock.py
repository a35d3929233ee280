"""One writer per run folder, also when the one before is still dying."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedray.errors import InputError
from fedray.report.tables import cannot_write

_GRACE_S = 15.0
"""How long an earlier process may take to end: actors outlive a killed driver by a second."""


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Holds the folder's lock; the operating system frees it when the process dies.

    Raises InputError when another process still writes after a grace time, StorageError
    where the folder is read-only.
    """
    deadline = time.monotonic() + _GRACE_S
    try:
        opened = (folder / ".lock").open("w")
    except OSError as error:
        raise cannot_write(folder, error) from error
    with opened as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise InputError(f"{folder} is being written by another run") from None
                time.sleep(0.05)
        yield
