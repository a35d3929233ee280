"""Writes plausible folders of a diagnosis, whose numbers add up as real ones do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from fedray.report.tables import ARMS, write_table
from fedray.rng import Stream, generator

CAUSES = ("non_iid", "drift", "staleness", "averaging")
COSTS = {
    "level": {"non_iid": 0.041, "drift": 0.012, "staleness": 0.023, "averaging": -0.008},
    "fall": {"non_iid": 0.052, "drift": -0.004, "staleness": 0.031, "averaging": -0.021},
    "area": {"non_iid": 0.03, "drift": 0.001, "staleness": 0.04, "averaging": 0.062},
}
TOGETHER = {"non_iid*drift": 0.018, "non_iid*staleness": 0.009}
EVALUATIONS = 40


def write_diagnosis(
    path: Path,
    *,
    seeds: Sequence[int] = (7, 8, 9),
    metric: str = "accuracy",
    inert: Mapping[str, str] | None = None,
    participation: bool = True,
    window: int | None = None,
    costs: Mapping[str, Mapping[str, float]] = COSTS,
    prescription: Any = None,
    **more: Any,
) -> Path:
    """A diagnosis of a buffered run; `inert` causes cost nothing and coincide."""
    path.mkdir(parents=True)
    inert = inert or {}
    live = {q: {c: 0.0 if c in inert else v for c, v in of.items()} for q, of in costs.items()}
    together = {p: 0.0 if set(p.split("*")) & set(inert) else v for p, v in TOGETHER.items()}
    found = _findings(seeds, metric, inert, live, together) | {"window": window}
    if participation:
        found["participation"] = {
            "level": _value(0.91, seeds), "fall": _value(0.011, seeds),
            "area": _value(0.861, seeds), "clients": 20, "level_gain": _value(0.013, seeds),
            "fall_gain": _value(0.068, seeds), "area_gain": _value(0.004, seeds),
        }  # fmt: skip
    (path / "diagnosis.json").write_text(json.dumps(found | more))
    write_table(_arms(seeds, metric, inert, live["level"]), path / "arms.parquet")
    config = {"name": found["name"], "algorithm": found["algorithm"], "seed": seeds[0]}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    if prescription is not None:
        (path / "prescription.json").write_text(json.dumps(prescription))
    return path


def prescribed(seeds: Sequence[int] = (7, 8, 9), *, beats: bool = True) -> dict[str, Any]:
    """What `--prescribe` writes, with or without a mitigation that helps."""
    found = (
        ("FedProx, mu 0.1", "drift", 0.021, {"algorithm": "fedprox", "client.proximal_mu": 0.1}),
        ("Discount stale updates (polynomial, 0.5)", "staleness", 0.009,
         {"server.schedule.staleness_weight.kind": "polynomial"}),
        ("Every client in every version", "participation", 0.002, {"server.clients_per_round": 20}),
        ("Fewer local steps", "drift", -0.03, {"client.epochs": 1}),
    )  # fmt: skip
    ranking = [
        {
            "name": name, "cause": cause, "reason": f"it acts on {cause}",
            "note": "takes more versions for the same updates" if cause == "drift" else "",
            "set": settings,
            "recovered": _value(gain if beats else gain - 0.03, seeds),
            "fall_reduced": _value(gain / 2, seeds),
            "bytes_ratio": 1.0 + 3 * gain, "time_ratio": 0.5, "compute_ratio": None,
            "beats": beats and gain > 0.01 and len(seeds) > 1,
            "command": "fedray launch quickstart.yaml "
            + " ".join(f"--set {k}={v}" for k, v in settings.items()),
        }
        for name, cause, gain, settings in found
    ]  # fmt: skip
    verdict = (
        "FedProx, mu 0.1 recovers 2.1 points." if beats else "Nothing here beats what you have."
    )
    return {
        "budget_updates": 240, "seeds": list(seeds), "metric": "accuracy", "tried": 9,
        "rungs": [{"fraction": 0.25, "updates": 60, "seeds": 1, "tried": 8, "kept": 4},
                  {"fraction": 1.0, "updates": 240, "seeds": 3, "tried": 4, "kept": 4}],
        "verdict": verdict, "words": [verdict], "ranking": ranking,
        "dropped": [{"name": "Server momentum 0.9", "cause": "averaging", "rung": 1,
                     "recovered": -0.011},
                    {"name": "Bound staleness at 1", "cause": "staleness", "rung": 2,
                     "recovered": None}],
        "diverged": [{"name": "Server Adam, lr 1", "cause": "averaging", "rung": 1}],
    }  # fmt: skip


def _value(value: float, seeds: Sequence[int], *, exact: bool = False) -> dict[str, float | None]:
    if exact:
        return {"value": value, "low": value, "high": value}
    if len(seeds) == 1:
        return {"value": value, "low": None, "high": None}
    half = 0.004 + (0.2 * abs(value) if abs(value) < 0.2 else 0)
    return {"value": value, "low": value - half, "high": value + half}


def _findings(
    seeds: Sequence[int],
    metric: str,
    inert: Mapping[str, str],
    costs: Mapping[str, Mapping[str, float]],
    together: Mapping[str, float],
) -> dict[str, Any]:
    sign = -1.0 if metric == "accuracy" else 1.0
    pooled = {"level": 0.965, "fall": 0.012, "area": 0.93}
    if metric == "loss":
        pooled = {"level": 0.31, "fall": 0.012, "area": 0.4}
    sides = {"level": sign, "fall": 1.0, "area": sign}
    run = {q: pooled[q] + sides[q] * sum(costs[q].values()) for q in pooled}
    parts = {q: _part(seeds, inert, costs[q], together) for q in costs}
    reached = pooled["level"] - 0.002
    return {
        "name": "quickstart", "algorithm": "fedbuff", "mode": "buffered", "clients": 20,
        "seeds": list(seeds), "metric": metric, "versions": 60, "updates": 240,
        "virtual_time_s": 912.5,
        "run": {q: _value(v, seeds) for q, v in run.items()},
        "pooled": {q: _value(v, seeds) for q, v in pooled.items()},
        "reference": {
            "level": _value(reached, seeds), "fall": _value(0.01, seeds),
            "area": _value(pooled["area"], seeds), "difference": _value(0.002, seeds),
        },
        "participation": None,
        **parts,
        "by_time": {q: _part(seeds, inert, {c: 1.1 * v for c, v in of.items()}, together)
                    for q, of in costs.items()},
        "inert": dict(inert),
        "notes": ["The server's momentum is replayed in every arm."],
        "arms": {"all": 16 * len(seeds), "computed": 2 ** (4 - len(inert)) * len(seeds)},
        "words": [
            "Training with fedbuff over 20 clients ends 6.8 points below pooled training.",
            "Most of it, 4.1 points, is due to data that is not IID.",
        ],
    }  # fmt: skip


def _part(
    seeds: Sequence[int],
    inert: Mapping[str, str],
    costs: Mapping[str, float],
    together: Mapping[str, float],
) -> dict[str, Any]:
    pairs = [f"{a}*{b}" for a, b in combinations(CAUSES, 2)]
    return {
        "gap": _value(sum(costs.values()), seeds),
        "shares": {c: _value(v, seeds, exact=c in inert) for c, v in costs.items()},
        "interactions": {
            pair: _value(
                together.get(pair, 0.0), seeds, exact=bool(set(pair.split("*")) & {*inert})
            )
            for pair in pairs
        },
    }


def _arms(
    seeds: Sequence[int], metric: str, inert: Mapping[str, str], costs: Mapping[str, float]
) -> pa.Table:
    tables = []
    for seed in seeds:
        for on in product((True, False), repeat=4):
            lost = sum(costs[c] for c, one in zip(CAUSES, on, strict=True) if one)
            same = tuple(one or c in inert for c, one in zip(CAUSES, on, strict=True))
            columns = dict(zip(CAUSES, on, strict=True)) | {"computed_as": name_of(same)}
            tables.append(_rows(seed, name_of(on), columns, metric, lost))
        none = dict.fromkeys((*CAUSES, "computed_as"))
        tables.append(_rows(seed, "reference", none, metric, 0.002))
        tables.append(_rows(seed, "participation", none, metric, 0.05, updates=20))
    return pa.concat_tables(tables)


def name_of(on: Sequence[bool]) -> str:
    """As the diagnosis names arms."""
    causes = [cause for cause, one in zip(CAUSES, on, strict=True) if one]
    return "run" if len(causes) == 4 else "+".join(causes) or "pooled"


def _rows(
    seed: int, arm: str, columns: Mapping[str, Any], metric: str, lost: float, updates: int = 4
) -> pa.Table:
    rng = generator(seed, Stream.DATA, len(arm))
    at = np.arange(EVALUATIONS + 1)
    quality = 0.1 + 0.865 * (1 - np.exp(-at / 6)) - lost * (at > 0)
    quality = quality + rng.normal(0, 0.003 + abs(lost) / 8, len(at))
    values: dict[str, Any] = dict(columns) | {
        "seed": seed, "arm": arm,
        "version": at, "updates": updates * at,
        "virtual_time_s": 15.2 * at * (1 + 0.01 * (seed % 3)),
        "steps": 24 * at, "samples": 768 * at, "bytes": 20_800 * at,
        "accuracy": np.clip(quality, 0, 1) if metric == "accuracy" else None,
        "loss": 1.3 - quality,
    }  # fmt: skip
    arrays = [
        pa.array(values[f.name], type=f.type)
        if isinstance(values[f.name], np.ndarray)
        else pa.array([values[f.name]] * len(at), type=f.type)
        for f in ARMS
    ]
    return pa.Table.from_arrays(arrays, schema=ARMS)
