"""Label skew of a wanted strength, measured on the split itself."""

from __future__ import annotations

from collections.abc import Iterator
from math import exp, log

from fedray.data.heterogeneity import label_severity
from fedray.data.partition.tables import Draw, one_class_each, repair, stratified
from fedray.errors import InputError
from fedray.types import Ints

TOLERANCE = 0.02
"""How far the measured severity may be from the wanted one."""

_ALPHAS = (1e-4, 1e4)
_CLOSE = TOLERANCE / 4
_STEPS = 24


def solve(target: float, counts: Ints, clients: int, min_samples: int, seed: int) -> Ints:
    """A table (clients, classes) whose `label_severity` is `target` within TOLERANCE.

    0 gives the stratified split, whose measured severity is as low as whole samples allow
    (with few samples per client, not 0); 1 gives one class per client exactly. Between them
    alpha is found by bisection on its logarithm over one draw of common random numbers, and
    further draws are tried if rounding or `min_samples` keep one from the target. Raises
    InputError that gives the range that can be reached.
    """
    if target == 0:
        return stratified(counts, clients)
    if target == 1:
        return _one_class_each(counts, clients, min_samples)
    for table in _candidates(target, counts, clients, min_samples, seed):
        if abs(label_severity(table) - target) <= TOLERANCE:
            return table
    reach = _reach(counts, clients, min_samples, seed)
    raise InputError(
        f"{target} can not be reached with {clients} clients, min_samples {min_samples} and "
        f"{int(counts.sum())} samples of {len(counts)} classes; possible: {reach}",
        key="partition.severity",
    )


def _candidates(
    target: float, counts: Ints, clients: int, min_samples: int, seed: int
) -> Iterator[Ints]:
    for number in Draw.numbers(clients, len(counts)):
        draw = Draw(seed, number, clients, len(counts))
        yield _bisect(draw, target, counts, min_samples)
    yield stratified(counts, clients)


def _bisect(draw: Draw, target: float, counts: Ints, min_samples: int) -> Ints:
    """The table of this draw that comes closest to the target."""
    low, high = (log(alpha) for alpha in _ALPHAS)
    best, error = None, float("inf")
    for _ in range(_STEPS):
        middle = (low + high) / 2
        table = repair(draw.table(exp(middle), counts), min_samples)
        measured = label_severity(table)
        if abs(measured - target) < error:
            best, error = table, abs(measured - target)
        if error < _CLOSE:
            break
        low, high = (middle, high) if measured > target else (low, middle)
    assert best is not None
    return best


def _one_class_each(counts: Ints, clients: int, min_samples: int) -> Ints:
    table = one_class_each(counts, clients)
    if table is None:
        raise InputError(
            f"1 (one class per client) needs at least as many clients as classes: "
            f"{len(counts)}, not {clients}",
            key="partition.severity",
        )
    smallest = int(table.sum(axis=1).min())
    if smallest < min_samples:
        raise InputError(
            f"1 (one class per client) leaves a client with {smallest} samples, fewer than "
            f"min_samples {min_samples}",
            key="partition.severity",
        )
    return table


def _reach(counts: Ints, clients: int, min_samples: int, seed: int) -> str:
    """What `solve` accepts, for the message that something else was asked for."""
    measured = [label_severity(stratified(counts, clients))]
    for number in Draw.numbers(clients, len(counts)):
        draw = Draw(seed, number, clients, len(counts))
        measured += [
            label_severity(repair(draw.table(alpha, counts), min_samples)) for alpha in _ALPHAS
        ]
    table = one_class_each(counts, clients)
    one = ", and 1" if table is not None and table.sum(axis=1).min() >= min_samples else ""
    return f"0, {min(measured):.2f} to {max(measured):.2f}{one}"
