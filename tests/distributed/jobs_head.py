"""A Ray cluster of one node, for jobs: on loopback, with a token, in a folder of its own."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fedray.distributed import reaper

_START = "from ray.scripts.scripts import main; main()"


@contextmanager
def jobs_head(cpus: int = 2) -> Iterator[dict[str, str]]:
    """Starts a head with a jobs port; yields the environment in which commands reach it."""
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        gcs, jobs, agent = (server.getsockname()[1] for server in taken)
    root = Path(tempfile.mkdtemp(prefix="fj-", dir="/tmp"))  # tmp_path is too long for sockets
    (root / "token").write_text(secrets.token_hex(32))
    auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(root / "token")}
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED")
    auth |= dict.fromkeys(keys, "true")  # for storage that is a test's
    own = {
        **auth,
        "RAY_TMPDIR": str(root),
        "TMPDIR": str(root),  # where jobs leave their results
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # loopback only
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    options = ["--head", "--block", f"--num-cpus={cpus}", "--include-dashboard=true"]
    options += [f"--port={gcs}", f"--dashboard-port={jobs}"]
    options += [f"--dashboard-agent-listen-port={agent}", "--disable-usage-stats"]
    environment = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "PYTHONPATH")}
    head = subprocess.Popen(
        [sys.executable, "-c", _START, "start", *options],
        env={**environment, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert head.stdout is not None
        said = []
        for line in head.stdout:
            said.append(line)
            if "Ray runtime started" in line:
                break
        else:
            raise RuntimeError("".join(said))
        yield {**auth, "RAY_ADDRESS": f"http://127.0.0.1:{jobs}"}
    finally:
        head.terminate()
        head.communicate(timeout=60)
        reaper.reap(root, spare=os.getpid())
