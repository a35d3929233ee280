"""The studies of a diagnosis, one per seed, of which few are in memory at a time."""

from __future__ import annotations

from dataclasses import replace

from fedray.api.request import Request
from fedray.diagnosis.counterfactual.study import Study, build_study
from fedray.diagnosis.counterfactual.trace import only_recorded, recorded_groups
from fedray.diagnosis.counterfactual.workload import Workload, workload_of


class Studies:
    """The studies of a request by their seeds. All are looked over; the first two are kept
    until they are taken, the others are built anew then, so that few are in memory."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._ready: dict[int, Study] = {}
        self.workloads: dict[int, Workload] = {}
        for position, seed in enumerate(request.seeds):
            study = self.take(seed)
            self.workloads[seed] = workload_of(study)
            if position < 2:
                self._ready[seed] = study
        reasons = [found.inert for found in self.workloads.values()]
        self.inert: dict[str, str] = {
            cause: reason
            for cause, reason in reasons[0].items()
            if all(cause in others for others in reasons)
        }
        """Causes that make no difference for any seed, and why."""

    def take(self, seed: int, *, reshuffled: bool = True) -> Study:
        """The study of a seed, for the caller alone; whether `reshuffled` data is in it, too."""
        if seed in self._ready:
            return self._ready.pop(seed)
        config = replace(self._request.config, seed=seed)
        run = self._request.run if only_recorded(config) else None
        return build_study(
            config,
            self._request.loaded.base_dir,
            reshuffled=reshuffled,
            trace=recorded_groups(run) if run else None,
        )
