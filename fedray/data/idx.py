"""Folders in MNIST's idx format: MNIST, Fashion-MNIST, KMNIST and their kin.

The format: two zero bytes, a type code (8: unsigned byte), the number of axes, the length
of each axis as a big-endian 32-bit integer, then the numbers (LeCun et al., MNIST page).
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedray.config.schema import IdxData
from fedray.data.samples import Samples, check_rows
from fedray.data.shipped import here
from fedray.errors import InputError

_KEY = "data.path"
_UNSIGNED_BYTE = 8


def read_idx(config: IdxData, _seed: int, base_dir: Path) -> Samples:
    """Training and test set; X float32 (n, pixels) in [0, 1].

    Raises InputError for a missing folder or file and for anything malformed.
    """
    folder = here(base_dir / Path(config.path).expanduser())
    if not folder.is_dir():
        raise InputError(
            f"no folder {folder}; on Debian or Ubuntu `apt install dataset-fashion-mnist` puts "
            "Fashion-MNIST into /usr/share/datasets/fashion-mnist, or name a folder with "
            "train-images-idx3-ubyte[.gz] and its companions",
            key=_KEY,
        )
    X, y = _pair(folder, "train", config.limit)
    X_test, y_test = _pair(folder, "t10k", None)
    if X.shape[1] != X_test.shape[1]:
        raise InputError(
            f"training images have {X.shape[1]} pixels, test images {X_test.shape[1]}", key=_KEY
        )
    return Samples(
        X=X,
        labels=y,
        features=tuple(f"pixel{i}" for i in range(X.shape[1])),
        task="classification",
        label_name="train-labels",
        label_key=_KEY,
        test_key=_KEY,
        X_test=X_test,
        labels_test=y_test,
    )


def _pair(
    folder: Path, part: str, limit: int | None
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    images = _parse(_find(folder, f"{part}-images-idx3-ubyte"))
    labels = _parse(_find(folder, f"{part}-labels-idx1-ubyte"))
    if images.ndim < 2 or labels.ndim != 1 or len(images) != len(labels):
        raise InputError(
            f"{folder}: {part} images have shape {images.shape}, labels {labels.shape}; "
            "one label per image is needed",
            key=_KEY,
        )
    images, labels = images[:limit], labels[:limit]
    check_rows(len(images), f"{folder}, {part}", _KEY)
    flat = images.reshape(len(images), -1)
    return np.divide(flat, np.float32(255)), labels


def _find(folder: Path, name: str) -> Path:
    for candidate in (name, f"{name}.gz"):
        path = folder / candidate
        if path.is_file():
            return path
    raise InputError(f"{folder} has neither {name} nor {name}.gz", key=_KEY)


def _parse(path: Path) -> NDArray[np.uint8]:
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} can not be read: {error}", key=_KEY) from error
    if len(data) < 4 or data[:2] != b"\0\0":
        raise InputError(f"{path} is not in idx format", key=_KEY)
    if data[2] != _UNSIGNED_BYTE:
        raise InputError(
            f"{path} holds idx type {data[2]}; only 8 (unsigned byte) is read", key=_KEY
        )
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise InputError(f"{path} is cut off within its header", key=_KEY)
    shape = tuple(int(n) for n in np.frombuffer(data[4:start], dtype=">u4"))
    if len(data) - start != np.prod(shape, dtype=np.int64) or len(shape) != data[3]:
        raise InputError(f"{path} is cut off or damaged: shape {shape} is announced", key=_KEY)
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)
