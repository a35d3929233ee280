"""What the schema cannot say: settings that contradict each other or would do nothing.

Everything here is known from the configuration alone; what needs the data is checked where
the data is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any

from fedray.config import (
    privacy_checks,
    quality_checks,
    robustness,
    schedule_checks,
    schema,
    selection_checks,
    wire_checks,
)
from fedray.config.layers import ALTERNATIVES, Tree, get
from fedray.errors import InputError
from fedray.parts.methods.plain import Plain
from fedray.parts.personal.off import Off
from fedray.parts.selection.tiers import Tiers

Idle = tuple[str, str]
"""A key that would do nothing, and why."""


def alternatives(tree: Tree) -> None:
    """Refuses two alternatives side by side, such as client.epochs and client.steps."""
    for path, groups in ALTERNATIVES.items():
        chosen = [
            name
            for group in groups
            for name in sorted(group)
            if get(tree, f"{path}.{name}") is not None
        ]
        sides = [group for group in groups if group & set(chosen)]
        if len(sides) > 1:
            raise InputError(
                f"{' and '.join(chosen)} exclude each other: give one", key=f"{path}.{chosen[-1]}"
            )


def idle(config: schema.Config) -> Idle | None:
    """The first key that is not at its default although it has no effect."""
    parts = (
        _idle_data, _idle_schedule, _idle_server, selection_checks.idle, quality_checks.idle,
        _idle_client, wire_checks.idle, _idle_elsewhere,
    )  # fmt: skip
    for part in parts:
        for key, reason in part(config):
            if _differs(config, key):
                return key, reason
    return None


def check(config: schema.Config) -> None:
    """Raises InputError on the first contradiction."""
    if "/" in config.name or config.name in (".", ".."):
        raise InputError(
            f"{config.name!r} names a folder in output.dir, so no '/'; give a path as --out",
            key="name",
        )
    _check_columns(config.data)
    _check_partition(config)
    _check_model(config)
    known = known_clients(config)
    schedule_checks.check(config, known)
    _check_method(config)
    _check_personal(config)
    _check_stragglers(config)
    robustness.check(config, known and known[0], regression(config))
    wire_checks.check(config)
    privacy_checks.check(config)
    selection_checks.check(config)
    quality_checks.check(config)
    _check_devices(config.devices)
    if config.stop.accuracy is not None and regression(config):
        raise InputError(
            "the data is a regression, which has no accuracy; use stop.loss", key="stop.accuracy"
        )


def known_clients(config: schema.Config) -> tuple[int, str] | None:
    """The number of clients and the key that sets it, where the data need not be read."""
    section = "data" if isinstance(config.partition, schema.NaturalPartition) else "partition"
    clients: int | None = getattr(getattr(config, section), "clients", None)
    return None if clients is None else (clients, f"{section}.clients")


def _differs(config: schema.Config, key: str) -> bool:
    """Whether a dotted key has another value than its record's default."""
    *above, name = key.split(".")
    record: Any = config
    for part in above:
        record = getattr(record, part)
    if key == "devices":
        return _stripped(config.devices) != schema.Devices()
    found = next(f for f in fields(record) if f.name == name)
    default = found.default if found.default_factory is MISSING else found.default_factory()
    return bool(getattr(record, name) != default)


def _stripped(devices: schema.Devices) -> schema.Devices:
    compute = None if devices.compute == schema.DEFAULT_COMPUTE else devices.compute
    network = None if devices.network == schema.Network() else devices.network
    return replace(devices, compute=compute, network=network)


# --- keys without effect ------------------------------------------------------------------


def _idle_data(config: schema.Config) -> Iterator[Idle]:
    data = config.data
    if isinstance(data, schema.TableData) and data.test_path is not None:
        yield "data.test_fraction", "has no effect, since data.test_path holds the test samples"
    if isinstance(data, schema.SyntheticData) and data.iid:
        for key in ("alpha", "beta"):
            yield f"data.{key}", "has no effect with data.iid, which makes all clients alike"


