"""The jobs of a Ray cluster, by its jobs port: sent, looked at, followed, stopped.

All that fedray says to a cluster from outside goes through here, and so through one port.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fedray.distributed.jobs_address import JobsAddress, probe_jobs
from fedray.distributed.surroundings import environment, reload_auth
from fedray.errors import FedrayError, InputError, nearest

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

OLDEST_RAY = (2, 55)
"""As pyproject.toml asks for."""
MARK = "fedray"
"""The key of a job's metadata that says that it is fedray's, with the version as its value."""
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_TALKATIVE = (
    "ray._private.runtime_env.packaging",
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
)
_REQUEST_TIMEOUT_S = 60.0
_SILENCE_S = 15.0  # without a word from the log: is the job, or the cluster, still there?
_RECONNECTS = 5


@dataclass(frozen=True)
class Job:
    """A job as the cluster knows it. `node` is the address of the node that it ran on."""

    id: str
    status: str
    message: str
    began_s: float | None
    ended_s: float | None
    exit_code: int | None
    node: str | None
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        return self.status in ENDED


def connect(address: JobsAddress) -> Jobs:
    """The jobs of the cluster at this address. Raises InputError, one line, where that fails."""
    if find_spec("aiohttp") is None or find_spec("requests") is None:
        raise FedrayError("ray is there without its jobs client; pip install 'fedray[cluster]'")
    probe_jobs(address)
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        """Ray's, which would wait for ever for a cluster that has gone silent."""

        def _do_request(self, method: str, endpoint: str, **more: Any) -> Any:
            return super()._do_request(method, endpoint, timeout=_REQUEST_TIMEOUT_S, **more)

    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    # These would win over what is asked for.
    unset: dict[str, str | None] = dict.fromkeys(("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"))
    jobs = Jobs(address)
    with jobs.calling(), environment({**unset, **_auth()}):
        reload_auth()
        client = Client(address.url)
        version = str(client._do_request("GET", "/api/version").json()["ray_version"])
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST_RAY:
        oldest = ".".join(map(str, OLDEST_RAY))
        raise InputError(
            f"{address.url} is a Ray {version}; fedray needs {oldest} or newer", key=address.key
        )
    jobs.client = client
    return jobs


def _auth() -> dict[str, str | None]:
    """Who has set a token means it to be used, also where Ray wants to be told twice."""
    named = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return {"RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE") or "token"} if named else {}


