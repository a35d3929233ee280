"""What the literature reports of attacks and defences, in small: orderings, not digits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedray

pytestmark = pytest.mark.slow

Accuracy = Callable[..., float]
EPOCH = {"client": {"epochs": 1, "batch_size": 16, "lr": 0.05}}
STEP = {"client": {"steps": 1, "batch_size": 8, "lr": 0.1}}
"""One step per round: honest updates are mostly noise, which attackers can hide in."""
SKEWED = {"partition": {"scheme": "dirichlet", "clients": 25, "alpha": 0.3}}


@pytest.fixture
def accuracy(tmp_path: Path) -> Accuracy:
    """Mean final accuracy over three seeds of 25 clients."""

    def fly(algorithm: str, attack: dict[str, Any] | None = None, share: float = 0.2,
            base: dict[str, Any] = EPOCH, rounds: int = 30, **settings: Any) -> float:  # fmt: skip
        found = []
        for seed in range(3):
            run = fedray.launch(
                {
                    "partition": {"scheme": "iid", "clients": 25}, **base, "seed": seed,
                    "algorithm": algorithm, "eval": {"every": rounds, "local_losses": False},
                    "server": {"rounds": rounds, "schedule": {"mode": "sync"}},
                    "attack": {**attack, "share": share} if attack else {},
                    "runtime": {"executor": "local"}, "output": {"report": False},
                },
                out=tmp_path / f"{len(list(tmp_path.iterdir()))}", **settings,
            )  # fmt: skip
            found.append(run.summary["final"]["accuracy"])
        return float(np.mean(found))

    return fly


def test_a_fifth_that_flips_signs_breaks_the_mean_and_no_robust_rule(accuracy):
    """Blanchard et al. 2017, Yin et al. 2018: one wild update is enough for the mean."""
    flip = {"kind": "sign_flip"}
    clean = accuracy("fedavg")
    assert accuracy("fedavg", flip) < 0.3 < 0.9 < clean
    for name in ("median", "trimmed_mean", "rfa", "multi_krum", "centered_clipping"):
        more = {"server.aggregator.trim": 0.2} if name == "trimmed_mean" else {}
        assert accuracy(name, flip, **more) > clean - 0.05, name
    assert accuracy("krum", flip, **{"server.aggregator.f": 5}) > clean - 0.15


def test_krum_is_weak_where_clients_differ_and_bucketing_helps(accuracy):
    """Karimireddy et al. 2022: without any attacker; one client's update is no one else's."""
    f = {"server.aggregator.f": 5}
    krum = accuracy("krum", base={**EPOCH, **SKEWED}, **f)
    assert krum < accuracy("krum", **f) - 0.1
    assert krum < accuracy("fedavg", base={**EPOCH, **SKEWED}) - 0.15
    inner = {"server.aggregator.inner": {"kind": "krum", "f": 5}}
    assert accuracy("bucketing", base={**EPOCH, **SKEWED}, **inner) > krum + 0.1


def test_what_hides_in_the_noise_harms_krum_more_than_what_shouts(accuracy):
    """Baruch et al. 2019; against the mean, shouting is what works."""
    alie, flip = {"kind": "alie", "z": 1.5}, {"kind": "sign_flip"}
    many = {"base": STEP, "share": 0.4, "rounds": 100}
    f = {"server.aggregator.f": 10}
    assert accuracy("krum", alie, **many, **f) < accuracy("krum", flip, **many, **f) - 0.04
    assert accuracy("fedavg", flip, **many) < 0.3 < 0.85 < accuracy("fedavg", alie, **many)


def test_inner_products_turn_rules_round_that_look_at_one_version_only(accuracy):
    """Xie et al. 2020; Karimireddy et al. 2021: those with a memory go on."""
    ipm = {"kind": "ipm", "epsilon": 0.5}
    many = {"base": STEP, "share": 0.4, "rounds": 100}
    assert accuracy("krum", ipm, **many, **{"server.aggregator.f": 10}) < 0.3
    assert accuracy("median", ipm, **many) < 0.3
    assert accuracy("centered_clipping", ipm, **many) > 0.85
    assert accuracy("fedavg", ipm, **many) > 0.85  # too weak to turn the mean: 0.5 < 15 / 10
