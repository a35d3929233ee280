"""YAML in, YAML out: strict, with the traps of YAML 1.1 taken out.

Words like on, off, yes and no stay words (only true and false are booleans), 1e-3 is a
number, 010 is ten, dates and 1:30 stay text. A key that is written twice is an error.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from fedray.errors import InputError

MAX_CHARACTERS = 256 * 1024
MAX_NODES = 100_000

_RESOLVERS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own class attribute)


class _FastLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The same, eight times as fast where PyYAML was built with libyaml."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Quotes whatever a reader of YAML 1.1 or 1.2 could take for something else than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _class in (_Loader, _FastLoader, _Dumper):
    for _tag, _pattern, _first in _RESOLVERS:
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), list(_first)
        )


def _integer(loader: Any, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node)).lower()
    base = 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10
    return int(text, base)


def _float(loader: Any, node: yaml.ScalarNode) -> float:
    text = str(loader.construct_scalar(node)).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


for _class in (_Loader, _FastLoader):
    _class.add_constructor("tag:yaml.org,2002:int", _integer)
    _class.add_constructor("tag:yaml.org,2002:float", _float)


def parse(text: str, name: str) -> Any:
    """The value that a YAML text stands for. `name` says in errors where it came from."""
    if len(text) > MAX_CHARACTERS:
        raise InputError(f"{name}: larger than {MAX_CHARACTERS // 1024} KiB, not a configuration")
    try:
        loader, node = _composed(text)
        if node is None:
            return None
        _check(node, name, {}, set())
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise InputError(f"{name}: {_place(error.problem_mark)}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{name}: not YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise InputError(f"{name}: nested too deeply") from None
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None


def _composed(text: str) -> tuple[Any, yaml.Node | None]:
    """A loader and the document that it found. Of a text that is no YAML, PyYAML's own parser
    says what is wrong, so that errors read the same with and without libyaml."""
    try:
        loader: Any = _FastLoader(text)
        return loader, loader.get_single_node()
    except yaml.YAMLError as error:
        if "nesting depth" in str(error):  # which PyYAML itself takes a second to find out
            raise RecursionError from None
        loader = _Loader(text)
        return loader, loader.get_single_node()


def write(value: Any) -> str:
    """A value as YAML that `parse` reads back exactly."""
    text: str = yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=100,
    )
    return text


def _place(mark: yaml.Mark | None) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else "at the end"


def _check(node: yaml.Node, name: str, sizes: dict[int, int], above: set[int]) -> int:
    """Number of values below a node with aliases written out; refuses bombs and double keys."""
    if id(node) in above:
        raise InputError(f"{name}: {_place(node.start_mark)}: an alias that contains itself")
    if id(node) in sizes:
        return sizes[id(node)]
    above.add(id(node))
    size = 1
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.tag.endswith(":merge"):
                size += _check(value, name, sizes, above)
                continue
            if not key.tag.endswith(":str"):
                word = getattr(key, "value", "")
                raise InputError(
                    f"{name}: {_place(key.start_mark)}: a key must be a word, not {word!r}"
                )
            if key.value in seen:
                raise InputError(f"{name}: {_place(key.start_mark)}: {key.value!r} is given twice")
            seen.add(key.value)
            size += _check(value, name, sizes, above)
    elif isinstance(node, yaml.SequenceNode):
        size += sum(_check(item, name, sizes, above) for item in node.value)
    above.discard(id(node))
    if size > MAX_NODES:
        raise InputError(f"{name}: more than {MAX_NODES} values once its aliases are written out")
    sizes[id(node)] = size
    return size
