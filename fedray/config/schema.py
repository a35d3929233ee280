"""Every key of a fedray file, as plain frozen records.

The records are standard dataclasses, so that an actor that receives one imports
neither pydantic nor YAML. `config.load` turns files into them and lets pydantic
check types, bounds and unknown keys. Each field carries its own documentation: the
reference page, the JSON Schema and `fedray init` are all made from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

from fedray.parts.aggregators import AGGREGATORS
from fedray.parts.aggregators.mean import Mean
from fedray.parts.attacks import ATTACKS
from fedray.parts.attacks.none import NoAttack
from fedray.parts.compression import COMPRESSORS
from fedray.parts.compression.nothing import Nothing
from fedray.parts.fields import (
    Count,
    Doc,
    Duration,
    FalseIsOff,
    Fraction,
    Index,
    Name,
    NonNegative,
    OneOf,
    OrWord,
    Positive,
    Severity,
    Strict,
    one_of,
)
from fedray.parts.methods import METHODS
from fedray.parts.methods.plain import Plain
from fedray.parts.personal import PERSONAL
from fedray.parts.personal.off import Off
from fedray.parts.privacy import PRIVACIES
from fedray.parts.privacy.none import NoPrivacy
from fedray.parts.quality import QUALITIES
from fedray.parts.quality.plain import Alike
from fedray.parts.secure import SECURE
from fedray.parts.secure.base import NotSecure
from fedray.parts.selection import SELECTIONS
from fedray.parts.selection.plain import Uniform as UniformSelection
from fedray.parts.stragglers import Stragglers

# --- data ---------------------------------------------------------------------------

TestFraction = Annotated[
    float, Gt(0), Lt(1), Doc("share of samples held out when the source has no test set")
]
Standardize = Annotated[
    bool, Doc("zero mean and unit variance per feature, statistics of training samples only")
]


@dataclass(frozen=True, kw_only=True)
class EmbeddedData(Strict):
    """A real data set that ships with scikit-learn. `diabetes` is a regression."""

    source: Literal["digits", "breast_cancer", "wine", "iris", "diabetes"] = "digits"
    test_fraction: TestFraction = 0.2
    standardize: Standardize = True


@dataclass(frozen=True, kw_only=True)
class IdxData(Strict):
    """A folder in MNIST's idx format, gzipped or not. Pixels are scaled to [0, 1]."""

    source: Literal["idx"] = "idx"
    path: Annotated[Name, Doc("folder with train-images-idx3-ubyte[.gz] and its companions")] = (
        "/usr/share/datasets/fashion-mnist"
    )
    limit: Annotated[Count | None, Doc("use only the first so many training samples")] = None
    standardize: Standardize = False


@dataclass(frozen=True, kw_only=True)
class TableData(Strict):
    """A table in a file: one row per sample."""

    source: Literal["parquet", "csv", "npz"]
    path: Annotated[Name, Doc("the file, or for parquet also a folder; relative to this file")]
    test_path: Annotated[Name | None, Doc("a second file with the test samples")] = None
    label: Annotated[Name, Doc("column with the label (npz: array)")] = "y"
    features: Annotated[
        Annotated[tuple[Name, ...], MinLen(1)] | None,
        Doc("feature columns; default: all other numeric ones (npz: the array X)"),
    ] = None
    client_column: Annotated[
        Name | None, Doc("column that says which client owns the row, for partition natural")
    ] = None
    task: Annotated[
        Literal["auto", "classification", "regression"],
        Doc("auto: regression if the label is a float column with non-integers"),
    ] = "auto"
    test_fraction: TestFraction = 0.2
    standardize: Standardize = True


@dataclass(frozen=True, kw_only=True)
class OpenmlData(Strict):
    """A data set of openml.org by name. Needs the network."""

    source: Literal["openml"] = "openml"
    name: Annotated[Name, Doc("name on openml.org")]
    version: Annotated[Count | Literal["active"], Doc("version of the data set")] = "active"
    task: Literal["auto", "classification", "regression"] = "auto"
    test_fraction: TestFraction = 0.2
    standardize: Standardize = True


