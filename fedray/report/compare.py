"""Several runs side by side: what differed, what came of it, and what it cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedray.errors import InputError
from fedray.report import charts, words
from fedray.report.facts import Facts, dig, facts
from fedray.report.figures import column
from fedray.report.layout import Picture, Section, Table, fill_template, write_page
from fedray.report.run import Run
from fedray.report.tables import cannot_write
from fedray.types import Floats

# Keys that say where a run was computed or put, and not what it computed.
_IRRELEVANT = ("output.", "runtime.", "checkpoint.")


@dataclass(frozen=True)
class Comparison:
    """`rows` has a dict per run; `differences` the configuration keys that are not all equal."""

    metric: str
    """accuracy or r2."""
    target: float | None
    """The best value that every run reaches; costs are counted up to it."""
    rows: list[dict[str, Any]]
    differences: dict[str, list[Any]]
    """Dotted key: a value per run, None where the run has no such key."""
    page: Path | None = None


def compare(runs: Sequence[Run], out: Path | None = None) -> Comparison:
    """Compares two or more runs with the same figure of merit; `out` gets a page if given.

    Each row: run, path, algorithm, mode, seed, final, best, best_version, largest_fall,
    versions, virtual_time_s, bytes, staleness_mean, target_version, target_time_s,
    target_bytes (both directions), and with `personal` own_mean, own_worst, shared_mean and
    shared_worst, else None. Raises `InputError` for fewer than two runs, for
    classification beside regression, StorageError where `out` cannot be written.
    """
    if len(runs) < 2:
        raise InputError(f"got {len(runs)} run, comparing needs two or more run folders")
    known = [facts(run) for run in runs]
    metrics = {k.metric for k in known}
    if len(metrics) > 1:
        kinds = ", ".join(f"{run.place}: {k.metric}" for run, k in zip(runs, known, strict=True))
        raise InputError(f"runs have no figure of merit in common ({kinds})")
    target = min((k.best for k in known if k.best is not None), default=None)
    if any(k.best is None for k in known):
        target = None
    labels = _labels(runs)
    rows = [_row(name, run, k, target) for name, run, k in zip(labels, runs, known, strict=True)]
    found = Comparison(known[0].metric, target, rows, _differences([run.config for run in runs]))
    if out is None:
        return found
    page = out / "compare.html" if out.is_dir() else out
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(page, error) from error
    write_page(_render(found, runs, known), page)
    return Comparison(found.metric, found.target, found.rows, found.differences, page)


def _labels(runs: Sequence[Run]) -> list[str]:
    """The runs' names; with the folder where a name comes twice, the path if that does too."""
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        names = [f"{run.name} ({run.folder_name})" for run in runs]
    return names if len(set(names)) == len(names) else [run.place for run in runs]


def bytes_so_far(run: Run) -> Floats:
    """Bytes moved in both directions up to each version, shape (versions + 1,)."""
    both = column(run.rounds, "bytes_up") + column(run.rounds, "bytes_down")
    return np.cumsum(np.nan_to_num(both))


def _row(name: str, run: Run, known: Facts, target: float | None) -> dict[str, Any]:
    at: int | None = None
    if target is not None:
        at = int(np.argmax(known.curve.values >= target))
    moved = bytes_so_far(run)
    versions = column(run.rounds, "version")
    fall = known.largest_fall
    version = None if at is None else int(known.curve.versions[at])
    return {
        "run": name,
        "path": run.place,
        "algorithm": known.algorithm,
        "mode": known.mode,
        "seed": known.config.get("seed"),
        "final": known.final,
        "best": known.best,
        "best_version": known.best_version,
        "largest_fall": fall.lost if fall else 0.0,
        "versions": known.versions,
        "virtual_time_s": known.virtual_time_s,
        "bytes": int(moved[-1]) if len(moved) else 0,
        "staleness_mean": known.staleness_mean,
        "own_mean": dig(known.summary, "personal.personal.mean"),
        "own_worst": dig(known.summary, "personal.personal.worst_decile"),
        "shared_mean": dig(known.summary, "personal.global.mean"),
        "shared_worst": dig(known.summary, "personal.global.worst_decile"),
        "target_version": version,
        "target_time_s": None if at is None else float(known.curve.times[at]),
        "target_bytes": None if version is None else int(moved[np.argmax(versions == version)]),
    }


def _differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    flat = [_flat(config) for config in configs]
    keys = dict.fromkeys(key for each in flat for key in each)
    found = {key: [each.get(key) for each in flat] for key in keys}
    return {
        key: values
        for key, values in found.items()
        if key != "name"
        and not key.startswith(_IRRELEVANT)
        and any(value != values[0] for value in values)
    }


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def tables(found: Comparison) -> list[Table]:
    """The comparison as text: key figures, costs to the common target, keys that differ."""
    shown = [_figures(found)] + ([] if found.target is None else [_costs(found)])
    if any(row["own_mean"] is not None for row in found.rows):
        shown.append(_at_clients(found))
    if found.differences:
        header = ("key", *(row["run"] for row in found.rows))
        rows = [
            (key, *("" if v is None else str(v) for v in values))
            for key, values in found.differences.items()
        ]
        shown.append(Table("Configuration keys that are not the same", header, rows))
    return shown


