"""Records in a job's log, told from whatever else is printed there.

A record is a JSON text sequence's (RFC 7464): the character RS, an object, a line feed. No
print of anybody begins with RS. Only the standard library is needed, by any Python 3: a
record may have to say that all else is missing.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import Any

RS = "\x1e"


def write(record: Mapping[str, Any]) -> None:
    """Puts a record on standard output, in one piece."""
    text = json.dumps(_finite(record), allow_nan=False)
    sys.stdout.write(f"{RS}{text}\n")
    sys.stdout.flush()


def _finite(value: Any) -> Any:
    """JSON has no NaN: what is not finite arrives as none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, (list, tuple)) else value


def read(line: str) -> tuple[str, dict[str, Any] | None]:
    """What else is in a line, and its record if there is one."""
    text, mark, record = line.partition(RS)
    if mark:
        try:
            found = json.loads(record)
        except ValueError:
            return line, None
        if isinstance(found, dict):
            return text, found
    return line, None
