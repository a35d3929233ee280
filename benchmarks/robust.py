"""Attack x defence: accuracy of robust rules on digits with 25 clients, and what they cost.

    python benchmarks/robust.py [--seeds 3] [--out robust.html]

Three settings, each a table of test accuracy with 95% t-intervals over seeds, in the terminal
and on one page: 5 of 25 clients malicious, once with IID data and once with Dirichlet(0.3)
label skew, one epoch per round; and 10 of 25, IID, one step of 8 samples per round, so that
honest updates are mostly noise to hide in. Then milliseconds for a version of 100 updates of
100,000 parameters. A few minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

import fedray
from fedray.parts.aggregators.bucketing import Bucketing
from fedray.parts.aggregators.bulyan import Bulyan
from fedray.parts.aggregators.centered_clipping import CenteredClipping
from fedray.parts.aggregators.distances import lengths
from fedray.parts.aggregators.geometric_median import GeometricMedian
from fedray.parts.aggregators.krum import Krum
from fedray.parts.aggregators.mean import Mean
from fedray.parts.aggregators.median import Median
from fedray.parts.aggregators.norm_bound import NormBound
from fedray.parts.aggregators.trimmed_mean import TrimmedMean
from fedray.parts.arrivals import Arrivals
from fedray.report import layout
from fedray.report.diagnosis.effects import Effect
from fedray.report.sweep.charts import Heat, heat_chart
from fedray.report.sweep.merits import Merit, interval

CLIENTS = 25
ACCURACY = Merit("accuracy", "max")
ATTACKS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "label flip": {"kind": "label_flip"},
    "sign flip x 10": {"kind": "sign_flip", "scale": 10.0},
    "Gaussian x 10": {"kind": "gaussian", "scale": 10.0},
    "ALIE, z 1.5": {"kind": "alie", "z": 1.5},
    "IPM, 0.5": {"kind": "ipm", "epsilon": 0.5},
}


class Setting(NamedTuple):
    """A federation, and how many of its clients are malicious."""

    title: str
    malicious: int
    settings: Mapping[str, Any]


EPOCH = {"client.epochs": 1, "client.batch_size": 16, "client.lr": 0.05, "server.rounds": 30}
STEP = {"client.steps": 1, "client.batch_size": 8, "client.lr": 0.1, "server.rounds": 100}
IID = {"partition": {"scheme": "iid", "clients": CLIENTS}}
SKEWED = {"partition": {"scheme": "dirichlet", "clients": CLIENTS, "alpha": 0.3}}
SETTINGS = {
    "iid": Setting("5 of 25 malicious, IID, one epoch per round", 5, IID | EPOCH),
    "skewed": Setting("5 of 25 malicious, Dirichlet(0.3), one epoch per round", 5, SKEWED | EPOCH),
    "noisy": Setting("10 of 25 malicious, IID, one step of 8 samples per round", 10, IID | STEP),
}


def defences(malicious: int) -> dict[str, Mapping[str, Any]]:
    """Rules told how many attackers there are; those that cannot stand so many are left out."""
    of = {"server.aggregator.f": malicious}
    found: dict[str, Mapping[str, Any]] = {
        "mean": {"algorithm": "fedavg", "server.weighting": "uniform"},
        "median": {"algorithm": "median"},
        "trimmed mean": {
            "algorithm": "trimmed_mean", "server.aggregator.trim": malicious / CLIENTS,
        },
        "Krum": {"algorithm": "krum", **of},
        "Multi-Krum": {"algorithm": "multi_krum", **of},
        "RFA": {"algorithm": "rfa", "server.weighting": "uniform"},
        "Bulyan": {"algorithm": "bulyan", **of},
        "norm bound": {"algorithm": "norm_bound", "server.weighting": "uniform"},
        "centered clipping": {"algorithm": "centered_clipping"},
        "bucketing, Krum": {
            "algorithm": "bucketing", "server.aggregator.inner": {"kind": "krum", "f": malicious},
        },
    }  # fmt: skip
    if 4 * malicious + 3 > CLIENTS:
        del found["Bulyan"]
    if 2 * malicious + 3 > -(-CLIENTS // 2):
        del found["bucketing, Krum"]
    return found


def accuracy(settings: Mapping[str, Any]) -> float:
    """Test accuracy of the last version of a run in this process."""
    with tempfile.TemporaryDirectory() as folder:
        run = fedray.launch(
            {
                "name": "robust", "server": {"schedule": {"mode": "sync"}},
                "eval": {"every": 1000, "local_losses": False}, "checkpoint": {"every": 0},
                "runtime": {"executor": "local"}, "output": {"report": False},
            },
            out=Path(folder) / "run", **settings,
        )  # fmt: skip
        return float(run.summary["final"]["accuracy"])


def cells(setting: Setting, seeds: int) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The runs of every (defence, attack), one per seed."""
    return {
        (defence, attack): [
            {
                **setting.settings, **rule, "seed": seed,
                **({"attack": {**what, "share": setting.malicious / CLIENTS}} if what else {}),
            }
            for seed in range(seeds)
        ]
        for defence, rule in defences(setting.malicious).items()
        for attack, what in ATTACKS.items()
    }  # fmt: skip


