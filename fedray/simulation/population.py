"""Devices on the virtual clock: how long each client's job takes, and whether it survives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedray import rng
from fedray.config import schema
from fedray.data.shipped import here
from fedray.errors import InputError
from fedray.simulation import tables
from fedray.simulation.availability import Always, Availability, cycle
from fedray.simulation.distributions import draw
from fedray.types import Floats, Ints


@dataclass(frozen=True)
class Payload:
    """Bytes of one message each way."""

    bytes_down: int
    bytes_up: int


@dataclass(frozen=True)
class Population:
    """Per client, in seconds: a job's download, nominal computation and upload, shape (N,).

    A job of client c takes download_s[c] + jitter * compute_s[c] + upload_s[c], with
    `jitter` drawn anew for every job, and is lost with chance `dropout`.
    """

    download_s: Floats
    compute_s: Floats
    upload_s: Floats
    jitter: schema.Distribution
    dropout: float
    availability: Availability
    payload: Payload

    @property
    def clients(self) -> int:
        return len(self.compute_s)

    @property
    def duration_s(self) -> Floats:
        """Nominal seconds per job, shape (N,)."""
        return self.download_s + self.compute_s + self.upload_s


def build_population(
    devices: schema.Devices,
    *,
    samples_per_job: Floats | Ints,
    names: tuple[str, ...] | None,
    payload: Payload,
    seed: int,
    base_dir: Path,
) -> Population:
    """Draws or reads the devices of all clients.

    `samples_per_job` (N,): samples that a job of each client goes through.
    Raises InputError for tables that are missing, incomplete or not positive.
    """
    clients = len(samples_per_job)
    samples = np.asarray(samples_per_job, float)
    if devices.table is not None:
        down, compute, up = _from_table(here(base_dir / devices.table), samples, names, payload)
    else:
        down, compute, up = _drawn(devices, samples, payload, seed)
    for what, seconds in (("download", down), ("compute", compute), ("upload", up)):
        if not np.isfinite(seconds).all():
            client = int(np.argmin(np.isfinite(seconds)))
            raise InputError(
                f"client {client} would {what} forever (a rate of 0); rates must be > 0",
                key="devices",
            )
    return Population(
        download_s=down,
        compute_s=compute,
        upload_s=up,
        jitter=devices.jitter,
        dropout=devices.dropout,
        availability=_availability(devices.availability, clients, names, seed, base_dir),
        payload=payload,
    )


def _drawn(
    devices: schema.Devices, samples: Floats, payload: Payload, seed: int
) -> tuple[Floats, Floats, Floats]:
    clients = len(samples)

    def drawn(law: schema.Distribution, what: int) -> Floats:
        return draw(law, rng.generator(seed, rng.Stream.DEVICES, what), clients)

    if devices.duration is not None:
        none = np.zeros(clients)
        return none, drawn(devices.duration, 0), none
    network = devices.network or schema.Network()
    latency = drawn(network.latency_s, 4)
    with np.errstate(divide="ignore"):
        return (
            latency + payload.bytes_down / drawn(network.down_bytes_per_s, 2),
            samples / drawn(devices.compute or schema.DEFAULT_COMPUTE, 1),
            latency + payload.bytes_up / drawn(network.up_bytes_per_s, 3),
        )


def _from_table(
    path: Path, samples: Floats, names: tuple[str, ...] | None, payload: Payload
) -> tuple[Floats, Floats, Floats]:
    columns = tables.device_table(path, clients=len(samples), names=names)
    if "duration_s" in columns:
        none = np.zeros(len(samples))
        return none, columns["duration_s"], none
    with np.errstate(divide="ignore"):
        return (
            columns["latency_s"] + payload.bytes_down / columns["down_bytes_per_s"],
            samples / columns["samples_per_s"],
            columns["latency_s"] + payload.bytes_up / columns["up_bytes_per_s"],
        )


def _availability(
    config: schema.Availability,
    clients: int,
    names: tuple[str, ...] | None,
    seed: int,
    base_dir: Path,
) -> Availability:
    match config:
        case schema.AlwaysAvailable():
            return Always()
        case schema.CycleAvailability():
            return cycle(config, clients, seed)
        case schema.TraceAvailability(path=path):
            return tables.availability_trace(here(base_dir / path), clients=clients, names=names)