def _idle_schedule(config: schema.Config) -> Iterator[Idle]:
    server, schedule = config.server, config.server.schedule
    if not isinstance(schedule, schema.SyncSchedule):
        mode = schedule.mode
        yield (
            "server.clients_per_round",
            f"has no effect in mode {mode}, it applies to sync; use server.schedule.concurrency",
        )
        return
    everyone = server.clients_per_round == "all"
    if everyone:
        why = "has no effect while server.clients_per_round is all"
        yield "server.schedule.over_select", why
        if not isinstance(server.selection, Tiers):
            yield "server.selection", why
    if schedule.deadline_s is None and (schedule.over_select == 1 or everyone):
        yield (
            "server.schedule.late",
            "has no effect, since rounds wait for everyone; "
            "set server.schedule.deadline_s or over_select",
        )
    if schedule.late == "drop":
        for key in ("max_staleness", "staleness_weight"):
            yield (
                f"server.schedule.{key}",
                "has no effect in mode sync unless server.schedule.late is carry",
            )


def _idle_server(config: schema.Config) -> Iterator[Idle]:
    if isinstance(config.server.schedule, schema.AsyncSchedule):
        yield (
            "server.weighting",
            "has no effect in mode async, which mixes one update at a time",
        )


def _idle_client(config: schema.Config) -> Iterator[Idle]:
    model = config.model
    if not config.client.stragglers.share:
        yield "client.stragglers.partial", "has no effect while client.stragglers.share is 0"
    if not isinstance(model, schema.SklearnModel):
        return
    own = "has no effect with model.kind sklearn; use the estimator's own model.params"
    for key in ("steps", "batch_size", "lr", "lr_decay", "momentum", "weight_decay", "prox_mu"):
        yield f"client.{key}", own
    if model.fit == "full":
        for key in ("epochs", "stragglers.share"):
            yield f"client.{key}", "has no effect with model.fit full, which fits from scratch"
    yield (
        "diagnosis.decompose",
        "can do nothing with model.kind sklearn, whose estimators tell no gradients; "
        "use off, or model.kind softmax, linear or mlp",
    )


def _idle_elsewhere(config: schema.Config) -> Iterator[Idle]:
    runtime = config.runtime
    yield from robustness.idle(config)
    if config.diagnosis.decompose == "off":
        for key in ("clients", "pooled"):
            yield f"diagnosis.{key}", "has no effect while diagnosis.decompose is off"
    if config.clock == "wall":
        yield "devices", "has no effect under clock wall, which takes jobs as they arrive"
    if runtime.executor == "local":
        for key in (
            "clients_per_actor", "address", "cpus", "client_resources", "start_timeout_s",
            "actor_restarts",
        ):  # fmt: skip
            yield f"runtime.{key}", "has no effect with runtime.executor local"
    if runtime.address is not None:
        yield "runtime.cpus", "has no effect with runtime.address; that cluster has its own cores"


# --- contradictions -------------------------------------------------------------------------


def _check_columns(data: object) -> None:
    if isinstance(data, schema.TableData) and data.client_column == data.label:
        raise InputError(f"{data.label!r} is the label (data.label)", key="data.client_column")


def _check_partition(config: schema.Config) -> None:
    data = config.data
    own = isinstance(data, schema.SyntheticData | schema.LinearRegressionData)
    own = own or (isinstance(data, schema.TableData) and data.client_column is not None)
    needs_labels = schema.DirichletPartition | schema.ShardsPartition | schema.ConceptShiftPartition
    if isinstance(config.partition, needs_labels) and _numeric_labels(config):
        raise InputError(
            f"{config.partition.scheme} needs class labels, but the data is a regression; "
            "use iid, quantity, feature_shift or temporal",
            key="partition.scheme",
        )
    if isinstance(config.partition, schema.NaturalPartition) and not own:
        how = (
            "set data.client_column"
            if isinstance(data, schema.TableData)
            else f"data.source {data.source} has none; use another scheme, e.g. dirichlet"
        )
        raise InputError(
            f"natural needs data that says who owns what: {how}", key="partition.scheme"
        )


def _check_model(config: schema.Config) -> None:
    epochs = config.client.epochs
    if isinstance(config.model, schema.SklearnModel) and epochs != int(epochs):
        raise InputError(
            f"{epochs:g} is not allowed with model.kind sklearn: partial_fit makes whole passes",
            key="client.epochs",
        )


def _check_stragglers(config: schema.Config) -> None:
    client = config.client
    if not client.stragglers.share:
        return
    key = "epochs" if client.steps is None else "steps"
    if getattr(client, key) < 2:
        raise InputError(
            f"{getattr(client, key):g} leaves stragglers nothing to leave out; allowed: 2 or more",
            key=f"client.{key}",
        )
    if config.clock == "wall" and client.stragglers.partial == "drop":
        raise InputError(
            "wall does not go with client.stragglers.partial drop: nobody is late there by a draw",
            key="clock",
        )


