"""Nobody attacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedray.parts.attacks.base import Attack


@dataclass(frozen=True, kw_only=True)
class NoAttack(Attack):
    """All clients are honest."""

    kind: Literal["none"] = "none"
