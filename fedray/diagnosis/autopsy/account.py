"""All that an autopsy knows about one fall, as `autopsy.json` has it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedray.diagnosis.autopsy import breakdown
from fedray.diagnosis.autopsy.examination import Examined, Worst
from fedray.diagnosis.autopsy.falls import Loss
from fedray.diagnosis.autopsy.terms import Share, Term, compared, medians
from fedray.diagnosis.counterfactual.study import Study
from fedray.report import figures
from fedray.report.run import Run
from fedray.types import Floats

Found = dict[str, Any]


def account(
    run: Run, of: figures.Curve, study: Study, who: breakdown.Roster, examined: Examined,
    loss: Loss, steps: Sequence[int],
) -> Found:  # fmt: skip
    """All that is known about one fall, but for the words; `steps` are the inspected ones."""
    times = figures.column(run.rounds, "virtual_time_s")
    start, end = (_point(run, of, examined, v) for v in (loss.from_version, loss.to_version))
    sign = 1.0 if of.higher_is_better else -1.0
    lost = sign * (start["value"] - end["value"]) if loss.kind == "step" else loss.lost
    back = loss.recovered_version
    updates = breakdown.joined([examined.effects[version] for version in steps])
    worst = examined.worst[loss.from_version, loss.to_version]
    return {
        "kind": loss.kind,
        "lost": lost,
        "from": start,
        "to": end,
        "recovered": None if back is None else {"version": back, "time_s": float(times[back])},
        "steps": loss.to_version - loss.from_version,
        "inspected": len(steps),
        "worst": _worst(examined, worst, float(times[worst.version])),
        "effect": _effect(examined, steps),
        "groups": breakdown.by_age(updates),
        "clients": breakdown.by_client(updates, who),
        "labels": breakdown.by_label(updates, who),
        "classes_lost": _classes_lost(
            run, study, examined, loss, breakdown.label_mix(updates, who)
        ),
        "terms": _terms(worst.terms, examined.others),
    }


def _point(run: Run, of: figures.Curve, examined: Examined, version: int) -> Found:
    """A version and its figure of merit, as recorded, else as replayed."""
    value = figures.column(run.rounds, of.name)[version]
    if math.isnan(value) and version in examined.scores:
        value = getattr(examined.scores[version], of.name)
    time_s = figures.column(run.rounds, "virtual_time_s")[version]
    return {"version": version, "time_s": float(time_s), "value": float(value)}


def _worst(examined: Examined, worst: Worst, time_s: float) -> Found:
    """The step in which most was lost."""
    return {
        "version": worst.version,
        "time_s": time_s,
        "lost": worst.lost,
        "loss_before": examined.scores[worst.version - 1].loss,
        "loss_after": examined.scores[worst.version].loss,
        "updates": len(examined.effects[worst.version].clients),
    }


def _effect(examined: Examined, steps: Sequence[int]) -> Found:
    """What the inspected steps did to the test loss, and by what."""
    of_steps, scores = [examined.effects[version] for version in steps], examined.scores
    first_order = float(sum(step.first_order for step in of_steps))
    actual = float(sum(scores[v].loss - scores[v - 1].loss for v in steps))
    return {
        "updates": float(sum(step.effects.sum() for step in of_steps)),
        "memory": float(sum(step.memory for step in of_steps)),
        "first_order": first_order,
        "actual": actual,
        "left_over": actual - first_order,
    }


def _classes_lost(
    run: Run, study: Study, examined: Examined, loss: Loss, mix: Floats | None
) -> list[Found] | None:
    data = study.federation
    if not data.classification:
        return None
    counts = np.bincount(data.y_test, minlength=len(data.classes))
    recorded = run.rounds.column("accuracy_per_class")
    rows = []
    for version in (loss.from_version, loss.to_version):
        row = recorded[version].as_py()
        if row is None and version in examined.scores:
            row = examined.scores[version].accuracy_per_class
        rows.append(row)
    return breakdown.classes_lost(rows[0], rows[1], data.classes, counts, mix)


def _terms(worst: Mapping[str, Term] | None, others: Sequence[Mapping[str, Term]]) -> Found | None:
    """The terms of the worst step, and what is usual at others."""
    if worst is None:
        return None
    shares = compared(worst, others)
    return {
        "worst": _plain(worst),
        "usual": _plain(medians(others)) if others else None,
        "steps": len(others),
        "shares": None if shares is None else _plain(shares),
    }


def _plain(by_term: Mapping[str, Term | Share]) -> Found:
    return {name: entry._asdict() for name, entry in by_term.items()}
