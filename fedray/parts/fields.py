"""What a key of a configuration is made of: its meaning, its bounds, how variants are chosen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Union

from annotated_types import Ge, Gt, Le, Lt, MinLen


@dataclass(frozen=True)
class Doc:
    """One sentence on what a key means; becomes the JSON Schema's description."""

    text: str

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> Any:
        return {**handler(core), "description": self.text}


@dataclass(frozen=True)
class OneOf:
    """Marks a union of records that is chosen by the value of one key."""

    key: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic import Discriminator

        return Discriminator(self.key).__get_pydantic_core_schema__(source, handler)


def one_of(records: tuple[type, ...], key: str) -> Any:
    """The union of these records, chosen by the value of `key`."""
    return Annotated[Union[records], OneOf(key)]  # noqa: UP007


@dataclass(frozen=True)
class OrWord:
    """Marks a union of records that takes a word alone for {key: word}; see `config.layers`."""

    key: str

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> Any:
        found = handler(core)
        words = list(found.get("discriminator", {}).get("mapping", {}))
        return {"anyOf": [{"enum": words}, found]}


@dataclass(frozen=True)
class FalseIsOff:
    """Marks a key that takes `false` for the word off, which other YAML readers make of it."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(
            lambda value: "off" if value is False else value, handler(source)
        )


_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?) *(s|min|h)")


def seconds(text: str) -> float | None:
    """The seconds of a duration such as 30s, 5min or 1.5h; None for what is none, and for 0."""
    found = _DURATION.fullmatch(text)
    return float(found[1]) * _SECONDS[found[2]] or None if found else None


@dataclass(frozen=True)
class Duration:
    """Marks a text that is a duration, with its unit."""

    words: ClassVar[str] = "a duration > 0 such as 30s, 5min or 1h"

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import PydanticCustomError, core_schema

        def check(text: str) -> str:
            if seconds(text) is None:
                raise PydanticCustomError("duration", "not a duration")
            return text

        return core_schema.no_info_after_validator_function(check, handler(source))


class Strict:
    """A record that refuses keys it does not know, and numbers that are not finite."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}


Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Lt(1)]
Severity = Annotated[float, Ge(0), Le(1)]
Count = Annotated[int, Ge(1)]
Index = Annotated[int, Ge(0)]
Name = Annotated[str, MinLen(1)]
