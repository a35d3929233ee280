"""What happened at a fall: which updates, clients, labels and terms did the harm.

`autopsy.json`. Values are accuracy fractions (R^2 for regression), losses are those of the
test set without regularisation, effects are changes of that loss: positive is harm. Null
where something is not known. CLIENT is {"client": 3, "name": "client 3", "effect": x,
"share": of all harm or null, "updates": n, "staleness": mean, "weight": sum of the weights,
"labels": {"7": 0.6, ...} (largest three shares of its training labels) or null}.

    {"format": 1,
     "run": {"name", "algorithm", "mode", "clock", "seed", "clients", "versions",
             "metric": "accuracy" | "r2", "classes": [...]},
     "replay": {"starts": [0, 40] (version 0, checkpoints), "versions": replayed,
                "checked": evaluations compared, "same": true | false | null (none compared),
                "difference": largest difference of the figure of merit},
     "methods": {"search": sentence, "effects": sentence, "terms": sentence,
                 "outliers": sentence},
     "noise": standard deviation of the curve's jitter,
     "asked": null | version of --at,
     "falls": [ in the order they are to be shown:
       {"kind": "fall" | "shift" | "step" (--at),
        "lost": x (negative: a step that gained),
        "from": {"version", "time_s", "value"}, "to": {"version", "time_s", "value"},
        "recovered": null | {"version", "time_s"},
        "steps": versions made from `from` to `to`, "inspected": how many of them, the worst,
        "worst": {"version", "time_s", "lost", "loss_before", "loss_after", "updates"},
        "effect": {sums over the inspected steps:
          "updates": first order, all updates; "memory": first order, the server optimizer's
          momentum; "first_order": their sum; "actual": change of the test loss;
          "left_over": actual - first_order (curvature)},
        "groups": {"stale": GROUP, "fresh": GROUP} with GROUP = {"updates", "weight", "effect",
          "harm": sum of the positive effects, "share": of all harm},
        "clients": {"harmful": [CLIENT], "helpful": [CLIENT]} (five each at most),
        "labels": null | [{"label", "effect"}] most harmful first,
        "classes_lost": null | [{"label", "before", "after", "lost", "share": of the fall,
          "trained": share of the label in what the inspected updates were trained on}],
        "terms": null | {"worst": {TERM: {"norm", "dot", "effect"}}, "usual": null | {the same,
          medians over other steps}, "steps": how many those are, "shares": null (too few of
          them) | {TERM: {"worst": share of the worst step by methods.terms, -1 to 1, "usual":
          median over the other steps, "bar": the second largest of them, "unusual": whether
          the term is a culprit}}}
          with TERM gradient (not in shares), participation, staleness, drift, noise, residual:
          their effects sum to the first-order effect of the worst step; dot is the inner product
          with the gradient of the training objective,
        "words": [sentences]}],
     "outliers": [{"client", "name", "score": robust z, "effect": mean per unit weight and unit
        test gradient, "others": median of the other clients, "updates", "against": share of its
        updates that raise the test loss, "labels"}],
     "mitigations": [{"cause": "staleness" | "participation" | "drift" | "noise" | "optimizer" |
        "step" | "client", "title", "evidence": what was found (at the first of its falls),
        "reason": what this does about it (may be empty), "set":
        ["server.schedule.max_staleness=4"] (may be empty), "falls": [indices into falls]}],
     "notes": [sentences]}
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fedray.config.load import load
from fedray.diagnosis.autopsy import breakdown, falls, suspects
from fedray.diagnosis.autopsy.account import account
from fedray.diagnosis.autopsy.examination import Examined, Watch, examine
from fedray.diagnosis.autopsy.falls import Loss
from fedray.diagnosis.autopsy.mitigations import mitigations
from fedray.diagnosis.autopsy.terms import RULE
from fedray.diagnosis.autopsy.words import in_words, notes
from fedray.diagnosis.counterfactual.study import Study, build_study
from fedray.diagnosis.counterfactual.trace import only_recorded, recorded_groups
from fedray.errors import InputError
from fedray.report import figures
from fedray.report.run import CONFIG, Run

FORMAT = 1
STEPS = 40
"""Steps of a fall that are inspected, the worst ones."""
EFFECTS = (
    "an update's effect is its weighted step times the gradient of the test loss at the version "
    "before it, to first order; whatever the loss did beyond their sum is curvature"
)

Found = dict[str, Any]


def autopsy(run: Run, *, at: int | None = None, top: int = 3, watch: Watch | None = None) -> Found:
    """Examines the `top` largest falls of a run and its shifts of level, or one step.

    The versions around them are computed anew, from the checkpoint before them or from
    version 0, in this process; `watch` is told (versions done, versions in all). The caller
    pins BLAS to one thread, as runs do. Raises InputError for a run without gradients, for
    data that is no longer there, and for `at` (the version that a step made) out of range.
    """
    of = figures.curve(run.rounds, "accuracy" if run.classification else "r2")
    losses = falls.losses(of, top) if at is None else [_step(run, at)]
    found = _empty(run, of, at)
    if not losses:
        found["notes"] = [_no_fall(of)]
        sklearn = (run.config.get("model") or {}).get("kind") == "sklearn"
        if sklearn or run.rounds.num_rows < 2:
            return found
    study = _study(run)
    steps = [falls.worst_steps(of, loss, STEPS) for loss in losses]
    # Without a fall clients are judged where most is learnt: in the first versions.
    spans = [(loss.from_version, loss.to_version) for loss in losses] or [(0, 0)]
    examined = examine(
        run.path, study, spans, steps or [[]], of.versions.tolist(),
        higher_is_better=of.higher_is_better, watch=watch,
    )  # fmt: skip
    who = breakdown.roster(study.federation)
    found["replay"] = _check(run, of, examined)
    found["falls"] = [
        account(run, of, study, who, examined, loss, inspected)
        for loss, inspected in zip(losses, steps, strict=True)
    ]
    found["outliers"] = suspects.outliers(_judged_by(run, examined), who)
    for fall in found["falls"]:
        fall["words"] = in_words(fall, found)
    found["mitigations"] = mitigations(load(run.path / CONFIG), study, found)
    found["notes"] += notes(found, study)
    return found


def _empty(run: Run, of: figures.Curve, at: int | None) -> Found:
    """An autopsy that has found nothing yet."""
    return {
        "format": FORMAT,
        "run": _facts(run, of.name),
        "replay": {"starts": [], "versions": 0, "checked": 0, "same": None, "difference": None},
        "methods": {
            "search": falls.METHOD, "effects": EFFECTS, "terms": RULE, "outliers": suspects.METHOD,
        },
        "noise": falls.noise(of.values),
        "asked": at,
        "falls": [], "outliers": [], "mitigations": [], "notes": [],
    }  # fmt: skip


def _judged_by(run: Run, examined: Examined) -> breakdown.Updates:
    """The updates that clients are judged by: those examined, or those recorded if more."""
    updates, recorded = breakdown.joined([*examined.effects.values()]), suspects.recorded(run)
    if recorded is not None and len(recorded.clients) > len(updates.clients):
        return recorded
    return updates


def _step(run: Run, at: int) -> Loss:
    newest = run.rounds.num_rows - 1
    if not 1 <= at <= newest:
        raise InputError(
            f"{at}: {run.path} has versions 0 to {newest}; a step is named by the version that it "
            f"made, 1 to {newest}",
            key="--at",
        )
    return Loss("step", math.nan, at - 1, at)


def _study(run: Run) -> Study:
    loaded = load(run.path / CONFIG)
    if loaded.config.model.kind == "sklearn":
        raise InputError(
            "sklearn estimators give no gradients, so the effect of an update cannot be computed; "
            "autopsy needs softmax, linear or mlp",
            key="model.kind",
        )
    trace = recorded_groups(run) if only_recorded(loaded.config) else None
    return build_study(loaded.config, loaded.base_dir, reshuffled=False, trace=trace)


def _no_fall(of: figures.Curve) -> str:
    if len(of.values) < 2:
        return "No fall: the run was evaluated only once."
    name = "accuracy" if of.name == "accuracy" else "R²"
    return (
        f"No fall: over {len(of.values)} evaluations {name} was never below its best so far. "
        "Look at a single step with --at VERSION."
    )


def _facts(run: Run, metric: str) -> Found:
    config, server = run.config, run.config.get("server") or {}
    return {
        "name": run.name,
        "algorithm": config.get("algorithm"),
        "mode": (server.get("schedule") or {}).get("mode"),
        "clock": config.get("clock"),
        "seed": config.get("seed"),
        "clients": run.clients.num_rows,
        "versions": run.rounds.num_rows - 1,
        "metric": metric,
        "classes": [str(name) for name in run.summary.get("classes") or []],
    }


def _check(run: Run, of: figures.Curve, examined: Examined) -> Found:
    """Compares the scores of replayed versions with those that the run recorded."""
    recorded = {name: figures.column(run.rounds, name) for name in (of.name, "loss")}
    checked, same, largest = 0, True, 0.0
    for version, scores in examined.scores.items():
        values = [getattr(scores, name) for name in recorded]
        then = [float(column[version]) for column in recorded.values()]
        if not math.isnan(then[0]):
            checked += 1
            same = same and np.array_equal(values, then, equal_nan=True)
            largest = max(largest, abs(values[0] - then[0]))
    return {
        "starts": examined.starts,
        "versions": examined.replayed,
        "checked": checked,
        "same": same if checked else None,
        "difference": largest if checked else None,
    }
