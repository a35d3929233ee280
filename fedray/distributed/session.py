"""The Ray that a run computes on: a private one on this machine, or one given by address.

    with session(config.runtime) as ray_session:
        ray_session.wait_ready(refs, timeout_s=120, what="client actors")

A private Ray listens on loopback only, asks for a token that only we know, lives in a
temporary folder of its own, and leaves nothing behind, however the driver ends. A given
one is only connected to. A Ray that this process already uses is shared and left alone.

Two attributes of Ray's modules are replaced while a session lasts, where Ray has no
public switch: one makes it listen on loopback, one keeps it quiet.
"""

from __future__ import annotations

import logging
import math
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedray.config import schema
from fedray.distributed import machine, reaper
from fedray.distributed.cluster import address_of, probe
from fedray.distributed.placement import ACTOR_CPUS
from fedray.distributed.surroundings import environment, hushed, muted, reload_auth, replaced
from fedray.endings import Terminated, stuck
from fedray.errors import FedrayError, InputError

_SHUT_DOWN_S = 3.0


class _StartTimeoutError(FedrayError):
    """Ray waits 30 s for its own processes; on a busy machine, rarely, they do not come up."""


@dataclass(frozen=True)
class Node:
    """A machine of the cluster. Memory in bytes, as offered to Ray."""

    id: str
    address: str
    cpus: float
    memory_bytes: float


@dataclass(frozen=True)
class Session:
    """A Ray to compute on."""

    nodes: tuple[Node, ...]
    local: bool
    """Ours alone: started here, ended here."""

    @property
    def cpus(self) -> float:
        return sum(node.cpus for node in self.nodes)

    def actor_cpus(self, actors: int) -> float:
        """`num_cpus` per actor, so that so many fit: 0.01, or less where there are more."""
        share = math.floor(self.cpus / max(actors, 1) * 1e4) / 1e4  # Ray counts in 1e-4
        return max(min(ACTOR_CPUS, share), 1e-4)

    def wait_ready(
        self,
        refs: Sequence[Any],
        timeout_s: float,
        what: str,
        *,
        names: Sequence[str] = (),
        need: Mapping[str, float] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Any]:
        """The values of all refs, in order, within the time limit.

        `names` names each ref in errors, `need` is what all of them ask of Ray together,
        `progress` is called with (ready, all) whenever more are ready.
        Raises FedrayError when one failed, or is not there in time; never waits silently.
        """
        import ray

        index = {ref: i for i, ref in enumerate(refs)}
        values: dict[int, Any] = {}
        label = (lambda i: names[i]) if names else (lambda i: f"number {i}")
        waiting, deadline = list(refs), time.monotonic() + timeout_s
        while waiting:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                missing = [label(index[ref]) for ref in waiting]
                raise FedrayError(_late(what, missing, len(refs), timeout_s, need))
            ready, waiting = ray.wait(
                waiting, num_returns=len(waiting), timeout=min(left_s, 0.25), fetch_local=False
            )
            for ref in ready:
                try:
                    values[index[ref]] = ray.get(ref)
                except Exception as error:
                    raise FedrayError(
                        f"{what}: {label(index[ref])} failed: {_line(error)}"
                    ) from error
            if ready and progress:
                progress(len(values), len(refs))
        return [values[i] for i in range(len(refs))]


@contextmanager
def session(
    runtime: schema.Runtime, *, verbose: bool = False, actors: int = 0, needed_bytes: int = 0
) -> Iterator[Session]:
    """A Ray for the length of a `with` block, as `runtime` asks for.

    `actors` and `needed_bytes` (of shared data) are checked against this machine first,
    where the Ray is private. Raises InputError for a dead address or too many actors,
    FedrayError when Ray does not start.
    """
    import ray

    with ExitStack() as stack:
        private = False
        if not ray.is_initialized():
            private = runtime.address is None
            stack.enter_context(hushed(verbose))
            if private:
                machine.check_actors(actors)
                try:
                    stack.enter_context(_private(runtime.cpus, needed_bytes, verbose))
                except _StartTimeoutError:
                    stack.enter_context(_private(runtime.cpus, needed_bytes, verbose))
            else:
                stack.enter_context(_given(str(runtime.address), verbose))
        yield Session(_nodes(), local=private)


@contextmanager
def _private(cpus: int | None, needed_bytes: int, verbose: bool) -> Iterator[None]:
    from ray._private import ray_constants

    store_bytes = machine.store_bytes(needed_bytes)
    root = Path(tempfile.mkdtemp(prefix="fedray-", dir=machine.short_temp()))  # mode 0700
    (root / "token").write_text(secrets.token_hex(32))
    with (
        _reaper(root),
        environment(_private_environment(root)),
        # Read from the environment when Ray is imported, which may be long ago.
        replaced(ray_constants, "ENABLE_RAY_CLUSTER", False),
        _connected(
            address="local",
            num_cpus=cpus or machine.cores(),
            object_store_memory=store_bytes,
            include_dashboard=False,
            verbose=verbose,
        ),
    ):
        yield