@dataclass(frozen=True, kw_only=True)
class SyntheticData(Strict):
    """Synthetic(alpha, beta) of FedProx (Li et al. 2020): clients differ by construction.

    `alpha` spreads the clients' true models, `beta` their inputs; both are standard
    deviations, as in the authors' code. `iid: true` gives every client one model.
    Use `partition: {scheme: natural}`.
    """

    source: Literal["synthetic"] = "synthetic"
    alpha: Annotated[NonNegative, Doc("spread of the clients' true models")] = 1.0
    beta: Annotated[NonNegative, Doc("spread of the clients' inputs")] = 1.0
    iid: Annotated[bool, Doc("one model and one distribution of inputs for all clients")] = False
    clients: Annotated[Count, Doc("number of clients")] = 30
    dimensions: Annotated[Count, Doc("number of features")] = 60
    classes: Annotated[int, Ge(2), Doc("number of classes")] = 10
    test_fraction: TestFraction = 0.1
    standardize: Standardize = False


@dataclass(frozen=True, kw_only=True)
class LinearRegressionData(Strict):
    """One-feature regression for the three scenarios of the README.

    iid: x ~ U(0, 10), y = 2x + 1 + N(0, 1). non_iid: client i = 1, 2, ... has
    x ~ U(0, 5i), y = i x + i + N(0, 1). Use `partition: {scheme: natural}`.
    """

    source: Literal["linear_regression"] = "linear_regression"
    scenario: Annotated[Literal["iid", "non_iid"], Doc("one truth for all, or one each")] = "iid"
    clients: Annotated[Count, Doc("number of clients")] = 3
    points: Annotated[int, Ge(2), Doc("training points per client")] = 100
    standardize: Standardize = False


@dataclass(frozen=True, kw_only=True)
class GeneratedData(Strict):
    """scikit-learn's make_blobs or make_classification."""

    source: Literal["blobs", "classification"] = "blobs"
    samples: Annotated[Count, Doc("number of samples, test samples included")] = 2000
    dimensions: Annotated[Count, Doc("number of features")] = 20
    classes: Annotated[int, Ge(2), Doc("number of classes")] = 4
    spread: Annotated[float, Gt(0), Doc("blobs: cluster_std; classification: 1 / class_sep")] = 1.0
    test_fraction: TestFraction = 0.2
    standardize: Standardize = False


Data = Annotated[
    EmbeddedData
    | IdxData
    | TableData
    | OpenmlData
    | SyntheticData
    | LinearRegressionData
    | GeneratedData,
    OneOf("source"),
]

# --- partition ------------------------------------------------------------------------

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

# --- model ----------------------------------------------------------------------------

Dtype = Annotated[Literal["float32", "float64"], Doc("precision of parameters and training")]
L2 = Annotated[float, Ge(0), Doc("adds l2/2 * |coef|^2 to the loss; intercepts are free")]


@dataclass(frozen=True, kw_only=True)
class LinearModel(Strict):
    """Least squares: loss = mean (x.coef + intercept - y)^2 / 2."""

    kind: Literal["linear"] = "linear"
    l2: L2 = 0.0
    init: Literal["zeros", "normal"] = "zeros"
    dtype: Dtype = "float32"


@dataclass(frozen=True, kw_only=True)
class SoftmaxModel(Strict):
    """Multinomial logistic regression: loss = mean cross-entropy."""

    kind: Literal["softmax"] = "softmax"
    l2: L2 = 0.0
    init: Annotated[
        Literal["zeros", "normal"], Doc("normal: N(0, 0.01^2) coefficients, zero intercepts")
    ] = "zeros"
    dtype: Dtype = "float32"


@dataclass(frozen=True, kw_only=True)
class MlpModel(Strict):
    """ReLU layers, He-normal initialisation; cross-entropy, or squared error for regression."""

    kind: Literal["mlp"] = "mlp"
    hidden: Annotated[tuple[Count, ...], MinLen(1), Doc("widths of the hidden layers")] = (200, 200)
    l2: L2 = 0.0
    dtype: Dtype = "float32"


