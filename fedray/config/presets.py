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
        "`concurrency` clients always train. K = 10 is the paper's. With server.optimizer momentum "
        "or adam the mean of the buffer drives server momentum or Adam in place of plain steps; "
        "FLSim's Sent140 setup has momentum 0.9 and lr 0.7.",
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
        proof="Equal to an independent reference step by step on a stale schedule, also with "
        "server momentum and Adam; what known implementations do otherwise is told apart.",
        differs="Plato weights stale updates like fresh ones. FLSim divides s(tau) by s of the "
        "mean staleness, which it takes to be 1, so that its steps are 2^0.5 times as long, sums "
        "in place of averaging by default, and has constant weights by default.",
    ),
    Algorithm(
        name="fedasync",
        family="asynchronous",
        title="Asynchronous federated optimization",
        paper="Xie et al. 2019, Asynchronous Federated Optimization, algorithm 1 "
        "(arXiv 1903.03934)",
        rule="Every arriving model mixes in at once: w <- (1 - a) w + a w_i with "
        "a = mixing s(tau) and the staleness tau. s is polynomial, (1 + tau)^-exponent; the "
        "paper's others are staleness_weight: {kind: hinge, a: 10, b: 4}, 1 up to tau = b and "
        "1 / (a (tau - b) + 1) beyond, and constant. Clients add the proximal term "
        "prox_mu / 2 |w - w_downloaded|^2.",
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
        proof="Equal to an independent reference step by step on a stale schedule for all three "
        "weights; between a fast and a slow client it settles at the biased point .18381.",
        differs="Plato multiplies its mixing weight by s(tau) anew at every update, so that it "
        "falls to 0; in the paper, and here, a is worked out from `mixing` every time.",
    ),
    Algorithm(
        name="fedfix",
        family="asynchronous",
        title="Unbiased averaging at fixed times",
        paper="Fraboni et al. 2023, A General Theory for Federated Optimization with Asynchronous "
        "and Heterogeneous Clients Updates, section 5 (arXiv 2206.10189)",
        rule="Every every_s virtual seconds the server makes a version from what has arrived, "
        "w <- w + lr sum_i d_i delta_i with d_i = ceil(T_i / every_s) p_i, where T_i is the "
        "client's duration; who has arrived then starts anew. So nobody waits for the slowest, "
        "and the slow count as much as the fast. Set every_s to what a typical job takes.",
        values={
            "method": {"kind": "unbiased", "target": "examples"},
            "server": {
                "weighting": "uniform",
                "optimizer": {"kind": "sgd", "lr": 1.0},
                "schedule": {
                    "mode": "buffered",
                    "every_s": 0.1,
                    "staleness_weight": {"kind": "constant"},
                },
            },
        },
        proof="Equal to an independent reference with the paper's d_i, step by step; settles where "
        "synchronous FedAvg does; the timeline is tested event by event.",
        differs="In the paper all clients are at work at all times, here `concurrency` of them; "
        "the weights follow, see algorithm unbiased. The authors' code takes the surrogate weights "
        "of identical d_i to grow with ceil(T_i / every_s), where they fall with it.",
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
