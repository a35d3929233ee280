"""How cost grows: with the population, with the cohort, with hosts and with nodes.

    python benchmarks/scale.py            # --quick, --json

Population: seconds per version of a cohort of 100 out of 1,000 to 1,000,000 clients, and bytes
per client beyond its samples; each in a process of its own, without Ray. Hosts and nodes: client
updates per second on 1, 2 and 4 host actors of one node, and on hosts of two nodes, which on
one machine share its cores: what is seen is the price of Ray's messages, not a second machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

import fedray
from fedray.api.launch import Watcher
from fedray.config.load import load
from fedray.simulation.executor import LocalExecutor
from fedray.simulation.flight import Flight
from fedray.simulation.loop import Progress
from fedray.simulation.plan import build_plan

COHORT = 100
SAMPLES_PER_CLIENT = 2
FEATURES = 8


def config(clients: int, rounds: int, **more: Any) -> Any:
    """A cohort of 100 of so many clients, with two samples each."""
    return load(
        {
            "data": {"source": "blobs", "samples": int(clients * SAMPLES_PER_CLIENT / 0.999) + 8,
                     "dimensions": FEATURES, "test_fraction": 0.001},
            "partition": {"scheme": "iid", "clients": clients},
            "client": {"batch_size": 2},
            "server": {"rounds": rounds, "clients_per_round": COHORT},
            "checkpoint": {"every": 0},
            "output": {"report": False},
            "runtime": {"executor": "local"},
            **more,
        }
    ).config  # fmt: skip


def population(clients: int, rounds: int) -> dict[str, float]:
    """One population, measured in this process."""
    process = psutil.Process()
    tiny, data = build_plan(config(200, 1), Path())  # imports what will be needed
    _fly(tiny, data, 1)
    before, started = process.memory_info().rss, time.perf_counter()
    plan, federation = build_plan(config(clients, rounds), Path())
    start_s = time.perf_counter() - started
    per_version_s = _fly(plan, federation, rounds)
    held = process.memory_info().rss - before
    return {
        "clients": clients,
        "start_s": start_s,
        "version_s": per_version_s,
        "bytes_per_client": (held - federation.nbytes) / clients,
    }


def _fly(plan: Any, federation: Any, rounds: int) -> float:
    """Seconds per version after the first tenth, without what happens at the very end."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.yaml").write_text("name: scale\n")
        flight = Flight(plan, federation, LocalExecutor(plan.work, federation), Path(folder))
        skipped, begun, last = max(1, rounds // 10), 0.0, 0.0
        progress = flight.run({"kind": "local"})
        for report in progress:
            last = time.perf_counter()
            if report.version == skipped:
                begun = last
            if report.version == rounds:
                break
        progress.close()
    return (last - begun) / max(1, rounds - skipped)


def in_a_fresh_process(clients: int, rounds: int) -> dict[str, float]:
    """`population` where nothing else has used memory."""
    command = [sys.executable, __file__, "--population", str(clients), str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


# --- hosts and nodes ------------------------------------------------------------------------


def launched(hosts: int, nodes: int, rounds: int, model: dict[str, Any]) -> dict[str, Any]:
    """Updates per second of a run on so many hosts, start-up left out."""
    asked = {
        "data": {"source": "digits"},
        "partition": {"scheme": "dirichlet", "clients": 200, "alpha": 1.0, "min_samples": 2},
        "model": model,
        "client": {"epochs": 2, "batch_size": 8},
        "server": {"rounds": rounds, "clients_per_round": COHORT},
        "eval": {"every": 10, "local_losses": False},
        "checkpoint": {"every": 0},
        "output": {"report": False},
        "runtime": {"clients_per_actor": 200 // hosts, "start_timeout_s": 300},
    }
    watcher = Clock()
    with tempfile.TemporaryDirectory() as folder, _ray(hosts, nodes):
        run = fedray.launch(asked, out=Path(folder) / "run", watcher=watcher)
        assert run.summary["executor"]["nodes"] == nodes
    return {"hosts": hosts, "nodes": nodes, "updates_per_s": watcher.rate}


class Clock(Watcher):
    """Takes the time between the first and the last report."""

    def __init__(self) -> None:
        self.reports: list[tuple[float, int]] = []

    def progress(self, progress: Progress) -> None:
        self.reports.append((time.perf_counter(), progress.updates))

    @property
    def rate(self) -> float:
        """Updates per second in between."""
        (begun, first), (ended, last) = self.reports[0], self.reports[-1]
        return (last - first) / (ended - begun)


@contextmanager
def _ray(cpus: int, nodes: int) -> Iterator[None]:
    from fedray.config import schema
    from fedray.distributed.session import session

    with ExitStack() as stack:
        if nodes == 1:
            stack.enter_context(session(schema.Runtime(cpus=max(2, cpus))))
        else:
            from ray.cluster_utils import Cluster

            each = {"num_cpus": 2, "node_ip_address": "127.0.0.1"}
            head = {**each, "include_dashboard": False}
            cluster = Cluster(initialize_head=True, head_node_args=head)
            stack.callback(cluster.shutdown)
            for _ in range(nodes - 1):
                cluster.add_node(**each)
            stack.enter_context(session(schema.Runtime(address=cluster.address)))
        yield


MODELS = {
    "softmax (650 parameters)": {"kind": "softmax"},
    "MLP 256 (19,210 parameters)": {"kind": "mlp", "hidden": [256]},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller, for a look")
    parser.add_argument("--json", action="store_true", help="all figures, for scripts")
    parser.add_argument("--population", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.population:
        print(json.dumps(population(*options.population)))
        return
    found: dict[str, Any] = {"population": [], "hosts": {}}
    sizes = (1_000, 100_000) if options.quick else (1_000, 10_000, 100_000, 1_000_000)
    for clients in sizes:
        row = in_a_fresh_process(clients, 30 if options.quick else 100)
        found["population"].append(row)
        base = found["population"][0]["version_s"]
        _say(
            options,
            f"{clients:9,} clients: {1000 * row['version_s']:6.1f} ms per version of {COHORT} "
            f"({row['version_s'] / base:.2f} of 1,000 clients), {row['bytes_per_client']:5.0f} "
            f"bytes per client beyond its samples, ready in {row['start_s']:.1f} s",
        )
    places = ((1, 1), (2, 1)) if options.quick else ((1, 1), (2, 1), (4, 1), (2, 2), (4, 2))
    for name, model in MODELS.items():
        rows = found["hosts"][name] = []
        for hosts, nodes in places:
            rows.append(launched(hosts, nodes, 20 if options.quick else 60, model))
            rate = rows[-1]["updates_per_s"]
            ratio = rate / rows[0]["updates_per_s"]
            _say(options, f"{name}: {hosts} hosts on {nodes} node(s): {rate:8,.0f} updates/s, "
                          f"{ratio:.2f} of one host")  # fmt: skip
    if options.json:
        print(json.dumps(found, indent=2))


def _say(options: argparse.Namespace, line: str) -> None:
    print(line, file=sys.stderr if options.json else sys.stdout, flush=True)


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()
