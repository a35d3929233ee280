"""What goes to a cluster with a job: fedray itself, the request, and the user's files.

Ray takes folders, unpacks them on every node that takes part and puts them on the path of
Python there: `fedray` and `fedray_files` as packages of their own, which are not sent again
while they stay the same, and a working folder with the request and the user's modules.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fedray
from fedray.api.job import REQUEST
from fedray.config import schema
from fedray.config.layers import PATHS
from fedray.data.shipped import INDEX, PACKAGE
from fedray.errors import InputError

MOST_BYTES = 100 * 2**20
"""What Ray takes at a time (GCS_STORAGE_MAX_SIZE), compressed; held in the head's memory."""
_NOT_SENT = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def files_of(configs: Sequence[schema.Config], more: Sequence[str] = ()) -> dict[str, Path]:
    """Local files and folders that configurations name, by the key that names each first.

    more: others, which a search may draw.
    """
    found: dict[str, Path] = {f"sweep.search ({value})": Path(value) for value in more}
    for config in configs:
        for key in PATHS:
            value = _get(config, key)
            if value is not None and "://" not in value and Path(value) not in found.values():
                found.setdefault(key if key not in found else f"{key} ({value})", Path(value))
    return found


def _get(record: Any, key: str) -> Any:
    for name in key.split("."):
        known = is_dataclass(record) and name in {field.name for field in fields(record)}
        record = getattr(record, name) if known else None
    return record


def check_modules(modules: Sequence[Path]) -> None:
    """Raises InputError for what is no module: a .py file, or the folder of a package."""
    for path in modules:
        named = path.stem if path.suffix == ".py" else path.name
        if not path.exists():
            raise InputError(f"{path}: no such file or folder", key="--module")
        if not (path.is_dir() or path.suffix == ".py") or not path.resolve().name:
            raise InputError(f"{path} is neither a .py file nor a package's folder", key="--module")
        if path.is_file() and not named.isidentifier():
            raise InputError(f"{path}: {named!r} cannot be imported by that name", key="--module")
        if path.resolve().stem in ("fedray", PACKAGE):
            raise InputError(f"{path} would stand in the way of fedray's own", key="--module")


@contextmanager
def packed(
    request: Mapping[str, Any], files: Mapping[str, Path], modules: Sequence[Path]
) -> Iterator[dict[str, Any]]:
    """Ray's `working_dir` and `py_modules`, as folders that last as long as the block.

    Raises InputError where it would be more than Ray takes.
    """
    with TemporaryDirectory(prefix="fedray-submit-") as name:
        root = Path(name)
        work = root / "work"
        work.mkdir()
        (work / REQUEST).write_text(json.dumps(request), encoding="utf-8")
        for module in modules:
            _copy(module.resolve(), work / module.resolve().name)
        _check_size(work, "--module")
        packages = [own_package(root)]
        if files:
            packages.append(_files(files, root / PACKAGE))
        yield {"working_dir": str(work), "py_modules": [str(path) for path in packages]}


def own_package(root: Path) -> Path:
    """A copy of fedray as it runs here, below `root`."""
    return _copy(Path(fedray.__file__).parent, root / "fedray")


def _files(files: Mapping[str, Path], package: Path) -> Path:
    package.mkdir()
    (package / "__init__.py").write_text("")
    index = {}
    for number, (key, path) in enumerate(files.items()):
        # The last part of a name keeps its spelling: messages and columns show it.
        index[str(path)] = f"{number}/{path.name}"
        (package / str(number)).mkdir()
        try:
            _copy(path, package / str(number) / path.name)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}", key=key) from error
        _check_size(package, key)
    (package / INDEX).write_text(json.dumps(index), encoding="utf-8")
    return package


def _copy(path: Path, to: Path) -> Path:
    if path.is_dir():
        shutil.copytree(path, to, ignore=_NOT_SENT)
    else:
        shutil.copyfile(path, to)
    return to


def _check_size(folder: Path, key: str) -> None:
    nbytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if nbytes > MOST_BYTES:
        raise InputError(
            f"{nbytes / 2**20:,.0f} MiB are more than the {MOST_BYTES / 2**20:.0f} MiB that a Ray "
            "cluster takes with a job; put them on storage that the cluster's nodes share, and "
            "say --shared",
            key=key,
        )
