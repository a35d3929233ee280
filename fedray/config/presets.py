"""Algorithms by name: each is a set of values over the parts of the configuration.

Anything that a preset sets can be set otherwise in the file or with --set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fedray.errors import InputError, nearest
from fedray.parts.aggregators import AGGREGATORS
from fedray.parts.cards import Algorithm
from fedray.parts.compression import COMPRESSORS
from fedray.parts.imported import is_path, method_class
from fedray.parts.methods import METHODS
from fedray.parts.personal import PERSONAL
from fedray.parts.privacy import PRIVACIES
from fedray.parts.quality import QUALITIES
from fedray.parts.secure import SECURE
from fedray.parts.selection import SELECTIONS

_FEDOPT = "Reddi et al. 2021, Adaptive Federated Optimization, algorithm 2 (arXiv 2003.00295)"


def _server_optimizer(**values: Any) -> dict[str, Any]:
    return {"schedule": {"mode": "sync"}, "optimizer": values}


_ALL = (
    Algorithm(
        name="fedavg",
        title="Federated averaging",
        paper="McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from "
        "Decentralized Data, algorithm 1 (arXiv 1602.05629)",
        rule="Every round the cohort trains from the global model w, and the server moves to the "
        "mean of the local models, weighted by their examples: w <- w + sum_i (n_i / n) delta_i "
        "with delta_i = w_i - w. n sums over the cohort's arrivals.",
        proof="On two quadratics it settles at the point that is known for it, sum p_i (1 - r_i) "
        "m_i / sum p_i (1 - r_i) with r_i = (1 - lr a_i)^K, for K = 1, 5 and 20 local steps; one "
        "client with full batches is gradient descent.",
        differs="Shares are of the cohort's examples, as the paper's erratum has it; its first "
        "print divided by all clients' examples.",
        values={
            "server": {
                "schedule": {"mode": "sync"},
                "weighting": "examples",
                "aggregator": {"kind": "mean"},
                "optimizer": {"kind": "sgd", "lr": 1.0},
            }
        },
    ),
    Algorithm(
        name="fedsgd",
        title="Federated SGD",
        paper="McMahan et al. 2017, section 2 (arXiv 1602.05629)",
        rule="One full-batch gradient step per client and round, so that the weighted mean is "
        "exactly one step of gradient descent on all examples of the cohort: "
        "w <- w - lr sum_i (n_i / n) grad f_i(w). The step size is client.lr.",
        proof="One client with full batches is gradient descent, step by step.",
        differs="The paper sends gradients; here models are sent after one step, which comes to "
        "the same.",
        values={
            "client": {"steps": 1, "batch_size": "full"},
            "server": {
                "schedule": {"mode": "sync"},
                "weighting": "examples",
                "optimizer": {"kind": "sgd", "lr": 1.0},
            },
        },
    ),
    Algorithm(
        name="fedavgm",
        title="FedAvg with server momentum",
        paper="Hsu et al. 2019, Measuring the Effects of Non-Identical Data Distribution for "
        "Federated Visual Classification (arXiv 1909.06335)",
        rule="The mean update d of a round drives a heavy ball on the server: v <- momentum v + d, "
        "w <- w + lr v. Set server.optimizer.nesterov for the look-ahead that the paper uses.",
        proof="Two steps by hand, plain and with Nesterov's look-ahead.",
        differs="The authors' experiments take Nesterov's form, w <- w + lr (d + momentum v), "
        "which is server.optimizer.nesterov here; Flower's own FedAvgM has none, its baseline "
        "does.",
        values={"server": _server_optimizer(kind="momentum", lr=1.0, momentum=0.9)},
    ),
    Algorithm(
        name="fedprox",
        title="FedAvg with a proximal term",
        paper="Li et al. 2020, Federated Optimization in Heterogeneous Networks, algorithm 2 "
        "(arXiv 1812.06127)",
        rule="Each client minimises f_i(w) + prox_mu / 2 |w - w_downloaded|^2, which pulls long "
        "local training back towards the global model. The paper tunes prox_mu over 0.001, 0.01, "
        "0.1 and 1. The server weights by examples; the paper also samples by size and averages "
        "equally (server.selection: size, server.weighting: uniform).",
        proof="A step by hand; on Synthetic(1, 1) the term lowers the loss and costs accuracy on "
        "IID data, and stragglers' partial work is worth keeping, as an independent "
        "implementation has it.",
        differs="The paper bounds how inexactly a client solves its problem; here, as in its "
        "experiments, work is epochs. Their stragglers are client.stragglers: {share: 0.9} with "
        "partial keep, and drop for the FedAvg beside it; they draw an exact share of a cohort, "
        "here every job has that chance. The authors' code gives stragglers 1 to E - 1 epochs, "
        "the paper and we 1 to E.",
        values={"client": {"prox_mu": 0.01}, "server": {"schedule": {"mode": "sync"}}},
    ),
    Algorithm(
        name="fedadagrad",
        title="FedOpt with Adagrad on the server",
        paper=_FEDOPT,
        rule="The mean update d of a round is a gradient for Adagrad: "
        "m <- beta1 m + (1 - beta1) d, v <- v + d^2, w <- w + lr m / (sqrt(v) + tau). "
        "beta1 = 0 as in the paper's experiments.",
        proof="Two steps by hand; v starts at tau^2.",
        differs="Flower starts v at 0, which the paper rules out.",
        values={"server": _server_optimizer(kind="adagrad", lr=0.1, beta1=0.0, tau=1e-3)},
    ),
    Algorithm(
        name="fedadam",
        title="FedOpt with Adam on the server",
        paper=_FEDOPT,
        rule="The mean update d of a round is a gradient for Adam: m <- beta1 m + (1 - beta1) d, "
        "v <- beta2 v + (1 - beta2) d^2, w <- w + lr m / (sqrt(v) + tau). No bias correction, "
        "v starts at tau^2, both as in the paper.",
        proof="Two steps by hand; v starts at tau^2.",
        differs="Flower starts v at 0 and corrects the bias, as Adam does but the paper does not.",
        values={"server": _server_optimizer(kind="adam", lr=0.1, beta1=0.9, beta2=0.99, tau=1e-3)},
    ),
    Algorithm(
        name="fedyogi",
        title="FedOpt with Yogi on the server",
        paper=_FEDOPT,
        rule="Like fedadam, but the second moment changes at a controlled pace: "
        "v <- v - (1 - beta2) d^2 sign(v - d^2).",
        proof="Two steps by hand; v starts at tau^2.",
        differs="Flower starts v at 0, which the paper rules out.",
        values={
            "client": {"lr": 0.0316},
            "server": _server_optimizer(kind="yogi", lr=0.01, beta1=0.9, beta2=0.99, tau=1e-3),
        },
    ),
    Algorithm(
        name="fedbuff",
        family="asynchronous",
        title="Buffered asynchronous aggregation",
        paper="Nguyen et al. 2022, Federated Learning with Buffered Asynchronous Aggregation "
        "(arXiv 2106.06639)",
        rule="Clients train all the time. The server collects K = buffer_size updates, whatever "
        "version each started from, then w <- w + lr / K sum_i s(tau_i) delta_i with the staleness "
        "tau_i and s(tau) = (1 + tau)^-0.5. Every arrival is replaced at once, so that "
        "`concurrency` clients always train. K = 10 is the paper's.",
        proof="Without delay it is FedAvg; the sum is divided by the buffer and not by the "
        "weights; mean staleness is (concurrency - 1) / K whatever the delays.",
        differs="FLSim divides s(tau) by s(1), so that every weight is 1.41 times as large, and "
        "sums unless told to average; Plato's has no staleness weights. Server momentum or Adam "
        "on the mean of a buffer are server.optimizer.",
        values={
            "server": {
                "weighting": "uniform",
                "optimizer": {"kind": "sgd", "lr": 1.0},
                "schedule": {
                    "mode": "buffered",
                    "buffer_size": 10,
                    "staleness_weight": {"kind": "polynomial", "exponent": 0.5},
                },
            }
        },
    ),
    Algorithm(
        name="fedasync",
        family="asynchronous",
        title="Asynchronous federated optimization",
        paper="Xie et al. 2019, Asynchronous Federated Optimization, algorithm 1 "
        "(arXiv 1903.03934)",
        rule="Every arriving model mixes in at once: w <- (1 - a) w + a w_i with "
        "a = mixing (1 + tau)^-exponent and the staleness tau. Clients add the proximal term "
        "prox_mu / 2 |w - w_downloaded|^2.",
        proof="With a fast and a slow client it settles at the point that their shares of the "
        "arrivals give; the client's own model is mixed in, not its update.",
        differs="Plato multiplies the mixing factors of all versions together, so that they go to "
        "0. The paper's other factors are server.schedule.staleness_weight: constant and hinge.",
        values={
            "client": {"prox_mu": 0.005},
            "server": {
                "optimizer": {"kind": "sgd", "lr": 1.0},
                "schedule": {
                    "mode": "async",
                    "mixing": 0.6,
                    "staleness_weight": {"kind": "polynomial", "exponent": 0.5},
                },
            },
        },
    ),
)

ALGORITHMS: Mapping[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        *_ALL,
        *(method.ALGORITHM for method in METHODS),
        *(part.ALGORITHM for part in PERSONAL),
        *(card for aggregator in AGGREGATORS for card in aggregator.ALGORITHMS),
        *(compressor.ALGORITHM for compressor in COMPRESSORS),
        *(card for privacy in PRIVACIES for card in privacy.ALGORITHMS),
        *(protocol.ALGORITHM for protocol in SECURE),
        *(chosen.ALGORITHM for chosen in SELECTIONS),
        *(quality.ALGORITHM for quality in QUALITIES),
    )
    if algorithm is not None
}


def find(name: str) -> Algorithm:
    """The algorithm of that name, or the method of a user's own at `package.module:Class`.

    Raises InputError with the nearest one.
    """
    if is_path(name):
        return _own(name)
    if name not in ALGORITHMS:
        hint = nearest(name, ALGORITHMS) or f"; known are {', '.join(ALGORITHMS)}"
        raise InputError(f"no algorithm {name!r}{hint}", key="algorithm")
    return ALGORITHMS[name]


def _own(path: str) -> Algorithm:
    """The card of a user's method, or a plain one where it has none, with its path filled in."""
    record = method_class(path, key="algorithm")
    card = record.ALGORITHM or Algorithm(path, record.__name__, "", (record.__doc__ or ""), {})
    method = {**card.values.get("method", {}), "kind": path}
    return replace(card, name=path, values={**card.values, "method": method})


def leaves(values: Mapping[str, Any], path: str = "") -> list[tuple[str, Any]]:
    """A preset's values by dotted key."""
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        here = f"{path}.{name}".lstrip(".")
        found += leaves(value, here) if isinstance(value, Mapping) else [(here, value)]
    return found
