"""Power-of-choice: of some candidates, those on whom the model does worst."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from fedray.parts.cards import Algorithm
from fedray.parts.fields import Count, Doc
from fedray.parts.selection.base import News, Pool, Selection, Selector
from fedray.parts.selection.plain import draws


@dataclass(frozen=True, kw_only=True)
class PowerOfChoice(Selection):
    """Draws d candidates by p_i without replacement; those with the highest loss train.

    `losses: current` asks every candidate for its loss of the newest model: d models down and
    8 bytes up each, and the round starts when the slowest has answered. `last` takes the loss
    that came with the client's last update, and infinity for who never sent one.
    """

    ALGORITHM: ClassVar[Algorithm] = Algorithm(
        name="power_of_choice",
        title="Selection of the clients on whom the model does worst",
        paper="Cho, Wang and Joshi 2020, Client Selection in Federated Learning: Convergence "
        "Analysis and Power-of-Choice Selection Strategies, section 4 (arXiv 2010.01243)",
        rule="d candidates are drawn without replacement with chances p_i = n_i / n; each says "
        "its loss of the current model, and the m with the highest train. d = m is sampling by "
        "size; larger d leans further to high losses: faster, and more biased.",
        values={
            "server": {
                "schedule": {"mode": "sync"},
                "clients_per_round": 0.1,
                "weighting": "uniform",
                "selection": {"kind": "power_of_choice", "losses": "current"},
            }
        },
        proof="With known losses the m highest of the candidates train, and nobody else; the "
        "chances of every pair are those of two draws by size without replacement.",
        differs="`losses: last` is the paper's rpow-d, except that the loss is that of the "
        "downloaded model rather than the average over the client's local steps. The paper's "
        "minibatch estimate (cpow-d) is not offered. Asking takes virtual time and bytes here.",
        family="selection",
        refuses={
            "buffered": "candidates would be asked again for every client that is replaced; use "
            "server.selection.losses: last",
            "async": "candidates would be asked again for every client that is replaced; use "
            "server.selection.losses: last",
        },
    )
    kind: Literal["power_of_choice"] = "power_of_choice"
    candidates: Annotated[
        Count | None, Doc("d: candidates per draw of clients; default: twice as many as train")
    ] = None
    losses: Annotated[
        Literal["current", "last"],
        Doc("current: candidates are asked; last: what came with their last update"),
    ] = "current"

    @property
    def looks(self) -> bool:
        return True

    @property
    def needs_losses(self) -> bool:
        return self.losses == "last"

    @property
    def refuses(self) -> Mapping[str, str]:
        return self.ALGORITHM.refuses if self.losses == "current" else {}

    def selector(self, clients: int, seed: int) -> Selector:
        return _Choice(rule=self)


@dataclass(kw_only=True)
class _Choice(Selector):
    """Remembers losses by client, where they are taken from updates."""

    rule: PowerOfChoice

    def pick(self, pool: Pool, count: int) -> list[int]:
        wanted = max(count, self.rule.candidates or 2 * count)
        candidates = draws(pool, wanted, "size")
        if self.rule.losses == "current":
            losses = [reply.loss for reply in pool.ask(candidates)]
        else:
            losses = [self.memory.get(str(client), math.inf) for client in candidates]
        # Ties go to who was drawn first: among equals the chances stay those of the draw.
        order = sorted(range(len(candidates)), key=lambda i: -losses[i])
        for i in order[count:]:
            pool.give_back(candidates[i])
        return [candidates[i] for i in order[:count]]

    def learned(self, news: News) -> None:
        if self.rule.losses == "last":
            for client, ok, loss in zip(news.clients, news.applied, news.losses, strict=True):
                if ok and math.isfinite(loss):
                    self.memory[str(client)] = loss
