"""What privacy a run spends: epsilon by dp-accounting, for the mechanism and sampling that ran.

A version of central noise is one release of a Gaussian mechanism on a sum that any one user can
change by C; T of them are composed. Of local noise every update of a client is a release.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Literal

from fedray.config import schema
from fedray.errors import InputError
from fedray.parts.privacy.base import Noised
from fedray.parts.privacy.central import Central
from fedray.parts.privacy.clipping import Adaptive
from fedray.parts.privacy.local import LocalNoise
from fedray.parts.secure.bonawitz import Bonawitz
from fedray.parts.selection.poisson import Poisson

Sampling = Literal["poisson", "without_replacement", "none"]
_ADJACENCY = {
    "poisson": "one user more or less",
    "without_replacement": "one user replaced by another",
    "none": "one user's part in every sum replaced by 0",
    "local": "one user's data replaced by any other",
}
_CLAIM = {
    "poisson": "amplification by Poisson sampling, every client joining each round with chance "
    "{q:.4g}",
    "without_replacement": "amplification by sampling {m:g} of {n} clients without replacement",
    "none": "no amplification: every user may have part in every version",
    "local": "no amplification: every update that a client sends counts",
}
_MOST_PLD = 20
"""Versions whose epsilon is worked out by pld, which takes a second each, if they are sampled."""


@dataclass(frozen=True)
class Guarantee:
    """A run's mechanism, with everything solved and filled in."""

    kind: Literal["central", "local"]
    accountant: Literal["rdp", "pld"]
    delta: float
    noise: float
    """z"""
    update_noise: float
    """z_delta: what of it is on the updates; larger than z with adaptive clipping."""
    expected: float
    """m: updates per version; 1 with local noise."""
    clients: int
    sampling: Sampling
    rounds: int

    @property
    def q(self) -> float:
        """Share of the clients per version."""
        return self.expected / self.clients

    @property
    def scale(self) -> float:
        """Noise over what one user can change in one release: C, or 2 C by replacement."""
        whole = self.kind == "central" and self.sampling != "without_replacement"
        return self.noise if whole else self.noise / 2

    def epsilon(self, releases: int) -> float:
        """Of so many releases: versions, or with local noise updates of the same client."""
        return 0.0 if releases == 0 else _epsilon(self, releases)

    def due(self, version: int) -> bool:
        """Whether epsilon is worked out for this version's record."""
        if self.accountant == "rdp" or self.sampling != "poisson":
            return True
        return version % math.ceil(self.rounds / _MOST_PLD) == 0

    def facts(self, releases: int) -> dict[str, Any]:
        """For summary.json."""
        name = "local" if self.kind == "local" else self.sampling
        return {
            "kind": self.kind,
            "epsilon": self.epsilon(releases),
            "delta": self.delta,
            "accountant": self.accountant,
            "adjacency": _ADJACENCY[name],
            "claimed": _CLAIM[name].format(q=self.q, m=self.expected, n=self.clients),
            "noise_multiplier": self.noise,
            "releases": releases,
        }


def guarantee(config: schema.Config, clients: int, cohort: int) -> Guarantee | None:
    """What the run's privacy comes to. Raises InputError for what cannot be had."""
    privacy = config.privacy
    if not isinstance(privacy, Noised):
        return None
    _check_installed()
    local = isinstance(privacy, LocalNoise)
    found = Guarantee(
        kind="local" if local else "central",
        accountant=privacy.accountant,
        delta=min(clients**-1.1, 0.5) if privacy.delta is None else privacy.delta,
        noise=0.0,
        update_noise=0.0,
        expected=1.0 if local else _expected(config, cohort),
        clients=clients,
        sampling="none" if local else _sampling(config, cohort, clients),
        rounds=config.server.rounds,
    )
    noise = privacy.noise_multiplier or _solved(found, privacy.target_epsilon or 0.0)
    found = replace(found, noise=noise, update_noise=noise)
    if isinstance(privacy, Central) and isinstance(privacy.clipping, Adaptive):
        return replace(found, update_noise=_of_updates(privacy.clipping, found))
    return found