@dataclass(frozen=True, kw_only=True)
class SklearnModel(Strict):
    """Any scikit-learn estimator with array coefficients, by import path.

    fit partial: `client.epochs` passes of partial_fit from the global coefficients;
    full: fit() from scratch (a closed form cannot drift). The client's lr, momentum
    and batch size are then the estimator's own parameters.
    """

    kind: Literal["sklearn"] = "sklearn"
    estimator: Annotated[Name, Doc("import path, e.g. sklearn.linear_model.SGDClassifier")]
    params: Annotated[dict[str, Any], Doc("keyword arguments of the estimator")] = field(
        default_factory=dict
    )
    fit: Annotated[
        Literal["auto", "partial", "full"], Doc("auto: partial where the estimator has partial_fit")
    ] = "auto"
    dtype: Dtype = "float64"


Model = Annotated[LinearModel | SoftmaxModel | MlpModel | SklearnModel, OneOf("kind")]

# --- client ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Client(Strict):
    """Local training: minibatch SGD from the downloaded model."""

    epochs: Annotated[float, Gt(0), Doc("passes over the client's shard; may be fractional")] = 1.0
    steps: Annotated[Count | None, Doc("number of minibatch steps, instead of epochs")] = None
    batch_size: Annotated[Count | Literal["full"], Doc("samples per step")] = 32
    lr: Annotated[float, Gt(0), Doc("step size")] = 0.1
    lr_decay: Annotated[
        float, Gt(0), Le(1), Doc("step size is lr * lr_decay^version of the downloaded model")
    ] = 1.0
    momentum: Annotated[float, Ge(0), Lt(1), Doc("heavy ball, starts anew with every job")] = 0.0
    weight_decay: Annotated[float, Ge(0), Doc("adds weight_decay * w to every gradient")] = 0.0
    prox_mu: Annotated[
        float, Ge(0), Doc("FedProx: adds prox_mu * (w - w_downloaded) to every gradient")
    ] = 0.0
    stragglers: Stragglers = field(default_factory=Stragglers)


# --- server ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ConstantWeight(Strict):
    """s(tau) = 1."""

    kind: Literal["constant"] = "constant"


@dataclass(frozen=True, kw_only=True)
class PolynomialWeight(Strict):
    """s(tau) = (1 + tau)^-exponent (Xie et al. 2019; FedBuff uses 0.5)."""

    kind: Literal["polynomial"] = "polynomial"
    exponent: NonNegative = 0.5


@dataclass(frozen=True, kw_only=True)
class HingeWeight(Strict):
    """s(tau) = 1 if tau <= b else 1 / (a (tau - b) + 1) (Xie et al. 2019)."""

    kind: Literal["hinge"] = "hinge"
    a: Positive = 10.0
    b: NonNegative = 4.0


@dataclass(frozen=True, kw_only=True)
class ExponentialWeight(Strict):
    """s(tau) = exp(-rate tau)."""

    kind: Literal["exponential"] = "exponential"
    rate: NonNegative = 0.1


@dataclass(frozen=True, kw_only=True)
class InverseWeight(Strict):
    """s(tau) = 1 / (1 + tau) (DynSGD, Jiang et al. 2017)."""

    kind: Literal["inverse"] = "inverse"


StalenessWeight = Annotated[
    ConstantWeight | PolynomialWeight | HingeWeight | ExponentialWeight | InverseWeight,
    OneOf("kind"),
]
MaxStaleness = Annotated[
    Index | None, Doc("bound on (server version - version trained from); none: unbounded")
]
OnStale = Annotated[
    Literal["drop", "wait", "keep"],
    Doc(
        "beyond max_staleness: drop the update; wait: hold back new versions until the oldest "
        "work in flight has arrived, so that none gets beyond; keep: only down-weight it"
    ),
]
Concurrency = Annotated[Count, Doc("clients training at any time")]


@dataclass(frozen=True, kw_only=True)
class SyncSchedule(Strict):
    """Rounds: draw a cohort, wait for it, aggregate."""

    mode: Literal["sync"] = "sync"
    over_select: Annotated[
        float,
        Ge(1),
        Doc("draw so many times the cohort and keep the first arrivals (1.3 is usual)"),
    ] = 1.0
    deadline_s: Annotated[
        float | None, Gt(0), Doc("close the round after so many virtual seconds")
    ] = None
    late: Annotated[
        Literal["drop", "carry"],
        Doc("updates after the round closed: drop, or carry into the version being made"),
    ] = "drop"
    max_staleness: MaxStaleness = None
    staleness_weight: StalenessWeight = field(default_factory=ConstantWeight)


