"""Which cluster jobs go to, and what is said of one that is not there."""

from __future__ import annotations

import socket
import threading

import pytest

from fedray.distributed import jobs_address as module
from fedray.distributed.jobs_address import JobsAddress, jobs_address, probe_jobs
from fedray.errors import InputError


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


def test_the_option_wins_then_the_environment_then_the_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InputError, match=r"^--address: missing; "):
        jobs_address(None)
    assert jobs_address(None, "head:6379").url == "http://head:8265"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    found = jobs_address(None, "head:6379")
    assert found == JobsAddress(
        "http://10.0.0.1:8265", "RAY_ADDRESS",
        "RAY_ADDRESS is 10.0.0.1:6379; jobs go to http://10.0.0.1:8265",
    )  # fmt: skip
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "https://api:443/")
    assert jobs_address(None).url == "https://api:443"
    assert jobs_address("http://[::1]:8265/").url == "http://[::1]:8265"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "head:8265",
            "'head:8265' does not begin with http:// or https://; write http://head:8265",
        ),
        ("ray://head:10001", "does not begin with http"),
        ("http://", "is no address; write it as http://HEAD:8265"),
        ("http://head:port", "is no address"),
        ("http://head:99999", "is no address"),
        ("http://head:8265/api", "is no address"),
        ("http://me:secret@head:8265", "is no address"),
        ("", "does not begin with http"),
    ],
)
def test_what_is_no_address_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InputError) as refused:
        jobs_address(text)
    assert str(refused.value).startswith("--address: ")
    assert complaint in str(refused.value)


def answering(reply: bytes) -> tuple[str, threading.Thread]:
    """A server that answers one request with these bytes."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with server:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(reply)

    thread = threading.Thread(target=serve)
    thread.start()
    return f"http://127.0.0.1:{server.getsockname()[1]}", thread


@pytest.mark.parametrize("status", [b"200 OK", b"401 Unauthorized", b"403 Forbidden"])
def test_a_server_that_answers_or_asks_for_a_token_is_there(status: bytes) -> None:
    url, thread = answering(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\n{}")
    probe_jobs(JobsAddress(url, "--address"))
    thread.join()


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answers with 404"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
    ],
)
def test_another_server_is_not_ray(reply: bytes, complaint: str) -> None:
    url, thread = answering(reply)
    with pytest.raises(InputError, match=rf"^--address: no Ray takes jobs at {url}: .*{complaint}"):
        probe_jobs(JobsAddress(url, "--address"))
    thread.join()


def test_nobody_and_silence_are_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(InputError, match="timed out"):
            probe_jobs(JobsAddress(url, "--address"))
    with pytest.raises(InputError, match="Connection refused"):
        probe_jobs(JobsAddress(url, "--address"))