class Jobs:
    """The jobs of a cluster; see `connect`."""

    client: JobSubmissionClient

    def __init__(self, address: JobsAddress) -> None:
        self.address = address

    def submit(
        self,
        job: str,
        entrypoint: str,
        *,
        runtime_env: Mapping[str, Any],
        facts: Mapping[str, str],
        cpus: float | None = None,
        node: str | None = None,
    ) -> None:
        """Sends a job; what it needs (folders in `runtime_env`) is uploaded first.

        cpus: reserved for its own process. node: the address of the node that it has to run on.
        """
        with self.calling():
            try:
                self.client.submit_job(
                    entrypoint=entrypoint,
                    submission_id=job,
                    runtime_env=dict(runtime_env),
                    metadata=dict(facts),
                    entrypoint_num_cpus=cpus,
                    entrypoint_resources={f"node:{node}": 0.001} if node else None,
                )
            except RuntimeError as error:
                if "already exists" in str(error):
                    raise InputError(f"{job!r} is a job already", key="--name") from None
                raise

    def find(self, job: str) -> Job:
        """The job of that id. Raises InputError where there is none."""
        with self.calling():
            try:
                return _job(self.client.get_job_info(job))
            except RuntimeError as error:
                if "404" not in str(error):
                    raise
        known = [each.id for each in self.all()]
        some = f"; there are {', '.join(known[:5])}" if known else "; there are none of fedray"
        hint = nearest(job, known) or (some + ", ..." if len(known) > 5 else some)
        raise InputError(f"no job {job!r} at {self.address.url}{hint}")

    def all(self) -> list[Job]:
        """fedray's jobs, the newest first."""
        with self.calling():
            found = [_job(each) for each in self.client.list_jobs()]
        ours = [job for job in found if MARK in job.facts and job.facts.get("kind") != "fetch"]
        return sorted(ours, key=lambda job: job.began_s or 0.0, reverse=True)

    def stop(self, job: str) -> None:
        """Asks a job to end; it has the time that its RAY_JOB_STOP_WAIT_TIME_S says."""
        with self.calling():
            self.client.stop_job(job)

    def forget(self, job: str) -> None:
        """Takes a job that has ended off the list."""
        with self.calling():
            self.client.delete_job(job)

    def wait(self, job: str, timeout_s: float) -> Job:
        """The job once it has ended, or as it is when the time is up."""
        deadline, found = time.monotonic() + timeout_s, self.find(job)
        while not found.ended and time.monotonic() < deadline:
            time.sleep(0.2)
            found = self.find(job)
        return found

    def log(self, job: str) -> str:
        """All that a job has written so far."""
        with self.calling():
            return str(self.client.get_job_logs(job))

    def follow(self, job: str, silent: Callable[[Job], None] = lambda _: None) -> Iterator[str]:
        """The lines of a job's log from its beginning, as they come, until the job has ended.

        A connection that breaks is made again, and goes on where it was. `silent` is called
        with the job as it is whenever there was nothing for a while, as when it has to wait
        for its turn. Raises FedrayError once nobody answers any more.
        """
        whole, seen, failures = "", 0, 0
        while True:
            skip = seen
            try:
                for chunk in self._chunks(job, silent):
                    fresh, skip = chunk[skip:], max(0, skip - len(chunk))
                    if fresh:
                        seen, failures = seen + len(fresh), 0
                        *lines, whole = (whole + fresh).split("\n")
                        yield from lines
            except (OSError, RuntimeError, _lost()) as error:
                failures += 1
                if failures > _RECONNECTS:
                    reason = getattr(error, "strerror", None) or str(error)
                    raise FedrayError(f"{self.address.url} does not answer: {reason}") from error
                time.sleep(min(8.0, 0.5 * 2**failures))
            else:
                if self.find(job).ended:
                    break
                time.sleep(0.5)
        if whole:
            yield whole

    def _chunks(self, job: str, silent: Callable[[Job], None]) -> Iterator[str]:
        """What Ray's asynchronous iterator over a log yields; ends with the job.

        Where the log is silent, the cluster is asked whether the job still runs: a broken line
        says nothing, either.
        """
        loop = asyncio.new_event_loop()
        chunks = self.client.tail_job_logs(job)
        ended = False
        pending: Any = loop.create_task(anext(chunks))  # type: ignore[arg-type]
        try:
            while True:
                loop.run_until_complete(asyncio.wait([pending], timeout=_SILENCE_S))
                if pending.done():
                    try:
                        yield pending.result()
                    except StopAsyncIteration:
                        return
                    pending = loop.create_task(anext(chunks))  # type: ignore[arg-type]
                elif ended:
                    return
                else:
                    found = self.find(job)
                    ended = found.ended
                    silent(found)
        finally:
            pending.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration, Exception):
                loop.run_until_complete(pending)
            loop.run_until_complete(chunks.aclose())  # type: ignore[attr-defined]
            loop.close()

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Whatever the client has to complain about, as one line."""
        import requests
        from ray.exceptions import AuthenticationError

        url, key = self.address.url, self.address.key
        try:
            yield
        except AuthenticationError as error:
            missing = "Missing" in str(error)
            what = "wants a token" if missing else "does not accept the token"
            raise InputError(
                f"{url} {what}; give it as RAY_AUTH_TOKEN, or in the file RAY_AUTH_TOKEN_PATH "
                "(RAY_AUTH_MODE=token alone means ~/.ray/auth_token)",
                key=key,
            ) from error
        except requests.exceptions.RequestException as error:
            raise FedrayError(f"{url} does not answer: {_reason(error)}") from error
        except ConnectionError as error:
            raise InputError(f"no Ray takes jobs at {url}: {error}", key=key) from error
        except (RuntimeError, ValueError) as error:
            lines = str(error).strip().splitlines() or [repr(error)]
            raise FedrayError(f"{url}: {lines[-1] if len(lines) > 1 else lines[0]}") from error


def _lost() -> type[BaseException]:
    import aiohttp

    return aiohttp.ClientError


def _reason(error: BaseException) -> str:
    """The innermost cause of what `requests` wraps several times."""
    inner: Any = error
    while inner.args and isinstance(inner.args[-1], BaseException):
        inner = inner.args[-1]
    return str(getattr(inner, "reason", None) or inner) or type(error).__name__


def _job(found: Any) -> Job:
    """Of Ray's record what is of use, in seconds."""
    node = (found.driver_agent_http_address or "").removeprefix("http://").rpartition(":")[0]
    return Job(
        id=found.submission_id or found.job_id or "",
        status=str(getattr(found.status, "value", found.status)),
        message=found.message or "",
        began_s=found.start_time / 1000 if found.start_time else None,
        ended_s=found.end_time / 1000 if found.end_time else None,
        exit_code=found.driver_exit_code,
        node=node.strip("[]") or None,
        facts=dict(found.metadata or {}),
    )
