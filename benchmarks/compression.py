"""What each code costs and saves: bytes, accuracy after the same rounds, time to encode.

    python benchmarks/compression.py [--rounds 40] [--seeds 3]

Digits, Dirichlet 0.3 over 20 clients, 5 of them per round. Prints bytes per job each way, mean
and range of the final accuracy, virtual time, and milliseconds to encode and decode 100,000
parameters.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import fedray
from fedray import rng
from fedray.config.load import load

CASES: dict[str, dict[str, Any]] = {
    "none": {},
    "topk 10 %": {"algorithm": "topk", "compression.up.fraction": 0.1},
    "topk 1 %": {"algorithm": "topk"},
    "topk 1 %, no feedback": {"algorithm": "topk", "compression.up.error_feedback": False},
    "randomk 10 %": {"algorithm": "randomk"},
    "randomk 10 %, feedback": {"algorithm": "randomk", "compression.up.error_feedback": True},
    "qsgd 15 levels": {"algorithm": "qsgd"},
    "qsgd 1 level": {"algorithm": "qsgd", "compression.up.levels": 1},
    "signs, feedback": {"algorithm": "efsignsgd"},
    "signs, majority": {"algorithm": "signsgd"},
    "float16": {"compression.up.kind": "float16"},
    "bfloat16 both ways": {"compression.up.kind": "bfloat16", "compression.down.kind": "bfloat16"},
    "int8 both ways": {"compression.up.kind": "int8", "compression.down.kind": "int8"},
}


def encoding_ms(settings: dict[str, Any]) -> float:
    """There and back, 100,000 parameters."""
    code = load({}, settings).config.compression.up
    vector = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    started = time.perf_counter()
    for repeat in range(10):
        code.carry(vector, rng.generator(repeat, rng.Stream.COMPRESS))
    return (time.perf_counter() - started) * 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    fixed = {
        "runtime.executor": "local", "output.report": False, "partition.alpha": 0.3,
        "server.schedule.mode": "sync", "server.rounds": asked.rounds,
        "server.clients_per_round": 5, "eval.local_losses": False,
    }  # fmt: skip
    print(
        f"{'':24}{'up':>8}{'down':>8}  {'accuracy (lowest, highest)':28}{'virtual':>9}{'code':>8}"
    )
    for name, settings in CASES.items():
        with tempfile.TemporaryDirectory() as temporary:
            runs = [
                fedray.launch(out=Path(temporary) / f"{seed}", seed=seed, **{**fixed, **settings})
                for seed in range(asked.seeds)
            ]
            row = runs[0].updates.slice(0, 1).to_pylist()[0]
            found = [run.summary["final"]["accuracy"] for run in runs]
            took_s = np.mean([run.summary["virtual_time_s"] for run in runs])
        spread = f"{np.mean(found):.3f} ({min(found):.3f}, {max(found):.3f})"
        print(
            f"{name:24}{row['bytes_up']:6} B{row['bytes_down']:6} B  {spread:28}"
            f"{took_s:7.1f} s{encoding_ms(settings):5.1f} ms"
        )


if __name__ == "__main__":
    main()
