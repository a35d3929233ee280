"""One run from its beginning, or from its checkpoint, to a finished run folder."""

from __future__ import annotations

from collections.abc import Container, Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fedray.report.tables import NO_ROOM, cannot_write
from fedray.simulation import checkpoint, outcome
from fedray.simulation.executor import Executor
from fedray.simulation.lock import only_writer
from fedray.simulation.loop import Loop
from fedray.simulation.personal import figures
from fedray.simulation.plan import Plan
from fedray.simulation.probe import Probe
from fedray.simulation.progress import Progress
from fedray.simulation.recorder import Recorder
from fedray.types import Federation


class Flight:
    """Opens the run folder's tables, flies, and writes what is left to write at the end."""

    def __init__(
        self,
        plan: Plan,
        federation: Federation,
        executor: Executor,
        folder: Path,
        *,
        snapshot: checkpoint.Snapshot | None = None,
    ) -> None:
        self._plan, self._federation = plan, federation
        self._executor, self._folder = executor, folder
        payload = plan.population.payload
        self._locked = ExitStack()
        self._locked.enter_context(only_writer(folder))
        outcome.write_clients(folder, plan, federation)
        decomposes = plan.config.diagnosis.decompose != "off"
        self._recorder = Recorder(
            folder,
            classification=plan.classification,
            sizes=plan.sizes,
            bytes_down=payload.bytes_down,
            bytes_up=payload.bytes_up,
            client_evals=plan.config.eval.clients_every > 0,
            personal=plan.work.personal.held_out > 0,
            decomposition=decomposes,
            privacy=plan.privacy,
            quality=plan.config.server.quality.active,
            kept=snapshot.meta["rows"] if snapshot else None,
        )
        probe = Probe(plan, executor, len(federation.y_test)) if decomposes else None
        aside = federation.y_validation
        self._loop = Loop(
            plan, executor, self._recorder, folder, snapshot, probe,
            validation=0 if aside is None else len(aside),
        )  # fmt: skip

    def interrupt(self) -> None:
        """Asks for an early, checkpointed end. Safe to call from another thread."""
        self._loop.interrupted = True

    def pause_at(self, versions: Container[int]) -> None:
        """From now on, `run` yields after each of these with that version's own scores.

        Then, and until it goes on, `save` and `end` may be called.
        """
        self._loop.pause_at = versions

    def save(self) -> None:
        """Writes a checkpoint of the version that the run is paused at."""
        self._loop.save()

    def end(self, reason: str) -> None:
        """Makes the version that the run is paused at the last one; go on to complete the folder.

        `reason` becomes the summary's `stopped_by`.
        """
        self._loop.end(reason)

    def run(self, executor_facts: dict[str, Any]) -> Generator[Progress]:
        """Flies to the end; afterwards the folder is complete, unless interrupted."""
        with self._locked:
            try:
                yield from self._loop.run()
            except OSError as error:  # of what is not a table: what clients remember
                if error.errno in NO_ROOM:
                    raise cannot_write(self._folder, error) from error
                self._recorder.flush()
                raise
            except BaseException:
                self._recorder.flush()  # whatever happened, keep what was recorded
                raise
            if self._loop.stopper.reason != "interrupted":
                self._complete(executor_facts)

    def _complete(self, executor_facts: dict[str, Any]) -> None:
        loop, plan, folder = self._loop, self._plan, self._folder
        self._recorder.close()
        self._executor.evaluate_clients(loop.model.version, loop.model.readout)
        scores = self._executor.client_evaluation(loop.model.version)
        own = loop.own_columns()
        outcome.write_clients(folder, plan, self._federation, self._recorder, scores, own)
        outcome.write_model(folder / "model.npz", plan, loop.model.readout, loop.model.others)
        facts = outcome.summarise(loop, self._recorder, self._federation, folder, executor_facts)
        if own:
            facts["personal"] = figures(own, plan)
        outcome.write_summary(folder, facts)
