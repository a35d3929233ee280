"""cluster/local.sh for real: three nodes, a job on them, its metrics, and nothing left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from cluster_files import CLUSTER, ROOT

from fedray.distributed import reaper
from fedray.distributed.metrics import exported

pytestmark = pytest.mark.ray

CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
CONFIG = """
name: here
data: {source: digits}
partition: {scheme: iid, clients: 3}
server: {rounds: 100000, schedule: {mode: async, concurrency: 2}}
"""


class Cluster:
    """What `local.sh` does, with a folder and ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment = {**CLEAN, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}

    def __call__(self, verb: str, *options: str, **environment: str) -> str:
        done = subprocess.run(
            [str(CLUSTER / "local.sh"), verb, "--dir", str(self.folder), *options],
            env={**self._environment, **environment},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self) -> str:
        return self("start", "--port", "0", "--dashboard-port", "0", "--store-mb", "100",
                    RAY_metrics_report_interval_ms="1000")  # fmt: skip

    def environment(self, bin_folder: Path) -> dict[str, str]:
        """For commands on the cluster; `fedray` is the one under test."""
        fedray = bin_folder / "fedray"
        fedray.write_text(f'#!/bin/sh\nexec {sys.executable} -m fedray "$@"\n', encoding="utf-8")
        fedray.chmod(0o755)
        told = dict(re.findall(r"^export (\w+)=(\S+)$", self("env"), re.MULTILINE))
        return {**self._environment, **told, "PATH": f"{bin_folder}:{os.environ['PATH']}"}

    def processes(self) -> list[psutil.Process]:
        """All of the cluster, found by what they write rather than as the script does."""
        return reaper.writers(self.folder)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="fr-", dir="/tmp"))  # short: it holds Ray's sockets
    folder.rmdir()
    yield Cluster(folder)
    reaper.reap(folder, spare=os.getpid())


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not what():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.2)


def series(urls: list[str], run: str) -> dict[str, float]:
    """The newest values that the nodes give away of a run, by the name of the series."""
    texts = [urllib.request.urlopen(url, timeout=10).read().decode() for url in urls]
    found = re.findall(rf'^(\w+)\{{.*run="{run}".*\}} (\S+)$', "\n".join(texts), re.MULTILINE)
    return {name: float(value) for name, value in found}


def test_a_cluster_from_start_to_stop(cluster: Cluster, tmp_path: Path) -> None:
    mark = {"FEDRAY_LOCAL_CLUSTER": f"{cluster.folder}x"}  # somebody else's
    bystander = subprocess.Popen(["sleep", "600"], env={**CLEAN, **mark}, start_new_session=True)
    try:
        assert "a head and 2 workers" in cluster.start()
        status = cluster("status")
        assert len(re.findall(r"127\.0\.0\.1  1 CPUs$", status, re.MULTILINE)) == 3
        assert (cluster.folder / "token").stat().st_mode & 0o077 == 0
        assert cluster.folder.stat().st_mode & 0o077 == 0
        assert strangers_are_refused(cluster.environment(tmp_path))
        metrics_of_a_job(cluster, re.findall(r"http://\S+/metrics", status), tmp_path)
        assert takes_a_job(cluster, tmp_path) == "sent\n"
        family = cluster.processes()
        assert listening(family) == {"127.0.0.1"}
        assert cluster("stop") == "stopped\n"
        assert [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
        assert not cluster.folder.exists()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def listening(family: list[psutil.Process]) -> set[str]:
    found = set()
    for process in family:
        with suppress(psutil.NoSuchProcess):  # idle workers come and go
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    found.add(connection.laddr.ip.removeprefix("::ffff:"))
    return found


def strangers_are_refused(environment: dict[str, str]) -> bool:
    """Who has another token cannot even look."""
    done = subprocess.run(
        ["fedray", "jobs"],
        env={**environment, "RAY_AUTH_TOKEN_PATH": "", "RAY_AUTH_TOKEN": "0" * 64},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode == 2 and "token" in done.stderr


def takes_a_job(cluster: Cluster, tmp_path: Path) -> str:
    """Through the jobs port, for which Ray has to find itself on loopback."""
    return subprocess.run(
        ["fedray", "submit", "config.yaml", "--set", "runtime.executor=local", "--detach",
         "--name", "sent"],
        cwd=tmp_path, env=cluster.environment(tmp_path),
        capture_output=True, text=True, timeout=120, check=False,
    ).stdout  # fmt: skip


def metrics_of_a_job(cluster: Cluster, urls: list[str], tmp_path: Path) -> None:
    """A job on all CPUs reports all that it should, a lost actor included; SIGTERM ends it."""
    (tmp_path / "config.yaml").write_text(CONFIG, encoding="utf-8")
    job = subprocess.Popen(
        [str(CLUSTER / "job.sh"), "launch", "config.yaml", "out", "--plain"],
        cwd=tmp_path, env={**cluster.environment(tmp_path), "FEDRAY_CPUS": "3"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    expected = exported() - {"ray_fedray_r2", "ray_fedray_retries_total"}
    wait_for(lambda: series(urls, "out").keys() >= expected, job, within_s=60)
    actors = [p for p in cluster.processes() if " ".join(p.cmdline()).startswith("ray::Client")]
    assert len({os.getsid(p.pid) for p in actors}) == 3  # of all nodes
    actors[0].kill()
    wait_for(lambda: "ray_fedray_retries_total" in series(urls, "out"), job, within_s=60)
    values = series(urls, "out")
    assert values["ray_fedray_retries_total"] == 1
    assert values["ray_fedray_rounds"] == 100000
    assert values["ray_fedray_in_flight"] == 2
    assert values["ray_fedray_accuracy"] > 0.5
    assert values["ray_fedray_updates_total"] == pytest.approx(values["ray_fedray_version"], abs=2)
    job.send_signal(signal.SIGTERM)
    said = job.communicate(timeout=60)[0]
    assert job.returncode == 143, said
    version = int(re.findall(r"terminated at version (\d+), checkpointed", said)[0])
    assert version >= values["ray_fedray_version"]
    assert (tmp_path / "out" / "checkpoints").is_dir()


def test_a_node_that_does_not_start_leaves_a_reason_and_nothing_else(
    cluster: Cluster, tmp_path: Path
) -> None:
    broken = tmp_path / "python"  # a Python whose Ray does not start
    broken.write_text(
        f'#!/bin/sh\ncase "$*" in *"start --head"*) echo "no luck"; exit 1;; esac\n'
        f'exec {sys.executable} "$@"\n',
        encoding="utf-8",
    )
    broken.chmod(0o755)
    with pytest.raises(AssertionError, match=r"(?s)no luck.*the node 'head' did not start"):
        cluster("start", "--port", "0", "--dashboard-port", "0", PYTHON=str(broken))
    assert not cluster.folder.exists()