@dataclass(frozen=True, kw_only=True)
class BufferedSchedule(Strict):
    """FedBuff (Nguyen et al. 2022): aggregate every `buffer_size` arrivals.

    w <- w + server_lr / K * sum_i s(tau_i) delta_i. An arrival is replaced at once with
    the then current version, the one that completes the buffer with the new version. With
    `every_s` versions come by the clock instead (FedFix, Fraboni et al. 2023), and whoever has
    arrived meanwhile is replaced when the version is made.
    """

    mode: Literal["buffered"] = "buffered"
    concurrency: Concurrency = 8
    buffer_size: Annotated[Count, Doc("K: arrivals per new version")] = 4
    every_s: Annotated[
        float | None,
        Gt(0),
        Doc("a new version every so many virtual seconds, instead of every buffer_size arrivals"),
    ] = None
    max_staleness: MaxStaleness = None
    on_stale: OnStale = "drop"
    staleness_weight: StalenessWeight = field(default_factory=PolynomialWeight)


@dataclass(frozen=True, kw_only=True)
class AsyncSchedule(Strict):
    """FedAsync (Xie et al. 2019): every arrival mixes in at once.

    w <- (1 - a) w + a w_i with the client's own model w_i and a = mixing * s(tau).
    """

    mode: Literal["async"] = "async"
    concurrency: Concurrency = 8
    mixing: Annotated[float, Gt(0), Le(1), Doc("a for a fresh update")] = 0.6
    max_staleness: MaxStaleness = None
    on_stale: OnStale = "drop"
    staleness_weight: StalenessWeight = field(default_factory=PolynomialWeight)


Schedule = Annotated[SyncSchedule | BufferedSchedule | AsyncSchedule, OneOf("mode")]


if TYPE_CHECKING:
    from fedray.parts.aggregators.base import Aggregator
    from fedray.parts.attacks.base import Attack
    from fedray.parts.compression.base import Compressor
    from fedray.parts.methods.base import Method
    from fedray.parts.personal.base import Personal
    from fedray.parts.privacy.base import Privacy
    from fedray.parts.quality.base import Quality
    from fedray.parts.secure.base import Secure
    from fedray.parts.selection.base import Selection
else:  # the variants are those that the tables of parts name
    Aggregator = one_of(AGGREGATORS, "kind")
    Attack = one_of(ATTACKS, "kind")
    Compressor = one_of(COMPRESSORS, "kind")
    Method = one_of(METHODS, "kind")
    Personal = one_of(PERSONAL, "kind")
    Privacy = one_of(PRIVACIES, "kind")
    Quality = one_of(QUALITIES, "kind")
    Secure = one_of(SECURE, "kind")
    Selection = one_of(SELECTIONS, "kind")

ServerLr = Annotated[float, Gt(0), Doc("server step size")]
Beta = Annotated[float, Ge(0), Lt(1)]


@dataclass(frozen=True, kw_only=True)
class SgdOptimizer(Strict):
    """w <- w + lr * update."""

    kind: Literal["sgd"] = "sgd"
    lr: ServerLr = 1.0


@dataclass(frozen=True, kw_only=True)
class MomentumOptimizer(Strict):
    """FedAvgM (Hsu et al. 2019): v <- momentum v + update; w <- w + lr v.

    nesterov: w <- w + lr (update + momentum v).
    """

    kind: Literal["momentum"] = "momentum"
    lr: ServerLr = 1.0
    momentum: Beta = 0.9
    nesterov: bool = False


@dataclass(frozen=True, kw_only=True)
class AdamOptimizer(Strict):
    """FedAdam (Reddi et al. 2021, algorithm 2), without bias correction, v_0 = tau^2."""

    kind: Literal["adam"] = "adam"
    lr: ServerLr = 0.1
    beta1: Beta = 0.9
    beta2: Beta = 0.99
    tau: Positive = 1e-3


