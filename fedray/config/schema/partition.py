"""How samples are spread over clients: `partition`, by its `scheme`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt

from fedray.parts.fields import Count, Doc, Name, NonNegative, OneOf, Severity, Strict

Clients = Annotated[Count, Doc("number of clients")]
MinSamples = Annotated[Count, Doc("every client gets at least so many samples")]


@dataclass(frozen=True, kw_only=True)
class IidPartition(Strict):
    """Samples shuffled and dealt out evenly."""

    scheme: Literal["iid"] = "iid"
    clients: Clients = 20


DEFAULT_ALPHA = 0.3
"""What `config.load` writes into a dirichlet partition with neither alpha nor severity."""


@dataclass(frozen=True, kw_only=True)
class DirichletPartition(Strict):
    """Every class is split over the clients by a draw of Dirichlet(alpha) (Hsu 2019, Li 2022).

    `severity` instead of `alpha` asks for a measured label skew and solves for alpha.
    """

    scheme: Literal["dirichlet"] = "dirichlet"
    clients: Clients = 20
    alpha: Annotated[
        float | None, Gt(0), Doc("concentration: small is skewed; default 0.3 without severity")
    ] = None
    severity: Annotated[
        Severity | None, Doc("0 = IID, 1 = one class per client; measured, solved for")
    ] = None
    min_samples: MinSamples = 2


@dataclass(frozen=True, kw_only=True)
class ShardsPartition(Strict):
    """Sort by label, cut into equal pieces, deal out (McMahan et al. 2017)."""

    scheme: Literal["shards"] = "shards"
    clients: Clients = 20
    classes_per_client: Annotated[Count, Doc("pieces that each client gets")] = 2


@dataclass(frozen=True, kw_only=True)
class QuantityPartition(Strict):
    """Sizes differ, labels stay IID."""

    scheme: Literal["quantity"] = "quantity"
    clients: Clients = 20
    law: Literal["dirichlet", "power"] = "dirichlet"
    alpha: Annotated[
        float, Gt(0), Doc("dirichlet: concentration; power: size of rank r goes as r^-alpha")
    ] = 0.5
    min_samples: MinSamples = 2


@dataclass(frozen=True, kw_only=True)
class FeatureShiftPartition(Strict):
    """IID split, then each client's inputs are changed in its own way, up to `strength`."""

    scheme: Literal["feature_shift"] = "feature_shift"
    clients: Clients = 20
    shift: Annotated[
        Literal["noise", "scale", "rotation"],
        Doc(
            "noise: client i = 0..n-1 adds N(0, (strength * i/(n-1))^2) per feature; scale: "
            "multiplies by exp(strength * N(0,1)); rotation: rotates random feature pairs by up "
            "to strength * pi"
        ),
    ] = "noise"
    strength: NonNegative = 0.5


@dataclass(frozen=True, kw_only=True)
class ConceptShiftPartition(Strict):
    """IID split, then every client permutes some of its labels in its own way."""

    scheme: Literal["concept_shift"] = "concept_shift"
    clients: Clients = 20
    severity: Annotated[
        Severity, Doc("chance that a class of a client takes part in the client's permutation")
    ] = 0.5


@dataclass(frozen=True, kw_only=True)
class TemporalPartition(Strict):
    """Sorted by a column, then cut into consecutive clients of equal size."""

    scheme: Literal["temporal"] = "temporal"
    clients: Clients = 20
    column: Annotated[
        Name | None, Doc("a feature column to sort by; default: the order of the file")
    ] = None


@dataclass(frozen=True, kw_only=True)
class NaturalPartition(Strict):
    """Clients as the data has them: `data.client_column`, or the source's own clients."""

    scheme: Literal["natural"] = "natural"


Partition = Annotated[
    IidPartition
    | DirichletPartition
    | ShardsPartition
    | QuantityPartition
    | FeatureShiftPartition
    | ConceptShiftPartition
    | TemporalPartition
    | NaturalPartition,
    OneOf("scheme"),
]
