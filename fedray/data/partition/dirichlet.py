"""Label skew by Dirichlet draws, with its strength given or solved for."""

from __future__ import annotations

import numpy as np

from fedray.config.schema import DirichletPartition
from fedray.data.partition.checks import require_classes, require_samples
from fedray.data.partition.severity import solve
from fedray.data.partition.tables import Draw, deal, repair
from fedray.errors import InputError
from fedray.types import Dataset, Ints

_ALPHA = 0.3


def split_dirichlet(config: DirichletPartition, data: Dataset, seed: int) -> Ints:
    """Class c goes to the clients in shares ~ Dirichlet(alpha, ..., alpha), for every c.

    Hsu et al. 2019 and Li et al. 2022 (NIID-Bench); the latter redraw until every client has
    min_samples, and keep already large clients from growing. We redraw 10 times at most,
    then move samples from the largest clients to those that lack some; and we hold no
    client back. Raises InputError where there are too few samples for that.
    """
    require_classes(data, config.scheme)
    require_samples(data, config.clients, config.min_samples)
    counts = np.bincount(data.y, minlength=len(data.classes))
    if config.severity is None:
        table = _at_alpha(config, counts, seed)
    elif config.alpha is not None:
        raise InputError(
            f"alpha {config.alpha} and severity {config.severity} exclude each other; give one",
            key="partition.severity",
        )
    else:
        table = solve(config.severity, counts, config.clients, config.min_samples, seed)
    return deal(table, data.y, seed)


def _at_alpha(config: DirichletPartition, counts: Ints, seed: int) -> Ints:
    alpha = _ALPHA if config.alpha is None else config.alpha
    first = None
    for number in Draw.numbers(config.clients, len(counts)):
        table = Draw(seed, number, config.clients, len(counts)).table(alpha, counts)
        if table.sum(axis=1).min() >= config.min_samples:
            return table
        first = table if first is None else first
    assert first is not None
    return repair(first, config.min_samples)
