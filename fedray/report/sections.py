"""The sections of a run's report: which pictures and tables, and what they say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from fedray.report import charts, client_charts, scenario, words
from fedray.report.audit_section import audit_section
from fedray.report.autopsy_section import autopsy_section
from fedray.report.client_tables import client_tables
from fedray.report.decomposition_section import decomposition_section
from fedray.report.definitions import DILUTION_LAW, DYNAMICS, HETEROGENEITY, STATUSES
from fedray.report.facts import Facts, client_names
from fedray.report.figures import (
    Curve,
    class_curves,
    column,
    label_matrix,
    smooth,
    staleness_histogram,
    thin,
    window_without_start,
    worth_marking,
)
from fedray.report.gantt import timeline
from fedray.report.layout import Picture, Section, Table
from fedray.report.personal_section import personal_section
from fedray.report.privacy_section import privacy_section
from fedray.report.run import Run


def sections(run: Run, known: Facts) -> Iterable[Section]:
    """All sections in reading order, empty ones included."""
    names = client_names(run)
    yield _quality(known)
    yield autopsy_section(run.path)
    yield _lines(run, known)
    yield _staleness(run, known, names)
    yield _classes(run, known)
    yield _dynamics(run)
    yield privacy_section(run)
    yield audit_section(run, names)
    yield decomposition_section(run, known, names)
    yield _partition(run, known, names)
    yield personal_section(run, names)
    yield _clients(run, known, names)


def _quality(known: Facts) -> Section:
    time = words.time_name(known)
    marked = worth_marking(known.falls, known.curve)
    pictures = []
    for of in (known.curve, known.loss):
        if not len(of.values):
            continue
        name = words.metric_name(of.name)
        note = _off_the_picture(of)
        mine = marked if of is known.curve else None
        for over, title in (("version", f"{name} by version"), ("time", f"{name} by {time}")):
            pictures.append(
                Picture(
                    f"{of.name}-{over}",
                    title,
                    f"{title}: from {words.metric(float(of.values[0]), of.name)} to "
                    f"{words.metric(float(of.values[-1]), of.name)}.",
                    charts.curve_chart(of, over=over, marked=mine),
                    note,
                )
            )
    text = ["Triangles mark the largest falls below the running best (dotted)."] if marked else []
    tables = [_falls_table(known)] if marked else []
    return Section("quality", "How good the model became", text, pictures, tables, columns=2)


def _off_the_picture(of: Curve) -> str:
    if window_without_start(of) is None:
        return ""
    first = words.metric(float(of.values[0]), of.name)
    return f"Version {of.versions[0]} ({first}) lies outside the picture."


def _falls_table(known: Facts) -> Table:
    rows = [
        (
            words.points(f.lost, known.metric),
            f"{f.from_version} ({words.metric(f.from_value, known.metric)})",
            f"{f.to_version} ({words.metric(f.to_value, known.metric)})",
            words.seconds(f.to_time_s),
            "never" if f.recovered_version is None else f"version {f.recovered_version}",
        )
        for f in worth_marking(known.falls, known.curve)
    ]
    header = ("lost", "from version", "down to version", "at", "made good")
    return Table(f"Largest falls, of {len(known.falls)} in all", header, rows)


def _lines(run: Run, known: Facts) -> Section:
    found = scenario.lines(run, known)
    if not found:
        return Section("lines", "The fitted lines")
    table = Table(
        "Fitted lines and their R² on the test set",
        ("line", "equation", "R²"),
        [(one.name, one.formula, words.metric(one.r2, "r2")) for one in found],
        numeric=("R²",),
    )
    about = "; ".join(f"{one.name}: {one.formula}" for one in found)
    picture = Picture("lines", "Fitted lines", about, scenario.lines_chart(found, known))
    return Section("lines", "The fitted lines", (), [picture], [table])


def _staleness(run: Run, known: Facts, names: Mapping[int, str]) -> Section:
    pictures, tables = [], []
    histogram = staleness_histogram(run.updates)
    if len(histogram.edges) > 2:
        about = f"Histogram of staleness: mean {words.number(known.staleness_mean)} versions."
        pictures.append(
            Picture("staleness", "Staleness of updates", about, charts.histogram_chart(histogram))
        )
    shown = timeline(run.updates, run.rounds)
    if len(shown.lane):
        about = f"Timeline of {len(shown.lane)} jobs of {len(shown.clients)} clients."
        note = " ".join(
            filter(
                None,
                [
                    "Fastest client on top.",
                    shown.note,
                    "Dotted: a new version." if len(shown.version_times_s) else "",
                ],
            )
        )
        chart = client_charts.timeline_chart(shown, dict(names))
        pictures.append(Picture("timeline", "Who trained when", about, chart, note))
    if known.statuses:
        total = sum(known.statuses.values())
        rows = [
            (
                status.replace("_", " "),
                f"{count:,}",
                words.percent(count / total),
                STATUSES.get(status, ""),
            )
            for status, count in known.statuses.items()
        ]
        header = ("status", "updates", "share", "meaning")
        tables.append(Table("What became of the updates", header, rows, ("updates", "share")))
    text = (
        [
            "Staleness is the server's version when an update is applied, minus the version that "
            "the client started from."
        ]
        if known.statuses
        else []
    )
    return Section("staleness", "Who trained when, and how stale it was", text, pictures, tables)


def _classes(run: Run, known: Facts) -> Section:
    title = "Accuracy per class"
    of = class_curves(run.rounds, known.summary.get("classes") or ())
    if of is None:
        return Section("classes", title)
    last = of.values[:, -1]
    peak = np.nanmax(np.where(np.isnan(of.values), -1.0, of.values), axis=1)
    worst, forgotten = int(np.nanargmin(last)), int(np.nanargmax(peak - last))
    text = [
        f"At the end, class {of.classes[worst]} is recognised worst "
        f"({words.percent(float(last[worst]))})."
    ]
    if (lost := float(peak[forgotten] - last[forgotten])) > 0.005:
        text.append(
            f"Most forgotten since its own peak: class {of.classes[forgotten]}, "
            f"{words.points(lost, 'accuracy')}."
        )
    picture = Picture(
        "classes",
        "Accuracy of each class over versions",
        " ".join(text),
        client_charts.classes_chart(of),
    )
    return Section("classes", title, [" ".join(text)], [picture])


# These are 1 for a version that is made from a single update, which says nothing.
_OF_ONE = ("cancellation", "cosine_mean", "cosine_pairwise", "n_effective")


def _dynamics(run: Run) -> Section:
    pictures = []
    versions = column(run.rounds, "version")
    for name, (title, about) in DYNAMICS.items():
        values = column(run.rounds, name)
        kept = np.isfinite(values)
        if (
            kept.sum() < 2
            or (name in _OF_ONE and np.allclose(values[kept], 1))
            or (name in ("staleness_mean", "forgetting") and not values[kept].any())
        ):
            continue
        smoothed = smooth(values[kept], max(5, int(kept.sum()) // 20))
        chart = charts.dynamics_chart(
            versions[kept].astype(np.int64), values[kept], smoothed, title
        )
        if name == "cancellation" and (law := _dilution_law(run)) is not None:
            chart["data"].append(law)
            about = f"{about} {DILUTION_LAW}"
        pictures.append(Picture(f"dynamics-{name}", title, f"{title} by version.", chart, about))
    return Section("dynamics", "What happened in the aggregation", (), pictures, (), columns=3)


def _dilution_law(run: Run) -> charts.Chart | None:
    """What the cancellation of unrelated updates would be; None where it was not recorded."""
    versions, values = column(run.rounds, "version"), column(run.rounds, "dilution_law")
    known = np.isfinite(values)
    if known.sum() < 2:
        return None
    smoothed = smooth(values[known], max(5, int(known.sum()) // 20))
    kept = thin(smoothed, charts.MOST_POINTS)
    return charts.line(
        versions[known][kept],
        smoothed[kept],
        "unrelated directions",
        {"css": "orange"},
        dash="dash",
        width=1.8,
        hovertemplate="version %{x}<br>if unrelated: <b>%{y:.4g}</b><extra></extra>",
    )


def _partition(run: Run, known: Facts, names: Mapping[int, str]) -> Section:
    pictures = []
    matrix = label_matrix(run.clients, known.summary.get("classes") or ())
    if matrix is not None:
        about = f"Share of each class in the samples of {len(matrix.clients)} clients."
        chart = client_charts.partition_chart(matrix, dict(names))
        pictures.append(Picture("partition", "Labels of each client", about, chart, matrix.note))
    sizes = column(run.clients, "examples")
    sizes = sizes[np.isfinite(sizes)]
    if len(sizes) > 1:
        about = f"Samples per client, from {int(sizes.min()):,} to {int(sizes.max()):,}."
        pictures.append(
            Picture("sizes", "Samples of each client", about, client_charts.sizes_chart(sizes))
        )
    known_measures = [k for k in HETEROGENEITY if k in known.heterogeneity]
    others = [k for k in known.heterogeneity if k not in HETEROGENEITY]
    rows = [
        (HETEROGENEITY[k][0], words.number(known.heterogeneity[k]), HETEROGENEITY[k][1])
        for k in known_measures
    ] + [(k.replace("_", " "), words.number(known.heterogeneity[k]), "") for k in others]
    table = Table(
        "How different the clients are", ("measure", "value", "meaning"), rows, ("value",)
    )
    return Section("partition", "How the data is split", (), pictures, [table] if rows else [])


def _clients(run: Run, known: Facts, names: Mapping[int, str]) -> Section:
    return Section(
        "clients", "The clients", (), (), client_tables(run.clients, known.metric, names)
    )
