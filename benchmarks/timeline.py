"""Arrivals per second of the timeline alone, and what a population costs: no training.

    python benchmarks/timeline.py

Cost per event must not grow with the population; a million clients must start in
seconds and add under 1 GiB.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path

import numpy as np

from fedray.config import schema
from fedray.simulation.events import Aggregate
from fedray.simulation.fleet import Fleet
from fedray.simulation.policies import build_policy
from fedray.simulation.population import Payload, build_population
from fedray.simulation.timeline import Timeline

DEVICES = schema.Devices(jitter=schema.LogNormal(median=1.0, sigma=0.3))
COHORT = 100
SCHEDULES = {
    "sync": schema.SyncSchedule(),
    "buffered": schema.BufferedSchedule(concurrency=COHORT, buffer_size=10),
    "async": schema.AsyncSchedule(concurrency=COHORT),
}


def timeline(clients: int, schedule: schema.Schedule, arrivals: int) -> Timeline:
    """A timeline of about so many arrivals."""
    population = build_population(
        DEVICES, samples_per_job=np.full(clients, 60), names=None, payload=Payload(31_400, 31_400),
        seed=1, base_dir=Path(),
    )  # fmt: skip
    per_version = {"sync": COHORT, "buffered": 10, "async": 1}[schedule.mode]
    policy = build_policy(schedule, Fleet(population, seed=1), COHORT)
    return Timeline(policy, rounds=arrivals // per_version)


def peak_mib() -> float:
    """The most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    for mode, schedule in SCHEDULES.items():
        rates = {}
        for clients in (1_000, 1_000_000):
            before, started = peak_mib(), time.perf_counter()
            line = timeline(clients, schedule, 100_000)
            ready = time.perf_counter()
            arrived = sum(
                len(command.jobs)
                for commands in line
                for command in commands
                if isinstance(command, Aggregate)
            )
            rates[clients] = arrived / (time.perf_counter() - ready)
            print(
                f"{mode:9} {clients:9,} clients: {rates[clients]:8,.0f} arrivals/s, started in "
                f"{ready - started:.2f} s, {peak_mib() - before:5.0f} MiB more at the peak"
            )
        print(f"{mode:9} a million over a thousand: {rates[1_000_000] / rates[1_000]:.2f}")


if __name__ == "__main__":
    main()
