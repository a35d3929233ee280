"""Selection by availability: whoever will stay on long enough for the job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le

from fedray.parts.fields import Doc, Positive
from fedray.parts.selection.base import Pool, Selection, Selector


@dataclass(frozen=True, kw_only=True)
class AvailabilityAware(Selection):
    """Uniform among clients that are forecast to stay on for `margin` nominal jobs.

    Others are taken only if there are no such. The forecast is right with chance `accuracy`,
    independently for every client that is looked at; 0.9 is what REFL (Abdelmoniem et al. 2023)
    reports of a forecaster trained on traces of phones.
    """

    kind: Literal["availability"] = "availability"
    margin: Annotated[Positive, Doc("nominal job durations that a client has to stay on")] = 1.0
    accuracy: Annotated[float, Ge(0.5), Le(1), Doc("chance that a forecast is right")] = 1.0

    def selector(self, clients: int, seed: int) -> Selector:
        return _Stayers(rule=self)


@dataclass(kw_only=True)
class _Stayers(Selector):
    rule: AvailabilityAware

    def pick(self, pool: Pool, count: int) -> list[int]:
        rule = self.rule

        def stays(client: int) -> bool:
            truly = pool.stays_s(client) >= rule.margin * float(pool.duration_s[client])
            return truly if rule.accuracy == 1 or pool.uniform() < rule.accuracy else not truly

        found: list[int] = []
        while len(found) < count:
            client = pool.draw("uniform", stays)
            if client is None:
                client = pool.draw()
            if client is None:
                break
            found.append(client)
        return found
