"""What every algorithm costs at the server, beside FedAvg: 100 updates of 100,000 parameters.

    python benchmarks/server.py [--repeats 15] [--only NAME ...] [--json]

Every registered algorithm that acts at the server, every aggregator and every server optimizer
makes versions from the same random updates, in turns with FedAvg in the same process; the least
processor time of all turns, on one core. Two figures per update, each with its ratio to FedAvg's:

    rule    `GlobalModel.apply`: from the group of updates to the next version
    all     that, storing what the clients remember, and the figures of the flight recorder

For what is beyond 1.5 times FedAvg's `rule`, what the mathematics asks for and what that takes in
bare numpy (`arithmetic.py`), measured in the same turns, beside the same for FedAvg: one product of
weights and updates. Marked red is what is not known to be asked for, or what takes more than 1.5
times as much more than FedAvg as it does bare.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from arithmetic import DEMANDS, weighted_sum
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from fedray.config.load import load
from fedray.config.presets import ALGORITHMS, leaves
from fedray.learning.work import Results
from fedray.parts.aggregators import AGGREGATORS
from fedray.parts.aggregators.distances import lengths
from fedray.simulation.events import Job
from fedray.simulation.memories import memories_of
from fedray.simulation.plan import Plan, build_plan
from fedray.simulation.server import GlobalModel
from fedray.simulation.step import describe
from fedray.types import Matrix

UPDATES, HIDDEN, LIMIT = 100, (512, 128), 1.5
BASE: Mapping[str, Any] = {
    "data": {"source": "digits"}, "runtime": {"executor": "local"},
    "partition": {"scheme": "iid"}, "model": {"kind": "mlp"},
}  # fmt: skip
ELSEWHERE: Mapping[str, str] = {
    "selection": "who is asked is decided before anything is trained",
}
"""Families of which nothing happens between a group of updates and the next version."""
APART: Mapping[str, str] = {
    "secagg": "the masks of all pairs of clients, which are the clients' work, are made there too",
}
"""Algorithms whose time at the simulated server says nothing of a server's."""


class Case(NamedTuple):
    """An algorithm, ready to make versions."""

    name: str
    family: str
    plan: Plan


class Cost(NamedTuple):
    """Microseconds of processor time per update, and the ratios to FedAvg's of the same turn."""

    name: str
    family: str
    rule_us: float
    all_us: float
    rule: float
    all: float
    bare_us: float | None = None
    """Of the arithmetic alone, where it is known to be more than FedAvg's."""
    bare: float | None = None
    """Times FedAvg's arithmetic alone."""

    @property
    def reason(self) -> str:
        """Why it may cost more than the limit; empty where it does not, or without a reason."""
        demand = DEMANDS.get(self.name)
        return demand.why if demand and self.rule > LIMIT else ""

    @property
    def demanded(self) -> bool:
        """Whether it costs no more than it may: as FedAvg, or as its arithmetic has it."""
        return self.rule <= LIMIT * (self.bare or 1.0)


def settings(updates: int, hidden: Sequence[int]) -> dict[str, Any]:
    """A federation in which all clients make each version."""
    return {
        **BASE, "partition.clients": updates, "model.hidden": list(hidden),
        "server.clients_per_round": "all",
    }  # fmt: skip


def cases(updates: int, hidden: Sequence[int]) -> Iterator[Case]:
    """All that acts at the server: algorithms by name, and aggregators that have none."""
    base = settings(updates, hidden)
    named: set[str] = set()
    for name, card in ALGORITHMS.items():
        values = dict(leaves(card.values))
        named.add(values.get("server.aggregator.kind", ""))
        if card.family in ELSEWHERE or name in APART:
            continue
        schedule = values.get("server.schedule.mode", "sync")
        one = {**base, "algorithm": name}
        if schedule == "async" or "privacy.kind" in values:
            del one["server.clients_per_round"]
        if schedule == "buffered":
            del one["server.clients_per_round"]
            one["server.schedule.buffer_size"] = updates
        if schedule != "sync":
            one["server.schedule.concurrency"] = updates
        if values.get("server.selection.kind") == "poisson":
            one["server.clients_per_round"] = 0.5
        yield Case(name, card.family, _plan(one))
    for kind in AGGREGATORS:
        if kind.kind not in named:
            one = {**base, "server.aggregator.kind": kind.kind, "server.weighting": "uniform"}
            yield Case(kind.kind, "robust", _plan(one))


def _plan(overrides: Mapping[str, Any]) -> Plan:
    loaded = load({}, overrides)
    return build_plan(loaded.config, loaded.base_dir)[0]


