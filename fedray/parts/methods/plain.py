"""Local SGD and averaging, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedray.parts.methods.base import Method


@dataclass(frozen=True, kw_only=True)
class Plain(Method):
    """Clients train, the server averages: FedAvg and all that is made of other parts."""

    kind: Literal["plain"] = "plain"
