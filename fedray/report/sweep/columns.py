"""The columns of `trials.parquet`."""

from __future__ import annotations

import pyarrow as pa

_INT, _FLOAT = pa.int64(), pa.float64()

TRIALS = pa.schema(
    [
        ("id", pa.string()),
        ("setting", _INT),
        ("seed", _INT),
        ("settings", pa.string()),
        ("status", pa.string()),
        ("value", _FLOAT),
        ("algorithm", pa.string()),
        ("label_severity", _FLOAT),
        ("label_emd", _FLOAT),
        ("label_js", _FLOAT),
        ("final", _FLOAT),
        ("final_loss", _FLOAT),
        ("best", _FLOAT),
        ("largest_fall", _FLOAT),
        ("worst_decile", _FLOAT),
        ("versions", _INT),
        ("bytes", _INT),
        ("bytes_to_target", _INT),
        ("virtual_time_s", _FLOAT),
        ("virtual_time_to_target", _FLOAT),
        ("wall_time_s", _FLOAT),
        ("error", pa.string()),
    ]
)
"""A row per trial of a sweep, beside a column `set.<key>` per swept key: numbers where all values
are, text (JSON for what is no word) else. `final`, `best` and `largest_fall` are of accuracy, for
a regression of R^2; `value` is the sweep's metric. Bytes are of both directions. The columns
`*_to_target` are null where there is no target, or it was not reached; so are scores that are
not finite."""
STATUSES = ("finished", "stopped_early", "failed", "unfinished")