def _of_updates(clipping: Adaptive, found: Guarantee) -> float:
    try:
        return clipping.noise(found.noise, found.expected)
    except ValueError as error:
        raise InputError(
            f"{error}, or the share of updates that fit would cost more than the noise allows: "
            "more clients per version, a larger privacy.clipping.bit_noise, or flat clipping",
            key="privacy.noise_multiplier",
        ) from None


def _expected(config: schema.Config, cohort: int) -> float:
    """m: what sums are divided by."""
    match config.server.schedule:
        case schema.SyncSchedule():
            return float(cohort)
        case schema.BufferedSchedule(buffer_size=size):
            return float(size)
    return 1.0


def _sampling(config: schema.Config, cohort: int, clients: int) -> Sampling:
    """What is claimed; `privacy_checks` has refused what would not be true.

    Whether enough of a cohort answered for secure aggregation may hang on one who joined, and
    with it the whole sum: more than C. So no claim is made for who joins there.
    """
    privacy = config.privacy
    assert isinstance(privacy, Central)
    if isinstance(config.secure_aggregation, Bonawitz) and privacy.amplification == "auto":
        return "none"
    if privacy.amplification == "without_replacement":
        return "without_replacement" if cohort < clients else "none"
    if privacy.amplification == "auto" and isinstance(config.server.selection, Poisson):
        return "poisson" if cohort < clients else "none"
    return "none"


def _solved(found: Guarantee, target: float) -> float:
    """The least z, to a thousandth, that leaves no more than the target after all rounds."""

    def spent(noise: float) -> float:
        return replace(found, noise=noise).epsilon(found.rounds)

    high = 1.0
    while spent(high) > target:
        high *= 2
        if high > 1e6:
            raise InputError(f"no noise leaves epsilon {target:g}", key="privacy.target_epsilon")
    low = 0.0 if high == 1.0 else high / 2
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) > target else (low, middle)
    return high


@lru_cache(maxsize=4096)
def _epsilon(of: Guarantee, releases: int) -> float:
    from dp_accounting import get_epsilon_gaussian
    from dp_accounting.rdp import compute_epsilon

    with _quiet():
        if of.accountant == "rdp":
            orders, divergences = _divergences(of.sampling, of.q, of.scale)
            return float(compute_epsilon(orders, releases * divergences, of.delta)[0])
        if of.sampling == "poisson":
            composed = _losses(of.q, of.scale).self_compose(releases)
            return float(composed.get_epsilon_for_delta(of.delta))
        # n Gaussian mechanisms are one with 1 / sqrt(n) of the noise: exact, nothing to discretise
        return float(get_epsilon_gaussian(of.scale / math.sqrt(releases), of.delta))


@lru_cache(maxsize=8)
def _divergences(sampling: Sampling, q: float, scale: float) -> tuple[Any, Any]:
    """Renyi divergences of one release, by order."""
    import dp_accounting as dp

    gauss = dp.GaussianDpEvent(scale)
    relation = dp.NeighboringRelation.ADD_OR_REMOVE_ONE
    event: dp.DpEvent = gauss
    if sampling == "poisson":
        event = dp.PoissonSampledDpEvent(q, gauss)
    elif sampling == "without_replacement":
        relation = dp.NeighboringRelation.REPLACE_ONE
        parts = 10**9  # of which q are drawn: the event is about the share alone
        event = dp.SampledWithoutReplacementDpEvent(parts, round(q * parts), gauss)
    accountant = dp.rdp.RdpAccountant(neighboring_relation=relation)
    accountant.compose(event)
    return accountant.orders, accountant.rdp


@lru_cache(maxsize=8)
def _losses(q: float, scale: float) -> Any:
    """The distribution of the privacy loss of one release with Poisson sampling."""
    from dp_accounting.pld import privacy_loss_distribution

    return privacy_loss_distribution.from_gaussian_mechanism(scale, sampling_prob=q)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without absl's remarks on orders, which are about how tight a bound is."""
    from absl import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _check_installed() -> None:
    if find_spec("dp_accounting") is None:
        raise InputError(
            "accounting needs dp-accounting: pip install 'fedray[privacy]'", key="privacy.kind"
        )
