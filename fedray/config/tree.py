"""The schema as a tree that can be walked: keys, variants, and what a value may be."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

from fedray.config.schema import Config
from fedray.parts.fields import Doc, Duration, OneOf, OrWord
from fedray.parts.imported import is_path, method_class


@dataclass(frozen=True)
class Key:
    """One key of a record.

    A plain value has neither `record` nor `variants`. A mapping has a `record`, or, where
    the value of the key `tag` chooses between several, `variants` by that value.
    """

    name: str
    doc: str
    annotation: Any
    default: Any = MISSING
    optional: bool = False
    record: type | None = None
    tag: str | None = None
    variants: Mapping[str, type] = field(default_factory=dict)
    word: bool = False
    """Whether the value of `tag` alone will do."""

    @property
    def required(self) -> bool:
        return self.default is MISSING

    @property
    def nested(self) -> bool:
        return self.record is not None or self.tag is not None

    @property
    def default_variant(self) -> str | None:
        return None if self.tag is None else getattr(self.default, self.tag, None)

    def record_for(self, tag: object) -> type | None:
        """The record that holds this key's own keys, given the value of `tag`."""
        if self.tag is None:
            return self.record
        if self.name == "method" and is_path(tag):
            return method_class(str(tag), key="method.kind")
        return self.variants.get(tag) if isinstance(tag, str) else None


@cache
def keys(record: type) -> Mapping[str, Key]:
    """The keys of a record by name, in the order of the reference page."""
    hints = get_type_hints(record, include_extras=True)
    return {each.name: _key(each.name, hints[each.name], _default(each)) for each in fields(record)}


def root() -> Key:
    """The whole configuration as one key without a name."""
    return Key(name="", doc="", annotation=Config, default=None, record=Config)


def _default(of: Any) -> Any:
    return of.default_factory() if of.default_factory is not MISSING else of.default


def _key(name: str, annotation: Any, default: Any) -> Key:
    inner, metadata, optional = annotation, [], False
    while True:
        if get_origin(inner) is Annotated:
            inner, *extra = get_args(inner)
            metadata += extra
        elif _is_union(inner) and type(None) in get_args(inner):
            optional, inner = True, _without_none(inner)
        else:
            break
    doc = next((note.text for note in metadata if isinstance(note, Doc)), "")
    tag = next((note.key for note in metadata if isinstance(note, OneOf)), None)
    key = Key(name=name, doc=doc, annotation=annotation, default=default, optional=optional)
    if tag is not None:
        word = any(isinstance(note, OrWord) for note in metadata)
        return _with(key, tag=tag, variants=_variants(inner, tag), word=word)
    return _with(key, record=inner) if is_dataclass(inner) else key


def _with(key: Key, **changes: Any) -> Key:
    return Key(**{**key.__dict__, **changes})


def _variants(union: Any, tag: str) -> Mapping[str, type]:
    found = {}
    for record in get_args(union):
        for value in get_args(get_type_hints(record)[tag]):
            found[value] = record
    return found


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _without_none(annotation: Any) -> Any:
    return Union[tuple(a for a in get_args(annotation) if a is not type(None))]  # noqa: UP007


def locate(name: str) -> Iterator[str]:
    """Every dotted place in the schema where a key of that name exists, outermost first."""
    queue: list[tuple[str, type]] = [("", Config)]
    seen: set[str] = set()
    while queue:
        path, record = queue.pop(0)
        for key in keys(record).values():
            place = f"{path}.{key.name}" if path else key.name
            if key.name == name and place not in seen:
                seen.add(place)
                yield place
            below = [key.record] if key.record else list(dict.fromkeys(key.variants.values()))
            queue += [(place, child) for child in below if child is not None]


_NAMES = {int: "an integer", float: "a number", str: "text", bool: "true or false"}
_NULL = " or null"
_SIGNS = ((Ge, "ge", ">="), (Gt, "gt", ">"), (Le, "le", "<="), (Lt, "lt", "<"))


def choices(annotation: Any) -> list[str]:
    """The fixed words that a value may be."""
    if get_origin(annotation) is Literal:
        return [str(word) for word in get_args(annotation)]
    if get_origin(annotation) is Annotated or _is_union(annotation):
        parts = get_args(annotation)[:1] if get_origin(annotation) is Annotated else None
        return [word for part in parts or get_args(annotation) for word in choices(part)]
    return []


def allowed(key: Key) -> str:
    """What a value of this key may be, in words: 'an integer >= 1 or full'."""
    if key.tag is not None:
        words = f"a mapping with {key.tag}: {', '.join(key.variants)}"
    elif key.record is not None:
        words = "a mapping of keys"
    else:
        return _words(key.annotation)
    return f"{words}, or null" if key.optional else words


def _words(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        if any(isinstance(note, Duration) for note in metadata):
            return Duration.words
        bounds = [
            f"{sign} {getattr(note, name)}"
            for note in metadata
            for kind, name, sign in _SIGNS
            if isinstance(note, kind)
        ]
        words, null = _words(inner).removesuffix(_NULL), _words(inner).endswith(_NULL)
        return " ".join([words, *([" and ".join(bounds)] if bounds else [])]) + _NULL * null
    if origin is Literal:
        fixed = [str(word) for word in get_args(annotation)]
        return fixed[0] if len(fixed) == 1 else f"one of {', '.join(fixed)}"
    if _is_union(annotation):
        parts = [_words(part) for part in get_args(annotation) if part is not type(None)]
        return " or ".join(parts) + _NULL * (type(None) in get_args(annotation))
    if origin is tuple:
        item = _words(get_args(annotation)[0])
        return f"a list of {item.replace('an integer', 'integers').replace('a number', 'numbers')}"
    return "a mapping" if origin is dict else _NAMES[annotation]
