"""Ways to a model of one's own by name: one line each."""

from __future__ import annotations

from fedray.parts.personal.apfl import Apfl
from fedray.parts.personal.base import Personal
from fedray.parts.personal.ditto import Ditto
from fedray.parts.personal.finetune import Finetune
from fedray.parts.personal.ifca import Ifca
from fedray.parts.personal.interpolate import Interpolate
from fedray.parts.personal.layers import FedPer, FedRep
from fedray.parts.personal.off import Off
from fedray.parts.personal.pfedme import PFedMe

PERSONAL: tuple[type[Personal], ...] = (
    Off,
    Finetune,
    Ditto,
    PFedMe,
    Apfl,
    FedPer,
    FedRep,
    Ifca,
    Interpolate,
)
