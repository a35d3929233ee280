"""What a search has found: its draws at a glance, and key by key."""

from __future__ import annotations

from fedray.report.layout import Picture, Section
from fedray.report.sweep.importance import importance
from fedray.report.sweep.merits import interval
from fedray.report.sweep.search_charts import MOST_LINES, parallel_chart, slice_chart
from fedray.report.sweep.settings import Setting, Trials

_MOST_KEYS, _MOST_SLICES = 8, 6


def search_section(of: Trials) -> Section:
    """Parallel coordinates of all settings and a slice per key; empty without a search."""
    title = "The search"
    known = _with_values(of)
    if not of.searched or len(known) < 2:
        return Section("search", title)
    shares = weights.shares if (weights := importance(of)) else {}
    keys = sorted(of.keys, key=lambda key: -shares.get(key, 0.0))
    shown = known[:MOST_LINES]
    heading = f"{len(shown)} settings, a line each, the better the stronger"
    note = "Hover over a line's right end for its setting."
    if len(known) > len(shown):
        note += f" The best {len(shown)} of {len(known)} settings."
    if len(keys) > _MOST_KEYS:
        note += f" The {_MOST_KEYS} keys that matter most of {len(keys)}."
    about = f"Parallel coordinates of {', '.join(of.names[key] for key in keys)} and the metric."
    lines = parallel_chart(of, shown, keys[:_MOST_KEYS])
    slices = [
        Picture(
            f"slice-{i}",
            f"By {of.names[key]}",
            f"{of.merit.name} against {of.names[key]}, a dot per setting.",
            slice_chart(of, shown, key),
        )
        for i, key in enumerate(keys[:_MOST_SLICES])
    ]
    text = []
    if of.with_status("stopped_early"):
        text.append("Trials that were stopped early are shown with their last value, as grey dots.")
    parts = [Section("slices", "Key by key", (), slices, columns=min(3, len(slices)))]
    return Section(
        "search", title, text, [Picture("parallel", heading, about, lines, note)], (), 1, parts
    )


def _with_values(of: Trials) -> list[Setting]:
    """Settings with their mean over all trials that have a value, best first."""
    found = []
    for each in of.settings:
        values = [row["value"] for row in each.trials if row["value"] is not None]
        if values:
            rows = list(each.trials)
            value = interval(values, of.merit.bounds)
            found.append(Setting(each.number, each.settings, rows, rows, value))
    return sorted(found, key=lambda s: -of.merit.sign * s.value.value if s.value else 0.0)
