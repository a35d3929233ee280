"""How a process is asked to end: Ctrl-C (SIGINT), and SIGTERM as Slurm and Kubernetes send it.

SIGTERM is made an exception, as Python makes one of Ctrl-C, and a kind of it: whatever
tidies up on one does so on the other. Only the exit code and the words differ.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)

stuck = threading.Event()
"""Set where something in this process does not let go: then a command leaves without it."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, where a KeyboardInterrupt is SIGINT."""


def exit_code(end: BaseException) -> int:
    """128 plus the signal's number, as shells have it: 130 or 143."""
    return 128 + (signal.SIGTERM if isinstance(end, Terminated) else signal.SIGINT)


def word(end: BaseException) -> str:
    """What happened to the process, in a word."""
    return "terminated" if isinstance(end, Terminated) else "interrupted"


class _Raise:
    """The handler that makes SIGTERM an exception, and remembers that it did.

    Libraries have a way of turning it into a plain KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.raised = False

    def __call__(self, _number: int, _frame: Any) -> None:
        self.raised = True
        raise Terminated


@contextmanager
def terminable() -> Iterator[None]:
    """In this block SIGTERM raises Terminated, unless the process has a handler of its own."""
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    handler = _Raise()
    signal.signal(signal.SIGTERM, handler)
    try:
        yield
    except KeyboardInterrupt:
        if handler.raised:
            raise Terminated from None
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Asked:
    """Whether the process was asked to end, and by what."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.calls: list[Callable[[], None]] = []
        """Called once, by the signal handler."""

    @property
    def end(self) -> KeyboardInterrupt:
        """What a second signal would have raised."""
        return Terminated() if self.number == signal.SIGTERM else KeyboardInterrupt()

    def interrupt(self) -> None:
        """Raises it right here: for `calls`, where something waits that only this wakes."""
        raise self.end


@contextmanager
def asked_to_end() -> Iterator[Asked]:
    """The first Ctrl-C or SIGTERM calls the functions in `calls`, the next one raises as usual.

    A handler of SIGTERM that is not ours stays. In other threads than the main one there
    are no signals to handle.
    """
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    sigterm = before[signal.SIGTERM]
    if not (sigterm is signal.SIG_DFL or isinstance(sigterm, _Raise)):
        del before[signal.SIGTERM]

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def first(number: int, _frame: Any) -> None:
        put_back()
        asked.number = number
        for call in asked.calls:
            call()

    for number in before:
        signal.signal(number, first)
    try:
        yield asked
    except KeyboardInterrupt:
        if asked.number is not None:
            raise asked.end from None
        raise
    finally:
        put_back()