@dataclass(frozen=True, kw_only=True)
class YogiOptimizer(Strict):
    """FedYogi (Reddi et al. 2021, algorithm 2), v_0 = tau^2."""

    kind: Literal["yogi"] = "yogi"
    lr: ServerLr = 0.01
    beta1: Beta = 0.9
    beta2: Beta = 0.99
    tau: Positive = 1e-3


@dataclass(frozen=True, kw_only=True)
class AdagradOptimizer(Strict):
    """FedAdagrad (Reddi et al. 2021, algorithm 2; beta1 = 0 in their experiments), v_0 = tau^2."""

    kind: Literal["adagrad"] = "adagrad"
    lr: ServerLr = 0.1
    beta1: Beta = 0.0
    tau: Positive = 1e-3


Optimizer = Annotated[
    SgdOptimizer | MomentumOptimizer | AdamOptimizer | YogiOptimizer | AdagradOptimizer,
    OneOf("kind"),
]


@dataclass(frozen=True, kw_only=True)
class Server(Strict):
    """What the server does with updates, and when."""

    rounds: Annotated[Count, Doc("number of new global versions")] = 50
    clients_per_round: Annotated[
        Literal["all"] | Count | Annotated[float, Gt(0), Lt(1)],
        Doc("sync: cohort as a count, a fraction of all clients, or all"),
    ] = "all"
    selection: Annotated[
        Selection,
        OrWord("kind"),
        Doc("who trains next; a word alone, like round_robin, stands for that kind"),
    ] = field(default_factory=UniformSelection)
    weighting: Annotated[
        Literal["examples", "uniform"], Doc("share of an update: by its examples, or equal")
    ] = "examples"
    quality: Annotated[
        Quality,
        OrWord("kind"),
        Doc("what else an update's share goes by: how good it turns out to be"),
    ] = field(default_factory=Alike)
    aggregator: Aggregator = field(default_factory=Mean)
    optimizer: Optimizer = field(default_factory=SgdOptimizer)
    schedule: Schedule = field(default_factory=SyncSchedule)


# --- compression ----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Compression(Strict):
    """How vectors are encoded on the wire; messages take the bytes and the time of their code.

    up: the update, and whatever a method sends besides, each with a memory of its own. down: the
    model, and whatever is sent with it; clients train from what they decode.
    """

    up: Annotated[Compressor, Doc("from the clients to the server")] = field(
        default_factory=Nothing
    )
    down: Annotated[Compressor, Doc("from the server to the clients")] = field(
        default_factory=Nothing
    )
    down_of: Annotated[
        Literal["model", "change"],
        Doc(
            "model: every model by itself, for quantisers; change: what it differs by from the "
            "model that clients have, for any code, where all clients take part in every round"
        ),
    ] = "model"


# --- devices --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Constant(Strict):
    """Always `value`."""

    kind: Literal["constant"] = "constant"
    value: NonNegative


@dataclass(frozen=True, kw_only=True)
class Uniform(Strict):
    """U(low, high)."""

    kind: Literal["uniform"] = "uniform"
    low: NonNegative
    high: Positive


@dataclass(frozen=True, kw_only=True)
class HalfNormal(Strict):
    """Half-normal: |N(0, scale^2)|."""

    kind: Literal["halfnormal"] = "halfnormal"
    scale: Positive


@dataclass(frozen=True, kw_only=True)
class Exponential(Strict):
    """Exponential with the given mean."""

    kind: Literal["exponential"] = "exponential"
    mean: Positive


@dataclass(frozen=True, kw_only=True)
class LogNormal(Strict):
    """median * exp(sigma N(0, 1))."""

    kind: Literal["lognormal"] = "lognormal"
    median: Positive
    sigma: NonNegative = 0.5


@dataclass(frozen=True, kw_only=True)
class Pareto(Strict):
    """minimum * U^(-1/shape): heavy-tailed."""

    kind: Literal["pareto"] = "pareto"
    minimum: Positive
    shape: Positive = 1.5


Distribution = Annotated[
    Constant | Uniform | HalfNormal | Exponential | LogNormal | Pareto, OneOf("kind")
]


