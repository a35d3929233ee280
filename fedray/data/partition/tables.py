"""Tables (clients, classes) of how many samples of each class a client gets."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from fedray.rng import Stream, generator
from fedray.types import Floats, Ints

_REDRAWS = 10
_DEAL = 1 << 32
"""Index of the generator that deals, beyond those of the draws."""


class Draw:
    """One draw of the randomness behind Dirichlet shares, for any alpha.

    The same draw at two alphas uses common random numbers: shares move smoothly with alpha.
    A gamma variable of shape a is G(a + 1) U^(1/a) (Marsaglia and Tsang 2000), G by inversion
    and all in logarithms, because U^(1/a) underflows for small a.
    """

    def __init__(self, seed: int, number: int, clients: int, classes: int) -> None:
        rng = generator(seed, Stream.PARTITION, number)
        # In (0, 1): both ends would make a share of nothing or of infinity.
        self._gamma = np.maximum(rng.random((clients, classes)), 2.0**-54)
        self._log_uniform = np.log(np.maximum(rng.random((clients, classes)), 2.0**-54))

    @staticmethod
    def numbers(clients: int, classes: int) -> range:
        """The draws worth trying: ten, fewer where one alone has a million numbers."""
        return range(min(_REDRAWS, max(1, 10**6 // (clients * classes))))

    def shares(self, alpha: float) -> Floats:
        """Columns ~ Dirichlet(alpha, ..., alpha), shape (clients, classes)."""
        from scipy.special import gammaincinv

        # Beyond these, shares are equal, or all with one client, to double precision.
        alpha = min(max(alpha, 1e-6), 1e6)
        logs: NDArray[np.float64] = np.log(gammaincinv(alpha + 1, self._gamma))
        logs += self._log_uniform / alpha
        shares: Floats = np.exp(logs - logs.max(axis=0))
        shares /= shares.sum(axis=0)
        return shares

    def table(self, alpha: float, counts: Ints) -> Ints:
        """Class c's counts[c] samples cut at the cumulative shares, rounded."""
        cuts = np.rint(np.cumsum(self.shares(alpha), axis=0) * counts).astype(np.int64)
        cuts[-1] = counts
        return np.diff(cuts, axis=0, prepend=0)


def stratified(counts: Ints, clients: int) -> Ints:
    """Every class dealt out in turn, going on where the class before stopped."""
    n = int(counts.sum())
    label = np.repeat(np.arange(len(counts)), counts)
    cell = (np.arange(n) % clients) * len(counts) + label
    return np.bincount(cell, minlength=clients * len(counts)).reshape(clients, len(counts))


def one_class_each(counts: Ints, clients: int) -> Ints | None:
    """Clients with one class each, as equal as that allows; None with fewer clients than classes.

    Every class gets a client, further ones go where clients are largest (D'Hondt), which makes
    the smallest client as large as possible.
    """
    present = np.flatnonzero(counts)
    if clients < len(present):
        return None
    n = counts[present]
    seats = np.maximum(1, (clients - len(n)) * n // n.sum())
    while seats.sum() < clients:
        seats[np.argmax(n / (seats + 1))] += 1
    table = np.zeros((clients, len(counts)), dtype=np.int64)
    whose = np.repeat(present, seats)
    seat = np.arange(clients) - np.repeat(np.cumsum(seats) - seats, seats)
    total, parts = counts[whose], np.repeat(seats, seats)
    table[np.arange(clients), whose] = total * (seat + 1) // parts - total * seat // parts
    return table


def repair(table: Ints, min_samples: int) -> Ints:
    """Moves samples from the largest clients to those with fewer than `min_samples`.

    A donor gives of its most frequent class, so that clients stay skewed. Deterministic, and
    ends: every move ends a lack or a donor's class. Needs clients * min_samples <= samples.
    """
    table = table.copy()
    sizes = table.sum(axis=1)
    donors = [(-int(sizes[k]), int(k)) for k in np.flatnonzero(sizes > min_samples)]
    heapq.heapify(donors)
    for client in np.flatnonzero(sizes < min_samples).tolist():
        lack = min_samples - int(sizes[client])
        while lack:
            size, donor = -donors[0][0], donors[0][1]
            label = int(np.argmax(table[donor]))
            moved = min(lack, size - min_samples, int(table[donor, label]))
            table[donor, label] -= moved
            table[client, label] += moved
            lack -= moved
            if size - moved > min_samples:
                heapq.heapreplace(donors, (moved - size, donor))
            else:
                heapq.heappop(donors)
    return table


def deal(table: Ints, y: Ints, seed: int) -> Ints:
    """Owners (n,): which samples of a class go where is uniformly random."""
    clients, classes = table.shape
    shuffled = generator(seed, Stream.PARTITION, _DEAL).permutation(len(y))
    order = shuffled[np.argsort(y[shuffled], kind="stable")]
    owner = np.empty(len(y), dtype=np.int64)
    owner[order] = np.repeat(np.tile(np.arange(clients), classes), table.T.ravel())
    return owner
