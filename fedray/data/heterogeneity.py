"""How far clients are from each other: measures of a split.

Notation: client k of N has n_k of n samples, q_k = n_k / n; P_k(c) is its share of class c,
p = sum_k q_k P_k the share in all data. `counts` is (N, C): samples per client and class.
All are linear in N; nothing goes over pairs of clients. A finite sample of IID data is not
at zero: with few samples per client, chance alone makes label distributions differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from fedray.data.moments import Moments, moments_of
from fedray.types import Floats, Ints, Matrix

_BLOCK = 2**20


def measure(
    sizes: Ints, label_counts: Ints | None = None, feature: float | None = None
) -> dict[str, float]:
    """All measures by name; those of labels only for classification.

    `feature` is what `feature_distance` came to.
    """
    measures = {
        "quantity_gini": quantity_gini(sizes),
        "clients_effective": clients_effective(sizes),
    }
    if label_counts is not None:
        measures |= {
            "label_emd": label_emd(label_counts),
            "label_severity": label_severity(label_counts),
            "label_js": label_js(label_counts),
            "label_hellinger": label_hellinger(label_counts),
        }
    return measures if feature is None else {**measures, "feature_distance": feature}


def label_emd(counts: Ints) -> float:
    """sum_k q_k sum_c |P_k(c) - p(c)|, in [0, 2): the label EMD of Zhao et al. 2018.

    They report it per client; this is the mean over samples. It equals twice the total
    variation distance, the earth mover's distance where all classes are equally far apart.
    """
    p = counts.sum(axis=0) / counts.sum()
    far = sum(float(np.abs(part - size[:, None] * p).sum()) for part, size in _blocks(counts))
    return far / float(counts.sum())


def label_severity(counts: Ints) -> float:
    """Label EMD over that of one class per client: (label_emd / 2) / (1 - sum_c p(c)^2).

    In [0, 1]: 0 where all clients have one label distribution, 1 where each has one class,
    whatever the number and the sizes of the classes. The bound: total variation is convex
    in P_k, so a mixture is no farther from p than its classes are on average.
    """
    p = counts.sum(axis=0) / counts.sum()
    most = 1 - float(p @ p)
    return min(1.0, label_emd(counts) / 2 / most) if most > 0 else 0.0


def label_js(counts: Ints) -> float:
    """Jensen-Shannon distance sqrt((H(mean_k P_k) - mean_k H(P_k)) / log2 N), in [0, 1].

    Entropies in bits, clients unweighted (Lin 1991; normalised as in FedArtML, Jimenez et
    al. 2024). With more clients than classes it stays below sqrt(log2 C / log2 N).
    """
    clients = len(counts)
    if clients < 2:
        return 0.0
    mean, entropy = np.zeros(counts.shape[1]), 0.0
    for part, size in _blocks(counts):
        P = part / size[:, None]
        mean += P.sum(axis=0) / clients
        entropy += _bits(P) / clients
    return float(np.sqrt(max(0.0, _bits(mean) - entropy) / np.log2(clients)))


def label_hellinger(counts: Ints) -> float:
    """Root mean square Hellinger distance over all pairs of clients, in [0, 1].

    sqrt(sum_{i != j} |sqrt P_i - sqrt P_j|^2 / (2 N (N - 1))) (FedArtML, Jimenez et al.
    2024), by the expansion sum_{i != j} |a_i - a_j|^2 = 2 N^2 - 2 |sum_i a_i|^2 for |a_i| = 1.
    """
    clients = len(counts)
    if clients < 2:
        return 0.0
    total: Floats = np.zeros(counts.shape[1])
    for part, size in _blocks(counts):
        total += np.sqrt(part / size[:, None]).sum(axis=0)
    apart = 1 - float(total @ total) / clients**2
    return float(np.sqrt(max(0.0, apart) * clients / (clients - 1)))


def quantity_gini(sizes: Ints) -> float:
    """Gini coefficient of the clients' sizes: 0 all equal, towards 1 one client has all.

    sum_ij |n_i - n_j| / (2 N n) (Gini 1912), from the sorted sizes.
    """
    clients = len(sizes)
    rank = 2 * np.arange(clients, dtype=np.int64) + 1 - clients
    return float(rank @ np.sort(sizes) / (clients * sizes.sum()))


def clients_effective(sizes: Ints) -> float:
    """1 / sum_k q_k^2: so many equal clients would weigh as unevenly (Kish 1965)."""
    q = sizes / sizes.sum()
    return float(1 / (q @ q))


def feature_distance(moments: Moments, means: Iterable[tuple[Floats, Ints]]) -> float:
    """Share of the features' variance that lies between clients, in [0, 1].

    Per feature sum_k q_k (m_k - m)^2 / s^2, the squared distance of the clients' means from
    the global mean in units of the global variance (the correlation ratio, Pearson 1905),
    averaged over features that vary. It sees means only, no noise or rotation about them.
    IID data: about (N - 1) / (n - 1). `means` gives (m_k (b, d), n_k (b,)) of all clients.
    """
    between = np.zeros_like(moments.mean)
    for mean, size in means:
        between += size @ np.square(mean - moments.mean)
    varied = ~moments.constant & (moments.squares > 0)
    if not varied.any():
        return 0.0
    return min(1.0, float(np.mean(between[varied] / moments.squares[varied])))


def feature_distance_of(X: Matrix, offsets: Ints) -> float:
    """`feature_distance` of samples sorted by client; client k has rows offsets[k:k + 2]."""
    return feature_distance(moments_of(X), _means(X, offsets))


def client_blocks(offsets: Ints, width: int) -> Iterator[tuple[int, int]]:
    """Ranges of consecutive clients that together have about a million numbers."""
    rows = max(1, _BLOCK // max(1, width))
    first, clients = 0, len(offsets) - 1
    while first < clients:
        reach = int(np.searchsorted(offsets, offsets[first] + rows, side="right")) - 1
        last = min(clients, max(first + 1, reach))
        yield first, last
        first = last


def _means(X: Matrix, offsets: Ints) -> Iterator[tuple[Floats, Ints]]:
    for first, last in client_blocks(offsets, X.shape[1]):
        begin, end = offsets[first], offsets[last]
        starts, size = offsets[first:last] - begin, np.diff(offsets[first : last + 1])
        sums = np.add.reduceat(X[begin:end].astype(np.float64), starts, axis=0)
        yield sums / size[:, None], size


def _blocks(counts: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Rows of clients with any samples, and their sizes, a million numbers at a time."""
    step = max(1, _BLOCK // max(1, counts.shape[1]))
    for start in range(0, len(counts), step):
        part = counts[start : start + step]
        size = part.sum(axis=1)
        yield (part, size) if size.all() else (part[size > 0], size[size > 0])


def _bits(P: Floats) -> float:
    """Entropy in bits, added up over rows."""
    return -float(np.sum(P * np.log2(P, where=P > 0, out=np.zeros_like(P))))
