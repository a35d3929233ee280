"""Algorithms on skewed data: accuracy, the worst tenth of clients, bytes, time to a target.

    python benchmarks/algorithms.py                 digits; minutes on two cores
    python benchmarks/algorithms.py --quick         a third of the rounds, three seeds
    python benchmarks/algorithms.py --data PATH     Fashion-MNIST (idx folder), 6,000 samples

Splits: Dirichlet 0.1 and 0.5, and two classes per client. Schedules: rounds with half of the
clients, and a buffer of as many updates in all; who makes a version per update does so. The list
of algorithms is fedray's own: all of the chosen families, by name, with the values of their
presets. Seeds are common random numbers: seed s draws the same split, the same devices and the
same clients' minibatches for all. Means and 95% t-intervals over seeds; how far an algorithm is
ahead of FedAvg is by the differences of each seed, which say more than the levels' intervals.

Then the orderings that the literature reports (`orderings.py`), each tried where it should hold.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from orderings import ORDERINGS, Verdict, judged
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

import fedray
from fedray.config.load import load
from fedray.config.presets import ALGORITHMS
from fedray.errors import InputError
from fedray.parts.cards import FAMILIES, Algorithm
from fedray.report import words
from fedray.report.diagnosis.effects import Effect
from fedray.report.figures import curve
from fedray.report.sweep.merits import Merit, interval
from fedray.report.sweep.rows import bytes_by_version, worst_decile

Settings = Mapping[str, Any]

DEFAULT_FAMILIES = ("optimisation", "asynchronous", "selection", "quality", "communication")
"""The others have a question of their own: attackers, epsilon, models of the clients' own."""
CLIENTS, COHORT = 20, 10
SPLITS: Mapping[str, Settings] = {
    "Dirichlet 0.1": {"partition": {"scheme": "dirichlet", "clients": CLIENTS, "alpha": 0.1}},
    "Dirichlet 0.5": {"partition": {"scheme": "dirichlet", "clients": CLIENTS, "alpha": 0.5}},
    "2 classes": {
        "partition": {"scheme": "shards", "clients": CLIENTS, "classes_per_client": 2}
    },
}  # fmt: skip
SCHEDULES = ("sync", "buffered")
ACCURACY, WORST = Merit("accuracy", "max"), Merit("worst_decile_accuracy", "max")
SHARE = 0.95
"""The target: this share of what FedAvg comes to in rounds, on the same split."""


class Run(NamedTuple):
    """What is kept of a run. `times`, `bytes` and `values` (evaluations,) are its curve."""

    final: float
    worst: float
    total_bytes: float
    times: list[float]
    bytes: list[float]
    values: list[float]

    def cost(self, target: float, of: str = "times") -> float:
        """Virtual seconds, or bytes, up to the first evaluation that is as good; else infinite."""
        there = np.flatnonzero(np.asarray(self.values) >= target)
        return float(getattr(self, of)[there[0]]) if len(there) else float("inf")

    def spent(self, of: str) -> float:
        """Virtual seconds, or bytes, of all of it."""
        return float(getattr(self, of)[-1])


def common(rounds: int, data: Settings) -> dict[str, Any]:
    """What all runs have in common. One device in six is 2.7 times as slow as the median."""
    return {
        "name": "algorithms", "data": dict(data), "model": {"kind": "softmax"},
        "client": {"epochs": 2, "batch_size": 16, "lr": 0.05},
        "server": {"rounds": rounds},
        "devices": {"compute": {"kind": "lognormal", "median": 200, "sigma": 1.0}},
        "eval": {"every": 1}, "checkpoint": {"every": 0}, "output": {"report": False},
        "runtime": {"executor": "local"},
    }  # fmt: skip


def schedule_of(card: Algorithm, table: str, rounds: int) -> dict[str, Any] | None:
    """The settings of an algorithm in one of the tables; None where it is no part of it.

    All get as many client updates. Rounds are for what is made for rounds; what has a schedule
    of its own keeps it beside the buffered ones.
    """
    home = card.values.get("server", {}).get("schedule", {}).get("mode", "sync")
    updates, buffer = rounds * COHORT, COHORT // 2
    if table == "sync":
        sync = {"server.schedule.mode": "sync", "server.clients_per_round": COHORT}
        return None if home != "sync" else {**sync, "server.rounds": rounds}
    mode = "buffered" if home == "sync" else home
    if mode in card.refuses:
        return None
    chosen = {"server.schedule.mode": mode, "server.schedule.concurrency": COHORT}
    if mode == "async":
        return {**chosen, "server.rounds": updates, "eval.every": buffer}
    return {
        **chosen, "server.schedule.buffer_size": buffer, "server.rounds": updates // buffer,
    }  # fmt: skip


class Cell(NamedTuple):
    """A row of a table, before it is run."""

    split: str
    table: str
    name: str
    base: Settings
    settings: Settings


