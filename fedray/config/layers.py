"""Layers of settings and how a higher one lies over a lower one.

Mappings merge key by key. Two rules keep a layer from contradicting the one below:

- Where one key chooses between variants (`mode`, `kind`, `scheme`, `source`), a higher
  layer that chooses anew drops the lower layer's keys that the new variant lacks.
- Of alternatives (`client.epochs` or `client.steps`), the higher layer's choice counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from fedray.config.text import parse
from fedray.config.tree import Key, keys, root
from fedray.errors import InputError

Tree = dict[str, Any]

ALTERNATIVES: Mapping[str, tuple[frozenset[str], ...]] = {
    "client": (frozenset({"epochs"}), frozenset({"steps"})),
    "partition": (frozenset({"alpha"}), frozenset({"severity"})),
    "privacy": (frozenset({"noise_multiplier"}), frozenset({"target_epsilon"})),
    "attack": (frozenset({"share"}), frozenset({"clients"})),
    "server.schedule": (frozenset({"buffer_size"}), frozenset({"every_s"})),
    "devices": (
        frozenset({"table"}),
        frozenset({"duration"}),
        frozenset({"compute", "network"}),
    ),
}
PATHS = ("data.path", "data.test_path", "devices.table", "devices.availability.path")
ENDINGS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".npz": "npz"}


def overrides_tree(overrides: Mapping[str, Any] | Sequence[str]) -> Tree:
    """Dotted overrides as one tree of its own; of two for the same key, the later counts.

    `{"partition.alpha": 0.1}`, or `["partition.alpha=0.1"]` with values in YAML.
    """
    if isinstance(overrides, str):
        overrides = [overrides]
    pairs = overrides.items() if isinstance(overrides, Mapping) else map(_pair, overrides)
    tree: Tree = {}
    for key, value in pairs:
        below = tree
        *above, last = key.split(".")
        for name in above:
            if not isinstance(below.get(name), dict):
                below[name] = {}
            below = below[name]
        below[last] = over(below.get(last), deepcopy(value))
    return tree


def over(low: Any, high: Any) -> Any:
    """Overrides `high` over overrides `low`; of two for the same key, the higher counts."""
    if not (isinstance(low, dict) and isinstance(high, dict)):
        return high
    return {**low, **{name: over(low.get(name), value) for name, value in high.items()}}


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        raise InputError(f"--set {text!r}: write it as KEY=VALUE, e.g. --set client.lr=0.1")
    return key, parse(value, f"--set {key}")


def merge(low: Tree, high: Tree, notes: list[str] | None = None) -> Tree:
    """`high` over `low`. What is lost of `low` by that is said in `notes`.

    Without `notes`, `low` is a preset: nothing of it outlives a change of the variant.
    """
    return _merge(root(), low, high, "", notes)


def _merge(key: Key, low: Tree, high: Tree, path: str, notes: list[str] | None) -> Tree:
    tag = None
    if key.tag:
        named = key.tag in high
        tag = high[key.tag] if named else _implied(key, low, high, path)
        if isinstance(tag, str):
            low = _switch(key, low, tag, path, notes, named=named)
            high = {key.tag: tag, **high}
        else:
            tag = tag_of(key, low, path)
    low = _without_alternatives(low, high, path, notes)
    merged = dict(low)
    record = key.record_for(tag)
    below = keys(record) if record else {}
    for name, value in high.items():
        child, old = below.get(name), low.get(name)
        if child and child.word and isinstance(value, str):
            value = {child.tag: value}
        if child and child.nested and isinstance(old, dict) and isinstance(value, dict):
            merged[name] = _merge(child, old, value, _join(path, name), notes)
        else:
            merged[name] = value
    return merged


def _implied(key: Key, low: Tree, high: Tree, path: str) -> str | None:
    """The variant that `high` chooses without naming it: by a file's ending, or by `alpha`."""
    if path == "data":
        return _by_ending(high)
    lower = key.record_for(tag_of(key, low, path))
    if path == "partition" and lower and "alpha" in high and "alpha" not in keys(lower):
        return "dirichlet"
    return None


def _switch(
    key: Key, low: Tree, tag: str, path: str, notes: list[str] | None, *, named: bool
) -> Tree:
    """The part of `low` that still means something once the variant is `tag`."""
    old, record = tag_of(key, low, path), key.record_for(tag)
    if record is None or tag == old or not low:
        return low
    if notes is None:
        return {}
    everywhere = {name for variant in key.variants.values() for name in keys(variant)}
    dropped = [name for name in low if name in everywhere - set(keys(record))]
    was = f" replaces {old}" if old else ""
    loss = f"; dropped {', '.join(dropped)}" if dropped else ""
    if loss or (was and not named):
        notes.append(f"{path}: {key.tag} {tag}{was}{loss}")
    return {name: value for name, value in low.items() if name not in dropped}


