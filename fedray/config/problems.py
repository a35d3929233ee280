"""What is wrong with a configuration, as one line in the user's own keys."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fedray.config.tree import Key, allowed, choices, keys, locate, root
from fedray.errors import InputError, nearest


def from_pydantic(errors: Sequence[Any], top: Key | None = None) -> InputError:
    """The first of pydantic's errors; unknown keys first, as they explain missing ones.

    `top`: what was validated, if not a whole configuration.
    """
    top = top or root()
    ordered = sorted(errors, key=lambda error: error["type"] != "unexpected_keyword_argument")
    found: dict[str, InputError] = {}
    for error in ordered:
        problem = _problem(error, top)
        found.setdefault(problem.key or "", problem)
    first, *rest = found.values()
    if not rest:
        return first
    return InputError(
        f"{str(first).removeprefix(f'{first.key}: ')} (and {len(rest)} more)", key=first.key
    )


def _problem(error: Any, top: Key) -> InputError:
    kind, location, value = error["type"], error["loc"], error["input"]
    if kind in _ABOUT_A_NAME:
        key, path, variant, _ = _walk(top, location[:-1])
        return _ABOUT_A_NAME[kind](key, path, variant, str(location[-1]))
    key, path, _, rest = _walk(top, location)
    if key.tag and isinstance(value, dict):
        name = f"{path}.{key.tag}"
        if key.tag not in value:
            return InputError(f"missing; one of {', '.join(key.variants)}", key=name)
        word = value[key.tag]
        hint = nearest(str(word), key.variants)
        return InputError(
            f"must be one of {', '.join(key.variants)}, not {show(word)}{hint}", key=name
        )
    if not path:
        return InputError(f"a configuration is a mapping of keys, not {show(value)}")
    if value in ("", [], {}) and not key.nested:
        return InputError("must not be empty", key=path)
    hint = nearest(value, choices(key.annotation)) if isinstance(value, str) else ""
    words = allowed(key).removesuffix(" or null").rstrip(",")
    if kind == "finite_number":
        words += " and finite"
    inside = f" at {_index(rest)}" if rest and not key.nested and _index(rest) else ""
    return InputError(f"must be {words}, not {show(value)}{inside}{hint}", key=path)


def _index(rest: Sequence[Any]) -> str:
    return "".join(f"[{part}]" for part in rest if isinstance(part, int))


def _walk(key: Key, location: Sequence[Any]) -> tuple[Key, str, str | None, Sequence[Any]]:
    """Follows pydantic's location as far as the schema goes; the rest is what it lacks.

    Returns the key, its dotted name, its variant if it has any, and the rest.
    """
    path, variant = "", None
    rest = list(location)
    while rest:
        if key.tag and variant is None:
            variant = str(rest.pop(0))
            continue
        record = key.record_for(variant) if key.tag else key.record
        child = keys(record).get(str(rest[0])) if record else None
        if child is None:
            break
        rest.pop(0)
        key, path, variant = child, f"{path}.{child.name}".lstrip("."), None
    return key, path, variant, rest


def _unknown(key: Key, path: str, variant: str | None, name: str) -> InputError:
    """An unknown key: where it belongs, or which key is nearest to it."""
    record = key.record_for(variant)
    known = keys(record) if record else {}
    full = f"{path}.{name}".lstrip(".")
    of = f" for {key.tag} {variant}" if key.tag else ""
    owners = [tag for tag, other in key.variants.items() if name in keys(other)]
    if owners:
        return InputError(f"unknown key{of}; it belongs to {key.tag} {', '.join(owners)}", key=full)
    hint = (
        "; keys are nested in a file, dots are for --set" if "." in name else nearest(name, known)
    )
    elsewhere = list(locate(name))
    if not hint and elsewhere:
        hint = f"; did you mean {' or '.join(repr(place) for place in elsewhere[:3])}?"
    return InputError(f"unknown key{of}{hint or f'; known are {_names(known)}'}", key=full)


def _names(known: Any) -> str:
    return ", ".join(known) or "none"


def _missing(key: Key, path: str, variant: str | None, name: str) -> InputError:
    record = key.record_for(variant)
    child = keys(record)[name] if record else None
    of = f" for {key.tag} {variant}" if key.tag else ""
    what = (child.doc or allowed(child)) if child else ""
    return InputError(f"missing{of}: {what}", key=f"{path}.{name}".lstrip("."))


_ABOUT_A_NAME = {"unexpected_keyword_argument": _unknown, "missing": _missing}


def show(value: Any) -> str:
    """A value as it may be named in a line."""
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
