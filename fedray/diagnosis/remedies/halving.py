"""What would help: remedies tried at an equal update budget, by successive halving, ranked.

All candidates run on the first seed for a quarter of the run's client updates; the better
half for half of them; the better half of those for all; the best `FINALISTS` on all seeds
(successive halving, Jamieson & Talwalkar 2016). The two best that go together are tried
once more as one, if each recovers something. Better means: the level recovered against the
run itself, on the same seed and at equally many updates, so that differences are paired.
Falls are a question of their own, so that in every round up to `CALMEST` others stay in:
those that win most in level and largest fall together, of whatever makes falls smaller.

Whoever beats the run does so with 95% confidence for all finalists together (Bonferroni), and
on at least `TELLING` seeds. The first seed both picks the finalists and counts in their
intervals, which flatters them a little: confirm a narrow win on seeds of its own.

prescription.json, with V = {"value": x, "low": x, "high": x}, low and high null with one
seed, in accuracy fractions or units of loss, more is better for both:

    {"budget_updates": N,      client updates of the run (mean over seeds): what all get
     "seeds": [7, 8, 9], "metric": "accuracy" | "loss",
     "tried": n,               candidates, the combined one included
     "rungs": [{"fraction": 0.25, "updates": N, "seeds": 1, "tried": n, "kept": n}, ...],
     "verdict": "sentence", "words": ["paragraph", ...],
     "ranking": [              best first
       {"name", "cause": "non_iid" | "drift" | "staleness" | "averaging" | "participation",
        "reason": "half a sentence", "note": "" or what else changes,
        "set": {"dotted.key": value},      with server.rounds and stop's rules where needed
                                           for a launch to end where the trial did
        "recovered": V, "fall_reduced": V,
        "bytes_ratio": x, "time_ratio": x, "compute_ratio": x,   to the run's; null: no such cost
        "beats": bool,                     whether it recovers more than luck would have it
        "command": "fedray launch CONFIG --set ..."}],
     "dropped": [{"name", "cause", "rung": 1.., "recovered": x | null}],   null: too few updates
     "diverged": [{"name", "cause", "rung": 1..}]}

`rung` counts from 1; past the rungs it is the round over all seeds.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, TypeAlias

from fedray.config import schema
from fedray.diagnosis.attribution.shares import (
    CONFIDENCE,
    Metric,
    cost,
    diverged,
    estimate,
    horizon,
)
from fedray.diagnosis.counterfactual.curve import Curve
from fedray.diagnosis.remedies import words as advice
from fedray.diagnosis.remedies.rules import Settings
from fedray.diagnosis.remedies.table import Candidate, together
from fedray.diagnosis.remedies.trials import Spent, Trial

RUNGS = (0.25, 0.5, 1.0)
FEWEST = 4
"""Candidates that a rung keeps at least."""
FINALISTS = 6
CALMEST = 2
TELLING = 3
"""Seeds without which nothing is said to beat the run: two can agree by chance."""

Task: TypeAlias = tuple[int, schema.Config | None, int]
"""What a trial gets: (place of the seed, configuration, updates)."""
Planner: TypeAlias = Generator[list[Task], Sequence[Trial | None], dict[str, Any]]
"""Yields tasks, is sent what came of them in the same order, returns prescription.json."""


class Gain(NamedTuple):
    """What a candidate wins over the run on one seed: level recovered, fall reduced."""

    level: float
    fall: float


class Scored(NamedTuple):
    """A candidate that came through: a trial and a gain per seed that it was tried on."""

    candidate: Candidate
    trials: list[Trial]
    gains: list[Gain]

    @property
    def level(self) -> float:
        return math.fsum(gain.level for gain in self.gains) / len(self.gains)

    @property
    def fall(self) -> float:
        return math.fsum(gain.fall for gain in self.gains) / len(self.gains)


def prescribe(
    candidates: Sequence[Candidate],
    runs: Sequence[Curve],
    *,
    seeds: Sequence[int],
    metric: Metric,
    configure: Callable[[Settings], schema.Config],
    command: str,
    shares: Mapping[str, float],
) -> Planner:
    """Plans the trials and ranks what comes of them; trains nothing itself.

    `runs`: the run's own curve for each of `seeds`. `configure` makes the configuration of
    settings (InputError: there is none). `command` launches the run as it is; `shares` are
    the shares of the gap in level of causes that have one, for the words.
    """
    bench = _Bench(runs, metric)
    finalists = yield from _halve(bench, candidates)
    ranked, run = yield from _finals(bench, finalists)
    both = together([one.candidate for one in ranked if one.level > 0], configure)
    if both is not None:
        tries = yield [(s, both.config, updates) for s, updates in enumerate(bench.budgets())]
        ranked = _best_first(ranked + bench.sift([both], [list(tries)], bench.budgets()))
    ranking = [_entry(one, run, command, among=len(ranked)) for one in ranked]
    found = {
        "budget_updates": round(math.fsum(bench.budgets()) / len(runs)),
        "seeds": list(seeds),
        "metric": metric,
        "tried": len(candidates) + (both is not None),
        "rungs": bench.rungs,
    }
    texts = advice.advice(ranking, found, shares)
    return {
        **found, "verdict": texts[0], "words": [" ".join(texts)], "ranking": ranking,
        "dropped": bench.dropped, "diverged": bench.diverged,
    }  # fmt: skip


def trials_at_most(candidates: int, seeds: int) -> list[tuple[int, float]]:
    """(number of tasks, part of the updates that each has) of every batch to come.

    Fewer where candidates drop out by themselves, or none stays in for its calm.
    """
    left, batches = candidates, []
    for fraction in RUNGS:
        if fraction == 1 or left > FEWEST:
            batches.append((left, fraction))
            left = min(left, _kept(left, fraction) + CALMEST)
    return [*batches, (seeds + left * (seeds - 1), 1.0), (seeds * (left > 1), 1.0)]


@dataclass
class _Bench:
    """The run that candidates are measured against, and who is out so far."""

    runs: Sequence[Curve]
    """One per seed."""
    metric: Metric
    rungs: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[dict[str, Any]] = field(default_factory=list)
    diverged: list[dict[str, Any]] = field(default_factory=list)

    def budget(self, seed: int, fraction: float = 1.0) -> int:
        """Updates of the run's last evaluation within a fraction of all."""
        updates = self.runs[seed].updates
        return int(updates[updates <= fraction * updates[-1]][-1])

    def budgets(self) -> list[int]:
        return [self.budget(seed) for seed in range(len(self.runs))]

    def gain(self, seed: int, curve: Curve, updates: int) -> Gain:
        """Of a curve over the run, both up to so many updates."""
        run = self.runs[seed]
        within = horizon([run, curve], self.metric)._replace(updates=updates)
        before = cost(run, self.metric, "updates", within)
        after = cost(curve, self.metric, "updates", within)
        return Gain(before.level - after.level, before.fall - after.fall)

    def sift(
        self,
        candidates: Sequence[Candidate],
        tries: Sequence[Sequence[Trial | None]],
        updates: Sequence[int],
    ) -> list[Scored]:
        """Whoever came through, best first; strikes off who diverged or never got so far.

        `tries[i][s]` is candidate i's trial on seed s.
        """
        found = []
        for one, trials in zip(candidates, tries, strict=True):
            made = [trial for trial in trials if trial is not None]
            curves = [trial.curve for trial in made if trial.curve is not None]
            if len(curves) < len(trials):
                self.strike(self.dropped, one, recovered=None)
            elif any(map(diverged, curves)):
                self.strike(self.diverged, one)
            else:
                gains = [self.gain(s, c, updates[s]) for s, c in enumerate(curves)]
                found.append(Scored(one, made, gains))
        return _best_first(found)

    def keep(self, ranked: list[Scored], count: int, fraction: float, tried: int) -> list[Scored]:
        """The best `count`, and the calmest of the others; writes the rung down."""
        kept, rest = ranked[:count], ranked[count:]
        calm = [one for one in rest if one.fall > 0 and one.level + one.fall > 0]
        calm = sorted(calm, key=lambda one: -one.level - one.fall)[:CALMEST]
        kept, rest = kept + calm, [one for one in rest if one not in calm]
        for one in rest:
            self.strike(self.dropped, one.candidate, recovered=one.level)
        updates, seeds = self.budget(0, fraction), len(ranked[0].gains) if ranked else 0
        self.rungs.append(
            {"fraction": fraction, "updates": updates, "seeds": seeds, "tried": tried,
             "kept": len(kept)}
        )  # fmt: skip
        return kept

    def strike(self, out: list[dict[str, Any]], one: Candidate, **why: float | None) -> None:
        """Notes in which rung a candidate went out."""
        out.append({"name": one.name, "cause": one.target, "rung": len(self.rungs) + 1, **why})


