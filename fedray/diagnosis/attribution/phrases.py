"""How the figures of a diagnosis are said: units, signs, intervals, lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import floor, log10
from typing import Any, TypeAlias

V: TypeAlias = Mapping[str, Any]
"""{"value", "low", "high"}; low and high None with one seed."""

NAMES = {
    "non_iid": "non-IID data",
    "drift": "client drift",
    "staleness": "staleness",
    "averaging": "averaging",
}


@dataclass(frozen=True)
class Phrasing:
    """How figures of one metric are put into words."""

    metric: str
    scale: float
    """Of a loss: what its differences are set against to be called small."""

    def figure(self, value: float) -> str:
        """An accuracy or a loss."""
        if self.metric == "accuracy":
            return f"{100 * value:.1f}%"
        return self._loss(value)

    def bare(self, value: float) -> str:
        """A difference without its unit."""
        shown = f"{100 * value:.1f}" if self.metric == "accuracy" else self._loss(value)
        return shown.removeprefix("-") if float(shown.replace(",", "")) == 0 else shown

    def amount(self, value: float) -> str:
        """A difference, with its unit."""
        return self.bare(value) + (" points" if self.metric == "accuracy" else "")

    def distinguishable(self, v: V) -> bool:
        """Whether its interval, if it has one, excludes zero, and it is large enough to show."""
        shows = abs(float(v["value"])) >= self.smallest
        return shows and (v["low"] is None or v["low"] > 0 or v["high"] < 0)

    def inconclusive(self, v: V) -> bool:
        """Whether it may be zero, and yet may be more than anyone would pass over."""
        may_be_much = v["high"] is not None and bool(v["high"] > self.noticed)
        return may_be_much and not self.distinguishable(v)

    def is_nothing(self, v: V) -> str:
        """What is said of one that is not distinguishable."""
        by_interval = v["low"] is not None and v["low"] < v["high"] and v["low"] <= 0 <= v["high"]
        return "is not distinguishable from zero" if by_interval else "is negligible"

    @property
    def smallest(self) -> float:
        """What shows as more than zero."""
        return 0.0005 if self.metric == "accuracy" else 0.5 * 10.0**-self._decimals

    @property
    def noticed(self) -> float:
        """What nobody would pass over: a point, or two hundredths of the loss."""
        return 0.01 if self.metric == "accuracy" else 0.02 * abs(self.scale)

    def interval(self, v: V, *, flip: bool = False, first: bool = False) -> str:
        """' (8.1 to 10.9)', of minus the value if `flip`; nothing where it has no width."""
        if v["low"] is None or v["low"] == v["high"]:
            return ""
        low, high = (-v["high"], -v["low"]) if flip else (v["low"], v["high"])
        name = "95% interval " if first else ""
        return f" ({name}{self.bare(low)} to {self.bare(high)})"

    def size(self, v: V, *, first: bool = False) -> str:
        """The amount without its sign, with its interval."""
        flip = v["value"] < 0
        return self.amount(abs(v["value"])) + self.interval(v, flip=flip, first=first)

    def aside(self, name: str, v: V) -> str:
        """The name, with the signed amount and its interval in brackets."""
        between = self.interval(v).strip(" ()")
        return f"{name} ({self.amount(v['value'])}{f', {between}' if between else ''})"

    def gain(self, v: V) -> str:
        """The signed amount and its interval, in brackets after what they are of."""
        return self.aside("", v)

    def _loss(self, value: float) -> str:
        """As many decimals as show three digits of the scale."""
        return f"{value:,.{self._decimals}f}" if abs(value) < 1e6 else f"{value:.3g}"

    @property
    def _decimals(self) -> int:
        size = abs(self.scale)
        return min(max(2 - floor(log10(size)), 0), 9) if size else 3


def listed(items: Iterable[str]) -> str:
    """a, b and c."""
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last


def capital(text: str) -> str:
    """With a capital, to begin a sentence."""
    return text[:1].upper() + text[1:]


def uncapital(text: str) -> str:
    """Without its capital, but for a name's, to go on within a sentence."""
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[:2] == "A " else text


def clause(sentence: str) -> str:
    """A sentence as the part after a colon."""
    return uncapital(sentence.strip().rstrip("."))
