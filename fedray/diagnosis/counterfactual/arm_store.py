"""Finished arms on disk, for a diagnosis to go on with: whole or not there, no pickle.

One file `<seed>-<arm>-<digest>.npz` per arm, with the arrays of its curve. The content's
SHA-256 is part of the name, so that a damaged file shows itself.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedray.diagnosis.counterfactual.curve import Curve
from fedray.report.tables import write_bytes

if TYPE_CHECKING:
    import pyarrow as pa


def save_arm(folder: Path, seed: int, name: str, curve: Curve) -> Path:
    """Writes an arm's curve; another file of the same arm goes."""
    buffer = io.BytesIO()
    np.savez(buffer, **{field.name: getattr(curve, field.name) for field in fields(Curve)})
    content = buffer.getvalue()
    path = folder / f"{seed}-{name}-{_digest(content)}.npz"
    write_bytes(path, content)
    for other in folder.glob(f"{seed}-{name}-*.npz"):
        if other != path:
            other.unlink(missing_ok=True)
    return path


def load_arms(folder: Path) -> tuple[dict[tuple[int, str], Curve], list[str]]:
    """All arms that are whole, by (seed, name), and a line about each that is not."""
    curves, complaints = {}, []
    for path in sorted(folder.glob("*-*-*.npz")):
        seed, name, digest = path.stem.split("-")
        content = path.read_bytes()
        if digest != _digest(content):
            complaints.append(f"{path.name} is damaged; computing that arm again")
            continue
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            # [()] makes a scalar of an array without dimensions, and leaves others alone.
            curves[int(seed), name] = Curve(**{f.name: file[f.name][()] for f in fields(Curve)})
    return curves, complaints


def curve_of_arm(arms: pa.Table, seed: int, name: str) -> Curve:
    """An arm's curve as `arms.parquet` has it, to the bit, without the final parameters."""
    import pyarrow.compute as pc

    of = pc.and_(pc.equal(arms["seed"], seed), pc.equal(arms["arm"], name))
    rows = arms.filter(of).sort_by("version")
    known = {f.name for f in fields(Curve)} & set(rows.column_names)
    # to_numpy makes NaN of null, as the curve of a regression has it for accuracy.
    columns = {column: rows[column].to_numpy() for column in known}
    return Curve(**columns, final=np.zeros(0))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
