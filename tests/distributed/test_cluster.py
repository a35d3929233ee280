import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedray.distributed.cluster import address_of, probe
from fedray.errors import InputError

SETTINGS = b"\0\0\0\4\0\0\0\0\0"


@pytest.mark.parametrize(
    ("address", "expected"),
    [("10.0.0.1:6379", ("10.0.0.1", 6379)), ("head:1", ("head", 1)), ("[::1]:2", ("::1", 2))],
)
def test_address_is_host_and_port(address: str, expected: tuple[str, int]) -> None:
    assert address_of(address) == expected


def test_auto_is_the_environment_then_what_ray_start_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(InputError, match=r"^runtime\.address: 'auto' finds no cluster"):
        address_of("auto")
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("recorded:1\n")
    assert address_of("auto") == ("recorded", 1)
    monkeypatch.setenv("RAY_ADDRESS", "environment:2")
    assert address_of("auto") == ("environment", 2)
    assert address_of("explicit:3") == ("explicit", 3)


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:http", ":6379", "local"])
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(InputError, match=r"^runtime\.address: .* is no address of a cluster"):
        address_of(address)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def answer_with(server: socket.socket, reply: bytes) -> threading.Thread:
    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(64)
            connection.sendall(reply)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_probe_accepts_a_grpc_server(listener: socket.socket) -> None:
    thread = answer_with(listener, SETTINGS)
    probe("127.0.0.1", listener.getsockname()[1], "x")
    thread.join()


def test_probe_refuses_another_protocol(listener: socket.socket) -> None:
    thread = answer_with(listener, b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(InputError, match=r"^runtime\.address: no Ray at 'x': .*not Ray"):
        probe("127.0.0.1", listener.getsockname()[1], "x")
    thread.join()


def test_probe_gives_up_on_silence(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedray.distributed.cluster.CONNECT_TIMEOUT_S", 0.1)
    with pytest.raises(InputError, match="timed out"):
        probe("127.0.0.1", listener.getsockname()[1], "x")


def test_probe_refuses_a_closed_port_and_an_unknown_host(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    with pytest.raises(InputError, match="Connection refused"):
        probe("127.0.0.1", port, "x")
    with pytest.raises(InputError, match=r"^runtime\.address: no Ray at 'x': "):
        probe("host.invalid", port, "x")
