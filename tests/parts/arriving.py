"""Who arrives when, where everybody trains all the time: a few lines beside fedray's timeline."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from quadratics import walk

Arrival = tuple[int, int, float]
"""Client, staleness, delta."""
Group = list[tuple[int, int]]
"""Of a version its members: client, and the version that it trained from."""


def by_count(duration_s: Sequence[float], versions: int, buffer: int = 1) -> list[Group]:
    """A version from every `buffer` arrivals; who completes one starts from the new version."""
    due = [(seconds, i, 0) for i, seconds in enumerate(duration_s)]
    heapq.heapify(due)
    groups: list[Group] = []
    group: Group = []
    while len(groups) < versions:
        at_s, i, base = heapq.heappop(due)
        group.append((i, base))
        if len(group) == buffer:
            groups.append(group)
            group = []
        heapq.heappush(due, (at_s + duration_s[i], i, len(groups)))
    return groups


def by_clock(duration_s: Sequence[float], versions: int, every_s: float) -> list[Group]:
    """A version every `every_s`; who has arrived starts anew from it."""
    begun = dict.fromkeys(range(len(duration_s)), (0.0, 0))
    groups: list[Group] = []
    for version in range(versions):
        now_s = (version + 1) * every_s
        there = [i for i, (at_s, _) in begun.items() if at_s + duration_s[i] <= now_s + 1e-9]
        there.sort(key=lambda i: (begun[i][0] + duration_s[i], i))
        groups.append([(i, begun[i][1]) for i in there])
        begun |= dict.fromkeys(there, (now_s, version + 1))
    return groups


def play(
    groups: Sequence[Group], step: Callable[[float, list[Arrival]], float], steps: int = 5,
    start: float = 0.0,
) -> list[float]:  # fmt: skip
    """The models of versions 1, 2, ... with w' = step(w, arrivals)."""
    models = [start]
    for version, group in enumerate(groups):
        arrived = [
            (i, version - base, walk(i, models[base], steps) - models[base]) for i, base in group
        ]
        models.append(step(models[-1], arrived))
    return models[1:]
