"""Computation behind the pictures: falls, thinning, sampling."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from fedray.report.figures import (
    class_curves,
    curve,
    falls,
    label_matrix,
    smooth,
    staleness_histogram,
    thin,
    window_without_start,
    worth_marking,
)
from fedray.report.gantt import timeline


def rounds_of(values, name="accuracy"):
    n = len(values)
    return pa.table(
        {
            "version": pa.array(range(n), pa.int64()),
            "virtual_time_s": [10.0 * i for i in range(n)],
            name: pa.array(values, pa.float64()),
        }
    )


def test_a_fall_runs_from_the_running_best_to_the_lowest_and_back():
    of = curve(rounds_of([0.1, 0.5, 0.4, 0.3, 0.5, 0.6, 0.2, 0.4]), "accuracy")
    largest, second = falls(of)
    assert largest.lost == pytest.approx(0.4)
    assert (largest.from_version, largest.to_version, largest.recovered_version) == (5, 6, None)
    assert second.lost == pytest.approx(0.2)
    assert (second.from_version, second.to_version, second.recovered_version) == (1, 3, 4)
    assert (second.from_value, second.to_value, second.to_time_s) == (0.5, 0.3, 30.0)


def test_for_a_loss_the_running_best_is_the_minimum():
    of = curve(rounds_of([3.0, 1.0, 2.5, 0.5], "loss"), "loss")
    assert of.best.tolist() == [3.0, 1.0, 1.0, 0.5]
    (fall,) = falls(of)
    assert (fall.lost, fall.from_version, fall.recovered_version) == (1.5, 1, 3)


def test_equal_bests_start_the_fall_at_the_last_of_them():
    (fall,) = falls(curve(rounds_of([0.5, 0.5, 0.4]), "accuracy"))
    assert fall.from_version == 1


def test_versions_without_an_evaluation_are_skipped_and_not_counted_as_not_finite():
    of = curve(rounds_of([0.1, None, float("nan"), 0.3, float("inf")]), "accuracy")
    assert of.versions.tolist() == [0, 3]
    assert of.not_finite == 2


def test_only_falls_that_a_reader_can_see_are_marked():
    values = [0.0, 0.9, 0.5, 0.91, 0.909, 0.92]
    of = curve(rounds_of(values), "accuracy")
    assert len(falls(of)) == 2
    assert [fall.to_version for fall in worth_marking(falls(of), of)] == [2]


def test_thinning_keeps_ends_and_every_extreme():
    values = np.sin(np.arange(50_000.0))
    values[31_337], values[77] = -9.0, 9.0
    kept = thin(values, 500)
    assert len(kept) <= 502
    assert {0, 49_999, 31_337, 77} <= set(kept)
    assert kept == sorted(kept)
    assert thin(values[:5], 500) == [0, 1, 2, 3, 4]


def updates_of(client, start, end, staleness, status):
    return pa.table(
        {
            "client": pa.array(client, pa.int64()),
            "base_version": pa.array([0] * len(client), pa.int64()),
            "dispatched_at_s": pa.array(start, pa.float64()),
            "arrived_at_s": pa.array(end, pa.float64()),
            "staleness": pa.array(staleness, pa.int64()),
            "status": status,
        }
    )


def test_histogram_counts_by_status_and_leaves_out_what_never_arrived():
    status = ["applied", "applied", "stale", "dropped_out", "applied"]
    table = updates_of(range(5), [0] * 5, [1] * 5, [0, 2, 4, 3, None], status)
    of = staleness_histogram(table)
    assert of.edges.tolist() == [0, 1, 2, 3, 4, 5]
    assert {k: v.tolist() for k, v in of.counts.items()} == {
        "applied": [1, 0, 1, 0, 0],
        "stale": [0, 0, 0, 0, 1],
    }


def test_histogram_of_wide_staleness_has_few_bins_and_loses_none():
    staleness = np.arange(1000)
    table = updates_of([0] * 1000, [0] * 1000, [1] * 1000, staleness, ["applied"] * 1000)
    of = staleness_histogram(table)
    assert len(of.edges) <= 42
    assert of.counts["applied"].sum() == 1000


def test_timeline_has_lanes_from_fast_to_slow():
    table = updates_of([7, 3, 7], [0, 0, 5], [5, 1, 9], [0, 0, 1], ["applied"] * 3)
    of = timeline(table, rounds_of([0.1, 0.2]))
    assert of.clients.tolist() == [3, 7]
    assert sorted(zip(of.lane, of.start_s, of.end_s, strict=True)) == [
        (0, 0, 1),
        (1, 0, 5),
        (1, 5, 9),
    ]
    assert of.note == ""


def test_timeline_of_many_clients_is_sampled_and_says_so():
    n = 10_000
    client = np.arange(n) % 5000
    start = np.arange(n) / 100
    table = updates_of(client, start, start + 1 + client / 1000, [0] * n, ["applied"] * n)
    of = timeline(table, rounds_of([0.1] * 100), lanes=40, jobs=500)
    assert len(of.clients) == 40
    assert len(of.lane) <= 500
    assert "40 early jobs of 10,000" in of.note
    assert "clients" in of.note


def test_jobs_without_an_end_have_no_bar():
    table = updates_of([0, 1], [0, 0], [1, None], [0, None], ["applied", "dropped_out"])
    assert timeline(table, rounds_of([0.1])).clients.tolist() == [0]


def clients_of(counts):
    return pa.table({"client": range(len(counts)), "label_counts": pa.array(counts)})


def test_label_matrix_is_the_table_where_it_is_small():
    of = label_matrix(clients_of([[1, 2], [3, 4]]), ("cat", "dog"))
    assert of.counts.tolist() == [[1, 2], [3, 4]]
    assert (of.classes, of.note) == (("cat", "dog"), "")


def test_label_matrix_of_many_clients_and_classes_keeps_every_sample_of_its_clients():
    counts = np.random.default_rng(0).integers(0, 9, (900, 130))
    of = label_matrix(clients_of(counts.tolist()), (), rows=50, columns=20)
    assert of.counts.shape == (50, 20)
    assert of.counts.sum(1).tolist() == counts[of.clients].sum(1).tolist()
    assert of.classes[-1] == "111 others"
    assert "50 of 900 clients" in of.note


def test_class_curves_are_classes_by_versions():
    table = rounds_of([0.1, 0.2, 0.3]).append_column(
        "accuracy_per_class", pa.array([[0.0, 0.2], None, [0.1, None]], pa.list_(pa.float64()))
    )
    of = class_curves(table, ("a", "b"))
    assert of.versions.tolist() == [0, 2]
    np.testing.assert_array_equal(of.values, [[0.0, 0.1], [0.2, np.nan]])


def test_running_mean_skips_what_is_missing():
    np.testing.assert_allclose(smooth(np.array([1.0, np.nan, 3.0, 5.0]), 3), [1.0, 2.0, 4.0, 4.0])


def test_an_untrained_start_far_off_does_not_flatten_the_curve():
    of = curve(rounds_of([-90.0, 0.77, 0.75, 0.74], "r2"), "r2")
    low, high = window_without_start(of)
    assert -1 < low < 0.74
    assert 0.77 < high < 1
    assert window_without_start(curve(rounds_of([2.3, 1.2, 0.6, 0.5], "loss"), "loss")) is None
