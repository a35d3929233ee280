"""Single files of a folder of results; what is broken is said in one line that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedray.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises `InputError`, like all here."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error


def read_findings(path: Path) -> dict[str, Any]:
    """A JSON file that holds a mapping."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds no findings")
    return found


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; empty where it holds something else."""
    import yaml

    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=fast_loader())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise unreadable(path, error) from error
    return content if isinstance(content, dict) else {}


def read_rows(path: Path, schema: pa.Schema | None = None) -> pa.Table:
    """A table, as `tables.read_table` reads it."""
    import pyarrow as pa

    from fedray.report.tables import read_table

    try:
        return read_table(path, schema)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from error


def fast_loader() -> Any:
    """The safe loader, the fast one where PyYAML was built with libyaml."""
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def unreadable(path: Path, error: Exception) -> InputError:
    """One line about a file that is broken."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"{path}: cannot be read: {reason[:200]}")
