"""The section of a run's report on the steps that `diagnosis.decompose` looked into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fedray.report import words
from fedray.report.charts import BLUE, SERIES
from fedray.report.client_effects import client_effects, clients_picture, clients_table
from fedray.report.decomposition_charts import (
    Steps,
    bar_note,
    curves_chart,
    norms_chart,
    steps_chart,
)
from fedray.report.definitions import LOOKED_INTO, TERMS
from fedray.report.diagnosis.effects import minus
from fedray.report.figures import column
from fedray.report.layout import Picture, Section, Table
from fedray.types import Floats

if TYPE_CHECKING:
    import pyarrow as pa

    from fedray.report.facts import Facts
    from fedray.report.run import Run


def decomposition_section(run: Run, known: Facts, names: Mapping[int, str]) -> Section:
    """Empty where no version was looked into, as in runs of before there was any looking."""
    title, rounds = "What each step was made of", run.rounds
    of = steps(rounds)
    pictures, tables, text = [], [], []
    if of is not None:
        text, pictures = list(_READING), _terms(of)
        tables.append(_terms_table(of))
    pictures += _figures(rounds, known)
    if of is not None and (clients := client_effects(run.decomposition, rounds)):
        pictures.append(clients_picture(clients, names))
        tables.append(clients_table(clients, names))
    return Section("steps", title, text, pictures, tables, columns=2)


_READING = (
    "A step follows a direction that is not the gradient of the training loss over all clients' "
    "data. What is wrong with it is the sum of five terms, exactly. To first order, a step changes "
    "the training loss by minus its size times the inner product of direction and gradient, and "
    "each term has its part in that: below zero it lowered the loss, above zero it raised it. "
    "What the gradient alone would have done is shown beside the terms; the line is their sum.",
)


def steps(rounds: pa.Table) -> Steps | None:
    """The looked-into versions with all of their terms; None where there is none."""
    size, gradient = column(rounds, "step_size"), column(rounds, "gradient_norm")
    dots = {t: column(rounds, f"{t}_dot") for t in TERMS if t != "gradient"}
    dots["gradient"] = gradient**2
    norms = {t: column(rounds, f"{t}_norm") for t in TERMS}
    kept = np.isfinite(size) & np.logical_and.reduce([np.isfinite(d) for d in dots.values()])
    if not kept.any():
        return None
    effects = {t: -(size * dot)[kept] for t, dot in dots.items()}
    return Steps(
        column(rounds, "version")[kept].astype(np.int64),
        {t: norm[kept] for t, norm in norms.items()},
        effects,
        np.add.reduce(list(effects.values())),
    )


def _terms(of: Steps) -> list[Picture]:
    total = ", ".join(
        f"{TERMS[term].name.lower()} {minus(words.number(float(effects.sum())))}"
        for term, effects in of.effects.items()
    )
    lengths = ", ".join(
        f"{TERMS[term].name.lower()} {words.number(float(norm.mean()))}"
        for term, norm in of.norms.items()
    )
    return [
        Picture(
            "steps-effects",
            "Effect of each term on the training loss",
            f"Sums over the versions looked into: {total}.",
            steps_chart(of),
            bar_note(of),
        ),
        Picture(
            "steps-norms",
            "Length of each term",
            f"Mean norms: {lengths}.",
            norms_chart(of),
            "A term as long as the gradient can undo it; a long term at right angles to the "
            "gradient only makes the step noisy.",
        ),
    ]


def _terms_table(of: Steps) -> Table:
    """Each term over the whole run."""
    gradient = of.norms["gradient"]
    rows = []
    for term, effects in of.effects.items():
        with np.errstate(invalid="ignore", divide="ignore"):
            relative = of.norms[term] / gradient
        relative = relative[np.isfinite(relative)]
        rows.append(
            (
                TERMS[term].name,
                words.number(float(relative.mean())) if len(relative) else words.NONE,
                minus(words.number(float(effects.sum()))),
                words.percent(float((effects > 0).mean())),
                TERMS[term].meaning,
            )
        )
    counted = f"{len(of.versions):,} version{'' if len(of.versions) == 1 else 's'}"
    header = ("term", "length / gradient's", "effect, summed", "raised the loss in", "meaning")
    return Table(f"The terms, over the {counted} looked into", header, rows, header[1:4])


def _figures(rounds: pa.Table, known: Facts) -> list[Picture]:
    """Local training, disagreement of the clients, distance from pooled training."""
    pictures = []
    accuracy = known.metric == "accuracy"
    scale, up = (100.0, "accuracy (%)") if accuracy else (1.0, "R²")
    versions, own = column(rounds, "version").astype(np.int64), column(rounds, known.metric)
    groups = {
        "local": (
            up,
            {
                "own shard, before": ("accuracy_before", SERIES[5]),
                "own shard, after": ("accuracy_after", SERIES[3]),
                "clients, test set": ("client_accuracy", SERIES[4]),
            },
            scale,
        ),
        "aggregation": (
            "points" if accuracy else "R²",
            {"aggregation gap": ("aggregation_gap", BLUE)},
            scale,
        ),
        "dissimilarity": ("B²", {"B²": ("gradient_dissimilarity", BLUE)}, 1.0),
        "divergence": ("relative distance", {"distance": ("divergence", BLUE)}, 1.0),
        "pooled": (up, {"pooled, test set": ("pooled_accuracy", SERIES[2])}, scale),
    }
    for name, (axis, curves, factor) in groups.items():
        found = {n: (column(rounds, key), colour) for n, (key, colour) in curves.items()}
        known_at = np.logical_or.reduce([np.isfinite(v) for v, _ in found.values()])
        if known_at.sum() < 2:
            continue
        if name in ("local", "pooled"):
            found["server, test set"] = (np.where(known_at, own, np.nan), BLUE)
        title, note = LOOKED_INTO[name]
        chart = curves_chart(versions, found, axis, factor)
        pictures.append(Picture(f"steps-{name}", title, _ends(title, found), chart, note))
    return pictures


def _ends(title: str, found: Mapping[str, tuple[Floats, object]]) -> str:
    said = []
    for name, (values, _) in found.items():
        finite = values[np.isfinite(values)]
        if len(finite):
            said.append(f"{name} {words.number(float(finite[-1]))}")
    return f"{title}. At the end: {', '.join(said)}."
