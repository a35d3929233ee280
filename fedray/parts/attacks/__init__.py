"""Attacks by name: one line each."""

from __future__ import annotations

from fedray.parts.attacks.alie import Alie
from fedray.parts.attacks.base import Attack
from fedray.parts.attacks.gaussian import Gaussian
from fedray.parts.attacks.ipm import Ipm
from fedray.parts.attacks.label_flip import LabelFlip
from fedray.parts.attacks.none import NoAttack
from fedray.parts.attacks.sign_flip import SignFlip

ATTACKS: tuple[type[Attack], ...] = (
    NoAttack,
    LabelFlip,
    SignFlip,
    Gaussian,
    Alie,
    Ipm,
)
