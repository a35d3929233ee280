import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from fedray.config import schema
from fedray.distributed import reaper
from fedray.distributed.session import Session, session
from fedray.errors import FedrayError, InputError

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
CLEAN = dict(os.environ)  # before a session in this process changes it
PRELUDE = """
import json, os, sys, time
import psutil
import ray
from fedray.config.schema import Runtime
from fedray.distributed.session import session

@ray.remote(num_cpus=0.01)
class Actor:
    def pid(self):
        return os.getpid()
    def stay(self):
        time.sleep(1000)

def tell(**more):
    family = [p.pid for p in psutil.Process().children(recursive=True)]
    print(json.dumps({"root": os.environ.get("RAY_TMPDIR"), "family": family, **more}), flush=True)
"""


def driver(script: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """A driver of its own, in a process group of its own, as a shell starts it."""
    code = PRELUDE + textwrap.dedent(script)
    return subprocess.Popen(
        [sys.executable, "-W", "default", "-W", "ignore::ResourceWarning", "-c", code, *arguments],
        env={**CLEAN, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def told(process: subprocess.Popen[str]) -> dict:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        pytest.fail(process.communicate()[1])
    return json.loads(line)


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # left to a lazy init
    except psutil.NoSuchProcess:
        return False


def assert_nothing_left(report: dict, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while True:
        alive = [pid for pid in report["family"] if runs(pid)]
        if not alive and not Path(report["root"]).exists():
            return
        assert time.monotonic() < deadline, (alive, report["root"])
        time.sleep(0.05)


@pytest.fixture(scope="module")
def private() -> Iterator[Session]:
    with session(schema.Runtime(cpus=2)) as started:
        yield started


def listening(processes: list[psutil.Process]) -> set[str]:
    addresses = set()
    for process in processes:
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                addresses.add(connection.laddr.ip.removeprefix("::ffff:"))
    return addresses


def test_private_listens_on_loopback_only(private: Session) -> None:
    import ray

    ray.get(ray.remote(num_cpus=0.01)(lambda: 0).remote())  # so that a worker listens too
    family = psutil.Process().children(recursive=True)
    assert {"raylet", "gcs_server"} <= {process.name() for process in family}
    assert listening(family) == {"127.0.0.1"}
    assert private.local
    assert private.cpus == 2
    assert [node.address for node in private.nodes] == ["127.0.0.1"]


def test_a_ray_that_does_not_come_up_is_started_once_more() -> None:
    script = """
        init = ray.init

        def tries(failures):
            roots = []

            def never_up(**options):
                roots.append(os.environ["RAY_TMPDIR"])
                if len(roots) <= failures:
                    raise Exception("The current node timed out during startup. This could ...")
                init(**options)

            ray.init = never_up
            try:
                with session(Runtime(cpus=1)):
                    said = ray.get(ray.put("here"))
                    tell(said=said, left=[os.path.exists(root) for root in roots])
            except Exception as error:
                tell(said=str(error), left=[os.path.exists(root) for root in roots])

        tries(9)
        tries(1)
    """
    process = driver(script)
    never, once = told(process), told(process)
    assert never["said"].startswith("Ray did not start: The current node timed out")
    assert never["left"] == [False, False]
    assert (once["said"], once["left"]) == ("here", [False, True])
    assert (process.communicate()[1], process.returncode) == ("", 0)
    assert_nothing_left(once, within_s=10)


@pytest.mark.usefixtures("private")
def test_private_refuses_a_client_without_the_token() -> None:
    import ray

    assert Path(os.environ["RAY_TMPDIR"]).stat().st_mode & 0o077 == 0
    script = """
        try:
            with session(Runtime(address=sys.argv[1])):
                tell(kind="let in")
        except Exception as error:
            tell(kind=type(error).__name__, text=str(error))
    """
    address = ray.get_runtime_context().gcs_address
    stranger = driver(script, address, RAY_AUTH_MODE="disabled")
    refused = told(stranger)
    assert stranger.communicate(timeout=60) == ("", "")
    assert refused["kind"] == "InputError"
    assert refused["text"].startswith(f"runtime.address: '{address}': Ray did not start: ")
    assert "InvalidAuthToken" in refused["text"]
    assert "\n" not in refused["text"]


def test_a_ray_in_use_is_shared_and_left_alone(private: Session) -> None:
    import ray

    with session(schema.Runtime()) as second:
        assert not second.local
        assert second.nodes == private.nodes
    assert ray.is_initialized()


def test_wait_ready_returns_values_in_order_and_tells_progress(private: Session) -> None:
    import ray

    double = ray.remote(num_cpus=0.01)(lambda x: 2 * x)
    seen = []
    refs = [double.remote(i) for i in range(3)]
    values = private.wait_ready(refs, 60, "tasks", progress=lambda *counts: seen.append(counts))
    assert values == [0, 2, 4]
    assert seen[-1] == (3, 3)


def test_wait_ready_names_what_is_missing_and_what_is_short(private: Session) -> None:
    import ray

    task = ray.remote(lambda: 0)
    refs = [task.options(num_cpus=0.01).remote(), task.options(num_cpus=64).remote()]
    with pytest.raises(FedrayError) as failure:
        private.wait_ready(
            refs, 2, "client actors", names=["client 4", "client 9"], need={"CPU": 64}
        )
    assert str(failure.value) == (
        "client actors: 1 of 2 not ready after 2 s (client 9); CPU: 64 needed, 2 in the cluster"
    )
    ray.cancel(refs[1])


def test_wait_ready_passes_on_a_failure_at_once(private: Session) -> None:
    import ray

    broken = ray.remote(num_cpus=0.01)(lambda: {}["absent"])
    with pytest.raises(FedrayError, match=r"^actors: client 0 failed: KeyError: 'absent'$"):
        private.wait_ready([broken.remote()], 60, "actors", names=["client 0"])


@pytest.mark.parametrize(
    ("actors", "share"), [(1, 0.01), (200, 0.01), (1000, 0.002), (10**6, 1e-4)]
)
def test_actor_cpus_lets_all_of_them_fit(private: Session, actors: int, share: float) -> None:
    assert private.actor_cpus(actors) == share


def test_quiet_and_clean_after_a_dead_actor_and_an_exception() -> None:
    process = driver(
        """
        before = dict(os.environ)
        try:
            with session(Runtime(cpus=1)) as s:
                actor = Actor.remote()
                [pid] = s.wait_ready([actor.pid.remote()], 60, "actor")
                os.kill(pid, 9)
                try:
                    ray.get(actor.pid.remote())
                except ray.exceptions.RayActorError:
                    pass
                time.sleep(1)  # Ray prints that a worker died when the raylet has told it
                tell()
                raise KeyError("ours")
        except KeyError:
            tell(same_environment=dict(os.environ) == before, initialized=ray.is_initialized())
        """
    )
    during, after = told(process), told(process)
    out, err = process.communicate(timeout=60)
    assert (out, err) == ("", "")
    assert during["family"]
    assert after == {"root": None, "family": [], "same_environment": True, "initialized": False}
    assert_nothing_left(during, within_s=0)


def test_ctrl_c_reaches_the_driver_only_and_sigterm_unwinds() -> None:
    process = driver(
        """
        with session(Runtime(cpus=1)) as s:
            actor = Actor.remote()
            pid = ray.get(actor.pid.remote())
            try:
                tell()
                time.sleep(1000)
            except KeyboardInterrupt:
                tell(answers=ray.get(actor.pid.remote()) == pid)
            time.sleep(1000)
        """
    )
    told(process)
    os.killpg(process.pid, signal.SIGINT)
    report = told(process)
    assert report["answers"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert process.communicate() == ("", "")
    assert_nothing_left(report, within_s=0)


def test_a_killed_driver_leaves_nothing() -> None:
    process = driver(
        """
        with session(Runtime(cpus=1)) as s:
            actor = Actor.remote()
            ray.get(actor.pid.remote())
            actor.stay.remote()
            tell()
            time.sleep(1000)
        """
    )
    report = told(process)
    process.kill()
    process.communicate()
    assert_nothing_left(report, within_s=15)


@pytest.fixture
def cluster() -> Iterator[dict[str, str]]:
    """The environment of a cluster that somebody else has started."""
    with ExitStack() as stack:  # fixed defaults would clash with another Ray on this machine
        free = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        port, agent_port = (server.getsockname()[1] for server in free)
    root = Path(tempfile.mkdtemp(prefix="fr-", dir="/tmp"))  # tmp_path is too long for sockets
    (root / "token").write_text("0" * 32)
    own = {
        "RAY_TMPDIR": str(root),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(root / "token"),
    }
    start = "from ray.scripts.scripts import main; main()"
    options = ["--head", f"--port={port}", f"--dashboard-agent-listen-port={agent_port}"]
    options += ["--num-cpus=1", "--include-dashboard=false", "--block"]
    head = subprocess.Popen(
        [sys.executable, "-c", start, "start", *options],
        env={
            **CLEAN,
            **own,
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
        },
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
            pytest.fail("".join(said))
        yield {**own, "RAY_ADDRESS": f"127.0.0.1:{port}"}
    finally:
        head.terminate()
        head.communicate(timeout=60)
        reaper.reap(root, spare=os.getpid())


def test_a_given_cluster_is_neither_shut_down_nor_littered(cluster: dict[str, str]) -> None:
    script = """
        for address in (os.environ["RAY_ADDRESS"], "auto"):
            with session(Runtime(address=address)) as s:
                actor = Actor.options(name="same").remote()
                [pid] = s.wait_ready([actor.pid.remote()], 60, "actor")
                tell(local=s.local, cpus=s.cpus, nodes=[n.id for n in s.nodes], actor=pid)
    """
    process = driver(script, **cluster)
    first, second = told(process), told(process)
    assert process.communicate(timeout=60) == ("", "")
    assert not first["local"]
    assert first["cpus"] == second["cpus"] == 1
    assert first["nodes"] == second["nodes"]
    assert_nothing_left({"root": "/nowhere", "family": [first["actor"], second["actor"]]}, 15)


def test_too_many_actors_are_refused_before_ray_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with (
        pytest.raises(InputError, match=r"^runtime\.clients_per_actor: 1000000 actors need about"),
        session(schema.Runtime(), actors=10**6),
    ):
        pytest.fail("started")
