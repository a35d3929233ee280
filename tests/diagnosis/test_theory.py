"""The diagnoses that theory gives, of whole runs: what must come out, whatever the digits."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from fedray.config.load import load
from fedray.diagnosis.attribution.findings import findings
from fedray.diagnosis.counterfactual.arms import ARMS
from fedray.diagnosis.counterfactual.controls import fly_participation, fly_reference
from fedray.diagnosis.counterfactual.replay import fly
from fedray.diagnosis.counterfactual.study import build_study, inert

IID = {"partition": {"scheme": "iid", "clients": 20}}
DELAYS = {"devices": {"duration": {"kind": "pareto", "minimum": 1, "shape": 1.1}}}
ASYNC = {
    "mode": "async", "concurrency": 20, "mixing": 0.6, "staleness_weight": {"kind": "constant"},
}  # fmt: skip


def diagnosis(source, over, seeds, *, participation=False):
    """What `fedray diagnose` finds, in this process."""
    curves, reasons = {}, []
    for seed in seeds:
        loaded = load(source, {**over, "seed": seed})
        study = build_study(loaded.config, loaded.base_dir)
        reasons.append(inert(study))
        with threadpool_limits(1):
            arms = {arm.computed_as(reasons[-1]) for arm in ARMS}
            curves[seed] = {arm.name: fly(study, arm) for arm in arms}
            curves[seed]["reference"] = fly_reference(study)
            if participation:
                curves[seed]["participation"] = fly_participation(study)
    return findings(
        loaded.config, study.federation.clients, curves, reasons[0],
        window=study.window, notes=(), classification=study.federation.classification,
    )  # fmt: skip


def includes_zero(found) -> bool:
    return found["low"] <= 0.0 <= found["high"]


def test_iid_sync_full_participation_blames_neither_data_nor_delay():
    found = diagnosis("configs/digits_sync.yaml", {**IID, "server.rounds": 12}, range(3))
    for measure in ("level", "fall", "area"):
        shares = found[measure]["shares"]
        assert includes_zero(shares["non_iid"])
        assert shares["staleness"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_iid_async_with_strong_delays_blames_delay():
    over = {
        **IID, **DELAYS, "client.prox_mu": 0, "eval.every": 2, "server.schedule": ASYNC,
        "server.rounds": 100,
    }  # fmt: skip
    found = diagnosis("configs/digits_fedasync.yaml", over, range(3))
    for measure in ("level", "area"):
        shares = {cause: share["value"] for cause, share in found[measure]["shares"].items()}
        assert max(shares, key=shares.__getitem__) == "staleness"
        assert found[measure]["shares"]["staleness"]["low"] > 0
    assert includes_zero(found["level"]["shares"]["non_iid"])


def test_losing_half_of_the_updates_helps_nobody():
    over = {
        **IID, "algorithm": "fedavg", "server.schedule": {"mode": "sync"},
        "devices.dropout": 0.5, "server.rounds": 10,
    }  # fmt: skip
    found = diagnosis(None, over, range(3))
    for view in (found, found["by_time"]):
        assert view["level"]["shares"]["staleness"]["high"] > 0
        assert abs(view["level"]["shares"]["staleness"]["value"]) < 0.01


def test_one_local_step_cannot_drift():
    over = {"client.steps": 1, "server.rounds": 20}
    found = diagnosis(None, over, range(2))
    for measure in ("level", "fall", "area"):
        assert found[measure]["shares"]["drift"] == {"value": 0.0, "low": 0.0, "high": 0.0}
        assert found["by_time"][measure]["shares"]["drift"]["value"] == 0.0


def squared_error(line, data) -> float:
    return float(np.mean((data.X_test[:, 0] * line[0] + line[1] - data.y_test) ** 2) / 2)


def fit(*shards):
    X, y = (np.concatenate(part) for part in zip(*shards, strict=True))
    return np.linalg.lstsq(np.column_stack([X[:, 0], np.ones(len(y))]), y, rcond=None)[0]


def running_average(data):
    """What `pairwise` makes of three clients' own lines."""
    lines = [fit(data.shards.load(c)) for c in range(3)]
    return 0.25 * lines[0] + 0.25 * lines[1] + 0.5 * lines[2]


@pytest.mark.parametrize("name", ["iid", "non_iid", "drift"])
def test_closed_form_scenarios(name):
    # Averages of own lines (a) or one line for all samples (p), on the clients' data or on
    # reshuffled data, of which p is the same. Two causes: each has half of a - p between them.
    path = f"configs/scenarios/{name}.yaml"
    found = diagnosis(path, {}, [7])
    loaded = load(path)
    study = build_study(loaded.config, loaded.base_dir)
    a, b = (squared_error(running_average(d), d) for d in (study.federation, study.reshuffled))
    p = squared_error(fit(*(study.federation.shards.load(c) for c in range(3))), study.federation)
    shares = found["level"]["shares"]
    assert found["level"]["gap"]["value"] == pytest.approx(a - p, rel=1e-6, abs=1e-9)
    assert shares["non_iid"]["value"] == pytest.approx((a - b) / 2, rel=1e-6, abs=1e-9)
    assert shares["averaging"]["value"] == pytest.approx((a + b) / 2 - p, rel=1e-6, abs=1e-9)
    assert shares["drift"]["value"] == shares["staleness"]["value"] == 0.0
    if name == "non_iid":
        assert found["level"]["gap"]["value"] > 4
        index = found["level"]["interactions"]["non_iid*averaging"]["value"]
        assert index == pytest.approx(found["level"]["gap"]["value"], rel=1e-2)
    else:
        assert abs(found["level"]["gap"]["value"]) < 0.01


def test_drift_needs_both_long_walks_and_different_clients():
    found = diagnosis("configs/scenarios/drift_sgd.yaml", {"server.rounds": 12}, range(2))
    level = found["level"]
    gap = level["gap"]["value"]
    assert gap > 5
    for cause in ("non_iid", "drift"):
        assert level["shares"][cause]["value"] > 0.3 * gap
    assert level["interactions"]["non_iid*drift"]["value"] > 0.5 * gap
    assert abs(level["shares"]["averaging"]["value"]) < 0.2 * gap


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_synthetic_levels_are_lost_to_data_and_falls_to_partial_participation():
    over = {"client.prox_mu": 0, "server.rounds": 60}
    found = diagnosis("configs/synthetic_fedprox.yaml", over, range(2), participation=True)
    shares = {cause: share["value"] for cause, share in found["level"]["shares"].items()}
    assert max(shares, key=shares.__getitem__) == "non_iid"
    assert shares["non_iid"] > 0.5 * found["level"]["gap"]["value"]
    assert found["participation"]["fall"]["value"] < 0.4 * found["run"]["fall"]["value"]