def _halve(
    bench: _Bench, candidates: Sequence[Candidate]
) -> Generator[list[Task], Sequence[Trial | None], list[Scored]]:
    """The rungs on the first seed: the finalists, with their trials at the full budget.

    A rung short of the full budget is left out where it could not drop anybody, and where
    the run has no evaluation that early.
    """
    left: list[Scored] = []
    alive = list(candidates)
    for fraction in RUNGS:
        updates = bench.budget(0, fraction)
        if fraction < 1 and (len(alive) <= FEWEST or not updates):
            continue
        if not alive:
            break
        tries = yield [(0, one.config, updates) for one in alive]
        ranked = bench.sift(alive, [[trial] for trial in tries], [updates])
        left = bench.keep(ranked, _kept(len(alive), fraction), fraction, len(alive))
        alive = [one.candidate for one in left]
    return left


def _kept(candidates: int, fraction: float) -> int:
    """Places in the next rung."""
    if fraction == 1.0:
        return min(candidates, FINALISTS)
    return min(candidates, max(FEWEST, -(-candidates // 2)))


def _finals(
    bench: _Bench, finalists: list[Scored]
) -> Generator[list[Task], Sequence[Trial | None], tuple[list[Scored], list[Spent]]]:
    """The finalists on all the other seeds as well, ranked, and what the run costs by seed."""
    tasks: list[Task] = []
    for seed, updates in enumerate(bench.budgets()):
        tasks.append((seed, None, updates))
        if seed:
            tasks += [(seed, one.candidate.config, updates) for one in finalists]
    tries = yield tasks
    pairs = list(zip(tasks, tries, strict=True))
    run = [made.spent for (_, config, _), made in pairs if made is not None and config is None]
    if not finalists or len(run) == 1:
        return finalists, run
    others = [made for (_, config, _), made in pairs if config is not None]
    rows = [[one.trials[0], *others[i :: len(finalists)]] for i, one in enumerate(finalists)]
    ranked = bench.sift([one.candidate for one in finalists], rows, bench.budgets())
    return bench.keep(ranked, len(ranked), 1.0, len(finalists)), run


def _best_first(found: list[Scored]) -> list[Scored]:
    return sorted(found, key=lambda one: -one.level)


def _entry(one: Scored, run: Sequence[Spent], command: str, *, among: int) -> dict[str, Any]:
    """A line of the ranking, `among` so many."""
    candidate = one.candidate
    recovered = estimate([gain.level for gain in one.gains])
    spent = [trial.spent for trial in one.trials]
    settings = {**candidate.settings, **_ending(candidate.config, spent[0].versions)}
    return {
        "name": candidate.name,
        "cause": candidate.target,
        "reason": candidate.reason,
        "note": candidate.note,
        "set": settings,
        "recovered": recovered._asdict(),
        "fall_reduced": estimate([gain.fall for gain in one.gains])._asdict(),
        "bytes_ratio": _ratio([s.bytes for s in spent], [s.bytes for s in run]),
        "time_ratio": _ratio([s.virtual_time_s for s in spent], [s.virtual_time_s for s in run]),
        "compute_ratio": _ratio([s.samples for s in spent], [s.samples for s in run]),
        "beats": _beats([gain.level for gain in one.gains], among),
        "command": " ".join([command, *map(_option, settings.items())]),
    }


def _ending(config: schema.Config, versions: int) -> dict[str, Any]:
    """What makes a launch end where the trial did, as far as it would not by itself."""
    ending: dict[str, Any] = {f"stop.{k}": None for k, v in asdict(config.stop).items() if v}
    if config.server.rounds != versions:
        ending["server.rounds"] = versions
    return ending


def _beats(recovered: Sequence[float], among: int) -> bool:
    if len(recovered) < TELLING:
        return False
    low = estimate(recovered, confidence=1.0 - (1.0 - CONFIDENCE) / among).low
    return low is not None and low > 0


def _ratio(of: Sequence[float], to: Sequence[float]) -> float | None:
    """Mean over seeds; None where the run has no such cost."""
    if not all(to):
        return None
    return math.fsum(a / b for a, b in zip(of, to, strict=True)) / len(to)


def _option(setting: tuple[str, Any]) -> str:
    key, value = setting
    return "--set " + shlex.quote(f"{key}={'null' if value is None else value}")