def _private_environment(root: Path) -> dict[str, str | None]:
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {
        **one_thread,
        "RAY_TMPDIR": str(root),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # binds to 127.0.0.1, on Linux too
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(root / "token"),
        "RAY_AUTH_TOKEN": None,
        "RAY_REDIS_ADDRESS": None,
        "RAY_USAGE_STATS_ENABLED": os.environ.get("RAY_USAGE_STATS_ENABLED", "0"),
    }


@contextmanager
def _given(address: str, verbose: bool) -> Iterator[None]:
    from ray._private import ray_constants
    from ray.util import get_node_ip_address

    host, port = address_of(address)
    with ExitStack() as stack:
        if host in ("localhost", "127.0.0.1", "::1"):
            # Ray replaces it by this machine's address, where a loopback cluster is deaf.
            try:
                probe(get_node_ip_address(), port, address)
            except InputError:
                probe(host, port, address)
                stack.enter_context(replaced(ray_constants, "ENABLE_RAY_CLUSTER", False))
        else:
            probe(host, port, address)
        # A try a second: the server is there, so whatever it refuses, it refuses for good.
        stack.enter_context(replaced(ray_constants, "NUM_REDIS_GET_RETRIES", 5))
        namespace = f"fedray-{secrets.token_hex(4)}"
        found = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            with nullcontext() if verbose else muted():
                stack.enter_context(_connected(address=found, namespace=namespace, verbose=verbose))
        except FedrayError as error:
            raise InputError(f"{address!r}: {error}", key="runtime.address") from error
        yield


@contextmanager
def _connected(*, verbose: bool, **options: Any) -> Iterator[None]:
    """ray.init to ray.shutdown. SIGTERM unwinds as Ctrl-C does, unless it has a handler.

    Ray installs handlers over whatever was there, one of which prints; neither stays.
    """
    import ray

    reload_auth()
    level = logging.INFO if verbose else logging.CRITICAL
    before = signal.getsignal(signal.SIGTERM)
    main_thread = threading.current_thread() is threading.main_thread()
    try:
        try:
            ray.init(logging_level=level, log_to_driver=verbose, **options)
        except SystemExit:  # SIGTERM meanwhile, which Ray's own handler got
            raise Terminated from None
        except Exception as error:
            kind = _StartTimeoutError if "timed out during startup" in str(error) else FedrayError
            raise kind(f"Ray did not start: {_line(error)}") from error
        if main_thread:
            ours = before in (signal.SIG_DFL, None)
            signal.signal(signal.SIGTERM, _leave if ours else before)
        yield
    finally:
        _shut_down()
        if main_thread and before is not None:
            signal.signal(signal.SIGTERM, before)


def own_processes() -> list[subprocess.Popen[bytes]]:
    """Ray's processes that this one has started: none where it has only connected to a Ray."""
    from ray._private import worker

    node = worker._global_node
    groups: Any = node.all_processes.values() if node else ()
    return [each.process for group in groups for each in group]


def _shut_down() -> None:
    """ray.shutdown; of a Ray that died as a whole it would wait a minute for the server of it."""
    import ray

    if all(process.poll() is None for process in own_processes()):
        ray.shutdown()
        return
    waiting = threading.Thread(target=ray.shutdown, daemon=True)
    waiting.start()
    waiting.join(_SHUT_DOWN_S)
    if waiting.is_alive():
        stuck.set()


def _leave(signum: int, _: object) -> None:
    sys.exit(128 + signum)


@contextmanager
def _reaper(root: Path) -> Iterator[None]:
    """Nothing of the Ray in `root` outlives this block, nor this process."""
    process = subprocess.Popen(
        [sys.executable, reaper.__file__, str(root), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        with suppress(OSError):
            process.communicate(timeout=2 * reaper.LIMIT_S)  # closes its input, which it awaits
        if root.exists():  # somebody has killed it
            reaper.reap(root, spare=os.getpid())


def _nodes() -> tuple[Node, ...]:
    import ray

    return tuple(
        Node(
            id=node["NodeID"],
            address=node["NodeManagerAddress"],
            cpus=node["Resources"].get("CPU", 0.0),
            memory_bytes=node["Resources"].get("memory", 0.0),
        )
        for node in ray.nodes()
        if node["Alive"]
    )


def _late(
    what: str,
    missing: Sequence[str],
    count: int,
    timeout_s: float,
    need: Mapping[str, float] | None,
) -> str:
    """One line: how many are missing, which, and what Ray is short of."""
    import ray

    have, free = ray.cluster_resources(), ray.available_resources()
    short = [
        f"{resource}: {amount:g} needed, {have.get(resource, 0):g} in the cluster"
        for resource, amount in (need or {}).items()
        if amount > have.get(resource, 0)
    ] or [f"CPU: {free.get('CPU', 0):g} of {have.get('CPU', 0):g} free"]
    some = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
    return (
        f"{what}: {len(missing)} of {count} not ready after {timeout_s:g} s ({some}); "
        + "; ".join(short)
    )


def _line(error: BaseException) -> str:
    """What Ray has to say, as one line: where that is a traceback, the last error in it."""
    lines = [line.strip() for line in str(error.__cause__ or error).splitlines()]
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b", line)]
    text = errors[-1] if errors else " ".join(lines) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
