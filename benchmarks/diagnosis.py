"""What `fedray diagnose --seeds 3` of the quickstart costs, on one core and on all.

    python benchmarks/diagnosis.py [CONFIG] [--seeds 3]

Prints seconds of the arms alone and of the whole command, arms per second, and what an arm
costs beside a launch: seconds of its versions, in one process, start-up left out. A diagnosis
of the quickstart may take two minutes on two cores.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import fedray
from fedray.api.diagnose import Watcher
from fedray.distributed import machine


class Stopwatch(Watcher):
    """When the arms began, Ray being up, and when the last one ended."""

    def computing(self, what: str, tasks: int, done: int, share: float) -> None:
        self.arms, self.began_s = tasks, time.perf_counter()

    def progress(self, done: int, share: float) -> None:
        self.ended_s = time.perf_counter()


class Cost(NamedTuple):
    arms: int
    """Controls included."""
    arms_s: float
    whole_s: float


def diagnosed(config: str | None, seeds: int, executor: str, folder: Path) -> Cost:
    """With the page."""
    watch, began_s = Stopwatch(), time.perf_counter()
    settings: dict[str, Any] = {"runtime.executor": executor}
    fedray.diagnose(config, seeds=seeds, out=folder, watcher=watch, **settings)
    whole_s = time.perf_counter() - began_s
    return Cost(watch.arms, watch.ended_s - watch.began_s, whole_s)


def launch_s(config: str | None, folder: Path) -> float:
    """Seconds of the versions of a launch in one process, median of three."""
    settings: dict[str, Any] = {"runtime.executor": "local", "output.report": False}
    runs = [fedray.launch(config, out=folder / str(i), **settings) for i in range(3)]
    return median(float(run.summary["wall_time_s"]) for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("config", nargs="?", help="default: the quickstart")
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        one_launch_s = launch_s(asked.config, Path(temporary))
        print(f"a launch: {one_launch_s:.2f} s")
        for executor, cores in (("local", 1), ("ray", machine.cores())):
            cost = diagnosed(asked.config, asked.seeds, executor, Path(temporary) / executor)
            each = cost.arms_s * cores / cost.arms / one_launch_s
            print(
                f"{cores} core{'s' * (cores > 1)} ({executor}): {cost.arms} arms in "
                f"{cost.arms_s:.1f} s, {cost.arms / cost.arms_s:.1f} per second, each {each:.1f} "
                f"times the compute of a launch; the whole command {cost.whole_s:.1f} s"
            )


if __name__ == "__main__":
    main()
