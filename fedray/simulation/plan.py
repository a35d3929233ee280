"""From a configuration to everything that a run needs, checked, before anything starts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedray import rng
from fedray.config import schema
from fedray.data.aside import set_aside
from fedray.data.federate import federate
from fedray.data.holdout import hold_out
from fedray.errors import InputError
from fedray.learning.local import samples_per_job
from fedray.learning.work import Work
from fedray.models import build_model
from fedray.parts.aggregators.base import check_size
from fedray.parts.attacks.base import crew
from fedray.parts.compression.nothing import Nothing
from fedray.parts.privacy.local import ClipAndNoise, LocalNoise
from fedray.parts.secure.base import NotSecure
from fedray.parts.secure.bonawitz import Bonawitz
from fedray.parts.selection import selection
from fedray.parts.selection.plain import Uniform
from fedray.parts.selection.power_of_choice import PowerOfChoice
from fedray.parts.selection.tiers import Tiers
from fedray.parts.transforms import Transform
from fedray.simulation.accounting import Guarantee, guarantee
from fedray.simulation.events import Queue
from fedray.simulation.fleet import FORWARD_SHARE, Fleet
from fedray.simulation.policies import build_policy
from fedray.simulation.population import Payload, Population, build_population
from fedray.simulation.timeline import Timeline
from fedray.types import Dataset, Federation, Floats, Ints, Vector


@dataclass(frozen=True)
class Plan:
    """A run, ready to go. Picklable; holds all but the data."""

    config: schema.Config
    work: Work
    population: Population
    sizes: Ints
    cohort: int
    classification: bool
    privacy: Guarantee | None = None
    """What the run spends, where it is private."""

    def timeline(self, queue: Queue | None = None, *, blind: bool = False) -> Timeline:
        """A fresh timeline at its beginning, in virtual time unless a `queue` is given.

        `blind`: with uniform selection where the configured one looks at results.
        """
        server = self.config.server
        chosen = selection(server.selection)
        fleet = Fleet(
            self.population,
            seed=self.config.seed,
            selection=Uniform() if blind and chosen.looks else chosen,
            sizes=self.sizes.astype(float),
            forward_s=self._forward_s,
            stragglers=self.work.stragglers,
            training=self._training,
        )
        policy = build_policy(server.schedule, fleet, self.cohort)
        limit_s = self.config.stop.virtual_time_s
        return Timeline(policy, rounds=server.rounds, time_limit_s=limit_s, queue=queue)

    @property
    def _training(self) -> Floats | None:
        """The share of a job's computation that partial work makes less, (N,); None where it is
        all. Passes that do not depend on the length of the local walk are done in full."""
        extra = _beside(self.config, np.zeros(len(self.sizes)), self.sizes)
        if not extra.any():
            return None
        return np.asarray(1.0 - extra / passes(self.config, self.sizes), float)

    @property
    def _forward_s(self) -> Floats:
        """Nominal seconds that a client takes to score a model on its shard, (N,)."""
        samples = passes(self.config, self.sizes)
        return self.population.compute_s * FORWARD_SHARE * self.sizes / samples

    def initial(self) -> Vector:
        """Version 0."""
        return self.work.model.init(rng.generator(self.config.seed, rng.Stream.INIT))


def build_plan(
    config: schema.Config, base_dir: Path, dataset: Dataset | None = None
) -> tuple[Plan, Federation]:
    """Loads and splits the data, builds the model and the devices.

    `dataset`: `config.data` of `config.seed`, if it is loaded already. Raises
    InputError, naming the key, for everything that cannot run.
    """
    federation = federate(
        config.data, config.partition, config.seed,
        dtype=np.dtype(config.model.dtype), base_dir=base_dir, dataset=dataset,
    )  # fmt: skip
    if config.personal.held_out:
        federation = hold_out(federation, config.personal.held_out, config.seed)
    quality = config.server.quality
    if quality.active:
        federation = set_aside(federation, quality.validation_fraction, config.seed)
    return plan_for(federation, config, base_dir), federation


def plan_for(federation: Federation, config: schema.Config, base_dir: Path) -> Plan:
    """The plan of `config` over data that is loaded and split already, as `config` asks.

    Raises InputError like `build_plan`.
    """
    model = build_model(
        config.model, features=len(federation.features), classes=len(federation.classes)
    )
    if not federation.classification:
        _check_scores(config)
    sizes = federation.shards.sizes
    cohort = cohort_size(config.server, federation.clients)
    spent = guarantee(config, federation.clients, cohort)
    work = Work(
        model,
        config.client,
        config.seed,
        config.eval.local_losses,
        method=config.personal.method(config.method),
        transforms=transforms(config, spent),
        attackers=crew(config.attack, federation.clients, len(federation.classes), config.seed),
        squares=selection(config.server.selection).needs_squares,
        personal=config.personal,
    )
    plan = Plan(
        config=config,
        work=work,
        population=build_population(
            config.devices,
            samples_per_job=passes(config, sizes),
            names=federation.client_names,
            payload=payload(config, work, _parties(config, cohort, federation.clients)),
            seed=config.seed,
            base_dir=base_dir,
        ),
        sizes=sizes,
        cohort=cohort,
        classification=federation.classification,
        privacy=spent,
    )
    _check_concurrency(config.server.schedule, federation.clients)
    _check_selection(config.server, plan.cohort, federation.clients)
    if isinstance(config.server.schedule, schema.SyncSchedule):
        check_size(config.server.aggregator, _smallest(config.server, plan))
    return plan


def payload(config: schema.Config, work: Work, parties: int) -> Payload:
    """Bytes of a model with what is sent along, and of an update with its; what never leaves a
    client does not count. A cohort's gradient travels whole, both ways."""
    wire, method, model = config.compression, work.method, work.model
    size = model.size - (0 if work.kept is None else int(work.kept.sum()))
    down, up = (each.encoded_bytes(size, model.dtype) for each in (wire.down, wire.up))
    secure = config.secure_aggregation
    if not isinstance(secure, NotSecure):
        up = secure.bytes_up(size, model.dtype, parties)
        down += secure.bytes_down(parties)
    asked = int(method.cohort_gradient)
    whole = asked * size * model.dtype.itemsize
    return Payload(
        down * (1 + method.broadcasts - asked) + whole, up * (1 + method.uploads) + whole
    )


