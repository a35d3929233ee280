"""Replays a run and looks at the steps that an autopsy asks about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedray.diagnosis.autopsy.effects import Effects, Memory, TestSet, effects
from fedray.diagnosis.autopsy.terms import Term, medians, terms
from fedray.diagnosis.counterfactual.replay import Made, steps
from fedray.diagnosis.counterfactual.study import Study
from fedray.simulation import checkpoint
from fedray.types import Floats, Metrics, Vector

SIGHTINGS = 5
"""Updates per client, on average, that the surroundings of a fall hold, where there are enough."""
SURROUNDINGS = 200
"""Versions around a fall at which clients' effects are looked at, at most."""
COMPARED = 5
"""Other steps whose terms are worked out, to compare the worst one with."""


class Worst(NamedTuple):
    """The step of a fall in which most was lost."""

    version: int
    lost: float
    terms: dict[str, Term] | None


@dataclass
class Examined:
    """What a replay showed, by version."""

    starts: list[int] = field(default_factory=list)
    """Where it started: version 0, or checkpoints."""
    replayed: int = 0
    effects: dict[int, Effects] = field(default_factory=dict)
    """Of the falls' own steps, and of those around them."""
    scores: dict[int, Metrics] = field(default_factory=dict)
    """Test scores before and after each of the falls' own steps, and at the ends of falls."""
    worst: dict[tuple[int, int], Worst] = field(default_factory=dict)
    """By the first version before, and the last version of, the steps of a fall."""
    usual: dict[str, Term] | None = None
    """Medians of the terms over other steps, `compared` of them."""
    compared: int = 0


class _Candidate(NamedTuple):
    """The worst step so far of one fall, with what its terms are worked out from."""

    lost: float
    rise: float
    made: Made
    gradient: Floats


def examine(
    folder: Path,
    study: Study,
    spans: Sequence[tuple[int, int]],
    own: Sequence[Sequence[int]],
    *,
    higher_is_better: bool,
    watch: Callable[[int, int], None] | None = None,
) -> Examined:
    """Looks at the steps `own` of each fall, spans (from, to], and at those around it.

    Steps are named by the version that they make. What is looked at depends on the trace
    alone, not on where the replay can start.
    """
    inspected = {version for versions in own for version in versions}
    around = {v for span in spans for v in surroundings(study, span)} - inspected
    ends = {end for _, end in spans}
    usual = _evenly(sorted(around), COMPARED)
    found, test = Examined(), TestSet(study.plan.work, study.federation)
    worst: dict[tuple[int, int], _Candidate] = {}
    others = []
    for made, gain in _replay(folder, study, sorted(inspected | around), found, watch):
        version = made.version
        gradient = test.gradient(made.before)
        found.effects[version] = effects(made, gain, gradient)
        if version in usual and (known := terms(made, study.plan, study.federation, gradient)):
            others += [known] if np.isfinite(list(known.values())).all() else []
        if version not in inspected:
            if version in ends:
                found.scores[version] = test.score(made.after)
            continue
        for at, w in ((version - 1, made.before), (version, made.after)):
            if at not in found.scores:
                found.scores[at] = test.score(w)
        before, after = found.scores[version - 1], found.scores[version]
        lost = _merit(before) - _merit(after)
        candidate = _Candidate(
            lost if higher_is_better else -lost, after.loss - before.loss, made, gradient
        )
        for span, versions in zip(spans, own, strict=True):
            if version in versions and (span not in worst or candidate[:2] > worst[span][:2]):
                worst[span] = candidate
    for span, (lost, _, made, gradient) in worst.items():
        of_worst = terms(made, study.plan, study.federation, gradient)
        found.worst[span] = Worst(made.version, lost, of_worst)
    if others:
        found.usual, found.compared = medians(others), len(others)
    return found


def surroundings(study: Study, span: tuple[int, int]) -> range:
    """The versions around a fall in which the average client is seen `SIGHTINGS` times.

    The fall's own versions, then those before it, then those after it, `SURROUNDINGS` more
    at most.
    """
    sizes = np.cumsum([0, *(len(group.jobs) for group in study.trace)])
    first, last = span[0], min(span[1], len(study.trace))
    wanted = SIGHTINGS * study.federation.clients
    earliest = max(0, first - SURROUNDINGS)
    while first > earliest and sizes[last] - sizes[first] < wanted:
        first -= 1
    latest = min(len(study.trace), last + SURROUNDINGS - (span[0] - first))
    while last < latest and sizes[last] - sizes[first] < wanted:
        last += 1
    return range(first + 1, last + 1)


def _replay(
    folder: Path,
    study: Study,
    wanted: Sequence[int],
    found: Examined,
    watch: Callable[[int, int], None] | None,
) -> Iterator[tuple[Made, float | Vector]]:
    """The steps that are wanted, each with the gain of the server optimizer at it.

    Between them the run is computed anew, from the newest checkpoint before each.
    """
    at = sorted(checkpoint.version_of(path) for path in checkpoint.found(folder / "checkpoints"))
    starts = [0, *(version for version in at if 0 < version < wanted[-1])]
    parts = [
        [v for v in wanted if start < v and (k + 1 == len(starts) or v <= starts[k + 1])]
        for k, start in enumerate(starts)
    ]
    legs = [(start, part) for start, part in zip(starts, parts, strict=True) if part]
    total = sum(part[-1] - start for start, part in legs)
    for start, part in legs:
        snapshot = checkpoint.load_newest(folder / "checkpoints", up_to=start)[0] if start else None
        begun = snapshot.version if snapshot else 0  # earlier, where a checkpoint is damaged
        total += start - begun
        found.starts.append(begun)
        memory = Memory(study.plan.config.server.optimizer, snapshot.optimizer if snapshot else {})
        chosen = set(part)
        for made in steps(study, snapshot=snapshot):
            memory.take(made)
            found.replayed += 1
            if watch is not None:
                watch(found.replayed, total)
            if made.version in chosen:
                yield made, memory.gain
            if made.version == part[-1]:
                break


def _merit(scores: Metrics) -> float:
    """Accuracy, or R^2 for a regression."""
    value = scores.r2 if scores.accuracy is None else scores.accuracy
    return float("nan") if value is None else value


def _evenly(versions: Sequence[int], count: int) -> set[int]:
    if not versions:
        return set()
    at = np.linspace(0, len(versions) - 1, min(count, len(versions))).round().astype(int)
    return {versions[i] for i in at.tolist()}
