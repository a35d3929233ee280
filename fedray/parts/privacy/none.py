"""No differential privacy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedray.parts.privacy.base import Privacy


@dataclass(frozen=True, kw_only=True)
class NoPrivacy(Privacy):
    """Updates count as they are."""

    kind: Literal["none"] = "none"