@dataclass(frozen=True, kw_only=True)
class Network(Strict):
    """Links, drawn once per client."""

    down_bytes_per_s: Annotated[Distribution, Doc("download rate")] = field(
        default_factory=lambda: LogNormal(median=1e6, sigma=0.5)
    )
    up_bytes_per_s: Annotated[Distribution, Doc("upload rate")] = field(
        default_factory=lambda: LogNormal(median=2.5e5, sigma=0.5)
    )
    latency_s: Annotated[Distribution, Doc("added once to the download and once to the upload")] = (
        field(default_factory=lambda: Constant(value=0.05))
    )


@dataclass(frozen=True, kw_only=True)
class AlwaysAvailable(Strict):
    """Clients can be asked at any time."""

    kind: Literal["always"] = "always"


@dataclass(frozen=True, kw_only=True)
class CycleAvailability(Strict):
    """Each client is on for `on_s`, off for `off_s`, and so on, from a random phase."""

    kind: Literal["cycle"] = "cycle"
    on_s: Positive
    off_s: Positive


@dataclass(frozen=True, kw_only=True)
class TraceAvailability(Strict):
    """On-windows from a CSV or Parquet file with the columns client, start_s, end_s."""

    kind: Literal["trace"] = "trace"
    path: Annotated[Name, Doc("relative to this file")]


DEFAULT_COMPUTE = LogNormal(median=2000.0, sigma=0.5)
"""What `config.load` writes into devices with neither table, duration nor compute."""

Availability = Annotated[AlwaysAvailable | CycleAvailability | TraceAvailability, OneOf("kind")]


@dataclass(frozen=True, kw_only=True)
class Devices(Strict):
    """How long a job takes in virtual time: download + compute + upload.

    Either a `table`, or a `duration` per job, or `compute` and `network`.
    """

    table: Annotated[
        Name | None,
        Doc(
            "CSV or Parquet with a row per client: client, and duration_s, or samples_per_s, "
            "down_bytes_per_s, up_bytes_per_s, latency_s"
        ),
    ] = None
    duration: Annotated[
        Distribution | None, Doc("seconds per job, drawn once per client, network included")
    ] = None
    compute: Annotated[
        Distribution | None,
        Doc("samples per second, drawn once per client; default lognormal(2000, 0.5)"),
    ] = None
    network: Annotated[Network | None, Doc("default: the defaults of its keys")] = None
    jitter: Annotated[
        Distribution, Doc("factor on the compute time (or on duration), drawn anew for every job")
    ] = field(default_factory=lambda: Constant(value=1.0))
    availability: Availability = field(default_factory=AlwaysAvailable)
    dropout: Annotated[Fraction, Doc("chance that a job is lost; noticed when it was due")] = 0.0


# --- the rest ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Eval(Strict):
    """What is measured on the way."""

    every: Annotated[Count, Doc("evaluate on the test set every so many versions")] = 1
    clients_every: Annotated[
        Index,
        Doc("accuracy on every client's own shard, every so many versions; 0: at the end only"),
    ] = 0
    local_losses: Annotated[
        bool, Doc("loss on the shard before and after each job: two more forward passes")
    ] = True


