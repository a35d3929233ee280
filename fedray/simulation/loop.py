"""The main loop: commands of the timeline become arithmetic, versions and records."""

from __future__ import annotations

import time
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedray.parts.selection.base import Reply
from fedray.simulation import checkpoint
from fedray.simulation.books import Books
from fedray.simulation.cohort_gradient import submit
from fedray.simulation.events import Aggregate, Discard, Job
from fedray.simulation.executor import Executor
from fedray.simulation.legs import Leg, legs
from fedray.simulation.memories import before_jobs, memories_of
from fedray.simulation.plan import Plan
from fedray.simulation.policies import staleness
from fedray.simulation.probe import Probe
from fedray.simulation.progress import Progress
from fedray.simulation.quality import Judge, whole
from fedray.simulation.recorder import Recorder
from fedray.simulation.server import GlobalModel
from fedray.simulation.stopping import Stopper
from fedray.simulation.survey import news, survey
from fedray.simulation.wall import WallQueue
from fedray.types import Matrix


class Loop:
    """One run. Iterate `run()` to make it happen; it yields a Progress per version."""

    def __init__(
        self,
        plan: Plan,
        executor: Executor,
        recorder: Recorder,
        folder: Path,
        snapshot: checkpoint.Snapshot | None = None,
        probe: Probe | None = None,
        validation: int = 0,
    ) -> None:
        self.plan, self._executor, self._recorder = plan, executor, recorder
        self._folder, self._probe = folder, probe
        self._config = plan.config
        self._wall = plan.config.clock == "wall"
        self.timeline = plan.timeline(WallQueue(executor) if self._wall else None)
        self._fleet = self.timeline.policy.fleet
        self._fleet.survey = self._survey
        self._ahead = not (self._wall or self._fleet.looks)
        """Whether the next leg is worked out while the workers are busy with this one."""
        self.stopper = Stopper(plan.config.stop)
        self.bytes = [0, 0]
        self.interrupted = False
        """Set from another thread to end a version or two later, checkpointed."""
        self.pause_at: Container[int] = ()
        """Versions after which `run` yields with that version's own scores (none by the wall
        clock); until it goes on, `save` and `end` may be called."""
        self._held: dict[str, Any] | None = None
        self._before_s = 0.0
        self._discards: list[Discard] = []
        self._memories = memories_of(plan, folder)
        self.model = GlobalModel(plan, plan.initial(), table=self._memories.get("table"))
        executor.memories = self._memories.get("clients")
        self._judge = Judge(plan, executor, self.model, validation) if validation else None
        self._books = Books(
            plan, executor, recorder, self.model, self.stopper,
            probe=probe, judge=self._judge, clients=self._memories.get("clients"),
        )  # fmt: skip
        self._resumed = snapshot is not None
        if snapshot is not None:
            self._restore(snapshot)
        executor.versions, executor.extras = self.model.versions, self.model.extras
        self._started_at = self._saved_at = time.monotonic()

    @property
    def wall_time_s(self) -> float:
        """Seconds spent on this run, earlier parts of a resumed one included."""
        return self._before_s + time.monotonic() - self._started_at

    def run(self) -> Iterator[Progress]:
        """Runs to the end: all versions made, a stop rule met, or interrupted."""
        if not self._resumed:
            self._books.made(Leg(aggregate=Aggregate(0, 0.0, [], 0, 0)), None, self.wall_time_s)
        to_come = legs(
            self.timeline,
            keep_state=lambda v: self._checkpoint_due(v) or self._pause_due(v),
            dispatched=self._executor.submit if self._wall else None,
            discards=self._discards,
        )
        over = self.stopper.reason is not None  # the checkpoint's version was the last
        leg, last = None if over else next(to_come, None), None
        while leg is not None and leg.aggregate is not None:
            self._send(leg)
            self._books.record(keep=1)
            following = next(to_come, None) if self._ahead else None
            if not self._make(leg, leg.aggregate):
                break
            last = leg, leg.aggregate
            if self._fleet.looks:
                self._tell(leg)
                following = None if self._wall else next(to_come, None)
            if leg.state is not None and self._pause_due(self.model.version):
                self._settle(following)
                self._held = leg.state
            if following is not None or self._wall or self.interrupted:
                yield self._progress(*last)
            self._held = None
            if self.stopper.reason:
                break
            if leg.state is not None and self._checkpoint_due(self.model.version):
                self._settle(following)
                self._save(leg.state)
                if self.stopper.reason:
                    break
                if self.interrupted:
                    self.stopper.reason = "interrupted"
                    return
            leg = next(to_come, None) if self._wall else following
        self._books.score_newest()
        self._books.record(keep=0)
        if leg is not None and leg.aggregate is None:
            self._recorder.discards(leg.discards)
        if last is not None:
            yield self._progress(*last)  # now with the last version's scores

    def _send(self, leg: Leg) -> None:
        """Gives the workers all that they can do now, unless they have it done already."""
        if not self._wall:
            submit(self.plan, self._executor, self.model, leg.jobs)
        for discard in leg.discards:
            self._executor.cancel(discard.job)
        wanted = leg.aggregate.jobs if leg.aggregate else []
        if not self._executor.ready(wanted):
            self._executor.flush(first=wanted)

    def _make(self, leg: Leg, command: Aggregate) -> bool:
        """The next version; False if the one before turns out to have been the last."""
        if self.stopper.watches_metrics:
            self._books.record(keep=0)
            if self.stopper.reason:  # before clients remember the jobs of a version not made
                return False
        remembered = self._remembered(command)
        results = self._executor.join(command.jobs)
        examples = self.plan.sizes[[job.client for job in command.jobs]]
        before = self.model.w
        judge, scores = self._judge, None
        if judge is not None:
            results = whole(results)
            scores = judge.scores(command.jobs, results, examples)
        gone = [discard.job for discard in leg.discards]
        step = self.model.apply(command.jobs, results, examples, scores, gone)
        if judge is not None and scores is not None:
            judge.made(command, step, scores)
        if self._probe is not None:
            self._probe.made(
                self.model.version, command.jobs, step, before, self.model.w, self.model.versions,
                self.model.extras, before_jobs(command.jobs, remembered, results.states),
            )  # fmt: skip
        self._books.made(leg, step, self.wall_time_s)
        self.model.keep(leg.bases)
        self.bytes[0] += command.bytes_down
        self.bytes[1] += command.bytes_up
        self.stopper.moved(sum(self.bytes))
        return True

    def _tell(self, leg: Leg) -> None:
        """Lets the selection know what came of the newest version; a leg's state is from then."""
        made = self._books.newest
        if made.step is not None:
            self._fleet.learned(news(made.command, made.step))
        if leg.state is not None:
            leg.state["timeline"] = self.timeline.to_json()

    def _survey(self, clients: Sequence[int]) -> list[Reply]:
        as_sent = self.model.versions[self.model.version]
        return survey(
            self._executor, as_sent, clients, self.plan.sizes,
            classification=self.plan.classification,
        )  # fmt: skip

    def _remembered(self, command: Aggregate) -> dict[int, Matrix | None]:
        """What the clients of a version that is looked into remember now, by client."""
        memories = self._memories.get("clients")
        if memories is None or self._probe is None or not self._probe.due(command.version):
            return {}
        known = {job.client: memories.get(job.client) for job in command.jobs}
        return {client: None if it is None else np.array(it) for client, it in known.items()}

    def own_columns(self) -> dict[str, Any]:
        """Of the clients' own models at the newest version, see `simulation.personal`."""
        return self._books.own_columns()

    def _progress(self, leg: Leg, command: Aggregate) -> Progress:
        ages = [staleness(job, command.version - 1) for job in command.jobs]
        return Progress(
            version=command.version,
            rounds=self._config.server.rounds,
            virtual_time_s=command.at_s,
            metrics=self._books.last,
            staleness_mean=float(np.mean(ages)) if ages else 0.0,
            in_flight=leg.in_flight,
            updates=self._recorder.statuses["applied"],
            wall_time_s=self.wall_time_s,
            best=self.stopper.best.value if self.stopper.best else None,
            staleness=tuple(ages),
            bytes_down=self.bytes[0],
            bytes_up=self.bytes[1],
        )

    def _checkpoint_due(self, version: int) -> bool:
        every = self._config.checkpoint.every
        due = checkpoint.due(every, version, time.monotonic() - self._saved_at)
        return self.interrupted or due

    def _pause_due(self, version: int) -> bool:
        return version in self.pause_at and not self._wall

    def save(self) -> None:
        """Writes a checkpoint of the version that `run` is paused at."""
        assert self._held is not None
        self._save(self._held)

    def end(self, reason: str) -> None:
        """Makes the version that `run` is paused at the last one, if it is not anyway."""
        if self.stopper.reason is None:
            assert self._held is not None
            self.stopper.reason = reason

    def _settle(self, following: Leg | None) -> None:
        """Records all that was made; the workers meanwhile go on with the following leg."""
        if following is not None:
            submit(self.plan, self._executor, self.model, following.jobs)
            following.jobs = []
            for discard in following.discards:
                self._executor.cancel(discard.job)
        if self._wall or following is None or following.aggregate is None:
            self._books.score_newest()  # it is, or may be, the last version
        self._executor.flush()
        self._books.record(keep=0)

    def _save(self, state: dict[str, Any]) -> None:
        """Writes a checkpoint, after `_settle`."""
        checkpoints = self._folder / "checkpoints"
        checkpoints.mkdir(exist_ok=True)
        segments = {
            name: memories.save(checkpoints, self.model.version)
            for name, memories in self._memories.items()
        }
        snapshot = checkpoint.Snapshot(
            version=self.model.version,
            w=self.model.w,
            versions=dict(self.model.versions),
            optimizer=dict(self.model.optimizer),
            meta={
                **state,
                "rows": self._recorder.flush(),
                "bytes": self.bytes,
                "stopper": self.stopper.to_json(),
                "wall_time_s": self.wall_time_s,
                "best_classes": self._books.best_classes,
                "stretches": self._probe.stretches if self._probe else [],
                "segments": segments,
            },
            companion=self._probe.companion if self._probe else None,
            extras=dict(self.model.extras),
            rule=self.model.rule(),
        )
        checkpoint.save(checkpoints, snapshot, keep=self._config.checkpoint.keep)
        self._saved_at = time.monotonic()

    def _restore(self, snapshot: checkpoint.Snapshot) -> None:
        meta = snapshot.meta
        self.model.restore(snapshot)
        for name, segments in meta.get("segments", {}).items():
            self._memories[name].restore(self._folder / "checkpoints", segments)
        self.stopper.restore(meta["stopper"])
        self.bytes = list(meta["bytes"])
        self._before_s = meta["wall_time_s"]
        self._books.best_classes = meta.get("best_classes", [])
        if self._probe is not None:
            self._probe.restore(snapshot.companion, meta["stretches"])
        self._discards = [
            Discard(Job(*job), status, at_s, version)
            for job, status, at_s, version in meta["discards"]
        ]
        self._executor.versions, self._executor.extras = self.model.versions, self.model.extras
        self._executor.submit(self.timeline.restore(meta["timeline"]))
