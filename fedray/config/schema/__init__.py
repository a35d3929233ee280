"""Every key of a fedray file, as plain frozen records.

The records are standard dataclasses, so that an actor that receives one imports
neither pydantic nor YAML. `config.load` turns files into them and lets pydantic
check types, bounds and unknown keys. Each field carries its own documentation: the
reference page, the JSON Schema and `fedray init` are all made from it.

A file holds one subject; `root` puts them together. Other packages take all from here.
"""

from __future__ import annotations

from fedray.config.schema.client import Client
from fedray.config.schema.compression import Compression
from fedray.config.schema.data import (
    Data,
    EmbeddedData,
    GeneratedData,
    IdxData,
    LinearRegressionData,
    OpenmlData,
    SyntheticData,
    TableData,
)
from fedray.config.schema.devices import (
    DEFAULT_COMPUTE,
    AlwaysAvailable,
    Availability,
    CycleAvailability,
    Devices,
    Network,
    TraceAvailability,
)
from fedray.config.schema.distributions import (
    Constant,
    Distribution,
    Exponential,
    HalfNormal,
    LogNormal,
    Pareto,
    Uniform,
)
from fedray.config.schema.model import LinearModel, MlpModel, Model, SklearnModel, SoftmaxModel
from fedray.config.schema.observing import Diagnosis, Eval, Stop
from fedray.config.schema.optimizers import (
    AdagradOptimizer,
    AdamOptimizer,
    MomentumOptimizer,
    Optimizer,
    SgdOptimizer,
    YogiOptimizer,
)
from fedray.config.schema.partition import (
    DEFAULT_ALPHA,
    ConceptShiftPartition,
    DirichletPartition,
    FeatureShiftPartition,
    IidPartition,
    NaturalPartition,
    Partition,
    QuantityPartition,
    ShardsPartition,
    TemporalPartition,
)
from fedray.config.schema.parts import (
    Aggregator,
    Attack,
    Compressor,
    Method,
    Personal,
    Privacy,
    Quality,
    Secure,
    Selection,
)
from fedray.config.schema.root import Config
from fedray.config.schema.running import Checkpoint, Output, Runtime
from fedray.config.schema.schedule import (
    AsyncSchedule,
    BufferedSchedule,
    ConstantWeight,
    ExponentialWeight,
    HingeWeight,
    InverseWeight,
    PolynomialWeight,
    Schedule,
    StalenessWeight,
    SyncSchedule,
)
from fedray.config.schema.server import Server
from fedray.parts.stragglers import Stragglers

__all__ = [
    "DEFAULT_ALPHA",
    "DEFAULT_COMPUTE",
    "AdagradOptimizer",
    "AdamOptimizer",
    "Aggregator",
    "AlwaysAvailable",
    "AsyncSchedule",
    "Attack",
    "Availability",
    "BufferedSchedule",
    "Checkpoint",
    "Client",
    "Compression",
    "Compressor",
    "ConceptShiftPartition",
    "Config",
    "Constant",
    "ConstantWeight",
    "CycleAvailability",
    "Data",
    "Devices",
    "Diagnosis",
    "DirichletPartition",
    "Distribution",
    "EmbeddedData",
    "Eval",
    "Exponential",
    "ExponentialWeight",
    "FeatureShiftPartition",
    "GeneratedData",
    "HalfNormal",
    "HingeWeight",
    "IdxData",
    "IidPartition",
    "InverseWeight",
    "LinearModel",
    "LinearRegressionData",
    "LogNormal",
    "Method",
    "MlpModel",
    "Model",
    "MomentumOptimizer",
    "NaturalPartition",
    "Network",
    "OpenmlData",
    "Optimizer",
    "Output",
    "Pareto",
    "Partition",
    "Personal",
    "PolynomialWeight",
    "Privacy",
    "Quality",
    "QuantityPartition",
    "Runtime",
    "Schedule",
    "Secure",
    "Selection",
    "Server",
    "SgdOptimizer",
    "ShardsPartition",
    "SklearnModel",
    "SoftmaxModel",
    "StalenessWeight",
    "Stop",
    "Stragglers",
    "SyncSchedule",
    "SyntheticData",
    "TableData",
    "TemporalPartition",
    "TraceAvailability",
    "Uniform",
    "YogiOptimizer",
]
