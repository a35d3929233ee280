"""The report's main pictures as PNG files, for papers and slides. No pyplot, so no global state."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedray.report import words
from fedray.report.facts import Facts, facts
from fedray.report.figures import (
    Curve,
    Fall,
    column,
    label_matrix,
    smooth,
    staleness_histogram,
    thin,
    window_without_start,
    worth_marking,
)
from fedray.report.run import Run

BLUE, RED, GREY = "#0072B2", "#D55E00", "#8A94A3"
STATUS_COLOURS = {"applied": BLUE, "stale": RED, "late": "#E69F00", "rejected": "#CC79A7"}


class ShownFigure(Figure):
    """A figure that a notebook shows even where pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        target = io.BytesIO()
        FigureCanvasAgg(self)
        self.savefig(target, format="png")
        return target.getvalue()


def overview(run: Run) -> Figure:
    """Figure of merit and loss, over versions and over virtual time."""
    known = facts(run)
    figure = ShownFigure(figsize=(9, 5.6), layout="constrained")
    grid = np.asarray(figure.subplots(2, 2, sharex="col", sharey="row"))
    marked = worth_marking(known.falls, known.curve)
    for column_, over in enumerate(("version", "time")):
        _curve(grid[0, column_], known.curve, over, known, marked)
        _curve(grid[1, column_], known.loss, over, known)
        grid[0, column_].set_xlabel("")
    for axes in grid[:, 1]:
        axes.set_ylabel("")
    figure.suptitle(_literal(run.name))
    return figure


def write_plots(run: Run, folder: Path) -> list[Path]:
    """Writes accuracy.png (or r2.png), loss, staleness, partition and drift into `folder`.

    A picture for which the run recorded nothing is left out.
    """
    known = facts(run)
    folder.mkdir(exist_ok=True)
    marked = worth_marking(known.falls, known.curve)
    drawings: dict[str, Callable[[Axes], bool]] = {
        known.metric: lambda axes: _curve(axes, known.curve, "version", known, marked),
        "loss": lambda axes: _curve(axes, known.loss, "version", known),
        "staleness": lambda axes: _staleness(axes, run),
        "partition": lambda axes: _partition(axes, run, known),
        "drift": lambda axes: _drift(axes, run),
    }
    written = []
    for name, draw in drawings.items():
        figure = Figure(figsize=(6.4, 4), layout="constrained", dpi=120)
        FigureCanvasAgg(figure)
        target = folder / f"{name}.png"
        if draw(figure.subplots()):
            # The software's version would make equal runs differ in bytes.
            figure.savefig(target, metadata={"Software": None})
            written.append(target)
        else:
            target.unlink(missing_ok=True)
    return written


def _literal(text: str) -> str:
    """A user's string for matplotlib, to which a pair of dollars is mathematics."""
    return text.replace("\\", "\\\\").replace("$", r"\$") if "$" in text else text


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#E4E8EE", linewidth=0.8)
    axes.set_axisbelow(True)


def _curve(axes: Axes, of: Curve, over: str, known: Facts, marked: Sequence[Fall] = ()) -> bool:
    """A figure of merit; False where it was never evaluated."""
    _bare(axes)
    if not len(of.values):
        return False
    scale = 100.0 if of.name == "accuracy" else 1.0
    divisor, unit = words.time_unit(float(of.times.max()))
    x = of.versions if over == "version" else of.times / divisor
    kept = thin(of.values, 3000)
    if of.higher_is_better:
        axes.plot(
            x[kept],
            of.best[kept] * scale,
            color=GREY,
            ls=":",
            lw=1.2,
            label="running best",
        )
    axes.plot(
        x[kept],
        of.values[kept] * scale,
        color=BLUE,
        lw=1.6,
        marker="o" if len(kept) <= 60 else "",
        ms=3,
    )
    if marked:
        axes.plot(
            [f.to_version if over == "version" else f.to_time_s / divisor for f in marked],
            [f.to_value * scale for f in marked],
            ls="",
            marker="v",
            color=RED,
            label="falls",
        )
        axes.legend(frameon=False, fontsize=9)
    _limit(axes, of)
    axes.set_xlabel("version" if over == "version" else f"{words.time_name(known)} ({unit})")
    axes.set_ylabel(words.metric_name(of.name) + (" (%)" if scale == 100 else ""))
    return True


def _limit(axes: Axes, of: Curve) -> None:
    if (window := window_without_start(of)) is not None:
        axes.set_ylim(*window)
        return
    low, high = float(of.values.min()), float(of.values.max())
    if of.name == "r2" and low < -1 < high:
        axes.set_ylim(-1, max(high, 0) + 0.05)
    if of.name == "loss" and low > 0 and high / low > 50:
        axes.set_yscale("log")


def _staleness(axes: Axes, run: Run) -> bool:
    _bare(axes)
    histogram = staleness_histogram(run.updates)
    bottom = np.zeros(len(histogram.edges) - 1)
    width = histogram.edges[1] - histogram.edges[0]
    for status, counts in sorted(histogram.counts.items(), key=lambda item: item[0] != "applied"):
        axes.bar(
            histogram.edges[:-1] + (width - 1) / 2,
            counts,
            0.85 * width,
            bottom,
            color=STATUS_COLOURS.get(status, GREY),
            label=status.replace("_", " "),
        )
        bottom = bottom + counts
    if len(histogram.counts) > 1:
        axes.legend(frameon=False, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("staleness (versions)")
    axes.set_ylabel("updates")
    return bool(histogram.counts)


def _partition(axes: Axes, run: Run, known: Facts) -> bool:
    """Client by class as a picture; sizes only, for a regression."""
    matrix = label_matrix(run.clients, known.summary.get("classes") or ())
    if matrix is None:
        _bare(axes)
        sizes = column(run.clients, "examples")
        sizes = -np.sort(-sizes[np.isfinite(sizes)])
        axes.bar(np.arange(1, len(sizes) + 1), sizes, color=BLUE)
        axes.set_xlabel("client, by size")
        axes.set_ylabel("samples")
        return len(sizes) > 0
    share = 100 * matrix.counts / np.maximum(matrix.counts.sum(1, keepdims=True), 1)
    image: Any = axes.imshow(
        share, aspect="auto", cmap="Blues", vmin=0, vmax=100, interpolation="nearest"
    )
    step = max(1, len(matrix.classes) // 20)
    names = [_literal(c if len(c) <= 14 else c[:13] + "…") for c in matrix.classes[::step]]
    long = any(len(n) > 3 for n in names)
    axes.set_xticks(
        range(0, len(matrix.classes), step),
        names,
        rotation=40 if long else 0,
        ha="right" if long else "center",
    )
    rows = max(1, len(matrix.clients) // 12)
    axes.set_yticks(range(0, len(matrix.clients), rows), [str(c) for c in matrix.clients[::rows]])
    axes.set_xlabel("class")
    axes.set_ylabel("client")
    axes.figure.colorbar(image, ax=axes, label="% of the client's samples")
    return True


def _drift(axes: Axes, run: Run) -> bool:
    _bare(axes)
    versions, drift = column(run.rounds, "version"), column(run.rounds, "drift_mean")
    kept = np.isfinite(drift)
    if not kept.any():
        return False
    axes.plot(versions[kept], drift[kept], color=BLUE, lw=0.8, alpha=0.5)
    axes.plot(
        versions[kept], smooth(drift[kept], max(3, int(kept.sum()) // 20)), color=BLUE, lw=1.8
    )
    axes.set_xlabel("version")
    axes.set_ylabel("mean distance of local models from base")
    axes.set_ylim(bottom=0)
    return True
