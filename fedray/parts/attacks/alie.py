"""A Little Is Enough: as far from the mean as no defence notices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Annotated, ClassVar, Literal

import numpy as np

from fedray.parts.attacks.base import ALONE, ByClients
from fedray.parts.fields import Doc, Positive
from fedray.types import Matrix, Vector

MOST = 0.999
"""The share of honest updates beyond which z stops to grow: Phi(3.09)."""


@dataclass(frozen=True, kw_only=True)
class Alie(ByClients):
    """All malicious clients send mean - z std of the honest updates, by coordinate.

    `z: auto` is the largest with Phi(z) <= (n - m - s) / (n - m) for m of n updates, with
    s = floor(n / 2 + 1) - m honest supporters (Baruch et al. 2019, algorithm 3): then enough
    honest updates are farther from the mean than theirs. It is 0, no attack at all, where m is
    small beside n: 2 of 10, but not 5 of 25. Acts at the server, knowing all honest updates.
    """

    PAPER: ClassVar[str] = (
        "Baruch et al. 2019, A Little Is Enough: Circumventing Defenses For Distributed Learning, "
        "algorithm 3 (arXiv 1902.06156)"
    )
    omniscient: ClassVar[bool] = True
    refuses: ClassVar[Mapping[str, str]] = {"async": ALONE}
    kind: Literal["alie"] = "alie"
    z: Annotated[
        Positive | Literal["auto"], Doc("standard deviations from the mean; auto: from n and m")
    ] = "auto"

    def collude(self, honest: Matrix, malicious: int) -> Vector:
        """mean - z std, the standard deviation over the H honest ones themselves (1 / H)."""
        z = z_max(len(honest) + malicious, malicious) if self.z == "auto" else self.z
        return np.asarray(honest.mean(axis=0) - z * honest.std(axis=0), honest.dtype)


def z_max(n: int, m: int) -> float:
    """z for m malicious of n updates, between 0 and 3.09; the latter where m is a majority."""
    supporters = n // 2 + 1 - m
    share = (n - m - supporters) / (n - m)
    return max(0.0, NormalDist().inv_cdf(min(max(share, 1.0 - MOST), MOST)))
