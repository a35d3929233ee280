"""Oort: clients by statistical utility, speed and age, with exploration."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Le

from fedray.parts.cards import Algorithm
from fedray.parts.fields import Count, Doc, NonNegative
from fedray.parts.selection.base import News, Pool, Selection, Selector
from fedray.parts.selection.plain import draws
from fedray.types import Floats, Ints

Share = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True, kw_only=True)
class Oort(Selection):
    """Picks clients by U_i = n_i sqrt(mean loss^2), how long ago they were heard of, and speed.

    Of count clients, epsilon count are new ones, drawn by speed, with epsilon =
    max(exploration_min, exploration exploration_decay^R) in round R; the rest is drawn by score
    among the known ones whose score is at least `cut_off` times that of the best so many:
    score_i = (min(U_i, clip) - min U) / range + sqrt(0.1 ln R / L_i), times (T / D_i)^penalty
    where the last job took D_i > T. L_i is the round that i was last heard of in, clip the
    `clip` quantile of all U. T is the `pace` quantile of nominal durations; whenever the
    utility of `pacer_window` rounds is less than that of as many before, `pace` grows by
    `pacer_step`. A round is a version.
    """

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="oort",
        title="Selection by utility: informative, fast, and not forgotten",
        paper="Lai et al. 2021, Oort: Efficient Federated Learning via Guided Participant "
        "Selection, algorithm 1, equations 1 and 2 (arXiv 2010.06081)",
        rule="A client's utility is n_i sqrt(mean squared loss), raised by how long ago it was "
        "heard of and lowered by (T / D_i)^2 where its job takes longer than T. A share epsilon, "
        "0.9 at first and falling to 0.2, goes to new clients, fast ones first; the rest is "
        "drawn by utility among those near the top. A pacer raises T when utilities fall.",
        values={
            "server": {
                "schedule": {"mode": "sync"},
                "clients_per_round": 0.1,
                "selection": {"kind": "oort"},
            }
        },
        proof="Scores, the cut-off and the pacer by hand; the shares of new clients and the "
        "chances among the known ones by counting.",
        differs="Losses are those of the downloaded model on the whole shard; the authors' code "
        "takes the losses met while training. The authors' code moves the pacer when utilities "
        "are flat (within 10%) and back when they jump, the paper when they fall, as here. The "
        "share of new clients is rounded at random, so that it also holds where one client is "
        "replaced at a time.",
        family="selection",
    )
    needs_squares: ClassVar[bool] = True
    kind: Literal["oort"] = "oort"
    exploration: Annotated[Share, Doc("share of new clients at first")] = 0.9
    exploration_decay: Annotated[float, Gt(0), Le(1), Doc("its decay per round")] = 0.98
    exploration_min: Annotated[Share, Doc("its lower bound")] = 0.2
    penalty: Annotated[NonNegative, Doc("alpha: power of (T / D_i) for clients beyond T")] = 2.0
    pace: Annotated[
        float, Gt(0), Le(1), Doc("T at first: quantile of nominal job durations; 1: no penalty")
    ] = 0.3
    pacer_step: Annotated[Share, Doc("by how much the pacer raises that quantile; 0: never")] = 0.05
    pacer_window: Annotated[Count, Doc("W: rounds whose utilities the pacer compares")] = 20
    cut_off: Annotated[Share, Doc("c: of the last picked by rank, how much still qualifies")] = 0.95
    clip: Annotated[float, Gt(0), Le(1), Doc("quantile that utilities are capped at")] = 0.95
    blacklist: Annotated[
        Count | None, Doc("clients heard of more often are not picked by score any more")
    ] = None

    @property
    def looks(self) -> bool:
        return True

    @property
    def needs_losses(self) -> bool:
        return True

    def selector(self, clients: int, seed: int) -> Selector:
        return _Guided(rule=self)

    def epsilon(self, version: int) -> float:
        """Share of new clients in the round that starts from this version."""
        return max(self.exploration_min, self.exploration * self.exploration_decay ** (version + 1))


def scores(
    utility: Floats, last: Floats, duration_s: Floats, now: int, longest_s: float, rule: Oort
) -> Floats:
    """Scores (E,) of explored clients in round `now`: equation 2 with normalised utilities."""
    ordered = np.sort(utility)
    cap = ordered[min(int(len(ordered) * rule.clip), len(ordered) - 1)]
    low = ordered[0] * 0.999  # so that the least useful one keeps a chance
    spread = max(float(ordered[-1]) - low, 1e-4)
    found = (np.minimum(utility, cap) - low) / spread + np.sqrt(0.1 * math.log(now) / last)
    slow = duration_s > longest_s
    found[slow] *= (longest_s / duration_s[slow]) ** rule.penalty
    return np.asarray(found)


@dataclass(kw_only=True)
class _Guided(Selector):
    """Remembers of each explored client [U, round, seconds, times], and the pacer's sums."""

    rule: Oort

    def pick(self, pool: Pool, count: int) -> list[int]:
        known: dict[str, list[float]] = self.memory.setdefault("known", {})
        new = int(self.rule.epsilon(pool.version) * count + pool.uniform())
        left = pool.clients - len(known)
        found = self._exploit(pool, count - min(new, left))
        found += self._explore(pool, count - len(found))
        if len(found) < count:  # nobody new: whoever is left
            found += self._exploit(pool, count - len(found))
        return found + draws(pool, count - len(found), "uniform")

    def _explore(self, pool: Pool, count: int) -> list[int]:
        known = self.memory["known"]
        found: list[int] = []
        while len(found) < count and len(known) < pool.clients:
            client = pool.draw("speed", lambda client: str(client) not in known)
            if client is None:
                break
            found.append(client)
        return found

    def _exploit(self, pool: Pool, count: int) -> list[int]:
        if count < 1:
            return []
        clients, score = self._ranked(pool)
        if not len(clients):
            return []
        count = min(count, len(clients))
        qualified = score >= self.rule.cut_off * score[count - 1]
        clients, score = clients[qualified], score[qualified]
        # The first of exponential clocks with these rates: draws without replacement.
        chance = np.array([pool.uniform() for _ in range(len(clients))])
        clocks = -np.log1p(-chance) / np.maximum(score, 1e-12)
        found = [int(client) for client in clients[np.argsort(clocks, kind="stable")[:count]]]
        for client in found:
            pool.take(client)
        return found

    def _ranked(self, pool: Pool) -> tuple[Ints, Floats]:
        """Known clients that can be picked, by falling score."""
        known, most = self.memory["known"], self.rule.blacklist or math.inf
        rows = [
            (client, *facts[:3])
            for name, facts in known.items()
            if facts[3] <= most and pool.free(client := int(name))
        ]
        if not rows:
            return np.empty(0, np.int64), np.empty(0)
        table = np.array(sorted(rows))
        _, utility, last, duration_s = table.T
        now, longest_s = pool.version + 1, self._longest_s(pool)
        score = scores(utility, last, duration_s, now, longest_s, self.rule)
        order = np.argsort(-score, kind="stable")
        return table[order, 0].astype(np.int64), score[order]

    def _longest_s(self, pool: Pool) -> float:
        """T in seconds; inf where everyone is fast enough."""
        pace = self.memory.get("pace", self.rule.pace)
        if pace >= 1:
            return math.inf
        if not hasattr(self, "_durations_s"):
            self._durations_s = np.sort(pool.duration_s)
        return float(self._durations_s[int(len(self._durations_s) * pace)])

    def learned(self, news: News) -> None:
        known = self.memory.setdefault("known", {})
        gained = 0.0
        for i, client in enumerate(news.clients):
            utility = news.examples[i] * math.sqrt(news.squares[i]) if news.applied[i] else 0.0
            if not math.isfinite(utility):
                utility = 0.0
            times = known.get(str(client), [0, 0, 0, 0])[3] + 1
            known[str(client)] = [utility, news.version, news.duration_s[i], times]
            gained += utility
        self._pace(gained)

    def _pace(self, gained: float) -> None:
        """Raises T where a window of rounds was worth less than the one before."""
        rule = self.rule
        window: list[float] = [*self.memory.get("gained", []), gained]
        if len(window) == 2 * rule.pacer_window:
            before, now = sum(window[: rule.pacer_window]), sum(window[rule.pacer_window :])
            if before > now:
                self.memory["pace"] = min(1.0, self.memory.get("pace", rule.pace) + rule.pacer_step)
            window = window[rule.pacer_window :]
        self.memory["gained"] = window
