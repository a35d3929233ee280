"""What a sweep ranks settings by: which way is better, and how its values are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fedray.report import words
from fedray.report.diagnosis.effects import Effect, minus

_SHARES = ("accuracy", "worst_decile_accuracy")
_LARGER_IS_BETTER = (*_SHARES, "r2")
_NAMES = {
    "accuracy": "accuracy",
    "r2": "R²",
    "loss": "loss",
    "worst_decile_accuracy": "accuracy of the worst tenth of clients",
    "bytes_to_target": "bytes to the target",
    "virtual_time_to_target": "virtual time to the target",
    "epsilon": "epsilon",
}


class Merit(NamedTuple):
    """A metric; `target` is what *_to_target waits for, in accuracy or R^2."""

    metric: str
    mode: str
    target: float | None = None
    score: str = "accuracy"
    """The column of `rounds.parquet` whose learning curves belong to it."""

    @property
    def sign(self) -> float:
        """1 where more is better, else -1."""
        return 1.0 if self.mode == "max" else -1.0

    @property
    def waits(self) -> bool:
        """Whether it is a cost up to the target."""
        return self.metric.endswith("_to_target")

    @property
    def name(self) -> str:
        """As it stands in a sentence."""
        return _NAMES.get(self.metric, self.metric)

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest value that there can be."""
        if self.metric in _SHARES:
            return 0.0, 1.0
        return (float("-inf"), 1.0) if self.metric == "r2" else (0.0, float("inf"))

    @property
    def scale(self) -> float:
        """From the table's unit to the axis's."""
        return 100.0 if self.metric in _SHARES else 1e-6 if self.metric == "bytes_to_target" else 1

    @property
    def axis(self) -> str:
        """For an axis of values, times `scale`."""
        unit = {"accuracy": " (%)", "worst_decile_accuracy": " (%)", "bytes_to_target": " (MB)",
                "virtual_time_to_target": " (s)"}.get(self.metric, "")  # fmt: skip
        name = self.name + unit
        return name[:1].upper() + name[1:]

    def say(self, value: float | None) -> str:
        """A value with its unit; a dash for none."""
        if value is None or value != value:
            return words.NONE
        if self.metric in _SHARES:
            return words.percent(value)
        if self.metric == "bytes_to_target":
            return words.amount(value)
        if self.metric == "virtual_time_to_target":
            return words.seconds(value)
        if 0.01 <= abs(value) < 1000:
            return minus(f"{value:.3f}")
        return "0" if value == 0 else minus(f"{value:.3g}")

    def say_interval(self, of: Effect | None) -> str:
        """`91.2% (90.8% to 91.7%)`; the value alone where there is no interval."""
        if of is None:
            return words.NONE
        if of.low is None or of.high is None:
            return self.say(of.value)
        return f"{self.say(of.value)} ({self.say(of.low)} to {self.say(of.high)})"

    def difference(self, value: float) -> str:
        """How far apart two values are, without sign."""
        if self.metric in _SHARES:
            return f"{100 * abs(value):.1f} points"
        return self.say(abs(value))


def merit_of(tree: Mapping[str, Any], *, regression: bool = False) -> Merit:
    """What a sweep file ranks by, with the defaults that `fedray sweep` has."""
    section = tree.get("sweep") or {}
    metric = str(section.get("metric") or ("r2" if regression else "accuracy"))
    mode = str(section.get("mode") or ("max" if metric in _LARGER_IS_BETTER else "min"))
    score = "loss" if metric == "loss" else "r2" if regression else "accuracy"
    target = section.get("target")
    return Merit(metric, mode, None if target is None else float(target), score)


def interval(
    values: list[float], bounds: tuple[float, float] = (float("-inf"), float("inf"))
) -> Effect:
    """Mean and 95% t-interval over seeds: mean -+ t(n-1, 0.975) s / sqrt(n).

    No interval for one value. Assumes that seeds are independent draws. `bounds`: what the
    values can be at all; the interval is cut there.
    """
    n = len(values)
    mean = sum(values) / n
    if n < 2:
        return Effect(mean)
    from scipy.special import stdtrit

    variance = sum((value - mean) ** 2 for value in values) / (n - 1)
    half = float(stdtrit(n - 1, 0.975)) * (variance / n) ** 0.5
    return Effect(mean, max(bounds[0], mean - half), min(bounds[1], mean + half))
