"""What is known of a published algorithm: its name, its paper, its rule, and how it is set up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MODES = ("sync", "buffered", "async")

FAMILIES: Mapping[str, str] = {
    "optimisation": "What clients and the server do about heterogeneous data.",
    "asynchronous": "Updates that are not waited for.",
    "selection": "Who is asked to train.",
    "quality": "How much the data of a client deserves to count.",
    "personalisation": "A model of its own for every client.",
    "robust": "Aggregates that a few wild updates cannot move far.",
    "communication": "Fewer bytes on the wire.",
    "privacy": "What an update gives away of its client.",
}
"""The headings of the list, in order."""


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
    """One of FAMILIES."""
    refuses: Mapping[str, str] = field(default_factory=dict)
    """Of MODES those that it does not work in, each with the reason."""
