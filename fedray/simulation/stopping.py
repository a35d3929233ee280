"""When a run has gone far enough, and how it has gone so far."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from fedray.config import schema
from fedray.types import Metrics


@dataclass
class Best:
    """The best evaluation so far: accuracy, or for regression the lowest loss."""

    value: float
    version: int
    virtual_time_s: float


@dataclass
class Fall:
    """The largest fall from the running best."""

    points: float
    from_version: int
    to_version: int


class Stopper:
    """Follows a run's evaluations and traffic; `reason` is set once a rule of `stop` is met."""

    def __init__(self, rules: schema.Stop) -> None:
        self._rules = rules
        self.reason: str | None = None
        self.evaluations = 0
        self.best: Best | None = None
        self.fall: Fall | None = None
        self._since_best = 0

    @property
    def watches_metrics(self) -> bool:
        """Whether the next version may only be made once this one's scores are known."""
        rules = self._rules
        return any(rule is not None for rule in (rules.accuracy, rules.loss, rules.patience))

    def evaluated(self, version: int, at_s: float, metrics: Metrics) -> None:
        """Takes in the scores of a version, in order of versions."""
        self.evaluations += 1
        value = metrics.loss if metrics.accuracy is None else metrics.accuracy
        gain = self._gain(value, metrics.accuracy is not None)
        if gain is None or gain > 0:
            self.best = Best(value, version, at_s)
            self._since_best = 0
        else:
            self._since_best += 1
            if self.best and (self.fall is None or -gain > self.fall.points):
                self.fall = Fall(-gain, self.best.version, version)
        rules = self._rules
        if rules.accuracy is not None and (metrics.accuracy or 0.0) >= rules.accuracy:
            self.reason = "accuracy"
        elif rules.loss is not None and metrics.loss <= rules.loss:
            self.reason = "loss"
        elif rules.patience is not None and self._since_best >= rules.patience:
            self.reason = "patience"

    def moved(self, total_bytes: int) -> None:
        """Takes in the bytes moved so far, both directions."""
        if self._rules.bytes is not None and total_bytes >= self._rules.bytes:
            self.reason = "bytes"

    def _gain(self, value: float, higher_is_better: bool) -> float | None:
        if self.best is None or math.isnan(self.best.value):
            return None
        return value - self.best.value if higher_is_better else self.best.value - value

    def to_json(self) -> dict[str, Any]:
        return {
            "evaluations": self.evaluations,
            "best": asdict(self.best) if self.best else None,
            "fall": asdict(self.fall) if self.fall else None,
            "since_best": self._since_best,
            "reason": self.reason,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.evaluations = state["evaluations"]
        self.best = Best(**state["best"]) if state["best"] else None
        self.fall = Fall(**state["fall"]) if state["fall"] else None
        self._since_best = state["since_best"]
        self.reason = state["reason"]
