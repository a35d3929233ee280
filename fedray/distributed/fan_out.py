"""One function on many arguments, on all cores: Ray tasks, or this process."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from threadpoolctl import threadpool_limits

from fedray.errors import FedrayError, InputError

if TYPE_CHECKING:
    from fedray.config import schema

Task: TypeAlias = tuple[int, tuple[Any, ...]]
"""(k, args): which shared object it works on, and what else the function gets."""

RETRIES = 3
"""Deaths of a worker that a task survives."""
_LOOK_EVERY_S = 0.25  # how long Ray's wait may be deaf to Ctrl-C


def fan_out(
    function: Callable[..., Any],
    shared: Sequence[Callable[[], Any]],
    tasks: Sequence[Task],
    runtime: schema.Runtime,
    *,
    verbose: bool = False,
    say: Callable[[str], None] = lambda _: None,
    needed_bytes: int = 0,
) -> Generator[tuple[int, Any]]:
    """Computes function(shared[k](), *args) for every task (k, args).

    Yields (index of the task, value) as they end; tasks begin in the given order. A shared
    object is made when the first task needs it, is in Ray's object store once, and is
    dropped after its last task; few are alive at a time where tasks are in the order of k.
    `needed_bytes` is the size of the largest. Every task has one core and one BLAS thread.
    With `executor: local` they run here, one after another, and Ray is not even imported.

    What the function raises comes back as itself, and ends the rest. Raises FedrayError
    where a task's worker died more than `RETRIES` times. Closing the iterator, or Ctrl-C,
    cancels what is running.
    """
    if runtime.executor == "local" or not tasks:
        return _here(function, shared, tasks)
    return _on_ray(function, shared, tasks, runtime, verbose, say, needed_bytes)


class _Shared:
    """The shared objects that are in use. `put` is where they are kept: a store, or nowhere."""

    def __init__(
        self,
        makers: Sequence[Callable[[], Any]],
        tasks: Sequence[Task],
        put: Callable[[Any], Any] = lambda value: value,
    ) -> None:
        self._makers, self._put = makers, put
        self._left = Counter(k for k, _ in tasks)
        self.alive: dict[int, Any] = {}

    def get(self, k: int) -> Any:
        if k not in self.alive:
            self.alive[k] = self._put(self._makers[k]())
        return self.alive[k]

    def done(self, k: int) -> None:
        """A task on it has ended."""
        self._left[k] -= 1
        if not self._left[k]:
            self.alive.pop(k)


def _here(
    function: Callable[..., Any], shared: Sequence[Callable[[], Any]], tasks: Sequence[Task]
) -> Generator[tuple[int, Any]]:
    objects = _Shared(shared, tasks)
    for index, (k, args) in enumerate(tasks):
        value = _perform(function, objects.get(k), args)
        objects.done(k)
        yield index, value


def _perform(function: Callable[..., Any], shared: Any, args: tuple[Any, ...]) -> Any:
    with threadpool_limits(limits=1):
        return function(shared, *args)


def _on_ray(
    function: Callable[..., Any],
    shared: Sequence[Callable[[], Any]],
    tasks: Sequence[Task],
    runtime: schema.Runtime,
    verbose: bool,
    say: Callable[[str], None],
    needed_bytes: int,
) -> Generator[tuple[int, Any]]:
    import ray

    from fedray.distributed import machine
    from fedray.distributed.session import session

    expected = _alive_at_most(tasks, runtime.cpus or machine.cores())
    with session(runtime, verbose=verbose, needed_bytes=expected * needed_bytes) as ray_session:
        cores = int(ray_session.cpus)
        if cores < 1:
            raise InputError(f"a Ray with {ray_session.cpus:g} CPUs; a task needs a whole one",
                             key="runtime.address")  # fmt: skip
        if not ray_session.local and ray.available_resources().get("CPU", 0.0) < 1:
            say("no core of the given Ray is free; waiting for one")
        say(f"computing on {min(cores, len(tasks))} of {cores} core{'s' * (cores > 1)}")
        yield from _in_flight(function, _Shared(shared, tasks, ray.put), tasks, cores)


def _in_flight(
    function: Callable[..., Any], objects: _Shared, tasks: Sequence[Task], cores: int
) -> Generator[tuple[int, Any]]:
    """As many tasks under way as there are cores; those beyond free ones wait in Ray's queue."""
    import ray

    remote = ray.remote(num_cpus=1, max_retries=RETRIES)(_perform)
    room, begun = _alive_at_most(tasks, cores), 0
    running: dict[Any, int] = {}
    try:
        while running or begun < len(tasks):
            while begun < len(tasks) and len(running) < cores:
                k, args = tasks[begun]
                if k not in objects.alive and len(objects.alive) >= room:
                    break
                running[remote.remote(function, objects.get(k), args)] = begun
                begun += 1
            index, value = _next(running)
            objects.done(tasks[index][0])
            yield index, value
    finally:
        with suppress(Exception):  # a Ray that is gone has cancelled everything
            _interrupt(list(running))


def _next(running: dict[Any, int]) -> tuple[int, Any]:
    """Waits for a task to end and takes it out of `running`, also where it has failed."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    ready: list[Any] = []
    while not ready:
        ready, _ = ray.wait(list(running), num_returns=1, timeout=_LOOK_EVERY_S)
    index = running.pop(ready[0])
    try:
        value = ray.get(ready[0])
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, FedrayError):
            raise cause from None
        raise (cause if isinstance(cause, Exception) else error) from error
    except RayError as error:
        raise FedrayError(
            f"a task was lost for good, after {RETRIES} retries: {str(error).splitlines()[0]}"
        ) from error
    return index, value


def _interrupt(running: list[Any]) -> None:
    """Cancels tasks, but none that is about to end.

    Cancelling a task whose answer is just being taken in crashes this process (Ray 2.60:
    "Tried to complete task that was not pending"). Tasks that began together often fail
    together, hence the moment's wait. Not force: that has the same race with dying workers.
    """
    import ray

    if running:
        _, busy = ray.wait(running, num_returns=len(running), timeout=_LOOK_EVERY_S)
        for ref in busy:
            ray.cancel(ref)


def _alive_at_most(tasks: Sequence[Task], cores: int) -> int:
    """Shared objects that are needed at a time so that no core has to wait, at least two."""
    per_object = Counter(k for k, _ in tasks)
    return min(len(per_object), max(2, 1 + math.ceil(cores / min(per_object.values()))))
