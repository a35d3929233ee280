"""What can go wrong, in the user's words. No traceback reaches a terminal for these."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class FedrayError(Exception):
    """A failure that the user should read as one line. `exit_code` is the process's."""

    exit_code = 1


class InputError(FedrayError):
    """Bad input: a key of the configuration, an option, or a file.

    Always one line that names the key, its value, and what is allowed.
    Raised before any actor starts.
    """

    exit_code = 2

    def __init__(self, message: str, *, key: str | None = None) -> None:
        super().__init__(f"{key}: {message}" if key else message)
        self.key = key


class StorageError(FedrayError):
    """What was to be written could not be: a full disk, a quota, a folder that is read-only.

    `exit_code` is EX_IOERR of sysexits.h, so that a script can tell it from a run that failed.
    """

    exit_code = 74


def nearest(word: str, known: Iterable[str]) -> str:
    """'; did you mean X?' for the closest of `known`, or the empty string."""
    found = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""
