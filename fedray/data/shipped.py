"""Files of a configuration that came along with a submitted job.

On a cluster the user's files lie elsewhere than the configuration says, which keeps the paths
as the user wrote them: so a run folder is the same, wherever the run was computed. What was
sent is a Python package (see `api.parcel`), because Ray unpacks those on every node that takes
part and puts them on the path of every process there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "fedray_files"
INDEX = "files.json"
"""In the package: paths as the configuration has them, and theirs in the package."""


def here(path: Path) -> Path:
    """Where a file or folder of the configuration is on this machine."""
    return _sent().get(str(path), path)


@cache
def _sent() -> Mapping[str, Path]:
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        return {}
    folder = Path(found.origin).parent
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    return {original: folder / name for original, name in index.items()}
