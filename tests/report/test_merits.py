"""What a sweep ranks by, as it is written."""

from __future__ import annotations

import pytest

from fedray.report.sweep.merits import Merit, interval

APART = [0.70, 0.98, 0.99]


@pytest.mark.parametrize(
    ("metric", "cut"),
    [("accuracy", (False, True)), ("worst_decile_accuracy", (False, True)), ("r2", (False, True)),
     ("loss", (False, False)), ("bytes_to_target", (False, False))],
)  # fmt: skip
def test_an_interval_ends_where_the_metric_does(metric: str, cut: tuple[bool, bool]) -> None:
    free, within = interval(APART), interval(APART, Merit(metric, "max").bounds)
    assert free.high is not None
    assert free.high > 1
    assert (within.low != free.low, within.high != free.high) == cut
    assert within.value == free.value
    if cut[1]:
        assert within.high == 1


def test_costs_are_not_negative_and_r2_may_be() -> None:
    wide = [0.0, 5.0]
    assert interval(wide, Merit("bytes_to_target", "min").bounds).low == 0
    low = interval(wide, Merit("r2", "max").bounds).low
    assert low is not None
    assert low < 0
