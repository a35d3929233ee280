"""Damage to files: what tests do to whatever we read, which is then refused in a line, or read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from fedray.errors import FedrayError

FUZZ = settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
damage = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "zero", "insert"]), st.floats(0, 1), st.binary(max_size=8)
    ),
    min_size=1,
    max_size=4,
)
"""What, where as a share of the length, and with which bytes."""


def damaged(content: bytes, how: list[tuple[str, float, bytes]]) -> bytes:
    for what, share, more in how:
        at = int(share * max(len(content) - 1, 0))
        if what == "cut":
            content = content[:at]
        elif what == "insert":
            content = content[:at] + more + content[at:]
        elif content:
            new = bytes([content[at] ^ (1 + len(more))]) if what == "flip" else bytes(len(more))
            content = content[:at] + new + content[at + len(new) :]
    return content


def reads(read: Callable[[], Any]) -> None:
    """It works, or it says why not as an error of ours."""
    with suppress(FedrayError):
        read()


class Trap:
    sprung = False

    def __reduce__(self) -> Any:
        return (setattr, (Trap, "sprung", True))


def trap() -> Any:
    """An array that is not read without unpickling."""
    return np.array([Trap()], dtype=object)
