"""What a run tells Prometheus: counters, gauges and a histogram of Ray's metrics agents.

Names get the prefix `ray_` on their way, counters the suffix `_total` as well. Each is
tagged with `run`, the name of the run's folder. The agent of the node on which the server
runs takes them over every ten seconds (RAY_metrics_report_interval_ms), and forgets gauges
a while after their run has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fedray.simulation.progress import Progress

_REPORT_EVERY_S = 0.5

COUNTERS = {
    "fedray_updates": "Client updates applied to the global model",
    "fedray_bytes_down": "Bytes that clients have downloaded, as counted by the simulation",
    "fedray_bytes_up": "Bytes that clients have uploaded, as counted by the simulation",
    "fedray_retries": "Lost client actors that were replaced and asked again",
}
GAUGES = {
    "fedray_version": "Version of the global model",
    "fedray_rounds": "Versions that the run is to make",
    "fedray_in_flight": "Jobs under way when the version was made",
    "fedray_virtual_time_seconds": "Simulated time of the version",
    "fedray_loss": "Test loss of the newest version that was evaluated",
    "fedray_accuracy": "Test accuracy of the newest version that was evaluated (classification)",
    "fedray_r2": "Test R2 of the newest version that was evaluated (regression)",
}
STALENESS = "fedray_staleness"
BOUNDARIES = (0.5, 1.5, 2.5, 4.5, 8.5, 16.5, 32.5, 64.5, 128.5, 256.5, 512.5)
"""Between the whole numbers that staleness can be: the first bucket holds fresh updates."""


def metered(flight: Iterable[Progress], run: str, retries: Callable[[], int]) -> Iterator[Progress]:
    """Passes a run's progress on, and reports it: staleness at every version, the rest twice
    a second. `retries` counts the actors lost so far."""
    meter, reported_at, progress = Meter(run), 0.0, None
    try:
        for progress in flight:
            meter.observe(progress)
            if time.monotonic() - reported_at > _REPORT_EVERY_S:
                meter.report(progress, retries())
                reported_at = time.monotonic()
            yield progress
    finally:
        if progress is not None:
            meter.report(progress, retries())


class Meter:
    """The metrics of one run."""

    def __init__(self, run: str) -> None:
        from ray.util.metrics import Counter, Gauge, Histogram

        def tagged(metric: Any) -> Any:
            return metric.set_default_tags({"run": run})

        tags = ("run",)
        self._counters = {k: tagged(Counter(k, text, tags)) for k, text in COUNTERS.items()}
        self._gauges = {k: tagged(Gauge(k, text, tags)) for k, text in GAUGES.items()}
        text = "Versions made between an update's download and its arrival"
        self._staleness = tagged(Histogram(STALENESS, text, list(BOUNDARIES), tags))
        self._counted = dict.fromkeys(COUNTERS, 0)
        self._version = 0

    def observe(self, progress: Progress) -> None:
        """Adds the updates of a version to the histogram, once."""
        if progress.version > self._version:
            self._version = progress.version
            for age in progress.staleness:
                self._staleness.observe(age)

    def report(self, progress: Progress, retries: int) -> None:
        """Sets the gauges, and brings the counters up to date."""
        totals = {
            "fedray_updates": progress.updates,
            "fedray_bytes_down": progress.bytes_down,
            "fedray_bytes_up": progress.bytes_up,
            "fedray_retries": retries,
        }
        for name, total in totals.items():
            if total > self._counted[name]:  # Ray refuses to add nothing
                self._counters[name].inc(total - self._counted[name])
                self._counted[name] = total
        scored = progress.metrics
        values = {
            "fedray_version": progress.version,
            "fedray_rounds": progress.rounds,
            "fedray_in_flight": progress.in_flight,
            "fedray_virtual_time_seconds": progress.virtual_time_s,
            "fedray_loss": scored.loss if scored else None,
            "fedray_accuracy": scored.accuracy if scored else None,
            "fedray_r2": scored.r2 if scored else None,
        }
        for name, value in values.items():
            if value is not None:
                self._gauges[name].set(value)


def exported() -> set[str]:
    """The names of all series, as Prometheus sees them."""
    return {
        *(f"ray_{name}_total" for name in COUNTERS),
        *(f"ray_{name}" for name in GAUGES),
        *(f"ray_{STALENESS}_{part}" for part in ("bucket", "count", "sum")),
    }
