"""What `fedray plan` knows about a run before it starts, as plain figures."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from fedray.config.sweep import SweepFile
from fedray.distributed import machine
from fedray.distributed.placement import place
from fedray.distributed.preflight import duration, memory, room
from fedray.simulation.forecast import Forecast, forecast
from fedray.simulation.plan import Plan
from fedray.types import Federation

LISTED_CLIENTS = 10_000
"""Up to so many clients, the JSON has their updates one by one."""


def sweep_facts(file: SweepFile) -> dict[str, Any]:
    """What a sweep would run, in figures; JSON."""
    sweep = file.sweep
    return {
        "trials": file.total,
        "settings": file.total // len(file.seeds),
        "seeds": list(file.seeds),
        "grid": {key: list(values) for key, values in file.grid.items()},
        "search": {key: {space.kind: asdict(space)} for key, space in file.space.items()},
        "searcher": sweep.searcher if file.space else None,
        "scheduler": sweep.scheduler,
        "metric": sweep.metric,
        "mode": sweep.mode,
        "target": sweep.target,
    }


def plan_facts(plan: Plan, federation: Federation, max_events: int) -> dict[str, Any]:
    """Everything that a run is known by in advance; JSON, and what `fedray plan` draws."""
    config, payload, crew = plan.config, plan.population.payload, plan.work.attackers
    actors = _actors(plan)
    wall = config.clock == "wall"
    known = None if wall else forecast(plan, max_events=max_events)
    return {
        "name": config.name,
        "seed": config.seed,
        "data": {
            "source": config.data.source,
            "samples": int(plan.sizes.sum()),
            "test_samples": len(federation.y_test),
            "features": len(federation.features),
            "classes": list(federation.classes),
            "bytes": federation.nbytes,
        },
        "partition": {
            **asdict(config.partition),
            "clients": federation.clients,
            "samples_min": int(plan.sizes.min()),
            "samples_median": float(np.median(plan.sizes)),
            "samples_max": int(plan.sizes.max()),
            "heterogeneity": dict(federation.heterogeneity),
        },
        "model": {**asdict(config.model), "parameters": plan.work.model.size},
        "algorithm": config.algorithm,
        "client": asdict(config.client),
        "server": {**asdict(config.server), "cohort": plan.cohort},
        "attack": {
            **asdict(config.attack),
            "malicious": 0 if crew is None else len(crew.clients),
        },
        "devices": None if wall else _devices(plan),
        "privacy": plan.privacy.facts(config.server.rounds) if plan.privacy else None,
        "message_bytes": {"down": payload.bytes_down, "up": payload.bytes_up},
        "actors": actors,
        "memory": memory(plan, federation, actors["actors"]),
        "disk_bytes": room(plan, known),
        "computing": duration(plan, federation, known, actors["actors"]),
        "forecast": None if known is None else forecast_facts(known),
    }


def forecast_facts(known: Forecast) -> dict[str, Any]:
    """A forecast as JSON."""
    applied = known.applied_by_client
    return {
        "exact": known.exact and not known.may_end_earlier,
        "uniform_instead_of": known.blind,
        "extrapolated_by": known.scale,
        "may_end_earlier": list(known.may_end_earlier),
        "ends_by": known.ends_by,
        "versions": known.versions,
        "dispatched": known.dispatched,
        "applied": known.applied,
        "dropped": dict(known.dropped),
        "virtual_time_s": known.virtual_time_s,
        "bytes": {"down": known.bytes_down, "up": known.bytes_up},
        "staleness": {
            "mean": known.staleness_mean,
            "max": known.staleness_max,
            "counts": known.staleness_counts.tolist(),
        },
        "participation": {
            "taking_part": known.taking_part,
            "never_asked": len(applied) - known.asked,
            "fastest_tenth_share": known.fastest_share,
            "applied_min": int(applied.min()),
            "applied_median": float(np.median(applied)),
            "applied_max": int(applied.max()),
            "applied": applied.tolist() if len(applied) <= LISTED_CLIENTS else None,
        },
    }


def _actors(plan: Plan) -> dict[str, Any]:
    runtime = plan.config.runtime
    if runtime.executor == "local":
        return {
            "executor": "local",
            "actors": 0,
            "clients_per_actor": None,
            "reason": "none, everything runs in one process (runtime.executor local)",
        }
    cores = runtime.cpus or machine.cores()
    placed = place(runtime, plan.population.clients, cores)
    where = f" (counted for {cores} cores; the cluster's will count)" if runtime.address else ""
    return {
        "executor": "ray",
        "actors": placed.actors,
        "clients_per_actor": placed.clients_per_actor,
        "reason": placed.reason + where,
    }


def _devices(plan: Plan) -> dict[str, Any]:
    population = plan.population
    job_s = population.duration_s
    return {
        "job_s": dict(
            zip(("min", "median", "max"), np.quantile(job_s, (0, 0.5, 1)).tolist(), strict=True)
        ),
        "shares": {
            name: float(part.sum() / job_s.sum()) if job_s.sum() else 0.0
            for name, part in (
                ("download", population.download_s),
                ("compute", population.compute_s),
                ("upload", population.upload_s),
            )
        },
        "dropout": population.dropout,
        "availability": plan.config.devices.availability.kind,
    }
