"""What a private run has spent, version by version."""

from __future__ import annotations

import numpy as np

from fedray.report import charts, words
from fedray.report.figures import column
from fedray.report.layout import Picture, Section
from fedray.report.run import Run

_TITLE = "Privacy of the users"
_SPENT = "After each version, at the run's delta."
_BOUND = "The bound C on the length of a user's update; it follows a quantile of the lengths."


def privacy_section(run: Run) -> Section:
    """Epsilon by version and what it stands for; empty for runs that are not private."""
    spent = (run.summary or {}).get("privacy")
    versions, pictures = column(run.rounds, "version"), []
    for name, title, about in (
        ("epsilon", "Epsilon spent", _SPENT),
        ("clip_norm", "Clipping norm", _BOUND),
    ):
        values = column(run.rounds, name)
        kept = np.isfinite(values)
        if kept.sum() < 2 or (name == "clip_norm" and np.ptp(values[kept]) == 0):
            continue
        chart = charts.dynamics_chart(
            versions[kept].astype(np.int64), values[kept], values[kept], title
        )
        pictures.append(Picture(f"privacy-{name}", title, f"{title} by version.", chart, about))
    if not spent:
        return Section("privacy", _TITLE, (), pictures, columns=2)
    text = [
        f"User-level ({words.number(spent['epsilon'])}, {spent['delta']:.3g})-differential privacy "
        f"with {spent['kind']} noise, by {spent['accountant']}, for {spent['adjacency']}. "
        f"Claimed is {spent['claimed']}. It covers the models that the server made, not the tables "
        "and figures of this folder."
    ]
    return Section("privacy", _TITLE, text, pictures, columns=2)
