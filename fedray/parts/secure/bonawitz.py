"""Secure aggregation with double masks and recovery of who drops out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Le

from fedray.parts.cards import Algorithm
from fedray.parts.fields import Doc
from fedray.parts.secure import field
from fedray.parts.secure.base import Secure

_KEY_BYTES = 32
_SHARES_BYTES = 2 * _KEY_BYTES + 16
"""Two shares for one peer, encrypted, with the tag that proves who wrote them."""


@dataclass(frozen=True, kw_only=True)
class Bonawitz(Secure):
    """Masks that cancel in the sum (Bonawitz et al. 2017), all four rounds of messages."""

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="secagg",
        title="Secure aggregation with recovery of dropouts",
        paper="Bonawitz et al. 2017, Practical Secure Aggregation for Privacy-Preserving Machine "
        "Learning, figure 4, against honest but curious parties (CCS 2017, "
        "doi 10.1145/3133956.3133982; first in arXiv 1611.04482)",
        rule="Client i sends x_i + PRG(b_i) + sum_{j > i} PRG(s_ij) - sum_{j < i} PRG(s_ij) modulo "
        "2^31 - 1, x_i being its update in fixed point and s_ij what it agrees on with client j. "
        "Of its keys every client has given shares to all. Of those who answer, their b_i are "
        "recovered from the shares, of those who do not, their keys, so that all masks can be "
        "taken off the sum. With fewer answers than the threshold, or than 2, the version is given "
        "up.",
        values={
            "secure_aggregation": {"kind": "bonawitz", "threshold": 0.67, "bits": 20},
            "server": {
                "schedule": {"mode": "sync"},
                "weighting": "uniform",
                "aggregator": {"kind": "mean"},
                "optimizer": {"kind": "sgd", "lr": 1.0},
            },
        },
        proof="The sum that is unmasked equals the sum of the fixed-point updates exactly, for any "
        "set of dropouts; below the threshold nothing comes out; a single masked update is "
        "uniform.",
        differs="Keys are of 61 bits and masks from Philox: what is simulated is the protocol and "
        "its traffic, which is counted as for keys of 32 bytes. Signatures and the consistency "
        "check against a malicious server are left out.",
        family="privacy",
        refuses={
            "buffered": "masks cancel within a cohort that starts and ends together",
            "async": "masks cancel within a cohort that starts and ends together",
        },
    )
    kind: Literal["bonawitz"] = "bonawitz"
    threshold: Annotated[
        float, Gt(0.5), Le(1), Doc("share of a cohort that has to answer, or nothing is learned")
    ] = 0.67
    bits: Annotated[
        int, Ge(2), Le(28), Doc("of a coordinate in fixed point, its sign included")
    ] = 20
    bound: Annotated[float, Gt(0), Doc("coordinates of an update are cut to [-bound, bound]")] = 1.0

    def least(self, parties: int) -> int:
        """t: answers that are needed; 2 or more, as a sum of one update is that update."""
        return max(2, math.ceil(self.threshold * parties - 1e-9))

    @property
    def most_parties(self) -> int:
        """Clients whose sum cannot leave the field."""
        return (field.VALUES // 2) // (1 << (self.bits - 1))

    def bytes_up(self, size: int, dtype: np.dtype[Any], parties: int) -> int:
        """Two public keys, shares for all others, the masked update, a share of everybody."""
        masked = -(-size * field.VALUE_BITS // 8)
        return 2 * _KEY_BYTES + (parties - 1) * _SHARES_BYTES + masked + parties * _KEY_BYTES

    def bytes_down(self, parties: int) -> int:
        """Public keys of and shares from all others, and who has answered, a bit each."""
        return (parties - 1) * (2 * _KEY_BYTES + _SHARES_BYTES) + -(-parties // 8)

    def sum(
        self, units: Any, parties: int, answering: Sequence[int], dice: np.random.Generator
    ) -> Any:
        """The sum of the rows of `units` (A, P), those of the `answering` of so many `parties`.

        As whole numbers (P,), after masking every one of them; None below the threshold.
        """
        if len(answering) < self.least(parties):
            return None
        round_ = _Round(parties, self.least(parties), dice)
        sent = {i: field.residues(row) for i, row in zip(answering, units, strict=True)}
        return field.whole(round_.unmasked(round_.masked(sent)))


class _Round:
    """Keys of all parties, and what the server does with what it gets."""

    def __init__(self, parties: int, threshold: int, dice: np.random.Generator) -> None:
        self._everybody, self._threshold, self._dice = range(parties), threshold, dice
        self._keys = [int(key) for key in dice.integers(1, field.KEYS, parties)]
        self._public = [pow(field.GENERATOR, key, field.KEYS) for key in self._keys]
        self._own = [int(seed) for seed in dice.integers(1, field.KEYS, parties)]

    def agreed(self, i: int, key: int, j: int) -> int:
        """s_ij, by Diffie and Hellman: the same for both."""
        return pow(self._public[j], key, field.KEYS)

    def masked(self, sent: dict[int, field.Residues]) -> dict[int, field.Residues]:
        """What the clients that get so far send, by party."""
        size = len(next(iter(sent.values())))
        found = {i: (x + field.mask(self._own[i], size)) % field.VALUES for i, x in sent.items()}
        for i in self._everybody:
            for j in range(i + 1, len(self._everybody)):
                if i in found or j in found:
                    pair = field.mask(self.agreed(i, self._keys[i], j), size)
                    if i in found:
                        found[i] = (found[i] + pair) % field.VALUES
                    if j in found:
                        found[j] = (found[j] + (field.VALUES - pair)) % field.VALUES
        return found

    def unmasked(self, received: dict[int, field.Residues]) -> field.Residues:
        """Their sum. The server knows public keys, and the shares that those who answer hold."""
        answering = sorted(received)
        helpers = answering[: self._threshold]
        coefficients = dict(zip(helpers, field.at_zero(helpers), strict=True))
        total = np.zeros_like(received[answering[0]])
        for row in received.values():
            total = (total + row) % field.VALUES
        for i in answering:
            own = self._recovered(self._own[i], coefficients)
            total = (total + (field.VALUES - field.mask(own, len(total)))) % field.VALUES
        for gone in sorted(set(self._everybody) - set(answering)):
            key = self._recovered(self._keys[gone], coefficients)
            for i in answering:
                pair = field.mask(self.agreed(gone, key, i), len(total))
                other = pair if i > gone else field.VALUES - pair
                total = (total + other) % field.VALUES
        return total

    def _recovered(self, secret: int, coefficients: dict[int, int]) -> int:
        """From the shares that its owner has dealt out, those of the helpers."""
        dealt = field.shares(secret, list(coefficients), self._threshold, self._dice)
        return field.secret(dealt, coefficients)
