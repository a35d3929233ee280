"""The exchangeable parts; their variants are those that the tables of `fedray.parts` name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedray.parts.aggregators import AGGREGATORS
from fedray.parts.attacks import ATTACKS
from fedray.parts.compression import COMPRESSORS
from fedray.parts.fields import one_of
from fedray.parts.methods import METHODS
from fedray.parts.personal import PERSONAL
from fedray.parts.privacy import PRIVACIES
from fedray.parts.quality import QUALITIES
from fedray.parts.secure import SECURE
from fedray.parts.selection import SELECTIONS

__all__ = [
    "Aggregator",
    "Attack",
    "Compressor",
    "Method",
    "Personal",
    "Privacy",
    "Quality",
    "Secure",
    "Selection",
]

if TYPE_CHECKING:
    from fedray.parts.aggregators.base import Aggregator
    from fedray.parts.attacks.base import Attack
    from fedray.parts.compression.base import Compressor
    from fedray.parts.methods.base import Method
    from fedray.parts.personal.base import Personal
    from fedray.parts.privacy.base import Privacy
    from fedray.parts.quality.base import Quality
    from fedray.parts.secure.base import Secure
    from fedray.parts.selection.base import Selection
else:
    Aggregator = one_of(AGGREGATORS, "kind")
    Attack = one_of(ATTACKS, "kind")
    Compressor = one_of(COMPRESSORS, "kind")
    Method = one_of(METHODS, "kind")
    Personal = one_of(PERSONAL, "kind")
    Privacy = one_of(PRIVACIES, "kind")
    Quality = one_of(QUALITIES, "kind")
    Secure = one_of(SECURE, "kind")
    Selection = one_of(SELECTIONS, "kind")
