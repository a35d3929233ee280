"""Checkpoints: one npz file per checkpoint, whole or not there, checked when read, no pickle.

Layout: arrays `w`, `version.<v>` for every version still in use, `extra.<v>.<i>` for what is
sent with it, `optimizer.<name>` and `rule.<name>` (what the server remembers), `companion` (the
model trained on the pooled data, where there is one), and `meta`, UTF-8 JSON of everything
else. The file's SHA-256 is part of its name, so a damaged file shows itself and the one before
it is used. What clients remember is in files of its own, see `memories`; `meta.segments` names
them, and a checkpoint is whole only if they are.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedray.errors import FedrayError
from fedray.parts.fields import seconds
from fedray.report.tables import write_bytes
from fedray.simulation.memories import check, sweep
from fedray.types import Vector

FORMAT = 1


class Snapshot(NamedTuple):
    """A run between two events."""

    version: int
    w: Vector
    versions: dict[int, Vector]
    optimizer: dict[str, Vector]
    meta: dict[str, Any]
    companion: Vector | None = None
    extras: Mapping[int, tuple[Vector, ...]] = {}
    rule: Mapping[str, Vector] = {}
    """What the server's rules remember, by part and name: `method.c`."""


def due(every: int | str, version: int, since_s: float) -> bool:
    """Whether `checkpoint.every` asks for one: by versions, or by seconds since the last one."""
    if isinstance(every, str):
        return since_s >= (seconds(every) or math.inf)
    return bool(every and version % every == 0)


def save(folder: Path, snapshot: Snapshot, *, keep: int) -> Path:
    """Writes `folder`/v<version>-<digest>.npz and removes all but the newest `keep`."""
    folder.mkdir(parents=True, exist_ok=True)
    meta = json.dumps({**snapshot.meta, "format": FORMAT, "version": snapshot.version})
    arrays = {
        "w": snapshot.w,
        "meta": np.frombuffer(meta.encode(), np.uint8),
        **{f"version.{v}": w for v, w in snapshot.versions.items()},
        **{f"optimizer.{name}": v for name, v in snapshot.optimizer.items()},
        **{f"rule.{name}": v for name, v in snapshot.rule.items()},
        **{f"extra.{v}.{i}": w for v, ws in snapshot.extras.items() for i, w in enumerate(ws)},
    }
    if snapshot.companion is not None:
        arrays["companion"] = snapshot.companion
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    content = buffer.getvalue()
    path = folder / f"v{snapshot.version:09d}-{_digest(content)}.npz"
    write_bytes(path, content)
    # Any that look newer are damaged ones, which the run had to go back before.
    older = [other for other in found(folder) if other.name[:10] < path.name[:10]]
    for other in set(found(folder)) - {path, *older[: keep - 1]}:
        other.unlink(missing_ok=True)
    sweep(folder, lambda: {file.name for kept in found(folder) for file in files_of(kept)})
    return path


def files_of(path: Path) -> list[Path]:
    """A checkpoint's own file, and those that it needs besides; these only if it is readable."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            meta = json.loads(file["meta"].tobytes().decode())
        named = _segments(meta)
    except Exception:  # whatever NumPy has to say about a damaged file
        named = []
    return [path, *(path.parent / Path(name).name for name in named)]


def _segments(meta: Mapping[str, Any]) -> list[str]:
    return [name for each in meta.get("segments", {}).values() for name, _ in each]


def found(folder: Path) -> list[Path]:
    """The checkpoints of a run, newest first."""
    return sorted(folder.glob("v*-*.npz"), reverse=True)


def version_of(path: Path) -> int:
    """The version that a checkpoint was taken at, from its name."""
    return int(path.name[1:10])


def load_newest(folder: Path, up_to: int | None = None) -> tuple[Snapshot | None, list[str]]:
    """The newest checkpoint (of those up to a version) that is whole.

    With a line about each newer one that is not. Raises FedrayError where it is whole but
    of another format.
    """
    complaints: list[str] = []
    for path in found(folder):
        if up_to is not None and version_of(path) > up_to:
            continue
        try:
            content = _content(path)
            for other in files_of(path)[1:]:
                check(folder, other.name)
        except FedrayError as error:
            complaints.append(f"checkpoint {path.name}: {error}; using the one before it")
            continue
        return _parse(content, path), complaints
    return None, complaints


def _content(path: Path) -> bytes:
    """The bytes of a checkpoint. Raises FedrayError where they are not those that were written."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FedrayError(f"cannot be read ({error.strerror})") from error
    if path.stem.rpartition("-")[2] != _digest(content):
        raise FedrayError("damaged, or written in part")
    return content


def _parse(content: bytes, path: Path) -> Snapshot:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(arrays["meta"].tobytes().decode())
        made_by = meta["format"]
    except Exception as error:  # whole, so by somebody else: NumPy has a dozen ways to say so
        raise FedrayError(f"{path}: not a checkpoint: {error}") from error
    if made_by != FORMAT:
        raise FedrayError(
            f"{path}: checkpoint format {made_by}, this fedray reads {FORMAT}; "
            "resume with the fedray that wrote it"
        )

    def under(prefix: str) -> dict[str, Any]:
        return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

    return Snapshot(
        version=meta["version"],
        w=arrays["w"],
        versions={int(v): w for v, w in under("version.").items()},
        optimizer=under("optimizer."),
        meta=meta,
        companion=arrays.get("companion"),
        extras=_extras(under("extra.")),
        rule=under("rule."),
    )


def _extras(arrays: dict[str, Vector]) -> dict[int, tuple[Vector, ...]]:
    """By version, in order."""
    found: dict[int, dict[int, Vector]] = {}
    for name, vector in arrays.items():
        version, _, place = name.partition(".")
        found.setdefault(int(version), {})[int(place)] = vector
    return {version: tuple(ws[i] for i in sorted(ws)) for version, ws in found.items()}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
