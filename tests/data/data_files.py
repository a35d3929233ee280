"""Small data files that the tests write."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq


def write_idx(path, array, *, zipped=False, kind=8):
    shape = b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    data = bytes([0, 0, kind, array.ndim]) + shape + array.astype(np.uint8).tobytes()
    if zipped:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(data))
    else:
        path.write_bytes(data)


def idx_folder(folder, zipped=False):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (30, 4, 5)), np.arange(30) % 3
    for part, rows in (("train", slice(0, 20)), ("t10k", slice(20, 30))):
        write_idx(folder / f"{part}-images-idx3-ubyte", images[rows], zipped=zipped)
        write_idx(folder / f"{part}-labels-idx1-ubyte", labels[rows], zipped=zipped)
    return images, labels


def frame(n=60, seed=0):
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "age": rng.integers(20, 90, n),
            "score": rng.normal(size=n),
            "flag": rng.random(n) > 0.5,
            "note": [f"n{i}" for i in range(n)],
            "y": [["cat", "dog", "ape"][i % 3] for i in range(n)],
            "site": [f"h{i % 4}" for i in range(n)],
        }
    )


def write(table, path):
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        pq.write_table(table, path)
