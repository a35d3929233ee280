"""Settings of the whole process that Ray reads or changes, put back afterwards."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

logger = logging.getLogger(__name__)


@contextmanager
def environment(values: Mapping[str, str | None]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}

    def put(those: Mapping[str, str | None]) -> None:
        for name, value in those.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    put(values)
    try:
        yield
    finally:
        put(before)
        reload_auth()


@contextmanager
def replaced(module: Any, name: str, value: object) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextmanager
def hushed(verbose: bool) -> Iterator[None]:
    """Ray prints on stdout when a worker dies, also with log_to_driver off."""
    from ray._private import worker

    def log(data: Mapping[str, Any], *_: object, **__: object) -> None:
        logger.debug("%s", "\n".join(data["lines"]))

    choices = {
        # Older Rays warn of a default that is to change, unless it is chosen.
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": os.environ.get(
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
        ),
        # ray.init puts its own debugger here, which cannot work once Ray is gone.
        "PYTHONBREAKPOINT": os.environ.get("PYTHONBREAKPOINT"),
    }
    with ExitStack() as stack:
        stack.enter_context(environment(choices))
        if not verbose:
            stack.enter_context(replaced(worker, "print_to_stdstream", log))
        yield


def reload_auth() -> None:
    """Ray reads mode and token once per process; a second session has another token."""
    from ray import _raylet

    compiled: Any = _raylet
    compiled.Config.initialize("")
    compiled.AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def muted() -> Iterator[None]:
    """Nothing reaches the process's stderr: Ray's compiled part writes there on its own."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
