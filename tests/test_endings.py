"""Ctrl-C and SIGTERM become exceptions, once asked nicely; a handler of others stays."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from fedray.distributed.sweep_watch import braked
from fedray.endings import Terminated, asked_to_end, exit_code, terminable, word


@pytest.fixture(autouse=True)
def handlers_are_put_back() -> Iterator[None]:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    signal.sigpending()  # a bytecode or two, in which Python looks for signals


def test_sigterm_is_a_kind_of_ctrl_c_with_an_exit_code_of_its_own() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, terminable():
        send(signal.SIGTERM)
    assert (exit_code(caught.value), word(caught.value)) == (143, "terminated")
    assert (exit_code(KeyboardInterrupt()), word(KeyboardInterrupt())) == (130, "interrupted")


def test_a_library_that_forgets_which_signal_it_was_is_corrected() -> None:
    def library() -> None:
        try:
            send(signal.SIGTERM)
        except KeyboardInterrupt:
            raise KeyboardInterrupt from None

    with pytest.raises(Terminated), terminable():
        library()
    with pytest.raises(Terminated), asked_to_end() as asked:  # noqa: PT012
        asked.calls.append(asked.interrupt)
        library()


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_raises(first: signal.Signals) -> None:
    said = []
    with pytest.raises(KeyboardInterrupt), terminable(), asked_to_end() as asked:  # noqa: PT012
        asked.calls.append(lambda: said.append("asked"))
        send(first)
        assert said == ["asked"]
        assert isinstance(asked.end, Terminated) == (first is signal.SIGTERM)
        send(signal.SIGTERM)
    assert said == ["asked"]


def test_a_handler_of_the_users_stays() -> None:
    said = []
    signal.signal(signal.SIGTERM, lambda *_: said.append("theirs"))
    try:
        with terminable(), asked_to_end() as asked:
            send(signal.SIGTERM)
        assert (said, asked.number) == (["theirs"], None)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_sigterm_pulls_the_brake_of_a_sweep() -> None:
    told = []
    with terminable(), braked(lambda: told.append(1)) as brake:
        send(signal.SIGTERM)
        assert brake.stop_all()
    assert (told, exit_code(brake.asked.end)) == ([1], 143)


def test_other_threads_leave_signals_alone() -> None:
    seen = []

    def other() -> None:
        before = signal.getsignal(signal.SIGTERM)
        with terminable(), asked_to_end():
            seen.append(signal.getsignal(signal.SIGTERM) is before)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [True]
