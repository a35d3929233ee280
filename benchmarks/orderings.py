"""Orderings that the literature reports, and whether they hold here.

Each is tried in a setting of its own, where the paper's reason for it is at work. Both sides run
with the same seeds, and the verdict is by the paired difference over seeds: it holds, or does
not hold, where the 95% t-interval excludes zero, else it cannot be told. Levels are not claimed:
they belong to the papers' data and models (on CIFAR-10 with 10 of 100 clients, SCAFFOLD stays at
10%, as NIID-Bench found).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, log
from typing import Any, Literal, NamedTuple

import numpy as np

from fedray.report.diagnosis.effects import Effect
from fedray.report.sweep.merits import interval

Settings = Mapping[str, Any]
Measure = Literal["final", "worst", "times", "bytes"]

ALL = {"server.schedule.mode": "sync", "server.clients_per_round": "all"}


def dirichlet(alpha: float, clients: int = 20) -> dict[str, Any]:
    return {"partition": {"scheme": "dirichlet", "clients": clients, "alpha": alpha}}


@dataclass(frozen=True)
class Ordering:
    """`better` should be ahead of `worse` in `measure`: accuracy, or cost to a target."""

    claim: str
    source: str
    better: Settings
    worse: Settings
    base: Settings
    measure: Measure = "final"
    share: float = 1.0
    """Of the given number of rounds."""
    target: float = 0.95
    """For costs: this share of what the better one comes to."""

    def setting(self, rounds: int) -> dict[str, Any]:
        """What both sides have in common."""
        return {**self.base, "server": {"rounds": max(2, round(self.share * rounds))}}


LONG = {"client": {"epochs": 10, "batch_size": 16, "lr": 0.05}}
SKEW = {**dirichlet(0.1), **LONG}
SLOW = {
    **dirichlet(0.5), "devices": {"duration": {"kind": "pareto", "minimum": 1.0, "shape": 1.2}},
}  # fmt: skip
STALE = {
    **dirichlet(0.1, 40),
    "devices": {"duration": {"kind": "exponential", "mean": 10.0}},
}
BUFFER = {"server.schedule.concurrency": 10, "server.schedule.buffer_size": 5}
STALE_BUFFER = {"server.schedule.concurrency": 20, "server.schedule.buffer_size": 10}

SHARDS = {"partition": {"scheme": "shards", "clients": 20, "classes_per_client": 2}}
FEW = {"server.schedule.mode": "sync", "server.clients_per_round": 4}

ORDERINGS: tuple[Ordering, ...] = (
    Ordering(
        "SCAFFOLD is ahead of FedAvg at many local steps under strong skew",
        "Karimireddy et al. 2020",
        {"algorithm": "scaffold", **ALL}, {"algorithm": "fedavg", **ALL}, {**SHARDS, **LONG},
    ),
    Ordering(
        "FedDyn is ahead of FedAvg at many local steps under strong skew",
        "Acar et al. 2021",
        {"algorithm": "feddyn", "method.alpha": 0.1, **ALL}, {"algorithm": "fedavg", **ALL},
        SKEW, share=0.3,
    ),
    Ordering(
        "FedLin is ahead of FedAvg at many local steps under strong skew",
        "Mitra et al. 2021",
        {"algorithm": "fedlin", **ALL}, {"algorithm": "fedavg", **ALL}, SKEW, share=0.3,
    ),
    Ordering(
        "FedProx with mu = 1 is behind FedAvg on IID data",
        "Li et al. 2020",
        {"algorithm": "fedavg", **ALL}, {"algorithm": "fedprox", "client.prox_mu": 1.0, **ALL},
        {
            "partition": {"scheme": "iid", "clients": 20},
            "client": {"epochs": 10, "batch_size": 10, "lr": 0.01},
        }, share=0.3,
    ),
    Ordering(
        "FedNova is ahead of FedAvg where clients take unequal numbers of steps",
        "Wang et al. 2020",
        {"algorithm": "fednova", **ALL}, {"algorithm": "fedavg", **ALL}, SKEW, share=0.2,
    ),
    Ordering(
        "FedAvgM is ahead of FedAvg at small steps, few clients and strong skew",
        "Hsu et al. 2019",
        {"algorithm": "fedavgm", **FEW}, {"algorithm": "fedavg", **FEW},
        {**dirichlet(0.1), "client": {"epochs": 1, "batch_size": 16, "lr": 0.01}},
    ),
    Ordering(
        "FedVARP is ahead of FedAvg where few of many clients take part",
        "Jhunjhunwala et al. 2022",
        {"algorithm": "fedvarp", **FEW},
        {"algorithm": "fedavg", "server.weighting": "uniform", **FEW}, dirichlet(0.1), share=2.0,
    ),
    Ordering(
        "FedAvg is at the target with fewer bytes than FedSGD",
        "McMahan et al. 2017",
        {"algorithm": "fedavg", **ALL}, {"algorithm": "fedsgd", **ALL},
        {"partition": {"scheme": "iid", "clients": 20}}, "bytes", target=0.98,
    ),
    Ordering(
        "Top-k of 1% is ahead with error feedback",
        "Stich et al. 2018",
        {"algorithm": "topk", **ALL},
        {"algorithm": "topk", "compression.up.error_feedback": False, **ALL}, dirichlet(0.3),
    ),
    Ordering(
        "FedBuff is at the target in less virtual time than rounds, where some are slow",
        "Nguyen et al. 2022",
        {"algorithm": "fedbuff", **BUFFER}, {"algorithm": "fedavg", "server.clients_per_round": 10},
        SLOW, "times",
    ),
    Ordering(
        "FedBuff is ahead of FedAsync after as many updates, where they are stale",
        "Nguyen et al. 2022",
        {"algorithm": "fedbuff", **STALE_BUFFER},
        {
            "algorithm": "fedasync", "server.schedule.concurrency": 20, "server.rounds": 300,
            "eval.every": 10,
        }, STALE,
    ),
    Ordering(
        "CA2FL is ahead of FedBuff where updates are stale and data is skewed",
        "Wang et al. 2024",
        {"algorithm": "ca2fl", **STALE_BUFFER}, {"algorithm": "fedbuff", **STALE_BUFFER}, STALE,
    ),
    Ordering(
        "q-FedAvg with q = 1 is ahead of FedAvg for the worst tenth of clients",
        "Li et al. 2020 (q-FFL)",
        {"algorithm": "qfedavg", "method.q": 1.0, **ALL},
        {"algorithm": "fedavg", "server.weighting": "uniform", **ALL},
        {**dirichlet(0.1), "client": {"epochs": 1, "batch_size": 16, "lr": 0.01}}, "worst",
        share=2.0,
    ),
)  # fmt: skip


class Verdict(NamedTuple):
    """What came out."""

    claim: str
    source: str
    word: Literal["holds", "does not hold", "cannot be told"]
    said: str
    ahead: Effect | None
    """By how much; of costs the logarithm of the ratio. None where a target is never reached."""


def judged(of: Ordering, better: Sequence[Any], worse: Sequence[Any]) -> Verdict:
    """By the paired differences over seeds."""
    if of.measure in ("final", "worst"):
        sides = [[getattr(run, of.measure) for run in runs] for runs in (better, worse)]
        ahead = interval([a - b for a, b in zip(*sides, strict=True)])
        one, other = (100 * float(np.mean(side)) for side in sides)
        said = f"{one:.1f}% against {other:.1f}%, {span(ahead, lambda v: f'{100 * v:+.1f}')} points"
        return Verdict(of.claim, of.source, word(ahead), said, ahead)
    target = of.target * float(np.mean([run.final for run in better]))
    sides = [[run.cost(target, of.measure) for run in runs] for runs in (better, worse)]
    if not all(map(isfinite, sides[0])):
        there = sum(map(isfinite, sides[0]))
        said = f"{100 * target:.1f}% is reached in {there} of {len(better)} runs"
        return Verdict(of.claim, of.source, "cannot be told", said, None)
    late = [run.spent(of.measure) for run in worse]  # a cost that is not known is at least this
    known = [min(cost, most) for cost, most in zip(sides[1], late, strict=True)]
    least = "" if all(map(isfinite, sides[1])) else "at least "
    ahead = interval([log(b / a) for a, b in zip(sides[0], known, strict=True)])
    said = f"{least}{span(ahead, lambda v: f'{np.exp(v):.2g}')} times less to {100 * target:.1f}%"
    return Verdict(of.claim, of.source, word(ahead), said, ahead)


def word(ahead: Effect) -> Literal["holds", "does not hold", "cannot be told"]:
    """Without an interval nothing can be told."""
    if ahead.low is None or ahead.high is None or ahead.doubtful:
        return "cannot be told"
    return "holds" if ahead.low > 0 else "does not hold"


def span(of: Effect, say: Callable[[float], str]) -> str:
    """`+1.2 (+0.8 to +1.6)`."""
    if of.low is None or of.high is None:
        return say(of.value)
    return f"{say(of.value)} ({say(of.low)} to {say(of.high)})"
