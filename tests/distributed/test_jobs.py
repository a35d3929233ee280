"""Following a log over a line that breaks, and what is made of Ray's answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from fedray.distributed import jobs as module
from fedray.distributed.jobs import Job, Jobs
from fedray.distributed.jobs_address import JobsAddress
from fedray.errors import FedrayError, InputError

BREAKS, SILENT = object(), object()


class Client:
    """Ray's, as far as it is needed here: each connection to the log has its own chunks."""

    def __init__(self, *connections: Sequence[Any], status: str = "SUCCEEDED") -> None:
        self.connections, self.status, self.made = list(connections), status, 0

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        chunks = self.connections[min(self.made, len(self.connections) - 1)]
        self.made += 1
        for chunk in chunks:
            if chunk is BREAKS:
                raise RuntimeError("WebSocket connection closed unexpectedly with close code 1006")
            if chunk is SILENT:
                await asyncio.sleep(3600)
            yield chunk

    def get_job_info(self, job: str) -> Any:
        if job == "unknown":
            raise RuntimeError("Request failed with status code 404: Job unknown does not exist.")
        return described(job, self.status)

    def list_jobs(self) -> list[Any]:
        return [
            described("mine", "RUNNING"),
            described("others", "RUNNING", metadata={}),
            described("mine-fetch-1", "RUNNING", metadata={"fedray": "1", "kind": "fetch"}),
        ]


def described(job: str, status: str, **more: Any) -> Any:
    facts = {
        "submission_id": job, "job_id": None, "status": SimpleNamespace(value=status),
        "message": None, "start_time": 1500, "end_time": None, "driver_exit_code": None,
        "driver_agent_http_address": "http://10.0.0.7:52365",
        "metadata": {"fedray": "1", "kind": "launch"},
    }  # fmt: skip
    return SimpleNamespace(**{**facts, **more})


def jobs_of(client: Client) -> Jobs:
    jobs = Jobs(JobsAddress("http://head:8265", "--address"))
    jobs.client = client  # type: ignore[assignment]
    return jobs


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    monkeypatch.setattr(module, "_SILENCE_S", 0.01)


def test_a_broken_line_loses_and_repeats_nothing() -> None:
    client = Client(["one\ntw", BREAKS], ["one\n", "two\nthr", BREAKS], ["one\ntwo\nthree\nend"])
    assert list(jobs_of(client).follow("j")) == ["one", "two", "three", "end"]
    assert client.made == 3


def test_a_line_that_ends_before_the_job_does_is_made_again() -> None:
    client = Client(["one\n"], ["one\ntwo\n"], status="RUNNING")
    lines = jobs_of(client).follow("j")
    assert [next(lines), next(lines)] == ["one", "two"]
    client.status = "SUCCEEDED"
    assert list(lines) == []


def test_a_line_that_is_silent_ends_with_the_job() -> None:
    assert list(jobs_of(Client(["one\n", SILENT])).follow("j")) == ["one"]


def test_who_waits_hears_how_the_job_is() -> None:
    client, seen = Client([SILENT], status="PENDING"), []

    def silent(job: Job) -> None:
        seen.append(job.status)
        client.status = "FAILED" if len(seen) > 1 else "PENDING"

    assert list(jobs_of(client).follow("j", silent)) == []
    assert seen == ["PENDING", "PENDING", "FAILED"]


def test_a_cluster_that_is_gone_is_given_up() -> None:
    client = Client([BREAKS])
    with pytest.raises(FedrayError, match=r"^http://head:8265 does not answer: WebSocket"):
        list(jobs_of(client).follow("j"))
    assert client.made == 1 + module._RECONNECTS


def test_a_job_is_what_ray_says_in_seconds() -> None:
    job = jobs_of(Client([])).find("j")
    assert (job.id, job.began_s, job.ended_s, job.node, job.ended) == (
        "j", 1.5, None, "10.0.0.7", True,
    )  # fmt: skip


def test_only_our_own_jobs_are_listed() -> None:
    assert [job.id for job in jobs_of(Client([])).all()] == ["mine"]


def test_an_unknown_job_is_bad_input() -> None:
    with pytest.raises(InputError, match=r"^no job 'unknown' at http://head:8265; there are mine$"):
        jobs_of(Client([])).find("unknown")