def _render(found: Comparison, runs: Sequence[Run], known: Sequence[Facts]) -> str:
    shown = tables(found)
    figures, keys = (shown[:-1], shown[-1:]) if found.differences else (shown, [])
    sections = [
        Section("figures", "What came of each run", in_words(found), (), figures),
        Section("curves", "Side by side", (), _pictures(found, runs, known)),
    ]
    if keys:
        sections.append(Section("differences", "What was different", (), (), keys))
    pictures = [picture for section in sections for picture in section.pictures]
    return fill_template(
        "compare.html", pictures, title=f"Comparison of {len(runs)} runs", sections=sections
    )


def in_words(found: Comparison) -> list[str]:
    """Which run did best, and which got how far at the least cost."""
    evaluated = [row for row in found.rows if row["best"] is not None]
    if not evaluated or found.target is None:
        return ["Not every run was evaluated, so there is no common target to count costs to."]
    top = max(evaluated, key=lambda row: row["best"])
    quick = min(evaluated, key=lambda row: row["target_time_s"])
    cheap = min(evaluated, key=lambda row: row["target_bytes"])
    target = words.metric(found.target, found.metric)
    return [
        f"{top['run']} got best, {words.metric(top['best'], found.metric)}. All runs reach "
        f"{target}: {quick['run']} first in time, after {words.seconds(quick['target_time_s'])}, "
        f"and {cheap['run']} with the fewest bytes, {words.amount(cheap['target_bytes'])}."
    ]


def _figures(found: Comparison) -> Table:
    """What came of each run."""
    return _table(
        "Key figures",
        found,
        {
            "algorithm": ("algorithm", str),
            "mode": ("mode", str),
            f"final {found.metric}": ("final", lambda v: words.metric(v, found.metric)),
            "best": ("best", lambda v: words.metric(v, found.metric)),
            "largest fall": ("largest_fall", lambda v: words.points_short(v, found.metric)),
            "versions": ("versions", words.number),
            "time": ("virtual_time_s", words.seconds),
            "bytes": ("bytes", words.amount),
            "staleness": ("staleness_mean", words.number),
        },
    )


def _at_clients(found: Comparison) -> Table:
    """How good clients' own models are on what they hold back, beside the global one."""
    show = words.percent if found.metric == "accuracy" else words.number
    of = {"global": "shared_mean", "worst tenth": "shared_worst", "own": "own_mean"}
    columns = {name: (key, show) for name, key in of.items()}
    columns["own, worst tenth"] = ("own_worst", show)
    caption = "At the clients, on samples that they hold back"
    score = "accuracy" if found.metric == "accuracy" else "squared error"
    return _table(f"{caption}: mean {score}", found, columns)


def _costs(found: Comparison) -> Table:
    """What each run spent to get as far as all of them get."""
    return _table(
        f"To reach {words.metric(found.target, found.metric)}",
        found,
        {
            "versions": ("target_version", words.number),
            "time": ("target_time_s", words.seconds),
            "bytes": ("target_bytes", words.amount),
        },
    )


def _table(
    caption: str, found: Comparison, shown: Mapping[str, tuple[str, Callable[[Any], str]]]
) -> Table:
    rows = [(row["run"], *(show(row[key]) for key, show in shown.values())) for row in found.rows]
    numeric = [header for header, (key, _) in shown.items() if key not in ("algorithm", "mode")]
    return Table(caption, ("run", *shown), rows, numeric)


def _pictures(found: Comparison, runs: Sequence[Run], known: Sequence[Facts]) -> list[Picture]:
    scale = 100.0 if found.metric == "accuracy" else 1.0
    up = words.metric_name(found.metric) + (" (%)" if scale == 100 else "")
    divisor, unit = words.time_unit(max(k.virtual_time_s for k in known))
    axes: dict[str, tuple[str, Any]] = {
        "version": ("version", lambda _, k: k.curve.versions),
        "time": (f"time ({unit})", lambda _, k: k.curve.times / divisor),
        "bytes moved": (
            "bytes moved, both directions (MB)",
            lambda run, k: (
                bytes_so_far(run)[np.searchsorted(column(run.rounds, "version"), k.curve.versions)]
                / 1e6
            ),
        ),
    }
    pictures = []
    for name, (across, x) in axes.items():
        curves = [
            (row["run"], np.asarray(x(run, k)), k.curve.values * scale)
            for row, run, k in zip(found.rows, runs, known, strict=True)
            if len(k.curve.values)
        ]
        title = f"{words.metric_name(found.metric)} by {name}"
        about = f"{title}, a curve for each of {len(curves)} runs."
        if curves:
            chart = charts.overlay_chart(curves, across, up)
            pictures.append(Picture(f"by-{name.split()[0]}", title, about, chart))
    return pictures