Found = dict[tuple[str, str], Effect]


def measure(setting: Setting, seeds: int, pool: ProcessPoolExecutor) -> Found:
    """Accuracy of every (defence, attack), with its interval over seeds."""
    runs = cells(setting, seeds)
    flat = [one for each in runs.values() for one in each]
    values = list(pool.map(accuracy, flat))
    grouped = [values[i : i + seeds] for i in range(0, len(values), seeds)]
    return {cell: interval(each, ACCURACY.bounds) for cell, each in zip(runs, grouped, strict=True)}


def half(of: Effect) -> str:
    """`91.2 ±0.5`, in percent."""
    if of.low is None or of.high is None:
        return f"{100 * of.value:.1f}"
    return f"{100 * of.value:.1f} ±{100 * max(of.high - of.value, of.value - of.low):.1f}"


def show(setting: Setting, found: Found, console: Console) -> None:
    """A table in the terminal: worse than 3/4 of the mean without attackers is marked."""
    clean = found["mean", "none"].value
    table = Table(title=f"{setting.title}: test accuracy, %", title_justify="left")
    table.add_column("", no_wrap=True)
    for attack in ATTACKS:
        table.add_column(attack, justify="right", no_wrap=True)
    for defence in dict.fromkeys(rule for rule, _ in found):
        of = [found[defence, attack] for attack in ATTACKS]
        colours = ["red" if each.value < 0.75 * clean else "green" for each in of]
        marked = [f"[{c}]{half(e)}[/{c}]" for c, e in zip(colours, of, strict=True)]
        table.add_row(defence, *marked)
    console.print(table)


def section(name: str, found: Found) -> layout.Section:
    """A heat map and the same in figures."""
    rows = list(dict.fromkeys(rule for rule, _ in found))
    columns = list(ATTACKS)
    values = np.array([[found[rule, attack].value for attack in columns] for rule in rows])
    title = SETTINGS[name].title
    picture = layout.Picture(
        id=name, title="Test accuracy", about=f"Accuracy by defence and attack: {title}",
        chart=heat_chart(
            Heat(rows[::-1], columns, values[::-1]), ACCURACY, (0.0, 1.0), ("defence", "attack")
        ),
        note="Darker is better. Every rule is told how many attackers there are.",
    )  # fmt: skip
    table = layout.Table(
        "Accuracy in %, mean over seeds and 95% t-interval", ["defence", *columns],
        [[rule, *(half(found[rule, attack]) for attack in columns)] for rule in rows], columns,
    )  # fmt: skip
    return layout.Section(name, title, pictures=[picture], tables=[table])


def write(out: Path, measured: Mapping[str, Found]) -> None:
    """One page that opens offline."""
    sections = [section(name, found) for name, found in measured.items()]
    pictures = [picture for each in sections for picture in each.all_pictures]
    page = layout.fill_template(
        "compare.html", pictures, title="Attacks and defences", sections=sections
    )
    layout.write_page(page, out)


def costs(console: Console, updates: int = 100, parameters: int = 100_000) -> None:
    """Milliseconds of processor time of every rule for one version, beside the mean."""
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(updates, parameters)).astype(np.float32)
    none, shares = np.zeros(updates, np.int64), np.full(updates, 1 / updates)
    group = Arrivals(
        vectors,
        shares,
        np.arange(updates),
        none,
        none,
        none,
        shares,
        shares,
        shares=shares,
        norms=lengths(vectors),
    )
    rules = (
        Mean(), NormBound(), CenteredClipping(), Median(), TrimmedMean(), GeometricMedian(),
        Krum(f=20), Bulyan(f=20), Bucketing(inner=Krum(f=20)),
    )  # fmt: skip
    table = Table(title=f"A version of {updates} updates of {parameters:,} parameters, one core")
    for title in ("rule", "ms", "times the mean"):
        table.add_column(title, justify="left" if title == "rule" else "right")
    took_s: dict[str, float] = {}
    for rule in rules:
        best = float("inf")
        for _ in range(5):
            began_s = time.process_time()
            rule.combine(group, {})
            best = min(best, time.process_time() - began_s)
        took_s[rule.kind] = best
    for kind, seconds in took_s.items():
        table.add_row(kind, f"{1e3 * seconds:.1f}", f"{seconds / took_s['mean']:.1f}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--setting", choices=SETTINGS, action="append", help="default: all")
    parser.add_argument("--out", type=Path, default=Path("robust.html"), help="the page")
    asked = parser.parse_args()
    console, measured = Console(width=120), {}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for name in asked.setting or SETTINGS:
            measured[name] = measure(SETTINGS[name], asked.seeds, pool)
            show(SETTINGS[name], measured[name], console)
    with threadpool_limits(limits=1):
        costs(console)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    write(asked.out, measured)
    console.print(f"wrote {asked.out}")


if __name__ == "__main__":
    main()
