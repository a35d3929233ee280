"""A whole run: the keys at the top of a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge

from fedray.config.schema.client import Client
from fedray.config.schema.compression import Compression
from fedray.config.schema.data import Data, EmbeddedData
from fedray.config.schema.devices import Devices
from fedray.config.schema.model import Model, SoftmaxModel
from fedray.config.schema.observing import Diagnosis, Eval, Stop
from fedray.config.schema.partition import DirichletPartition, Partition
from fedray.config.schema.parts import Attack, Method, Personal, Privacy, Secure
from fedray.config.schema.running import Checkpoint, Output, Runtime
from fedray.config.schema.server import Server
from fedray.parts.attacks.none import NoAttack
from fedray.parts.fields import Doc, Name, Strict
from fedray.parts.methods.plain import Plain
from fedray.parts.personal.off import Off
from fedray.parts.privacy.none import NoPrivacy
from fedray.parts.secure.base import NotSecure


@dataclass(frozen=True, kw_only=True)
class Config(Strict):
    """A whole run."""

    name: Annotated[Name, Doc("names the run folder and the report")] = "fedray"
    seed: Annotated[int, Ge(0), Doc("every draw follows from it")] = 0
    data: Data = field(default_factory=EmbeddedData)
    partition: Partition = field(default_factory=DirichletPartition)
    model: Model = field(default_factory=SoftmaxModel)
    algorithm: Annotated[
        Name,
        Doc(
            "a preset over the parts below, see `fedray algorithms`; or a method of your own, "
            "package.module:Class"
        ),
    ] = "fedavg"
    client: Client = field(default_factory=Client)
    method: Annotated[Method, Doc("what clients and server do beyond local SGD and averaging")] = (
        field(default_factory=Plain)
    )
    personal: Annotated[
        Personal, Doc("models of the clients' own, and samples held back to test them")
    ] = field(default_factory=Off)
    server: Server = field(default_factory=Server)
    attack: Annotated[Attack, Doc("what malicious clients do")] = field(default_factory=NoAttack)
    compression: Compression = field(default_factory=Compression)
    privacy: Annotated[Privacy, Doc("differential privacy of users")] = field(
        default_factory=NoPrivacy
    )
    secure_aggregation: Annotated[
        Secure, Doc("whether the server learns sums of updates only, and by which protocol")
    ] = field(default_factory=NotSecure)
    devices: Devices = field(default_factory=Devices)
    clock: Annotated[
        Literal["virtual", "wall"],
        Doc("wall: true arrival order instead of virtual time; not reproducible, and marked so"),
    ] = "virtual"
    eval: Eval = field(default_factory=Eval)
    diagnosis: Diagnosis = field(default_factory=Diagnosis)
    stop: Stop = field(default_factory=Stop)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    output: Output = field(default_factory=Output)
    runtime: Runtime = field(default_factory=Runtime)
