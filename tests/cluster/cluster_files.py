"""Where the files of `cluster/` are, and the versions that they have to agree on."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fedray

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
DOCKERFILE = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")


def pinned_ray() -> str:
    """The version of Ray in the image."""
    [version] = re.findall(r"^ARG RAY_VERSION=(\S+)$", DOCKERFILE, re.MULTILINE)
    return version


def image() -> str:
    """The image that every file names."""
    return f"registry.example.com/fedray:{fedray.__version__}-ray{pinned_ray()}"


def changed(document: Any, path: Sequence[str | int], value: Any) -> Any:
    """A copy with one value set anew; None removes it."""
    document = copy.deepcopy(document)
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return document
