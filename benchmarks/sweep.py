"""What a sweep costs beyond its trials, and what many trials cost the driver.

    python benchmarks/sweep.py          45 trials of about 0.3 s each, then 1,000 tiny ones
    python benchmarks/sweep.py 45       only the first part

The yardstick of the first part are the same configurations, launched one after the other by
one warm process per core: time for all of them. A sweep may take 1.3 times that once its
actors are there; Ray and the actors start once, whatever the number of trials. The ratio of
processor time is the one to look at where the machine has other things to do.
"""

from __future__ import annotations

import multiprocessing as mp
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from fedray.api.launch import launch
from fedray.config.load import dump
from fedray.config.sweep import SweepFile, load_sweep
from fedray.distributed import machine
from fedray.distributed.sweep import SweepProgress, run_sweep

GRID = {
    "partition.severity": [0.1, 0.3, 0.5, 0.7, 0.9],
    "algorithm": ["fedavg", "fedprox", "fedadam"],
}


def file(trials: int, rounds: int) -> SweepFile:
    return load_sweep(
        {
            "data": {"source": "digits"},
            "partition": {"scheme": "dirichlet", "clients": 10},
            "model": {"kind": "softmax"},
            "server": {"rounds": rounds},
            "output": {"report": False},
            "sweep": {"grid": GRID, "seeds": -(-trials // 15)},
        }
    )


class Cost(NamedTuple):
    """Seconds by the clock, and of all processors."""

    wall_s: float
    cpu_s: float


def launched(text: str) -> float:
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        launch(text, out=Path(folder) / "run", **{"runtime.executor": "local"})
    return time.process_time() - began


def launches(of: SweepFile, cores: int) -> Cost:
    texts = [dump(spec.config) for spec in of.trials()]
    with ProcessPoolExecutor(cores, mp_context=mp.get_context("spawn")) as pool:
        list(pool.map(launched, texts[: 4 * cores]))  # imports
        began = time.perf_counter()
        cpu_s = sum(pool.map(launched, texts))
        return Cost(time.perf_counter() - began, cpu_s)


def look(into: dict[int, float]) -> None:
    """Processor seconds so far of this process and all that it has started, Ray included."""
    process = psutil.Process()
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.Error):
            times = each.cpu_times()
            into[each.pid] = times.user + times.system


def sweep(of: SweepFile) -> tuple[float, Cost, list[tuple[int, int]]]:
    """Seconds until a trial runs, what it takes from then on, and (trials, driver's MiB)."""
    memory: list[tuple[int, int]] = []
    times: dict[str, float] = {}
    before: dict[int, float] = {}
    after: dict[int, float] = {}
    process, began = psutil.Process(), time.perf_counter()

    def watch(progress: SweepProgress) -> None:
        look(after)  # actors are gone when the last trial is told of
        if progress.running and "running" not in times:
            times["running"] = time.perf_counter()
            before.update(after)
        if progress.finished == progress.total:
            times.setdefault("finished", time.perf_counter())
        memory.append((progress.finished, process.memory_info().rss >> 20))

    with tempfile.TemporaryDirectory() as folder:
        run_sweep(
            of, Path(folder), resume=False, max_concurrent=None, verbose=False,
            runtime=of.base.config.runtime, say=lambda _: None, watch=watch,
        )  # fmt: skip
    cost = Cost(times["finished"] - times["running"], sum(after.values()) - sum(before.values()))
    return times["running"] - began, cost, memory


def main(parts: list[str]) -> None:
    cores = machine.cores()
    if not parts or "45" in parts:
        of = file(45, 60)
        alone = launches(of, cores)
        start, took, _ = sweep(of)
        print(
            f"45 trials on {cores} cores: {took.wall_s:.1f} s, launches {alone.wall_s:.1f} s, "
            f"ratio {took.wall_s / alone.wall_s:.2f} (at most 1.3), of processor time "
            f"{took.cpu_s / alone.cpu_s:.2f}; before the first trial {start:.1f} s"
        )
    if not parts or "1000" in parts:
        start, took, memory = sweep(file(1000, 1))
        after = [(done, mib) for done, mib in memory if done >= 100]
        growth = 1024 * (after[-1][1] - after[0][1]) / (after[-1][0] - after[0][0])
        trials = after[-1][0]
        print(
            f"{trials} trials of one version: {1e3 * took.wall_s / trials:.0f} ms each; "
            f"driver {after[-1][1]} MiB, {growth:.0f} KiB more per trial"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
