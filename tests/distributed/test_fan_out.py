"""One function on many arguments: who makes what when, and what happens when something dies."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fedray.config.schema import Runtime
from fedray.distributed.fan_out import fan_out
from fedray.distributed.session import session
from fedray.errors import FedrayError, InputError

LOCAL, RAY = Runtime(executor="local"), Runtime(cpus=2)
TASKS = [(k, (i,)) for k in range(3) for i in range(4)]


class Thing:
    """A shared object that can be watched going."""

    def __init__(self, value: int) -> None:
        self.value = value


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    """One Ray for all tests here, which `fan_out` then shares."""
    with session(RAY):
        yield


@pytest.fixture
def product() -> Callable[..., Any]:
    """Not a module's function, so that workers need not import this one."""

    def product(shared: int, i: int) -> tuple[int, int]:
        from threadpoolctl import threadpool_info

        threads = max((pool["num_threads"] for pool in threadpool_info()), default=1)
        return 10 * shared + i, threads

    return product


def made(events: list[Any], k: int) -> int:
    events.append(f"made {k}")
    return k


def run(function: Callable[..., Any], runtime: Runtime, tasks: Any = TASKS) -> tuple[Any, Any]:
    """Values by task, and in which order objects were made and tasks ended."""
    events: list[Any] = []
    values = {}
    for index, value in fan_out(function, [partial(made, events, k) for k in range(3)], tasks,
                                runtime):  # fmt: skip
        events.append(index)
        values[index] = value
    return values, events


def test_here_everything_goes_in_order_and_one_object_is_alive_at_a_time(
    product: Callable[..., Any],
) -> None:
    values, events = run(product, LOCAL)
    assert events == ["made 0", 0, 1, 2, 3, "made 1", 4, 5, 6, 7, "made 2", 8, 9, 10, 11]
    assert values == {i: (10 * (i // 4) + i % 4, 1) for i in range(12)}
    alive: list[Any] = []

    def make(value: int) -> Thing:
        gc.collect()
        assert [ref() for ref in alive if ref() is not None] == []
        thing = Thing(value)
        alive.append(weakref.ref(thing))
        return thing

    found = fan_out(lambda thing: thing.value, [partial(make, k) for k in (5, 6)],
                    [(0, ()), (1, ())], LOCAL)  # fmt: skip
    assert list(found) == [(0, 5), (1, 6)]


def test_here_ray_is_not_even_imported() -> None:
    code = """
import sys
from fedray.config.schema import Runtime
from fedray.distributed.fan_out import fan_out
print(list(fan_out(pow, [lambda: 2], [(0, (3,))], Runtime(executor="local"))), "ray" in sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout == "[(0, 8)] False\n"


def test_nothing_to_do_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedray.distributed.session.session", None)
    assert list(fan_out(pow, [], [], Runtime())) == []


@pytest.mark.ray
def test_on_ray_the_same_values_each_object_made_once_and_two_alive(
    ray_session: None, product: Callable[..., Any]
) -> None:
    values, events = run(product, RAY)
    assert values == run(product, LOCAL)[0]
    assert [e for e in events if isinstance(e, str)] == ["made 0", "made 1", "made 2"]
    ended = events[: events.index("made 2")]
    assert set(range(4)) <= set(ended) or set(range(4, 8)) <= set(ended)


@pytest.mark.ray
def test_a_task_outlives_its_worker(ray_session: None, tmp_path: Path) -> None:
    def fragile(shared: str, name: str) -> str:
        mark = Path(shared) / name
        if name == "weak" and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return name

    tasks = [(0, (name,)) for name in ("a", "weak", "b")]
    found = dict(fan_out(fragile, [lambda: str(tmp_path)], tasks, RAY))
    assert found == {0: "a", 1: "weak", 2: "b"}
    assert (tmp_path / "weak").exists()


@pytest.mark.ray
def test_a_worker_that_always_dies_is_one_line(
    ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedray.distributed.fan_out.RETRIES", 0)  # Ray takes its time for each

    def doomed(_: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(FedrayError, match="lost for good, after 0 retries") as caught:
        list(fan_out(doomed, [lambda: 0], [(0, ())], RAY))
    assert "\n" not in str(caught.value)


@pytest.mark.ray
@pytest.mark.parametrize("runtime", [LOCAL, RAY], ids=["local", "ray"])
def test_errors_come_back_as_themselves(ray_session: None, runtime: Runtime) -> None:
    def wrong(kind: str) -> None:
        if kind == "input":
            raise InputError("3 is too many", key="some.key")
        raise ValueError("not this one")

    with pytest.raises(InputError, match=r"^some\.key: 3 is too many$") as caught:
        list(fan_out(wrong, [lambda: "input"], [(0, ())], runtime))
    assert (type(caught.value), caught.value.key) == (InputError, "some.key")
    with pytest.raises(ValueError, match=r"^not this one$") as other:
        list(fan_out(wrong, [lambda: "value"], [(0, ())], runtime))
    assert type(other.value) is ValueError


@pytest.mark.ray
@pytest.mark.parametrize("together", [1, 2])
def test_a_task_that_has_just_failed_is_not_cancelled(ray_session: None, together: int) -> None:
    """Ray would take this process along, in one of about ten cases."""

    def wrong(_: int) -> None:
        raise ValueError("not this one")

    for _ in range(100):
        with pytest.raises(ValueError, match="not this one"):
            list(fan_out(wrong, [lambda: 0], [(0, ())] * together, RAY))


@pytest.mark.ray
def test_closing_cancels_what_is_running(ray_session: None, tmp_path: Path) -> None:
    """By an interrupt: a worker that is killed while it answers can take this process along."""

    def stay(folder: str, name: str) -> str:
        begun, ended = Path(folder) / "begun", Path(folder) / "ended"
        if name == "long":
            begun.touch()
            try:
                while True:
                    pass
            finally:
                ended.touch()
        while not begun.exists():
            pass
        return name

    running = fan_out(stay, [lambda: str(tmp_path)], [(0, ("long",)), (0, ("short",))], RAY)
    assert next(running) == (1, "short")
    running.close()
    deadline = time.monotonic() + 30
    while not (tmp_path / "ended").exists():
        assert time.monotonic() < deadline