def cells(
    names: Sequence[str], rounds: int, data: Settings, splits: Sequence[str]
) -> tuple[list[Cell], dict[str, str]]:
    """All rows, and of what cannot be set up that way, why."""
    found: list[Cell] = []
    left: dict[str, str] = {}
    for split in splits:
        for table in SCHEDULES:
            for name in names:
                card = ALGORITHMS[name]
                if "every_s" in card.values.get("server", {}).get("schedule", {}):
                    left[name] = "makes versions by the clock, not of so many updates"
                    continue
                chosen = schedule_of(card, table, rounds)
                if chosen is None:
                    continue
                base: Settings = common(rounds, data) | SPLITS[split]
                chosen = {**chosen, "algorithm": name, **everybody(card)}
                try:
                    base, chosen = settled(base, chosen)
                except InputError as error:
                    left[f"{name}, {table}"] = str(error)
                    continue
                found.append(Cell(split, table, name, base, chosen))
    return found, left


def settled(base: Settings, chosen: Settings) -> tuple[Settings, Settings]:
    """A run's file and overrides: what a preset sets of the client stays as it is, and local
    losses, which cost two passes, are left out unless they are part of the algorithm."""
    preset = ALGORITHMS[chosen["algorithm"]].values.get("client", {})
    taken = {*preset, "epochs"} if "steps" in preset else {*preset}
    client = {key: value for key, value in base["client"].items() if key not in taken}
    base = {**base, "client": client}
    try:
        load(base, {**chosen, "eval.local_losses": False})
    except InputError:
        load(base, chosen)
        return base, chosen
    return base, {**chosen, "eval.local_losses": False}


def everybody(card: Algorithm) -> dict[str, Any]:
    """Some methods are defined for all clients in every round only."""
    all_of_them = card.values.get("server", {}).get("clients_per_round") == "all"
    return {"server.clients_per_round": "all"} if all_of_them else {}


def run(source: Settings, settings: Settings) -> Run:
    """One run in this process."""
    with tempfile.TemporaryDirectory() as folder:
        made = fedray.launch(dict(source), out=Path(folder) / "run", **settings)
        found = curve(made.rounds, "accuracy")
        moved = bytes_by_version(made)
        versions = made.rounds.column("version").to_pylist()
        rows = np.searchsorted(versions, found.versions)
        worst = worst_decile(made)
        return Run(
            float(made.summary["final"]["accuracy"]), float("nan") if worst is None else worst,
            float(moved[-1]), found.times.tolist(), moved[rows].tolist(), found.values.tolist(),
        )  # fmt: skip


Task = tuple[Settings, Settings]
Mapped = Callable[[Sequence[Task]], list[Run]]


def in_this_process(tasks: Sequence[Task]) -> list[Run]:
    """One after the other."""
    return [run(*task) for task in tasks]


def in_processes(tasks: Sequence[Task], console: Console, processes: int) -> list[Run]:
    """As many at a time as there are cores, with a bar."""
    found: dict[int, Run] = {}
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        ProcessPoolExecutor(processes, mp_context=mp.get_context("spawn")) as pool,
        Progress(*columns, console=console) as bar,
    ):
        shown = bar.add_task("runs", total=len(tasks))
        futures = {pool.submit(run, *task): place for place, task in enumerate(tasks)}
        for future in as_completed(futures):
            found[futures[future]] = future.result()
            bar.advance(shown)
    return [found[place] for place in range(len(tasks))]


class Row(NamedTuple):
    """What a table says of an algorithm: means over seeds."""

    split: str
    table: str
    name: str
    accuracy: Effect
    ahead: Effect
    """Of FedAvg on the same schedule, seed by seed."""
    worst: Effect
    bytes: Effect
    time_s: Effect | None
    """To the target; None unless all seeds reach it."""
    reached: int
    seeds: int


def rows_of(of: Sequence[Cell], runs: Sequence[Sequence[Run]]) -> Iterator[Row]:
    """Means and intervals; each split's target follows from FedAvg in rounds."""
    targets = targets_of(of, runs)
    base = {
        (cell.split, cell.table): own
        for cell, own in zip(of, runs, strict=True)
        if cell.name == "fedavg"
    }
    for cell, own in zip(of, runs, strict=True):
        costs = [each.cost(targets[cell.split]) for each in own]
        reached = int(np.isfinite(costs).sum())
        yield Row(
            cell.split, cell.table, cell.name,
            interval([each.final for each in own], ACCURACY.bounds),
            interval([
                each.final - plain.final
                for each, plain in zip(own, base[cell.split, cell.table], strict=True)
            ]),
            interval([each.worst for each in own], WORST.bounds),
            interval([each.total_bytes for each in own], (0.0, float("inf"))),
            interval(costs, (0.0, float("inf"))) if reached == len(own) else None,
            reached, len(own),
        )  # fmt: skip


def targets_of(of: Sequence[Cell], runs: Sequence[Sequence[Run]]) -> dict[str, float]:
    """By split, a share of FedAvg's mean accuracy in rounds."""
    return {
        cell.split: SHARE * float(np.mean([each.final for each in own]))
        for cell, own in zip(of, runs, strict=True)
        if (cell.name, cell.table) == ("fedavg", "sync")
    }


