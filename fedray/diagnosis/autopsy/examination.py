"""Replays a run and examines the steps that an autopsy asks about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedray.diagnosis.autopsy.effects import Effects, Memory, TestSet, effects
from fedray.diagnosis.autopsy.terms import Term, terms
from fedray.diagnosis.counterfactual.replay import Made, steps
from fedray.diagnosis.counterfactual.study import Study
from fedray.simulation import checkpoint
from fedray.types import Floats, Metrics, Vector

SIGHTINGS = 5
"""Updates per client, on average, that the surroundings of a fall hold, where there are enough."""
SURROUNDINGS = 200
"""Versions around a fall at which clients' effects are worked out, at most."""
COMPARED = 9
"""Other steps whose terms are worked out, to compare the worst one with."""

Watch = Callable[[int, int], None]
"""Told how many versions have been replayed, of how many."""


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
    """Test scores before and after each of the falls' own steps, and of evaluated versions."""
    worst: dict[tuple[int, int], Worst] = field(default_factory=dict)
    """By the first version before, and the last version of, the steps of a fall."""
    others: list[dict[str, Term]] = field(default_factory=list)
    """Terms of other steps, to compare those of the worst ones with."""


class _Candidate(NamedTuple):
    """The worst step so far of one fall, with what its terms are worked out from."""

    lost: float
    rise: float
    made: Made
    gradient: Floats


def examine(
    folder: Path, study: Study, spans: Sequence[tuple[int, int]], own: Sequence[Sequence[int]],
    evaluated: Sequence[int], *, higher_is_better: bool, watch: Watch | None = None,
) -> Examined:  # fmt: skip
    """Examines the steps `own` of each fall, spans (from, to], and those around it.

    Steps are named by the version that they make. What is examined depends on the trace
    alone, not on where the replay can start. One of the versions that the run `evaluated` is
    scored at least, if it evaluated any but version 0, so that the replay can be checked.
    """
    inspected = {version for versions in own for version in versions}
    around = {v for span in spans for v in surroundings(study, span)} - inspected
    compared = _evenly(sorted(around), COMPARED)
    scored = {end for _, end in spans} | _one_evaluated(max(inspected | around), evaluated)
    wanted = sorted(inspected | around | (scored - {0}))
    found, test = Examined(), TestSet(study.plan.work, study.federation)
    worst: dict[tuple[int, int], _Candidate] = {}
    for made, gain in _replay(folder, study, wanted, found, watch):
        version = made.version
        if version in scored:
            found.scores[version] = test.score(made.after)
        if version not in inspected | around:
            continue
        gradient = test.gradient(made.before)
        found.effects[version] = effects(made, gain, gradient)
        if version in compared and (known := terms(made, study.plan, study.federation, gradient)):
            found.others += [known] if np.isfinite(list(known.values())).all() else []
        if version in inspected:
            candidate = _candidate(made, gradient, found, test, higher_is_better)
            for span, versions in zip(spans, own, strict=True):
                if version in versions and (span not in worst or candidate[:2] > worst[span][:2]):
                    worst[span] = candidate
    for span, (lost, _, made, gradient) in worst.items():
        of_worst = terms(made, study.plan, study.federation, gradient)
        found.worst[span] = Worst(made.version, lost, of_worst)
    return found


def _candidate(
    made: Made, gradient: Floats, found: Examined, test: TestSet, higher_is_better: bool
) -> _Candidate:
    """A step of a fall, once the versions before and after it are scored."""
    for version, w in ((made.version - 1, made.before), (made.version, made.after)):
        if version not in found.scores:
            found.scores[version] = test.score(w)
    before, after = found.scores[made.version - 1], found.scores[made.version]
    lost = _merit(before) - _merit(after)
    lost = lost if higher_is_better else -lost
    return _Candidate(lost, after.loss - before.loss, made, gradient)


def _one_evaluated(last: int, evaluated: Sequence[int]) -> set[int]:
    """The newest evaluated version up to the last one examined, else the first one after it."""
    before = [version for version in evaluated if 0 < version <= last]
    after = [version for version in evaluated if version > last]
    return {*before[-1:]} or {*after[:1]}


def surroundings(study: Study, span: tuple[int, int]) -> range:
    """The versions around a fall that clients are judged by, and its steps are compared with.

    So many that the average client is seen `SIGHTINGS` times and there are `COMPARED` besides
    the fall's own: the fall's own versions, then those before it, then those after it,
    `SURROUNDINGS` more at most.
    """
    sizes = np.cumsum([0, *(len(group.jobs) for group in study.trace)])
    first, last = span[0], min(span[1], len(study.trace))
    sightings, versions = SIGHTINGS * study.federation.clients, last - first + COMPARED

    def too_few() -> bool:
        return bool(sizes[last] - sizes[first] < sightings) or last - first < versions

    earliest = max(0, first - SURROUNDINGS)
    while first > earliest and too_few():
        first -= 1
    latest = min(len(study.trace), last + SURROUNDINGS - (span[0] - first))
    while last < latest and too_few():
        last += 1
    return range(first + 1, last + 1)


def _replay(
    folder: Path,
    study: Study,
    wanted: Sequence[int],
    found: Examined,
    watch: Watch | None,
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
