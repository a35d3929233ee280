"""Methods by name: one line each."""

from __future__ import annotations

from fedray.parts.methods.afl import Afl
from fedray.parts.methods.area import Area
from fedray.parts.methods.base import Method
from fedray.parts.methods.ca2fl import Ca2fl
from fedray.parts.methods.delay_adaptive import DelayAdaptive
from fedray.parts.methods.fadas import Fadas
from fedray.parts.methods.feddyn import FedDyn
from fedray.parts.methods.fedexp import FedExP
from fedray.parts.methods.fedlin import FedLin
from fedray.parts.methods.fednova import FedNova
from fedray.parts.methods.fedstale import FedStale
from fedray.parts.methods.fedvarp import FedVarp
from fedray.parts.methods.mifa import Mifa
from fedray.parts.methods.mime import Mime, MimeLite
from fedray.parts.methods.plain import Plain
from fedray.parts.methods.qfedavg import QFedAvg
from fedray.parts.methods.scaffold import Scaffold
from fedray.parts.methods.unbiased import Unbiased

METHODS: tuple[type[Method], ...] = (
    Plain,
    Scaffold,
    FedNova,
    FedDyn,
    FedExP,
    FedLin,
    Mime,
    MimeLite,
    FedVarp,
    Mifa,
    QFedAvg,
    Afl,
    Ca2fl,
    Fadas,
    DelayAdaptive,
    Unbiased,
    FedStale,
    Area,
)
