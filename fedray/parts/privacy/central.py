"""Central differential privacy: a server that is trusted adds the noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from fedray.parts.cards import Algorithm
from fedray.parts.fields import Doc, one_of
from fedray.parts.privacy.base import Noised
from fedray.parts.privacy.clipping import Adaptive, Flat

if TYPE_CHECKING:
    Clipping = Flat | Adaptive
else:
    Clipping = one_of((Flat, Adaptive), "kind")


def _values(clipping: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "privacy": {"kind": "central", "clipping": clipping, "noise_multiplier": 1.0},
        "server": {
            "schedule": {"mode": "sync"},
            "clients_per_round": 0.5,
            "selection": {"kind": "poisson"},
            "weighting": "uniform",
            "aggregator": {"kind": "mean"},
            "optimizer": {"kind": "sgd", "lr": 1.0},
        },
    }


_WHY = (
    "clients join rounds by chance; privacy.kind central goes with another algorithm's schedule, "
    "and then claims nothing for sampling"
)
_ROUNDS = {"buffered": _WHY, "async": _WHY}
_FLAT = Algorithm(
    name="dp_fedavg",
    title="User-level differential privacy, noise by the server",
    paper="McMahan et al. 2018, Learning Differentially Private Recurrent Language Models, "
    "algorithm 1, flat clipping, fixed denominator (arXiv 1710.06963)",
    rule="Every client joins a round by itself, with chance q. Updates are cut to length C, "
    "summed, and divided by the expected number m = q N; noise N(0, (z C / m)^2) is added to "
    "every coordinate, also when nobody joined. Every user counts the same.",
    values=_values({"kind": "flat", "norm": 1.0}),
    proof="The noise of many versions has the right variance; the sum of clipped updates is "
    "within C of the one without any client; epsilon is dp-accounting's for the events that ran; "
    "without noise and with a large C the run is FedAvg with 1 / m.",
    differs="Weights by examples, as the paper has them with a cap, are refused. Without Poisson "
    "sampling nothing is claimed for sampling, where other code reports the same epsilon for "
    "cohorts of fixed size. Adding or removing one user is the adjacency with Poisson sampling, "
    "otherwise replacing one user's update by 0.",
    family="privacy",
    refuses=_ROUNDS,
)
_ADAPTIVE = Algorithm(
    name="dp_fedavg_adaptive",
    title="User-level differential privacy, with a clipping norm that adapts",
    paper="Andrew et al. 2021, Differentially Private Learning with Adaptive Clipping, "
    "algorithm 1 (arXiv 1905.03871)",
    rule="Like dp_fedavg, with C following the median of the updates' lengths: "
    "C <- C exp(-0.2 (b - 0.5)), where b is the share of updates that fit, plus noise of standard "
    "deviation sigma_b / m. Of z, a part pays for b: z_delta = (z^-2 - (2 sigma_b)^-2)^(-1/2).",
    values=_values({"kind": "adaptive", "initial": 0.1, "quantile": 0.5, "rate": 0.2}),
    proof="C comes to the median of given lengths without noise; z_delta and sigma_b by hand, "
    "and composed they cost what z does.",
    differs="sigma_b is m / 20 as in the paper; where z is not below 2 sigma_b, for which there "
    "is no z_delta, the run is refused.",
    family="privacy",
    refuses=_ROUNDS,
)


@dataclass(frozen=True, kw_only=True)
class Central(Noised):
    """The server clips, sums, divides by the expected number m, and adds N(0, (z C / m)^2).

    It sees the updates; what it makes of them, the models, may be shown to anybody. In mode
    async m is 1, and noise and update are both mixed in.
    """

    ALGORITHMS: ClassVar[tuple[Algorithm, ...]] = (_FLAT, _ADAPTIVE)
    kind: Literal["central"] = "central"
    clipping: Annotated[Clipping, Doc("bound on the length of a user's update")] = field(
        default_factory=Flat
    )
    amplification: Annotated[
        Literal["auto", "none", "without_replacement"],
        Doc(
            "what is claimed for sampling. auto: with server.selection poisson that it was, "
            "else none; without_replacement: of uniform cohorts of fixed size, by rdp, for "
            "replacing one user"
        ),
    ] = "auto"
