"""Rules that other aggregators may wrap: one line each."""

from __future__ import annotations

from fedray.parts.aggregators.base import Aggregator
from fedray.parts.aggregators.bulyan import Bulyan
from fedray.parts.aggregators.centered_clipping import CenteredClipping
from fedray.parts.aggregators.geometric_median import GeometricMedian
from fedray.parts.aggregators.krum import Krum
from fedray.parts.aggregators.mean import Mean
from fedray.parts.aggregators.median import Median
from fedray.parts.aggregators.trimmed_mean import TrimmedMean

RULES: tuple[type[Aggregator], ...] = (
    Mean,
    Median,
    TrimmedMean,
    Krum,
    GeometricMedian,
    Bulyan,
    CenteredClipping,
)
