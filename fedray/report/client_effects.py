"""Which clients' updates raised the loss: the rows of `decomposition.parquet`, by client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fedray.report import words
from fedray.report.decomposition_charts import effects_chart
from fedray.report.definitions import TERMS
from fedray.report.diagnosis.effects import minus
from fedray.report.figures import column
from fedray.report.layout import Picture, Table

if TYPE_CHECKING:
    import pyarrow as pa

MOST, IN_TABLE = 8, 6
"""Clients on either side of the picture: those that harmed most, and helped most."""


class ClientEffect(NamedTuple):
    """A client over the versions looked into, all its updates added up."""

    client: int
    updates: int
    staleness: float
    against: float
    """Share of its updates that raised the test loss."""
    effect: float
    """First order, on the test loss: positive is harm."""
    terms: Mapping[str, float]
    """Its part of each term's effect on the training loss."""


def client_effects(members: pa.Table, rounds: pa.Table) -> list[ClientEffect]:
    """Every client that had an update in a version looked into, the most harmful first."""
    client, effect = column(members, "client"), column(members, "test_effect")
    size = dict(
        zip(column(rounds, "version").tolist(), column(rounds, "step_size").tolist(), strict=True)
    )
    sizes = np.array([size.get(v, np.nan) for v in column(members, "version").tolist()])
    parts = {t: -sizes * column(members, f"{t}_dot") for t in TERMS if t != "gradient"}
    staleness = column(members, "staleness")
    found = []
    for one in np.unique(client[np.isfinite(client)]):
        rows = np.flatnonzero((client == one) & np.isfinite(effect))
        if not len(rows):
            continue
        found.append(
            ClientEffect(
                int(one),
                len(rows),
                float(np.nanmean(staleness[rows])),
                float((effect[rows] > 0).mean()),
                float(effect[rows].sum()),
                {term: float(np.nansum(part[rows])) for term, part in parts.items()},
            )
        )
    return sorted(found, key=lambda one: -one.effect)


def both_ends(clients: Sequence[ClientEffect], most: int = MOST) -> list[ClientEffect]:
    """The first and the last `most`, all where they are few."""
    return list(clients) if len(clients) <= 2 * most else [*clients[:most], *clients[-most:]]


def clients_picture(clients: Sequence[ClientEffect], names: Mapping[int, str]) -> Picture:
    """Bars: orange did harm, green helped."""
    shown = both_ends(clients)
    title = "Effect of each client on the test loss"
    shown_names = [name_of(one.client, names) for one in shown]
    values = [one.effect for one in shown]
    notes = [
        f"{one.updates} update{'' if one.updates == 1 else 's'}, "
        f"mean staleness {words.number(one.staleness)}"
        for one in shown
    ]
    said = ", ".join(
        f"{name} {minus(words.number(value))}"
        for name, value in zip(shown_names, values, strict=True)
    )
    note = "First order, summed over the versions looked into: orange raised the loss."
    if len(shown) < len(clients):
        note += f" The {MOST} most harmful and the {MOST} most helpful of {len(clients):,} clients."
    chart = effects_chart(shown_names, values, notes, "effect on the test loss")
    return Picture("steps-clients", title, f"{title}: {said}.", chart, note)


def clients_table(clients: Sequence[ClientEffect], names: Mapping[int, str]) -> Table:
    """The most harmful clients, with the term that their harm is in."""
    rows = []
    for one in clients[:IN_TABLE]:
        worst = max(one.terms, key=lambda term: one.terms[term])
        rows.append(
            (
                name_of(one.client, names),
                words.number(one.updates),
                words.number(one.staleness),
                minus(words.number(one.effect)),
                words.percent(one.against),
                TERMS[worst].name.lower() if one.terms[worst] > 0 else words.NONE,
            )
        )
    header = (
        "client",
        "updates",
        "mean staleness",
        "effect on the test loss",
        "updates that raised it",
        "largest harmful term",
    )
    return Table("Clients by the harm that their updates did", header, rows, header[1:5])


def name_of(client: int, names: Mapping[int, str]) -> str:
    """A client's own name, else its number."""
    return names.get(client) or f"client {client}"
