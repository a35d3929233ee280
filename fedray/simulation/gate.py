"""What of a group's updates the server's rule gets to see, and what of its result goes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from fedray.learning.work import Results
from fedray.parts.arrivals import Memory
from fedray.parts.secure.bonawitz import Bonawitz
from fedray.simulation.events import Job, clients_of
from fedray.simulation.guard import Guard, silenced
from fedray.simulation.plan import Plan
from fedray.simulation.vault import Vault
from fedray.types import Floats, Matrix, Vector


class Admitted(NamedTuple):
    """The updates that count: `vectors` (A, P) and their `lengths` (A,)."""

    vectors: Matrix
    lengths: Floats
    accepted: NDArray[np.bool_]
    """(K,): which of the group's they are."""
    given_up: bool
    """Whether there is to be no new version at all."""


class Gate:
    """One run's: attackers collude in front of it, privacy and secure aggregation keep it."""

    def __init__(self, plan: Plan) -> None:
        self._attackers, self._stays = plan.work.attackers, plan.work.kept
        central = plan.privacy is not None and plan.privacy.kind == "central"
        self._guard = Guard(plan.config, plan.privacy) if plan.privacy and central else None
        secure = plan.config.secure_aggregation
        self.vault = Vault(secure, plan.config.seed) if isinstance(secure, Bonawitz) else None
        """Has the sum of what was admitted, where nobody has the updates themselves."""

    @property
    def open(self) -> bool:
        """Whether all that is finite goes through as it is."""
        return self._attackers is None and self._guard is None and self.vault is None

    @property
    def bound(self) -> float | None:
        """C: no user's updates are longer, where that is looked after."""
        return self._guard.bound if self._guard else None

    @property
    def memory(self) -> Memory:
        """What privacy remembers from version to version."""
        return self._guard.memory if self._guard else {}

    def restore(self, memory: Memory) -> None:
        """Goes on from a checkpoint."""
        if self._guard:
            self._guard.memory = memory

    def seen(self, jobs: Sequence[Job], results: Results) -> Results:
        """What arrives from the clients, malicious ones included."""
        results = self.colluded(jobs, results)
        return silenced(results) if self.vault and self._guard else results

    def colluded(self, jobs: Sequence[Job], results: Results) -> Results:
        """With an omniscient attack, its updates in the place of the malicious clients' own.

        Where a group has no honest update, there is nothing to see, and it stays as it is.
        """
        crew = self._attackers
        if crew is None or not crew.attack.omniscient or not jobs:
            return results
        malicious = crew.among(clients_of(jobs))
        honest = ~malicious & np.isfinite(results.norm)
        if not malicious.any() or not honest.any():
            return results
        deltas, norm = results.deltas.copy(), results.norm.copy()
        sent = crew.attack.collude(deltas[honest], int(malicious.sum()))
        deltas[malicious], norm[malicious] = sent, np.sqrt(np.dot(sent, sent))
        return results._replace(deltas=deltas, norm=norm)

    def admitted(
        self, jobs: Sequence[Job], results: Results, gone: Sequence[Job], version: int
    ) -> Admitted:
        """The finite updates, cut for privacy, as secure aggregation sums them."""
        accepted = np.isfinite(results.norm)
        kept = results.deltas if accepted.all() else results.deltas[accepted]
        lengths, given_up = results.norm[accepted], False
        if self._guard:
            cut, lengths = self._guard.cut(kept, clients_of(jobs)[accepted])
            kept = cast(Matrix, cut)
        if self.vault:
            kept = np.asarray(kept)
            kept, accepted, given_up = self.vault.admitted(kept, jobs, accepted, gone, version)
            lengths = np.linalg.norm(kept, axis=1).astype(np.float64)
        return Admitted(kept, lengths, accepted, given_up)

    def released(
        self, update: Vector, weights: Floats, admitted: Admitted, version: int
    ) -> tuple[Vector, Floats, bool]:
        """The aggregate (P,), what each update weighs in it, and whether it makes a move.

        With central privacy every version is noised, also one without any update; else only
        updates move the model.
        """
        arrived, guard = len(admitted.vectors), self._guard
        if guard is None or admitted.given_up:
            return update, weights, bool(admitted.accepted.any())
        update = guard.release(update, arrived, version)
        if self._stays is not None:
            update[self._stays] = 0.0  # noise on what never travels would be a move
        return update, weights * guard.share(arrived), True
