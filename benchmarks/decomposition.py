"""What `diagnosis.decompose` costs: the same run without it, every fifth version, every version.

    python benchmarks/decomposition.py [--executor local] [--repeats 3]

Prints seconds of training (start-up left out), medians, and their ratio to the run without.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import fedray

CASES: dict[str, dict[str, Any]] = {
    "quickstart": {},
    "MLP 64-64, 60 clients": {
        "model": {"kind": "mlp", "hidden": [64, 64]}, "partition.clients": 60,
        "server.schedule": {"mode": "sync"}, "server.clients_per_round": 10,
    },
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "off": {"diagnosis.decompose": "off"},
    "every 5": {"diagnosis.decompose": 5},
    "every 5, clients 5": {"diagnosis.decompose": 5, "diagnosis.clients": 5},
    "every version": {"diagnosis.decompose": 1},
    "every version, clients 5": {"diagnosis.decompose": 1, "diagnosis.clients": 5},
    "every version, pooled": {"diagnosis.decompose": 1, "diagnosis.pooled": True},
}


def seconds(settings: dict[str, Any], folder: Path) -> float:
    """How long the versions took."""
    return float(fedray.launch(out=folder, **settings).summary["wall_time_s"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--executor", choices=["local", "ray"], default="local")
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    fixed = {"runtime.executor": asked.executor, "output.report": False}
    for case, settings in CASES.items():
        times: dict[str, list[float]] = {name: [] for name in SETTINGS}
        with tempfile.TemporaryDirectory() as temporary:
            for repeat in range(asked.repeats):  # in turns, so that a busy moment hits all
                for name, diagnosis in SETTINGS.items():
                    folder = Path(temporary) / f"{name}-{repeat}"
                    times[name].append(seconds({**fixed, **settings, **diagnosis}, folder))
        without = median(times["off"])
        for name, found in times.items():
            print(f"{case:24} {name:26} {median(found):7.2f} s  x {median(found) / without:.2f}")


if __name__ == "__main__":
    main()