def _without_alternatives(low: Tree, high: Tree, path: str, notes: list[str] | None) -> Tree:
    groups = ALTERNATIVES.get(path, ())
    chosen = [group for group in groups if any(high.get(name) is not None for name in group)]
    if not chosen:
        return low
    others = frozenset().union(*groups) - frozenset().union(*chosen)
    lost = [name for name in low if name in others and low[name] is not None]
    if lost and notes is not None:
        notes.append(
            f"{path}: {', '.join(n for g in chosen for n in high if n in g)} "
            f"replaces {', '.join(lost)}"
        )
    return {name: value for name, value in low.items() if name not in others}


def tag_of(key: Key, tree: Tree, path: str) -> str | None:
    """Which variant a mapping means: the one it names, or else the only one that it fits.

    The variant that is the key's default comes first; None where nothing fits.
    """
    assert key.tag is not None
    if key.tag in tree:
        return tree[key.tag] if isinstance(tree[key.tag], str) else None
    if path == "data" and (by_ending := _by_ending(tree)):
        return by_ending
    if not tree:
        return None
    fitting = [tag for tag, record in key.variants.items() if set(tree) <= set(keys(record))]
    if key.default_variant in fitting:
        return key.default_variant
    return fitting[0] if len(fitting) == 1 else None


def _by_ending(data: Tree) -> str | None:
    path = data.get("path")
    if "source" in data or not isinstance(path, str):
        return None
    name = Path(path).name.lower().removesuffix(".gz")
    return ENDINGS.get(Path(name).suffix)


def fill_tags(tree: Tree) -> Tree:
    """Names every variant that was left to be understood."""
    filled = _fill(root(), tree, "")
    data, partition = filled.get("data", {}), filled.get("partition")
    if isinstance(data, dict) and not partition:
        if data.get("client_column") or data.get("source") in ("synthetic", "linear_regression"):
            filled["partition"] = {"scheme": "natural"}
        elif data.get("source") == "diabetes" or data.get("task") == "regression":
            filled["partition"] = {"scheme": "iid"}
        elif partition == {}:
            filled["partition"] = {"scheme": "dirichlet"}
    return filled


def _fill(key: Key, tree: Tree, path: str) -> Tree:
    filled = dict(tree)
    if key.tag and key.tag not in tree and (tree or path != "partition"):
        tag = tag_of(key, tree, path) or key.default_variant
        filled = {key.tag: tag, **tree} if tag else filled
    record = key.record_for(filled.get(key.tag) if key.tag else None)
    for name, child in (keys(record) if record else {}).items():
        if child.nested and isinstance(filled.get(name), dict):
            filled[name] = _fill(child, filled[name], _join(path, name))
    return filled


def without_empty(tree: Tree) -> Tree:
    """A file's `devices:` with nothing below it means no settings, not null."""
    return _without_empty(root(), tree)


def _without_empty(key: Key, tree: Tree) -> Tree:
    records = [key.record] if key.record else list(key.variants.values())
    nested = {name: child for record in records if record for name, child in keys(record).items()}
    result: Tree = {}
    for name, value in tree.items():
        child = nested.get(name)
        if child and child.nested and isinstance(value, dict):
            result[name] = _without_empty(child, value)
        elif not (child and child.nested and not child.optional and value is None):
            result[name] = value
    return result


def absolute_paths(tree: Tree, base: Path) -> Tree:
    """The tree with every file that it names as an absolute path, seen from `base`."""
    for dotted in PATHS:
        value = get(tree, dotted)
        if isinstance(value, str) and value:
            tree = _set(tree, dotted.split("."), str((base / Path(value).expanduser()).resolve()))
    return tree


def get(tree: Any, dotted: str, default: Any = None) -> Any:
    """The value at a dotted key, or `default` where there is none."""
    for name in dotted.split("."):
        if not isinstance(tree, dict) or name not in tree:
            return default
        tree = tree[name]
    return tree


def leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The dotted keys of all values that are no mappings."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, _join(path, name))
        else:
            yield _join(path, name)


def remove(tree: Tree, dotted: str) -> Tree:
    """The tree without the value at a dotted key."""
    name, _, rest = dotted.partition(".")
    if rest and isinstance(tree.get(name), dict):
        return {**tree, name: remove(tree[name], rest)}
    return {key: value for key, value in tree.items() if key != name or rest}


def _set(tree: Tree, names: list[str], value: Any) -> Tree:
    name, *rest = names
    return {**tree, name: _set(tree[name], rest, value) if rest else value}


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
