"""Effects with intervals, as a diagnosis states them, and how they are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fedray.report.words import NONE

MINUS = "\N{MINUS SIGN}"


class Effect(NamedTuple):
    """A value and its interval over seeds; no bounds where there was one seed."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def doubtful(self) -> bool:
        """Whether the interval includes zero; False where there is none."""
        return self.low is not None and self.high is not None and self.low <= 0 <= self.high

    def __neg__(self) -> Effect:
        return Effect(
            -self.value,
            None if self.high is None else -self.high,
            None if self.low is None else -self.low,
        )

    def times(self, factor: float) -> Effect:
        """The same in another unit; `factor` is positive."""
        return Effect(*(None if v is None else factor * v for v in self))  # type: ignore[arg-type]


def effect(of: Any) -> Effect | None:
    """{value, low, high} or a bare number as an `Effect`; None where there is no number."""
    if isinstance(of, Mapping):
        value, low, high = (_finite(of.get(key)) for key in ("value", "low", "high"))
    else:
        value, low, high = _finite(of), None, None
    return None if value is None else Effect(value, low, high)


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < float("inf") else None


class Measure(NamedTuple):
    """The units of a diagnosis: points of accuracy, or the loss's own."""

    metric: str
    """accuracy or loss."""

    @property
    def scale(self) -> float:
        return 100.0 if self.metric == "accuracy" else 1.0

    @property
    def unit(self) -> str:
        """What differences are counted in."""
        return "points" if self.metric == "accuracy" else "loss"

    @property
    def axis(self) -> str:
        """For an axis of levels."""
        return "Accuracy (%)" if self.metric == "accuracy" else "Loss"

    @property
    def higher_is_better(self) -> bool:
        return self.metric == "accuracy"

    def level(self, value: float | None) -> str:
        """0.912 -> 91.2%; a loss has three digits."""
        if value is None:
            return NONE
        return f"{100 * value:.1f}%" if self.metric == "accuracy" else minus(f"{value:.3g}")

    def difference(self, value: float | None) -> str:
        """0.021 -> 2.1; without the unit. An exact zero is 0, a rounded one 0.0."""
        if value is None:
            return NONE
        if value == 0:
            return "0"
        if self.metric != "accuracy":
            return minus(f"{value:.3g}")
        return minus(f"{100 * value:.1f}".replace("-0.0", "0.0"))

    def interval(self, of: Effect | None) -> str:
        """`2.1 (1.4 to 2.9)`; the value alone where there is no interval."""
        return _with_interval(of, self.difference)

    def level_interval(self, of: Effect | None) -> str:
        """`91.2% (90.8% to 91.7%)`."""
        return _with_interval(of, self.level)


def _with_interval(of: Effect | None, say: Callable[[float], str]) -> str:
    if of is None:
        return NONE
    if of.low is None or of.high is None or of.low == of.high == of.value:
        return say(of.value)
    return f"{say(of.value)} ({say(of.low)} to {say(of.high)})"


def minus(text: str) -> str:
    """A hyphen as a minus sign."""
    return text.replace("-", MINUS)