def _parties(config: schema.Config, cohort: int, clients: int) -> int:
    """Clients that start a round together; by chance there may be fewer or more."""
    schedule, secure = config.server.schedule, config.secure_aggregation
    drawn = cohort
    if isinstance(schedule, schema.SyncSchedule):
        drawn = min(clients, math.ceil(cohort * schedule.over_select - 1e-9))
    most = clients if config.server.selection.by_chance else drawn
    if isinstance(secure, Bonawitz) and most < 2:
        raise InputError(
            "1 client is a cohort, and the sum of one update is that update; 2 or more are needed "
            "with secure_aggregation",
            key="server.clients_per_round",
        )
    if isinstance(secure, Bonawitz) and most > secure.most_parties:
        raise InputError(
            f"{secure.bits} bits leave room for the sum of {secure.most_parties} updates, and a "
            f"cohort may have {most}",
            key="secure_aggregation.bits",
        )
    return drawn


def passes(config: schema.Config, sizes: Ints) -> Floats:
    """Samples that a job of each client goes through, (N,)."""
    walk = samples_per_job(config.client, sizes)
    method = config.personal.method(config.method)
    return np.asarray(method.step_gradients * walk + _beside(config, walk, sizes), float)


def _beside(config: schema.Config, walk: Floats, sizes: Ints) -> Floats:
    """Of these, the ones beside local walks of so many samples, (N,)."""
    personal = config.personal
    method = personal.method(config.method)
    return np.asarray(method.extra_passes * sizes + personal.more_samples(walk, sizes), float)


def transforms(config: schema.Config, spent: Guarantee | None = None) -> tuple[Transform, ...]:
    """What an update goes through between the client's training and the server, in order."""
    found: list[Transform] = []
    if spent is not None and isinstance(config.privacy, LocalNoise):
        norm = config.privacy.clip_norm
        found.append(ClipAndNoise(norm=norm, deviation=spent.noise * norm))
    if not isinstance(config.compression.up, Nothing):
        found.append(config.compression.up)
    return tuple(found)


def cohort_size(server: schema.Server, clients: int) -> int:
    """Clients of a sync round: `clients_per_round` as a number."""
    asked = server.clients_per_round
    if asked == "all":
        return clients
    count = asked if isinstance(asked, int) else max(1, math.floor(asked * clients + 0.5))
    if count > clients:
        raise InputError(f"{count} is more than there are clients ({clients})",
                         key="server.clients_per_round")  # fmt: skip
    return count


def _smallest(server: schema.Server, plan: Plan) -> int:
    """Clients of the smallest cohort that a sync round may draw, but by chance."""
    chosen = selection(server.selection)
    if isinstance(chosen, Tiers):
        return min(plan.cohort, len(plan.sizes) // chosen.tiers)
    return plan.cohort


def _check_scores(config: schema.Config) -> None:
    """A regression has no accuracy to go by."""
    if config.stop.accuracy is not None:
        raise InputError("a regression has no accuracy; use stop.loss", key="stop.accuracy")
    quality = config.server.quality
    if getattr(quality, "utility", "auto") == "accuracy" or not quality.regression:
        raise InputError(
            f"{quality.kind} needs an accuracy, which a regression has none of; use loss",
            key="server.quality.kind",
        )


def _check_selection(server: schema.Server, cohort: int, clients: int) -> None:
    chosen = selection(server.selection)
    if isinstance(chosen, Tiers) and chosen.tiers > clients:
        raise InputError(
            f"{chosen.tiers} is more than there are clients ({clients})",
            key="server.selection.tiers",
        )
    if isinstance(chosen, PowerOfChoice) and chosen.candidates is not None:
        sync = isinstance(server.schedule, schema.SyncSchedule)
        low = cohort if sync else 1
        if not low <= chosen.candidates <= clients:
            raise InputError(
                f"must be from {low}, who train in a round, to {clients}, all clients, "
                f"not {chosen.candidates}",
                key="server.selection.candidates",
            )


def _check_concurrency(schedule: schema.Schedule, clients: int) -> None:
    if not isinstance(schedule, schema.SyncSchedule) and schedule.concurrency > clients:
        raise InputError(
            f"{schedule.concurrency} is more than there are clients ({clients})",
            key="server.schedule.concurrency",
        )
