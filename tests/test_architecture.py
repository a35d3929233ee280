"""The layout is a promise: imports point one way, and files stay small enough to read."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import fedray

ROOT = Path(fedray.__file__).parent
LONGEST_FILE = 400

_BASE = {"types", "rng", "errors", "endings", "parts", "config.schema"}
_COMPUTING = {*_BASE, "data", "models", "learning"}
_OF_REPORT = {"report.tables", "report.run", "report.figures"}
"""Reading run folders, and how falls are found: neither draws nor writes a page."""

LAYERS: dict[str, set[str]] = {
    "types": set(),
    "errors": set(),
    "endings": set(),
    "rng": set(),
    "parts": {"types", "errors", "rng"},
    "config.schema": {"parts"},
    "config": {"types", "errors", "parts", "config.schema"},
    "report": {"types", "errors"},
    "data": _BASE,
    "models": _BASE,
    "learning": {*_BASE, "models"},
    "simulation": {*_COMPUTING, "report.tables"},
    "diagnosis": {*_COMPUTING, "config", "simulation", *_OF_REPORT},
    "distributed": {*_COMPUTING, "config", "simulation", "report.tables"},
    "api": {*_COMPUTING, "config", "report", "simulation", "diagnosis", "distributed"},
    "cli": {*_COMPUTING, "config", "report", "simulation", "diagnosis", "distributed", "api"},
    "__main__": {"cli"},
}
"""Who may import whom, from the ground up: every layer names only layers above it here."""

OWNERS = {"ray": "distributed", "click": "cli", "rich": "cli"}
"""Libraries that one package alone may import."""

HEAVY = (
    "click", "matplotlib", "numpy", "pandas", "plotly", "pyarrow", "pydantic", "ray", "rich",
    "scipy", "sklearn", "yaml",
)  # fmt: skip


def modules() -> dict[str, Path]:
    """Every module of the package by its name without `fedray.`; the package itself is ''."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Dotted names of all that a file imports, wherever in the file it does so."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    statements: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while statements:  # which is faster than ast.walk, as no expression imports
        node = statements.pop()
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            statements.extend(getattr(node, part, ()))
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(name: str) -> str | None:
    """The module of fedray that an imported name is, or lives in; None for other packages."""
    if name.partition(".")[0] != "fedray":
        return None
    name = name.partition(".")[2]
    while name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def within(module: str, layers: set[str]) -> str | None:
    """The most specific of `layers` that holds `module`."""
    while module and module not in layers:
        module = module.rpartition(".")[0]
    return module or None


def test_the_layers_have_an_order() -> None:
    order = list(LAYERS)
    for layer, below in LAYERS.items():
        known = {*order[: order.index(layer)], *_OF_REPORT}
        assert below <= known, f"{layer} would import what is not below it: {below - known}"


def test_every_module_belongs_to_a_layer() -> None:
    assert [m for m in MODULES if m and within(m, set(LAYERS)) is None] == []


def test_imports_point_one_way() -> None:
    wrong = []
    for module, path in MODULES.items():
        layer = within(module, set(LAYERS))
        if layer is None:
            continue  # the package itself
        for target in filter(None, map(ours, imports(path))):
            same = within(target, set(LAYERS)) == layer
            if not same and within(target, LAYERS[layer]) is None:
                wrong.append(f"fedray.{module} imports fedray.{target}; {layer} may not")
    assert wrong == []


def test_the_package_itself_only_names_what_it_offers() -> None:
    offered = {"api", "errors", "report.run", "report.diagnosis", "report.sweep"}
    named = {ours(name) for name in imports(MODULES[""])} - {None}
    assert [name for name in named if name and within(name, offered) is None] == []


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_has_one_owner(library: str) -> None:
    users = {
        module.partition(".")[0]
        for module, path in MODULES.items()
        for name in imports(path)
        if name.partition(".")[0] == library
    }
    assert users == {OWNERS[library]}


def test_a_file_can_be_read_in_one_go() -> None:
    too_long = {}
    for path in MODULES.values():
        name = path.relative_to(ROOT).as_posix()
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > LONGEST_FILE:
            too_long[name] = lines
    assert too_long == {}


@pytest.mark.parametrize(
    ("what", "allowed"),
    [
        ("fedray", ()),
        ("fedray.config.schema", ("numpy",)),
        ("fedray.learning.work, fedray.data.shards, fedray.models.mlp", ("numpy",)),
    ],
)
def test_importing_is_cheap(what: str, allowed: tuple[str, ...]) -> None:
    code = f"import sys, {what}; print(*(m for m in {HEAVY} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= set(allowed)
