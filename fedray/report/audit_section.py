"""The section of a run's report on the weights that `server.quality` gave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fedray.report.audit import HEADER, SUPPRESSED, audit, rows, sentences
from fedray.report.charts import overlay_chart
from fedray.report.layout import Picture, Section, Table
from fedray.types import Floats, Ints

if TYPE_CHECKING:
    from fedray.report.run import Run

_TITLE = "What each client's data was worth"


def audit_section(run: Run, names: Mapping[int, str]) -> Section:
    """Empty where no update was weighed by its quality."""
    if not run.quality.num_rows:
        return Section("worth", _TITLE)
    of = audit(run)
    pictures = [_gains(of.versions, of.loss_gains, "loss", "validation loss, lowered by")]
    if of.metric == "accuracy":
        axis = "gain in validation accuracy (points)"
        pictures.insert(0, _gains(of.versions, 100 * of.gains, "accuracy", axis))
    table = Table(
        f"Clients by what they lost and won; suppressed: below {SUPPRESSED:g} of the share "
        "without quality",
        HEADER, rows(of, names), HEADER[1:],
    )  # fmt: skip
    return Section("worth", _TITLE, sentences(of, names), pictures, [table], columns=2)


def _gains(versions: Ints, gains: Floats, name: str, axis: str) -> Picture:
    """What the weights brought, version by version, and on average so far."""
    running = np.cumsum(gains) / np.arange(1, len(gains) + 1)
    curves = [("this version", versions, gains), ("mean so far", versions, running)]
    return Picture(
        f"worth-{name}",
        f"What the weights brought: {name}",
        f"Gain of each step over the same step without quality: mean {running[-1]:.3g}.",
        overlay_chart(curves, "version", axis),
        "Above zero the step was better for the weights. Both steps start from the version before.",
    )
