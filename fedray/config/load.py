"""From a file and overrides to a checked `schema.Config`, and back to YAML.

Only explicit values are layered: the preset of `algorithm` < the file < overrides; what
nobody sets has the default of the schema. See `layers` for how they merge.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, make_dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, cast

from fedray.config import checks, layers, presets, problems, schema
from fedray.config.layers import Tree
from fedray.config.text import parse, write
from fedray.config.tree import Key
from fedray.errors import InputError, nearest
from fedray.parts.attacks.base import SHARE, ByClients
from fedray.parts.imported import is_path, method_class
from fedray.parts.methods.base import Method

Source = Path | str | Mapping[str, Any] | None


@dataclass(frozen=True)
class Loaded:
    """A configuration, what the user set of it, and what is worth saying about it.

    All files in `config` are absolute. `explicit` holds the file's and the overrides'
    settings, without the preset's. `base_dir` is the folder of the file (without a file the
    current one). `notes` are lines for the user, e.g. on settings that an override replaced.
    """

    config: schema.Config
    explicit: Tree
    base_dir: Path
    notes: list[str] = field(default_factory=list)


def load(source: Source, overrides: Mapping[str, Any] | Sequence[str] = ()) -> Loaded:
    """Reads, merges and checks a configuration.

    `source`: a path, YAML text (a string with a line break), a mapping, or None for the
    packaged quickstart. `overrides`: `{"client.lr": 0.1}` or `["client.lr=0.1"]`; files
    named there are seen from the current folder, those in a file from the file's folder.
    Raises InputError, one line, with the key as the user writes it.
    """
    tree, base = read(source)
    high = layers.absolute_paths(plain(layers.overrides_tree(overrides)), Path.cwd())
    if "sweep" in {**tree, **high}:
        raise InputError(f"makes this a sweep; run it with: {_sweeping(source)}", key="sweep")
    low = layers.absolute_paths(layers.without_empty(tree), base)
    config, explicit, notes = _settle(_preset({**low, **high}), low, high)
    checks.check(config)
    return Loaded(config, explicit, base, [*notes, *_overruled(low, high)])


def dump(config: schema.Config) -> str:
    """The resolved configuration as YAML: every key, files absolute.

    `load(dump(c)).config == c` for every c that `load` returned.
    """
    return write(as_tree(config))


def as_tree(config: schema.Config) -> Tree:
    """The resolved configuration as plain mappings and lists."""
    tree: Tree = json.loads(json.dumps(asdict(config)))
    if config.client.steps is not None:
        del tree["client"]["epochs"]  # steps count instead of epochs; both would contradict
    if getattr(config.server.schedule, "every_s", None) is not None:
        del tree["server"]["schedule"]["buffer_size"]  # likewise
    return tree


def read(source: Source) -> tuple[Tree, Path]:
    """What a source says, as it is written, and the folder that its files are relative to."""
    if source is None:
        text = resources.files("fedray.config").joinpath("quickstart.yaml").read_text("utf-8")
        return _mapping(parse(text, "quickstart"), "quickstart"), Path.cwd()
    if isinstance(source, Mapping):
        return plain(dict(source)), Path.cwd()
    if isinstance(source, str) and "\n" in source:
        return _mapping(parse(source, "text"), "text"), Path.cwd()
    path = Path(source).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file{_nearest_file(path)}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not text, so not a configuration") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    return _mapping(parse(text, str(path)), str(path)), path.resolve().parent


def _sweeping(source: Source) -> str:
    named = isinstance(source, Path | str) and "\n" not in str(source)
    return f"fedray sweep {shlex.quote(str(source))}" if named else "fedray.sweep(...)"


def _nearest_file(path: Path) -> str:
    folder = path.parent
    return nearest(path.name, [p.name for p in folder.iterdir()]) if folder.is_dir() else ""


def _mapping(value: Any, name: str) -> Tree:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(
            f"{name}: a configuration is a mapping of keys, not {type(value).__name__}"
        )
    return value


def plain(tree: Mapping[str, Any]) -> Tree:
    """A Python mapping as what JSON has: paths become text, tuples lists, arrays numbers."""

    def convert(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value)
        if hasattr(value, "tolist"):
            return value.tolist()
        raise InputError(f"{value!r} is not a value that a configuration can hold")

    try:
        plain: Tree = json.loads(json.dumps(tree, default=convert))
    except (TypeError, ValueError) as error:
        raise InputError(f"not a configuration: {error}") from None
    return plain


def _settle(preset: Tree, low: Tree, high: Tree) -> tuple[schema.Config, Tree, list[str]]:
    """The configuration, the explicit settings, and notes, once nothing in it is idle.

    A setting without effect is an error, unless an override made it so: then it goes, with a
    note, instead of standing in the way of the override.
    """
    dropped: list[str] = []
    while True:
        notes: list[str] = []
        explicit = layers.merge(low, high, notes)
        config = _resolve(preset, explicit)
        idle = checks.idle(config)
        if idle is None:
            return config, explicit, notes + dropped
        key, reason = idle
        if layers.get(low, key) is not None and _only_idle_with(low, high, key):
            low = layers.remove(low, key)
        elif layers.get(explicit, key) is None and key.startswith("server."):
            preset = layers.remove(preset, key)
        elif layers.get(explicit, key) is None:
            raise InputError(f"{reason}; algorithm {config.algorithm} sets it", key=key)
        else:
            raise InputError(reason, key=key)
        dropped.append(f"{key}: dropped, it {reason}")


def _preset(explicit: Tree) -> Tree:
    name = explicit.get("algorithm", "fedavg")
    return dict(presets.find(name).values) if isinstance(name, str) else {}


def _resolve(preset: Tree, explicit: Tree) -> schema.Config:
    """The configuration that explicit settings over a preset stand for."""
    tree = layers.fill_tags(layers.merge(preset, explicit))
    checks.alternatives(tree)
    return _with_defaults(_validate(tree))


def _validate(tree: Tree) -> schema.Config:
    from pydantic import ValidationError

    method = tree.get("method") or {}
    own = isinstance(method, dict) and is_path(method.get("kind"))
    rest = {key: value for key, value in tree.items() if key != "method"} if own else tree
    try:
        config: schema.Config = _adapter().validate_json(json.dumps(rest), strict=True)
    except ValidationError as error:
        raise problems.from_pydantic(error.errors(include_url=False)) from None
    return replace(config, method=_own_method(method)) if own else config


def _own_method(tree: Tree) -> Method:
    """A user's own method, by import path, with its parameters checked like any other's."""
    from pydantic import TypeAdapter, ValidationError

    record = method_class(tree["kind"], key="method.kind")
    shape = make_dataclass("Own", [("method", record)])
    try:
        text = json.dumps({"method": tree})
        return cast(Method, TypeAdapter(shape).validate_json(text, strict=True).method)
    except ValidationError as error:
        top = Key(name="", doc="", annotation=shape, default=None, record=shape)
        raise problems.from_pydantic(error.errors(include_url=False), top) from None


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(schema.Config)


def _with_defaults(config: schema.Config) -> schema.Config:
    """Writes out the defaults that depend on what else is set."""
    partition, devices, attack = config.partition, config.devices, config.attack
    if isinstance(attack, ByClients) and attack.share is None and attack.clients is None:
        config = replace(config, attack=replace(attack, share=SHARE))
    if isinstance(partition, schema.DirichletPartition) and partition.severity is None:
        alpha = schema.DEFAULT_ALPHA if partition.alpha is None else partition.alpha
        config = replace(config, partition=replace(partition, alpha=alpha))
    if config.clock == "virtual" and devices.table is None and devices.duration is None:
        compute = schema.DEFAULT_COMPUTE if devices.compute is None else devices.compute
        network = schema.Network() if devices.network is None else devices.network
        config = replace(config, devices=replace(devices, compute=compute, network=network))
    return config


def _only_idle_with(low: Tree, high: Tree, key: str) -> bool:
    """Whether it is the overrides that take the effect from a key of the file."""
    if not high or layers.get(high, key) is not None:
        return False
    try:
        idle = checks.idle(_resolve(_preset(low), low))
    except InputError:
        return False
    return idle is None or idle[0] != key


def _overruled(low: Tree, high: Tree) -> list[str]:
    """Settings of the file that stand against the preset of an overriding algorithm."""
    name = high.get("algorithm")
    if name is None or name == low.get("algorithm", "fedavg"):
        return []
    return [
        f"algorithm {name}: the file keeps {key} {own} ({name} has {value})"
        for key, value in presets.leaves(presets.find(name).values)
        if (own := layers.get(low, key)) not in (None, value) and layers.get(high, key) is None
    ]