class Bench:
    """One server, fed with the same updates over and over."""

    def __init__(self, case: Case, updates: np.ndarray, uploads: np.ndarray, folder: Path) -> None:
        plan = case.plan
        self._memories = memories_of(plan, folder)
        w = plan.initial()
        self._model = GlobalModel(plan, w, table=self._memories.get("table"))
        self._w, self._sizes = w, plan.sizes
        mixes = plan.config.server.schedule.mode == "async"
        count = len(updates)
        groups = [[i] for i in range(count)] if mixes else [list(range(count))]
        self._groups = [(rows, self._results(plan, rows, updates, uploads)) for rows in groups]

    def _results(
        self, plan: Plan, rows: list[int], updates: np.ndarray, uploads: np.ndarray
    ) -> Results:
        count, work = len(rows), plan.work
        losses = np.linspace(0.5, 2.0, count)
        remembered = (count, work.state_vectors, updates.shape[1])
        return Results(
            deltas=updates[rows], steps=np.full(count, 5), norm=lengths(updates[rows]),
            loss_before=losses, loss_after=0.9 * losses,
            uploads=np.repeat(uploads[rows, None], work.method.uploads, axis=1),
            states=np.broadcast_to(updates[rows][:, None], remembered),
            loss_square=losses**2, labels=np.zeros(count, np.int64),
        )  # fmt: skip

    def once(self) -> tuple[float, float]:
        """Processor seconds for all updates: of the rule, and of all that the server does."""
        rule_s = rest_s = 0.0
        for rows, results in self._groups:
            model = self._model
            if model.wants_gradient:
                model.attach(self._w)
            jobs = [Job(i, i, model.version, 0.0, 1.0, False) for i in rows]
            examples = self._sizes[rows]
            began = time.thread_time()
            step = model.apply(jobs, results, examples)
            rule_s += time.thread_time() - began
            model.keep([])
            began = time.thread_time()
            clients = self._memories.get("clients")
            if clients is not None:
                for job, state in zip(jobs, results.states, strict=True):
                    clients.remember(job.client, state, job.dispatch)
            describe(step)
            rest_s += time.thread_time() - began
        return rule_s, rule_s + rest_s


def measure(
    of: Case, fedavg: Bench, updates: np.ndarray, uploads: np.ndarray, repeats: int
) -> Cost:
    """Turn by turn with FedAvg; the least of all turns, since noise only ever adds."""
    demand = DEMANDS.get(of.name)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(of, updates, uploads, Path(folder))
        bench.once()
        turns = [(fedavg.once(), bench.once()) for _ in range(repeats)]
    base, own = (np.min([turn[side] for turn in turns], axis=0) for side in (0, 1))
    each_us = 1e6 / len(updates)
    found = Cost(of.name, of.family, *(each_us * own).tolist(), *(own / base).tolist())
    if demand is None:
        return found
    both = (weighted_sum, demand.bare)
    spare = uploads.copy()
    took = np.min([[_timed(one, updates, spare) for one in both] for _ in range(repeats)], axis=0)
    return found._replace(bare_us=float(each_us * took[1]), bare=float(took[1] / took[0]))


def _timed(bare: Callable[[Matrix, Matrix], None], updates: Matrix, others: Matrix) -> float:
    began = time.thread_time()
    bare(updates, others)
    return time.thread_time() - began


def measure_all(
    updates: int, hidden: Sequence[int], repeats: int, only: Sequence[str] = ()
) -> Iterator[Cost]:
    """The cost of every case, FedAvg first."""
    with tempfile.TemporaryDirectory() as folder:
        first: Bench | None = None
        for case in cases(updates, hidden):
            if first is None:
                vectors = np.random.default_rng(0).normal(
                    scale=0.01, size=(2, updates, case.plan.work.model.size)
                )
                sent, more = vectors.astype(np.float32)
                first = Bench(case, sent, more, Path(folder))
                first.once()
            if not only or case.name in only:
                yield measure(case, first, sent, more, repeats)


def table_of(costs: Sequence[Cost]) -> Table:
    """A row per algorithm, those above the limit marked."""
    table = Table(title=f"Microseconds per update of 100,000 parameters, {UPDATES} at a time")
    for name in ("algorithm", "rule", "all", "bare", "why more"):
        justify: Literal["right", "left"] = "right" if name in ("rule", "all", "bare") else "left"
        table.add_column(name, justify=justify, no_wrap=name != "why more")
    for each in costs:
        rule, bare, why = f"{each.rule_us:.0f} ({each.rule:.2f})", "", ""
        if each.rule > LIMIT:
            rule = f"[{'yellow' if each.demanded else 'red'}]{rule}[/]"
            bare = f"{each.bare_us:.0f} ({each.bare:.2f})" if each.bare is not None else ""
            why = each.reason or "not known"
        table.add_row(each.name, rule, f"{each.all_us:.0f} ({each.all:.2f})", bare, why)
    table.caption = "(times FedAvg's)"
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="default: all")
    parser.add_argument("--json", action="store_true", help="figures instead of a table")
    asked = parser.parse_args()
    progress = Console(stderr=True)
    found = []
    with threadpool_limits(limits=1):  # scipy's too, which `distances` has loaded
        for cost in measure_all(UPDATES, HIDDEN, asked.repeats, asked.only):
            progress.print(f"{cost.name}: {cost.rule:.2f}", highlight=False)
            found.append(cost)
    if asked.json:
        print(json.dumps([{**cost._asdict(), "reason": cost.reason} for cost in found], indent=1))
        return
    Console(width=None if sys.stdout.isatty() else 120).print(table_of(found))
    for name, reason in {**ELSEWHERE, **APART}.items():
        print(f"left out: {name}: {reason}")
    without = [cost.name for cost in found if not cost.demanded]
    print(f"above {LIMIT} times FedAvg, and its own arithmetic: {', '.join(without) or 'none'}")


if __name__ == "__main__":
    main()
