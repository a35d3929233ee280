"""Finds a cluster that is given by address, and says quickly when it is not there."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

from fedray.errors import InputError

CONNECT_TIMEOUT_S = 5.0


def address_of(address: str) -> tuple[str, int]:
    """Host and port, where `auto` is RAY_ADDRESS, or what `ray start` left on this machine."""
    found = address
    if address == "auto":
        record = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
        with suppress(OSError):
            found = record.read_text().strip()
        found = os.environ.get("RAY_ADDRESS") or found
        if found == "auto":
            raise InputError(
                "'auto' finds no cluster: RAY_ADDRESS is not set and no `ray start` ran here",
                key="runtime.address",
            )
    host, _, port = found.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise InputError(
            f"{found!r} is no address of a cluster; give auto or HOST:PORT "
            "(ray:// is not supported: run fedray on a machine of the cluster)",
            key="runtime.address",
        )
    return host.strip("[]"), int(port)


def probe(host: str, port: int, address: str) -> None:
    """Raises InputError unless a gRPC server answers; Ray itself would try for minutes."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
    try:
        with socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0") not in ("1", "true"):
                connection.sendall(preface)
                settings = connection.recv(9)[3:4]
                if settings != b"\4":
                    raise OSError("what listens there is not Ray")
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"no Ray at {address!r}: {reason}", key="runtime.address") from error
