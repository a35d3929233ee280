"""What a submitted job runs on the cluster: python -m fedray.api.job JOB.

Reads the request from its working folder, says what the cluster lacks, runs a launch, a sweep
or a diagnosis on the cluster's Ray, and writes records (`relay`) for whoever follows.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fedray.api.freight import job_folder
from fedray.api.records import write
from fedray.endings import exit_code, terminable, word
from fedray.errors import FedrayError, InputError

REQUEST = "fedray-request.json"
OLDEST_PYTHON = (3, 11)
_MOVED = "FEDRAY_MOVED"


def main(job: str) -> int:
    """Exit code of the job: that of the command as it would be run here."""
    request = json.loads(Path(REQUEST).read_text(encoding="utf-8"))
    try:
        _into_rays_python()
        _check_cluster(request["requires"])
        _compare(request["versions"])
        with terminable():  # a stopped job gets SIGTERM
            _run(request, _own(job_folder(job, request["parent"]), request["parent"]))
    except FedrayError as error:
        code, text = error.exit_code, str(error)
    except KeyboardInterrupt as end:
        code, text = exit_code(end), word(end)
    else:
        code, text = 0, ""
    write({"tell": "ended", "code": code, "text": text})
    return code


def _run(request: dict[str, Any], folder: Path) -> None:
    from fedray.api import relay
    from fedray.api.diagnose import diagnose
    from fedray.api.launch import launch
    from fedray.api.sweep import sweep

    out = request["out"] or folder
    what: dict[str, Any] = (
        {"resume": out, "overrides": request["overrides"]}
        if request["resume"]
        else {"source": request["text"], "out": out}
    )
    with _ray(request["executor"]) as ray_session:
        if request["parent"]:
            tempfile.tempdir = request["parent"]  # where what goes to a URI is written first
        if request["kind"] == "launch":
            launch(**what, watcher=relay.LaunchTeller())
        elif request["kind"] == "sweep":
            nodes = {node.address for node in ray_session.nodes} if ray_session else set()
            if len(nodes) > 1 and request["parent"] is None:
                raise InputError(
                    f"missing; the trials of a sweep on {len(nodes)} machines need a folder that "
                    "all of them see at the same path",
                    key="--cluster-dir",
                )
            what["max_concurrent"] = request["max_concurrent"]
            sweep(**what, watcher=relay.SweepTeller())
        else:
            what |= {"seeds": request["seeds"], "prescribe": request["prescribe"]}
            diagnose(**what, watcher=relay.DiagnosisTeller())


def _ray(executor: str) -> AbstractContextManager[Any]:
    """The cluster's Ray. What the configuration says of a Ray is meant for other machines."""
    if executor == "local":
        return nullcontext()
    from fedray.config import schema
    from fedray.distributed.session import session

    return session(schema.Runtime(address=os.environ.get("RAY_ADDRESS", "auto")))


def _own(folder: Path, shared: str | None) -> Path:
    """The folder, in one that only we can write to: others may write to temporary folders."""
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.parent.lstat()
        if not stat.S_ISDIR(facts.st_mode) or (shared is None and facts.st_uid != os.getuid()):
            raise PermissionError(f"{folder.parent} is somebody else's")
    except OSError as error:
        raise FedrayError(f"the job's node has no room for results: {error}") from error
    return folder


def _into_rays_python() -> None:
    """Goes on in the Python of the cluster's Ray, where `python` is another one.

    So it is with a Ray in an environment that nobody has activated, and Ray does not say which
    one its is; but its raylet, from which jobs descend, is told how to start a worker.
    """
    if find_spec("ray") is not None or _MOVED in os.environ:
        return
    process = os.getpid()
    while process > 1:
        try:
            command = Path(f"/proc/{process}/cmdline").read_text(encoding="utf-8").split("\0")
            status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
        except OSError:
            return
        for argument in command:
            name, _, worker = argument.partition("=")
            if name == "--python_worker_command" and worker:
                python = worker.split(" ")[0]
                module = ["-m", "fedray.api.job", *sys.argv[1:]]
                os.execve(python, [python, *module], {**os.environ, _MOVED: "1"})
        process = int(status.rpartition(")")[2].split()[1])


def _check_cluster(requires: list[str]) -> None:
    """Raises FedrayError for a Python or packages with which fedray does not run."""
    if sys.version_info < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        version = ".".join(map(str, sys.version_info[:3]))
        raise FedrayError(f"the cluster has Python {version}; fedray needs {oldest} or newer")
    from importlib import metadata

    from packaging.requirements import Requirement  # which Ray brings along

    wrong = []
    for text in requires:
        required = Requirement(text)
        try:
            version = metadata.version(required.name)
        except metadata.PackageNotFoundError:
            wrong.append(required.name)
            continue
        if not required.specifier.contains(version, prereleases=True):
            wrong.append(f"{required.name}{required.specifier} (it has {version})")
    if wrong:
        raise FedrayError(
            f"the cluster lacks what fedray needs: {', '.join(wrong)}; use an image or an "
            "environment with fedray installed"
        )


def _compare(versions: dict[str, str]) -> None:
    """Says where the last bits of results may differ from those of the sender's machine."""
    from importlib import metadata

    differ = [
        f"{name} {there} here, {version} where it was sent from"
        for name, version in versions.items()
        if (there := metadata.version(name)) != version
    ]
    if differ:
        write({"tell": "note", "text": f"last bits may differ: {'; '.join(differ)}"})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
