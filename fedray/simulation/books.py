"""What is put on record of the versions: worked out while the workers train the next one.

What a version's record needs beyond the version itself (cosines, scores) comes one version
later, so that nothing waits for it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedray.models.scoring import add_scores, metrics
from fedray.simulation.events import Aggregate, Discard
from fedray.simulation.executor import Executor
from fedray.simulation.legs import Leg
from fedray.simulation.memories import Memories
from fedray.simulation.personal import own_columns
from fedray.simulation.plan import Plan
from fedray.simulation.probe import Probe
from fedray.simulation.quality import Judge
from fedray.simulation.recorder import Recorder, client_columns
from fedray.simulation.server import GlobalModel
from fedray.simulation.step import Step, describe
from fedray.simulation.stopping import Stopper
from fedray.types import Metrics


@dataclass
class Made:
    """A version that is made but not yet recorded."""

    command: Aggregate
    step: Step | None
    discards: list[Discard]
    wall_time_s: float
    evaluated: bool
    clients_evaluated: bool
    own: dict[str, Any]
    """What `personal.own_columns` says, if it is their turn."""
    row: dict[str, Any] | None = None


class Books:
    """One run's: takes in what is made, and passes it to the recorder and to the stop rules."""

    def __init__(
        self,
        plan: Plan,
        executor: Executor,
        recorder: Recorder,
        model: GlobalModel,
        stopper: Stopper,
        *,
        probe: Probe | None,
        judge: Judge | None,
        clients: Memories | None,
    ) -> None:
        self._plan, self._executor, self._recorder = plan, executor, recorder
        self._model, self._stopper = model, stopper
        self._probe, self._judge, self._clients = probe, judge, clients
        self._open: deque[Made] = deque()
        """Made but not yet recorded."""
        self.last: Metrics | None = None
        """The newest scores that are known."""
        self.best_classes: list[float] = []
        """Best accuracy of each class so far."""

    @property
    def newest(self) -> Made:
        """The version that was made last, not yet recorded."""
        return self._open[-1]

    def made(self, leg: Leg, step: Step | None, wall_time_s: float) -> None:
        """Asks for the scores of the newest version and puts its record on the list."""
        command, every = leg.aggregate, self._plan.config.eval
        assert command is not None
        version = command.version
        evaluated = version % every.every == 0
        clients = bool(every.clients_every) and version % every.clients_every == 0
        if evaluated:
            self._executor.evaluate(version, self._model.readout)
        if clients:
            self._executor.evaluate_clients(version, self._model.readout)
        own = self.own_columns() if clients else {}
        self._open.append(Made(command, step, leg.discards, wall_time_s, evaluated, clients, own))

    def own_columns(self) -> dict[str, Any]:
        """Of the clients' own models at the newest version, see `simulation.personal`."""
        return own_columns(self._plan, self._executor, self._model, self._clients)

    def score_newest(self) -> None:
        """The last version is scored whatever `eval.every` says."""
        if self._open and not self.newest.evaluated:
            self.newest.evaluated = True
            self._executor.evaluate(self._model.version, self._model.readout)

    def record(self, keep: int) -> None:
        """Records all versions but the newest `keep`, of which only the cheap part is done."""
        for made in self._open:
            if made.row is None:
                made.row = self._describe(made)
        while len(self._open) > keep:
            made = self._open.popleft()
            assert made.row is not None
            scored = self._scores(made)
            self._look_into(made.command.version, made.row, scored)
            self._recorder.round(made.row, scored)
            if self._judge is not None and (rows := self._judge.rows(made.command.version)):
                self._recorder.quality(rows)
            if scored is not None:
                self.last = scored
                self._stopper.evaluated(made.command.version, made.command.at_s, scored)

    def _describe(self, made: Made) -> dict[str, Any]:
        """Writes the updates of a version, and works out its row but for the scores."""
        command, step = made.command, made.step
        row: dict[str, Any] = {
            "version": command.version,
            "virtual_time_s": command.at_s,
            "wall_time_s": made.wall_time_s,
            "updates": 0,
            "dropped": len(made.discards),
            "bytes_up": command.bytes_up,
            "bytes_down": command.bytes_down,
        }
        self._recorder.discards(made.discards)
        if step is not None and command.jobs:
            figures = dict(describe(step))
            self._recorder.updates(command, step, figures.pop("cosine"))
            ages = step.staleness[step.accepted]
            applied = len(ages)
            row |= figures
            row["updates"] = applied
            row["dropped"] += len(command.jobs) - applied
            if applied:
                row |= {"staleness_mean": float(ages.mean()), "staleness_max": int(ages.max())}
        if step is not None and self._probe is not None:
            self._probe.look(command.version, step)
        made.step = None
        row["epsilon"] = self._recorder.epsilon(command.version)
        return row

    def _look_into(self, version: int, row: dict[str, Any], scored: Metrics | None) -> None:
        """Adds what needs the scores of this version, or of those before."""
        if scored is not None and scored.accuracy_per_class is not None:
            now = np.array(scored.accuracy_per_class)
            best = np.fmax(self.best_classes, now) if self.best_classes else now
            self.best_classes = best.tolist()
            row["forgetting"] = float(np.nanmean(best - now))
        if self._probe is not None and (found := self._probe.finish(version, scored)):
            row |= found.round
            self._recorder.decomposition(found.members)

    def _scores(self, made: Made) -> Metrics | None:
        version = made.command.version
        if made.clients_evaluated:
            self._recorder.client_evals(
                version,
                client_columns(self._executor.client_evaluation(version), self._plan.classification)
                | made.own,
            )
        if not made.evaluated:
            return None
        return metrics(add_scores(self._executor.evaluation(version)))
