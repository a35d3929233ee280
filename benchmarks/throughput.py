"""Client updates per second: fedray on Ray beside a bare numpy loop, in one run.

    python benchmarks/throughput.py            both cases, all modes; a few minutes
    python benchmarks/throughput.py --quick    fewer rounds

Two cases on Fashion-MNIST (random data of its shape where the package is absent):
softmax with 1,000 clients, 100 per round, batch 32; an MLP 200-200 with 100 clients, 10
per round, batch 50; one local epoch each, Dirichlet 0.3. Ratios are what counts: both
sides do the same arithmetic on the same machine, turn by turn. Start-up is left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import bare
import numpy as np

import fedray
from fedray.config.load import load
from fedray.simulation.plan import build_plan

FASHION = Path("/usr/share/datasets/fashion-mnist")
CASES = {
    "softmax": {
        "partition": {"scheme": "dirichlet", "clients": 1000, "alpha": 0.3},
        "model": {"kind": "softmax"},
        "client": {"epochs": 1, "batch_size": 32, "lr": 0.05},
        "cohort": 100,
        "rounds": 400,
    },
    "mlp": {
        "partition": {"scheme": "dirichlet", "clients": 100, "alpha": 0.3},
        "model": {"kind": "mlp", "hidden": [200, 200]},
        "client": {"epochs": 1, "batch_size": 50, "lr": 0.05},
        "cohort": 10,
        "rounds": 80,
    },
}


def data_config(folder: Path) -> dict:
    """Fashion-MNIST, or random data of the same shape."""
    if (FASHION / "train-images-idx3-ubyte.gz").exists():
        return {"source": "idx", "path": str(FASHION)}
    rng = np.random.default_rng(0)
    for name, n in (("train", 60_000), ("test", 10_000)):
        y = rng.integers(0, 10, n)
        X = rng.random((n, 784), np.float32) + 0.1 * y[:, None].astype(np.float32)
        np.savez(folder / f"{name}.npz", X=X.astype(np.float32), y=y)
    return {
        "source": "npz", "path": str(folder / "train.npz"), "test_path": str(folder / "test.npz"),
        "standardize": False,
    }  # fmt: skip


def config_of(case: dict, data: dict, rounds: int, *, evaluate: bool, schedule: dict) -> dict:
    """The fedray file of a case."""
    server = {"rounds": rounds, "schedule": schedule}
    if schedule["mode"] == "sync":
        server["clients_per_round"] = case["cohort"]
    return {
        "name": "throughput",
        "data": data,
        "partition": case["partition"],
        "model": case["model"],
        "client": case["client"],
        "server": server,
        "eval": {"every": 1 if evaluate else rounds, "local_losses": False},
        "checkpoint": {"every": 0},
        "output": {"report": False},
        "runtime": {"clients_per_actor": "auto", "cpus": 2},
    }


def fedray_rate(config: dict, warm: int, folder: Path) -> tuple[float, float]:
    """Client updates per second after `warm` versions, and the last accuracy."""
    run = fedray.launch(config, out=folder)
    rounds = run.rounds
    wall, updates = rounds["wall_time_s"].to_numpy(), rounds["updates"].to_numpy()
    rate = updates[warm + 1 :].sum() / (wall[-1] - wall[warm])
    return float(rate), float(run.summary["final"]["accuracy"])


def measure(name: str, data: dict, *, repeats: int, scale: float, folder: Path) -> list[dict]:
    """All rows of one case."""
    case = CASES[name]
    rounds, cohort = max(20, int(case["rounds"] * scale)), case["cohort"]
    warm = rounds // 5
    sync = {"mode": "sync"}
    buffered = {"mode": "buffered", "concurrency": cohort, "buffer_size": cohort}
    probe = load(config_of(case, data, rounds, evaluate=True, schedule=sync))
    plan, federation = build_plan(probe.config, probe.base_dir)
    shards = [federation.shards.load(c) for c in range(federation.clients)]
    common = {
        "cohort": cohort, "batch": case["client"]["batch_size"], "lr": case["client"]["lr"],
        "rounds": rounds, "warm": warm, "start": plan.initial(),
    }  # fmt: skip
    rows = []
    for evaluate in (True, False):
        rates: dict[str, list[float]] = {"bare": [], "sync": [], "buffered": []}
        accuracies: dict[str, float] = {}
        for repeat in range(repeats):
            rate, accuracies["bare"] = bare.run(
                name, shards, federation.X_test, federation.y_test, evaluate=evaluate, **common
            )
            rates["bare"].append(rate)
            for mode, schedule in (("sync", sync), ("buffered", buffered)):
                config = config_of(case, data, rounds, evaluate=evaluate, schedule=schedule)
                rate, accuracies[mode] = fedray_rate(
                    config, warm, folder / f"{name}-{mode}-{evaluate}-{repeat}"
                )
                rates[mode].append(rate)
        middle = {mode: statistics.median(values) for mode, values in rates.items()}
        rows.append(
            {
                "case": name,
                "evaluation": "every version" if evaluate else "left out",
                "bare_per_s": middle["bare"],
                "sync_per_s": middle["sync"],
                "buffered_per_s": middle["buffered"],
                "sync_over_bare": middle["sync"] / middle["bare"],
                "buffered_over_sync": middle["buffered"] / middle["sync"],
                "accuracy": accuracies,
            }
        )
        show(rows[-1])
    return rows


def show(row: dict) -> None:
    accuracy = ", ".join(f"{mode} {value:.3f}" for mode, value in row["accuracy"].items())
    print(
        f"{row['case']:8} evaluation {row['evaluation']:14} "
        f"bare {row['bare_per_s']:8,.0f}/s   sync {row['sync_per_s']:8,.0f}/s "
        f"= {row['sync_over_bare']:.2f} of bare   buffered {row['buffered_per_s']:8,.0f}/s "
        f"= {row['buffered_over_sync']:.2f} of sync   (accuracy: {accuracy})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a quarter of the rounds, once")
    parser.add_argument("--case", choices=CASES, action="append", help="default: both")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each; medians are shown")
    parser.add_argument("--json", action="store_true", help="also print all figures as JSON")
    asked = parser.parse_args()
    repeats, scale = (1, 0.25) if asked.quick else (asked.repeats, 1.0)
    with tempfile.TemporaryDirectory() as scratch:
        data = data_config(Path(scratch))
        rows = [
            row
            for name in asked.case or CASES
            for row in measure(name, data, repeats=repeats, scale=scale, folder=Path(scratch))
        ]
    if asked.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
