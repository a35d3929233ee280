"""What is known of a published algorithm: its name, its paper, its rule, and how it is set up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Algorithm:
    """A published algorithm as a composition of parts."""

    name: str
    title: str
    paper: str
    """With the equation or algorithm."""
    rule: str
    values: Mapping[str, Any]
    """The settings that it stands for."""
    proof: str = ""
    """How the tests hold it to its paper."""
    differs: str = ""
    """Where known implementations, or we, do something else than the paper."""
    family: str = "optimisation"
    """Its section in the lists."""
    refuses: Mapping[str, str] = field(default_factory=dict)
    """Modes that it does not work in, each with the reason."""