def _check_method(config: schema.Config) -> None:
    method, mode = config.method, config.server.schedule.mode
    kind = method.kind
    if isinstance(method, Plain):
        return
    if isinstance(config.model, schema.SklearnModel):
        raise InputError(
            f"{kind} works on gradients, which estimators of model.kind sklearn do not tell; "
            "allowed: plain",
            key="method.kind",
        )
    if method.ALGORITHM is not None and mode in method.ALGORITHM.refuses:
        raise InputError(
            f"{mode} does not go with method.kind {kind}: {method.ALGORITHM.refuses[mode]}",
            key="server.schedule.mode",
        )
    if method.cohort_gradient and config.clock == "wall":
        raise InputError(
            f"wall does not go with method.kind {kind}: who trains from a model is known there "
            "only once it does",
            key="clock",
        )
    if method.needs_losses and not config.eval.local_losses:
        raise InputError(f"false is not allowed: method.kind {kind} needs the losses",
                         key="eval.local_losses")  # fmt: skip
    if config.diagnosis.decompose != "off" and not method.one_walk:
        raise InputError(
            f"clients of method.kind {kind} do more than one walk of local SGD; use off",
            key="diagnosis.decompose",
        )
    if found := method.conflict(config):
        raise InputError(f"{found[1]} (method.kind {kind})", key=found[0])


def _check_personal(config: schema.Config) -> None:
    personal, mode = config.personal, config.server.schedule.mode
    kind = personal.kind
    if isinstance(personal, Off):
        return
    if isinstance(config.model, schema.SklearnModel):
        raise InputError(
            f"{kind} works on gradients, which estimators of model.kind sklearn do not tell; "
            "allowed: none",
            key="personal.kind",
        )
    if personal.replaces and not isinstance(config.method, Plain):
        raise InputError(
            f"{config.method.kind} does not go with personal.kind {kind}, whose clients train in "
            "their own way; allowed: plain",
            key="method.kind",
        )
    if personal.replaces and config.diagnosis.decompose != "off":
        raise InputError(
            f"clients of personal.kind {kind} do more than one walk of local SGD; use off",
            key="diagnosis.decompose",
        )
    refused = personal.ALGORITHM.refuses if personal.ALGORITHM else {}
    if mode in refused:
        raise InputError(
            f"{mode} does not go with personal.kind {kind}: {refused[mode]}",
            key="server.schedule.mode",
        )
    if not personal.shared_model:
        for key in ("accuracy", "loss", "patience"):
            if getattr(config.stop, key) is not None:
                raise InputError(
                    f"watches the server's model, which with personal.kind {kind} nobody uses; "
                    "use virtual_time_s or bytes",
                    key=f"stop.{key}",
                )
    if found := personal.conflict(config):
        raise InputError(f"{found[1]} (personal.kind {kind})", key=found[0])


def _check_devices(devices: schema.Devices) -> None:
    for key, distribution in _distributions(devices, "devices"):
        low = getattr(distribution, "low", None)
        if low is not None and low > distribution.high:
            raise InputError(
                f"must be at least low {low:g}, not {distribution.high:g}", key=f"{key}.high"
            )
        rate = key == "devices.compute" or key.endswith("_per_s")
        if rate and (low == 0 or getattr(distribution, "value", None) == 0):
            name = "low" if low == 0 else "value"
            raise InputError("a rate must be > 0, not 0", key=f"{key}.{name}")


def _distributions(record: Any, path: str) -> Iterator[tuple[str, Any]]:
    for entry in fields(record):
        value = getattr(record, entry.name)
        if is_dataclass(value):
            yield f"{path}.{entry.name}", value
            yield from _distributions(value, f"{path}.{entry.name}")


def regression(config: schema.Config) -> bool:
    """Whether the configuration alone says so; a table's labels may still turn out numeric."""
    return _numeric_labels(config) or isinstance(config.model, schema.LinearModel)


def _numeric_labels(config: schema.Config) -> bool:
    regressions = ("linear_regression", "diabetes")
    return config.data.source in regressions or getattr(config.data, "task", "") == "regression"