def half(of: Effect, scale: float = 1.0, digits: int = 1) -> str:
    """`91.2 ±0.5`; one number where there is no interval."""
    if of.low is None or of.high is None:
        return f"{scale * of.value:.{digits}f}"
    far = max(of.high - of.value, of.value - of.low)
    return f"{scale * of.value:.{digits}f} ±{scale * far:.{digits}f}"


def table_of(rows: Sequence[Row], target: float) -> Table:
    """One split and schedule, the best accuracy first."""
    split, schedule = rows[0].split, rows[0].table
    table = Table(title=f"{split}, {schedule}; target {words.percent(target)}")
    table.add_column("algorithm", no_wrap=True)
    for title in ("accuracy, %", "ahead of FedAvg", "worst tenth, %", "MB", "time to target"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in sorted(rows, key=lambda each: -each.accuracy.value):
        in_time = (
            f"in {row.reached} of {row.seeds}" if row.time_s is None else half(row.time_s) + " s"
        )
        table.add_row(
            row.name, half(row.accuracy, 100), half(row.ahead, 100), half(row.worst, 100),
            half(row.bytes, 1e-6, 2), in_time,
        )  # fmt: skip
    return table


def verdicts_of(verdicts: Sequence[Verdict]) -> Table:
    """What the literature says, and what came out here."""
    table = Table(title="Orderings that the literature reports")
    for title in ("claim", "here", "source"):
        table.add_column(title, overflow="fold")
    colours = {"holds": "green", "does not hold": "red", "cannot be told": "yellow"}
    for each in verdicts:
        word = f"[{colours[each.word]}]{each.word}[/]: {each.said}"
        table.add_row(each.claim, word, each.source)
    return table


class Result(NamedTuple):
    """All that was found."""

    rows: list[Row]
    targets: dict[str, float]
    verdicts: list[Verdict]
    left: dict[str, str]


def compare(
    names: Sequence[str], rounds: int, seeds: int, data: Settings, runner: Mapped, *,
    splits: Sequence[str] = tuple(SPLITS), orderings: bool = True,
) -> Result:  # fmt: skip
    """Runs everything: the tables, and each side of each ordering."""
    of, left = cells(names, rounds, data, splits)
    tasks: list[Task] = [
        (cell.base, {**cell.settings, "seed": seed}) for cell in of for seed in range(seeds)
    ]
    claims = ORDERINGS if orderings else ()
    for claim in claims:
        for side in (claim.better, claim.worse):
            source = common(rounds, data) | claim.setting(rounds)
            tasks += [settled(source, {**side, "seed": seed}) for seed in range(seeds)]
    found = runner(tasks)
    groups = [found[i : i + seeds] for i in range(0, len(found), seeds)]
    table, rest = groups[: len(of)], groups[len(of) :]
    verdicts = [
        judged(claim, better, worse)
        for claim, better, worse in zip(claims, rest[::2], rest[1::2], strict=True)
    ]
    return Result(list(rows_of(of, table)), targets_of(of, table), verdicts, left)


def show(result: Result, console: Console) -> None:
    """The tables, then the orderings."""
    for split, target in result.targets.items():
        for table in SCHEDULES:
            rows = [row for row in result.rows if (row.split, row.table) == (split, table)]
            if rows:
                console.print(table_of(rows, target))
    for name, reason in result.left.items():
        console.print(f"left out: {name}: {reason}", highlight=False)
    if result.verdicts:
        console.print(verdicts_of(result.verdicts))


def as_json(result: Result) -> str:
    """Everything as one document."""

    def plain(of: Any) -> Any:
        if isinstance(of, Effect | Row | Verdict):
            return {name: plain(value) for name, value in of._asdict().items()}
        return of

    return json.dumps(
        {
            "rows": [plain(row) for row in result.rows], "targets": result.targets,
            "orderings": [plain(each) for each in result.verdicts], "left_out": result.left,
        },
        indent=1,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a third of the rounds, three seeds")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--data", type=Path, help="folder in idx format; default: digits")
    parser.add_argument("--limit", type=int, default=6000, help="samples of --data")
    parser.add_argument("--family", choices=FAMILIES, action="append", help="default: most")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="these algorithms and fedavg")
    parser.add_argument("--json", action="store_true", help="figures instead of tables")
    asked = parser.parse_args()
    rounds, seeds = (asked.rounds // 3, 3) if asked.quick else (asked.rounds, asked.seeds)
    data: dict[str, Any] = {"source": "digits"}
    if asked.data:
        data = {"source": "idx", "path": str(asked.data), "limit": asked.limit}
    families = asked.family or DEFAULT_FAMILIES
    names = [n for n, card in ALGORITHMS.items() if card.family in families]
    if asked.only is not None:
        names = list(dict.fromkeys(["fedavg", *asked.only]))
    stderr = Console(stderr=True)
    cores = os.cpu_count() or 1
    result = compare(
        names, rounds, seeds, data, lambda tasks: in_processes(tasks, stderr, cores)
    )  # fmt: skip
    if asked.json:
        print(as_json(result))
    else:
        show(result, Console())


if __name__ == "__main__":
    main()
