"""Where a cluster takes jobs, and whether it does: said within seconds, in a line."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from urllib.parse import urlsplit

from fedray.distributed.cluster import CONNECT_TIMEOUT_S
from fedray.errors import InputError

JOBS_PORT = 8265
_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")


@dataclass(frozen=True)
class JobsAddress:
    """The URL that jobs go to, the option, variable or key that said so, and any note on it."""

    url: str
    key: str
    note: str | None = None


def jobs_address(given: str | None, runtime: str | None = None) -> JobsAddress:
    """Of --address, RAY_API_SERVER_ADDRESS, RAY_ADDRESS and runtime.address the first that is set.

    The variable RAY_ADDRESS and the key usually say HOST:PORT, where Ray's own processes meet;
    the same host's port 8265 is meant then. Raises InputError for what is no address.
    """
    if given is not None:
        return JobsAddress(_url(given, "--address"), "--address")
    candidates = [(name, os.environ.get(name)) for name in _VARIABLES]
    for key, value in [*candidates, ("runtime.address", runtime)]:
        if not value or value == "auto":
            continue
        host, _, port = value.rpartition(":")
        if "://" in value or key == "RAY_API_SERVER_ADDRESS" or not (host and port.isdigit()):
            return JobsAddress(_url(value, key), key)
        url = f"http://{host}:{JOBS_PORT}"
        return JobsAddress(url, key, f"{key} is {value}; jobs go to {url}")
    raise InputError(
        "missing; give the cluster's jobs port, e.g. http://HEAD:8265, or set RAY_ADDRESS",
        key="--address",
    )


def _url(text: str, key: str) -> str:
    """The URL without what may follow the port. Raises InputError for anything else."""
    try:
        parts = urlsplit(text)
        known = bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as a port that is no number
        raise InputError(f"{text!r} is no address; write it as http://HEAD:8265", key=key) from None
    if parts.scheme not in ("http", "https"):
        bare = text.rpartition("://")[2].strip("/")
        better = f"http://{bare}" if "://" not in text and bare else "http://HEAD:8265"
        raise InputError(
            f"{text!r} does not begin with http:// or https://; write {better}", key=key
        )
    if not known or parts.path.strip("/") or parts.query or "@" in parts.netloc:
        raise InputError(f"{text!r} is no address; write it as http://HEAD:8265", key=key)
    return f"{parts.scheme}://{parts.netloc}"


def probe_jobs(address: JobsAddress) -> None:
    """Raises InputError unless an HTTP server answers there. Ray itself would wait for minutes."""
    try:
        with urllib.request.urlopen(f"{address.url}/api/version", timeout=CONNECT_TIMEOUT_S):
            return
    except urllib.error.HTTPError as error:
        with error:
            if error.code in (401, 403):
                return  # there it is; whether it lets us in is the client's to find out
            reason = f"what listens there answers with {error.code}"
    except urllib.error.URLError as error:
        reason = getattr(error.reason, "strerror", None) or str(error.reason)
    except OSError as error:
        reason = error.strerror or str(error)
    except (HTTPException, ValueError):
        reason = "what listens there does not speak HTTP"
    raise InputError(f"no Ray takes jobs at {address.url}: {reason}", key=address.key)