@dataclass(frozen=True, kw_only=True)
class Diagnosis(Strict):
    """Why a version is what it is, worked out while the run goes: see docs/run-folder.md.

    A decomposed version costs the gradients of its group once more, and those of all shards
    at every local step of the group; `clients` bounds both.
    """

    decompose: Annotated[
        Literal["off"] | Count,
        FalseIsOff(),
        Doc(
            "split the step to every so many-th version into participation, staleness, drift, "
            "noise and residual"
        ),
    ] = "off"
    clients: Annotated[
        Literal["all"] | Count,
        Doc(
            "so many clients, drawn by their samples, stand for all in the target gradient, and "
            "so many of a group for its drift: unbiased, and cheaper"
        ),
    ] = "all"
    pooled: Annotated[
        bool,
        Doc(
            "also train on the pooled data, as many minibatches as the clients, and record how "
            "far the model is from that one"
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class Stop(Strict):
    """Ends a run before `server.rounds`; whichever comes first."""

    accuracy: Annotated[float | None, Gt(0), Le(1), Doc("test accuracy reached")] = None
    loss: Annotated[float | None, Gt(0), Doc("test loss fallen to")] = None
    virtual_time_s: Annotated[float | None, Gt(0), Doc("virtual seconds elapsed")] = None
    bytes: Annotated[float | None, Gt(0), Doc("bytes moved, both directions")] = None
    patience: Annotated[
        Count | None, Doc("evaluations without a better accuracy (regression: loss)")
    ] = None


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Strict):
    """What an interrupted run resumes from."""

    every: Annotated[
        Index | Annotated[str, Duration()],
        Doc("versions between checkpoints, or wall time such as 30s; 0: only when interrupted"),
    ] = 10
    keep: Annotated[Count, Doc("newest checkpoints that are kept")] = 2


@dataclass(frozen=True, kw_only=True)
class Output(Strict):
    """Where the run folder goes, and what is drawn."""

    dir: Annotated[
        Name,
        Doc("<name>-<timestamp> is made in it; also s3://..., gs://...; --out names one exactly"),
    ] = "runs"
    report: Annotated[bool, Doc("build report.html and plots/ at the end")] = True


@dataclass(frozen=True, kw_only=True)
class Runtime(Strict):
    """Where the arithmetic runs. Nothing here changes a bit of the result."""

    executor: Annotated[
        Literal["ray", "local"], Doc("ray: actors; local: the same loop in this process")
    ] = "ray"
    clients_per_actor: Annotated[
        Literal["auto"] | Count,
        Doc("auto: an actor each up to 24 clients, beyond that one host actor per core"),
    ] = "auto"
    address: Annotated[
        Name | None, Doc("none: a private Ray on this machine; auto or HOST:PORT: that cluster")
    ] = None
    cpus: Annotated[Count | None, Doc("cores for the private Ray; default: all")] = None
    client_resources: Annotated[
        dict[Name, Positive],
        Doc(
            "what a client actor asks of Ray, by name: CPU, GPU, memory (bytes), or a resource of "
            "the cluster's own; default: a small share of a CPU"
        ),
    ] = field(default_factory=dict)
    start_timeout_s: Annotated[Positive, Doc("give up when the actors are not up by then")] = 120.0
    actor_restarts: Annotated[Index, Doc("lost actors that are replaced before giving up")] = 20


@dataclass(frozen=True, kw_only=True)
class Config(Strict):
    """A whole run."""

    name: Annotated[Name, Doc("names the run folder and the report")] = "fedray"
    seed: Annotated[int, Ge(0), Doc("every draw follows from it")] = 0
    data: Data = field(default_factory=EmbeddedData)
    partition: Partition = field(default_factory=DirichletPartition)
    model: Model = field(default_factory=SoftmaxModel)
    algorithm: Annotated[
        Name,
        Doc(
            "a preset over the parts below, see `fedray algorithms`; or a method of your own, "
            "package.module:Class"
        ),
    ] = "fedavg"
    client: Client = field(default_factory=Client)
    method: Annotated[Method, Doc("what clients and server do beyond local SGD and averaging")] = (
        field(default_factory=Plain)
    )
    personal: Annotated[
        Personal, Doc("models of the clients' own, and samples held back to test them")
    ] = field(default_factory=Off)
    server: Server = field(default_factory=Server)
    attack: Annotated[Attack, Doc("what malicious clients do")] = field(default_factory=NoAttack)
    compression: Compression = field(default_factory=Compression)
    privacy: Annotated[Privacy, Doc("differential privacy of users")] = field(
        default_factory=NoPrivacy
    )
    secure_aggregation: Annotated[
        Secure, Doc("whether the server learns sums of updates only, and by which protocol")
    ] = field(default_factory=NotSecure)
    devices: Devices = field(default_factory=Devices)
    clock: Annotated[
        Literal["virtual", "wall"],
        Doc("wall: true arrival order instead of virtual time; not reproducible, and marked so"),
    ] = "virtual"
    eval: Eval = field(default_factory=Eval)
    diagnosis: Diagnosis = field(default_factory=Diagnosis)
    stop: Stop = field(default_factory=Stop)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    output: Output = field(default_factory=Output)
    runtime: Runtime = field(default_factory=Runtime)
