"""Jobs that only get through part of their work (Li et al. 2020, section 5.2)."""

from __future__ import annotations

from dataclasses import replace

from fedray import rng
from fedray.config import schema


def units(client: schema.Client) -> int:
    """What a job's work is counted in: steps, or whole epochs."""
    return int(client.epochs) if client.steps is None else client.steps


class Stragglers:
    """Which jobs are stragglers', and how much they do: U{1..E} of E epochs, or of E steps.

    A function of the seed and the dispatch alone.
    """

    def __init__(self, client: schema.Client, seed: int) -> None:
        self._client, self._share = client, client.stragglers.share
        self._dropped = client.stragglers.partial == "drop"
        self._draws = rng.Uniforms(seed, rng.Stream.STRAGGLERS)

    def are(self, dispatch: int) -> bool:
        """Whether this job is one of theirs."""
        return self._draws.at(2 * dispatch) < self._share

    def drops(self, dispatch: int) -> bool:
        """Whether the server leaves this job's update out."""
        return self._dropped and self.are(dispatch)

    def done(self, dispatch: int) -> float:
        """The share of its local training that this job gets through."""
        if not self.are(dispatch):
            return 1.0
        return self._units(dispatch) / (self._client.steps or self._client.epochs)

    def client(self, dispatch: int) -> schema.Client:
        """The settings that this job trains by."""
        if not self.are(dispatch):
            return self._client
        count = self._units(dispatch)
        if self._client.steps is None:
            return replace(self._client, epochs=float(count))
        return replace(self._client, steps=count)

    def _units(self, dispatch: int) -> int:
        return 1 + int(self._draws.at(2 * dispatch + 1) * units(self._client))


def stragglers_of(client: schema.Client, seed: int) -> Stragglers | None:
    """None where there are none."""
    return Stragglers(client, seed) if client.stragglers.share else None
