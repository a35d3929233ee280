"""Parts that users bring along, by import path."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from fedray.errors import InputError, nearest
from fedray.parts.methods.base import Method


def is_path(name: object) -> bool:
    """Whether a name is an import path, `package.module:Class`, instead of a part's own name."""
    return isinstance(name, str) and ":" in name


def method_class(path: str, *, key: str) -> type[Method]:
    """The class at `package.module:Class`, also of a module in the current folder.

    Raises InputError for `key` where it can not be imported or is no `Method`.
    """
    module, _, name = path.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # as `python -m` has it, so that workers find it there too
        sys.path.append(here)
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"cannot import {module!r} of {path!r}: {error}", key=key) from None
    except Exception as error:
        raise InputError(
            f"importing {module!r} failed: {type(error).__name__}: {error}", key=key
        ) from None
    part = getattr(found, name, None)
    if part is None:
        raise InputError(f"{module} has no {name!r}{nearest(name, vars(found))}", key=key)
    if not (isinstance(part, type) and issubclass(part, Method)):
        raise InputError(
            f"{path!r} is no method: it must be a subclass of fedray.parts.methods.base.Method",
            key=key,
        )
    return part
