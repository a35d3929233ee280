"""An autopsy in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import inf, isfinite
from typing import Any

from fedray.diagnosis.counterfactual.study import Study

Fall = Mapping[str, Any]


def in_words(fall: Fall, found: Mapping[str, Any]) -> list[str]:
    """What happened, in a few sentences: how much, why to first order, who, and what is lost."""
    metric = found["run"]["metric"]
    sentences = [
        _what(fall, metric),
        _against_noise(fall, found["noise"], metric),
        _first_order(fall),
        _who(fall),
        _classes(fall, metric),
        _terms(fall),
    ]
    return [text for text in sentences if text]


def points(value: float, metric: str) -> str:
    """A difference of the figure of merit, without sign."""
    return f"{100 * abs(value):.1f} points" if metric == "accuracy" else f"{abs(value):.3g}"


def figure(value: float, metric: str) -> str:
    """The figure of merit."""
    return f"{100 * value:.1f}%" if metric == "accuracy" else f"{value:.4g}"


def name_of(metric: str) -> str:
    """The figure of merit by its name."""
    return "accuracy" if metric == "accuracy" else "R²"


def _what(fall: Fall, metric: str) -> str:
    start, end, name = fall["from"], fall["to"], name_of(metric)
    values = f"({figure(start['value'], metric)} to {figure(end['value'], metric)})"
    back, lost = fall["recovered"], points(fall["lost"], metric)
    if fall["kind"] == "step" and fall["lost"] == 0:
        return (
            f"The step to version {end['version']} left {name} at {figure(end['value'], metric)}."
        )
    if fall["kind"] == "step":
        verb = "lowered" if fall["lost"] >= 0 else "raised"
        return f"The step to version {end['version']} {verb} {name} by {lost} {values}."
    if fall["kind"] == "shift":
        until = f"until version {back['version']}" if back else "and stayed down"
        return f"From version {end['version']} on, mean {name} was {lost} lower, {until}."
    until = f"it had recovered by version {back['version']}" if back else "it never recovered"
    return (
        f"From version {start['version']} to {end['version']} {name} fell by {lost} {values}; "
        f"{until}."
    )


def _against_noise(fall: Fall, noise: float, metric: str) -> str:
    """Says where a fall is no larger than the curve's own jitter."""
    if fall["kind"] == "shift" or not noise or not 0 < fall["lost"] <= 3 * noise:
        return ""
    return (
        f"That is within three standard deviations ({points(noise, metric)} each) of this curve's "
        "jitter between evaluations, so it may be chance."
    )


def _first_order(fall: Fall) -> str:
    effect, inspected = fall["effect"], fall["inspected"]
    actual, first, memory = effect["actual"], effect["first_order"], effect["memory"]
    if not isfinite(actual):
        return "The test loss is no longer a finite number: the model has diverged."
    if fall["steps"] == 1:
        loss = "The test loss"
    elif inspected == fall["steps"]:
        loss = f"Over these {inspected} steps the test loss"
    else:
        loss = f"Over the {inspected} worst of these {fall['steps']} steps the test loss"
    if actual <= 0:
        return _where_loss_fell(fall, loss)
    loss += f" rose by {actual:.3g}"
    if abs(first) < 0.1 * actual:
        return f"{loss}, almost all of it curvature: to first order the updates cancel out."
    if first <= 0:
        return (
            f"{loss}, although to first order the updates lowered it by {-first:.3g}: the "
            "direction was right, but the steps were too long."
        )
    if effect["left_over"] > 0.5 * actual:
        return f"{loss}, {first:.3g} of it to first order; the rest is curvature."
    part = (
        f", {memory:.3g} of which is the server optimizer's memory of earlier steps"
        if memory > 0.1 * first
        else ""
    )
    return f"{loss}; to first order the updates raised it by {first:.3g}{part}."


def _where_loss_fell(fall: Fall, loss: str) -> str:
    """What there is to say where the test loss did not rise."""
    actual, first = fall["effect"]["actual"], fall["effect"]["first_order"]
    if fall["lost"] > 0:
        return (
            f"{loss} nevertheless fell by {-actual:.3g}: some samples crossed the decision "
            "boundary while the fit improved on average, so no update is blamed."
        )
    verb = "lowered" if first <= 0 else "would have raised"
    return (
        f"{loss} fell by {-actual:.3g}; to first order the updates {verb} it by {abs(first):.3g}."
    )


def _who(fall: Fall) -> str:
    if fall["lost"] > 0 and fall["effect"]["actual"] <= 0:
        return ""
    found = []
    if stale_harm(fall):
        found.append(stale_harm(fall))
    first = next(iter(fall["clients"]["harmful"]), None)
    if first is not None and first["share"] and first["share"] >= 0.25:
        labels = first["labels"]
        mix = f" (labels {shares(labels)})" if labels else ""
        found.append(f"the updates of {first['name']}{mix} did {first['share']:.0%} of the harm")
    text = "; ".join(found)
    return text[:1].upper() + text[1:] + "." if text else ""


def stale_harm(fall: Fall) -> str:
    """Stale updates, where they did more harm than their weight accounts for; else empty."""
    stale, fresh = fall["groups"]["stale"], fall["groups"]["fresh"]
    weight = stale["weight"] + fresh["weight"]
    if not weight or not fresh["updates"] or not stale["share"]:
        return ""
    part = stale["weight"] / weight
    if stale["share"] <= part + 0.1:
        return ""
    return f"stale updates did {stale['share']:.0%} of the harm with {part:.0%} of the weight"


def shares(labels: Mapping[str, float]) -> str:
    """Labels with their shares: 7: 71%, 1: 20%."""
    return ", ".join(f"{label}: {share:.0%}" for label, share in labels.items())


def _classes(fall: Fall, metric: str) -> str:
    lost = [
        one for one in fall["classes_lost"] or [] if one["lost"] > 0 and (one["share"] or 0) > 0.1
    ]
    if not lost or fall["lost"] <= 0:
        return ""
    said = (
        f"{one['label']} (down {points(one['lost'], metric)}, {one['share']:.0%} of the fall)"
        for one in lost[:3]
    )
    text = f"{'Classes' if len(lost) > 1 else 'Class'} hit hardest: {', '.join(said)}."
    absent = [one["label"] for one in lost[:3] if one["trained"] == 0]
    if not absent:
        return text
    return f"{text} None of the clients in these steps has a sample of class {_either(absent)}."


def _either(labels: Sequence[str]) -> str:
    *others, last = labels
    return f"{', '.join(others)} or {last}" if others else last


def _terms(fall: Fall) -> str:
    """The culprits among the terms, by the rule of `terms.RULE`."""
    terms = fall["terms"]
    if terms is None or terms["shares"] is None or not 0 < fall["effect"]["actual"] < inf:
        return ""
    worst = "this step" if fall["steps"] == 1 else "the worst step"
    at = f"at {worst}, to version {fall['worst']['version']},"
    named = culprits(fall)
    if named:
        return f"{at[:1].upper()}{at[1:]} {harm_of(fall, named)}."
    return (
        f"No term of the decomposition did unusually much harm {at} compared with "
        f"{terms['steps']} other steps."
    )


def culprits(fall: Fall) -> list[str]:
    """The terms that did unusually much harm at the worst step, the most harmful first."""
    terms = fall["terms"]
    if terms is None or terms["shares"] is None:
        return []
    named = [name for name, one in terms["shares"].items() if one["unusual"]]
    return sorted(named, key=lambda name: -float(terms["worst"][name]["effect"]))


def harm_of(fall: Fall, names: Sequence[str]) -> str:
    """The shares of culprits at the worst step of a fall, and usually."""
    terms, said = fall["terms"], []
    for name in names:
        one = terms["shares"][name]
        others = (
            f"median of {terms['steps']} other steps {_signed(one['usual'])}, all but one at most "
            f"{_signed(one['bar'])}"
        )
        said.append(f"{name} made up {_signed(one['worst'])} ({others})")
    return f"{' and '.join(said)} of the effects of all terms, up and down"


def _signed(share: float) -> str:
    """A percentage with its sign; nothing is 0%."""
    return f"{share:+.0%}" if round(100 * share) else "0%"


def notes(found: Mapping[str, Any], study: Study) -> list[str]:
    """What limits this autopsy."""
    return list(_notes(found, study))


def _notes(found: Mapping[str, Any], study: Study) -> Iterator[str]:
    replay = found["replay"]
    if replay["same"] is False:
        yield (
            "The replay is not the run: its evaluations differ from the recorded ones by up to "
            f"{replay['difference']:.2g}. Another version of numpy, another processor or changed "
            "data can do this. Everything above describes the replay."
        )
    elif replay["same"] is None:
        yield "The run evaluated no version that was replayed, so the replay is not checked."
    if any(fall["inspected"] < fall["steps"] for fall in found["falls"]):
        yield "Only the worst steps of long falls are inspected; sums are over those."
    if any(fall["kind"] == "shift" for fall in found["falls"]):
        yield "For a shift, the steps between the two evaluations around it are inspected."
    optimizer = study.plan.config.server.optimizer.kind
    if optimizer not in ("sgd", "momentum"):
        yield (
            f"server.optimizer {optimizer} scales each parameter by its history; effects are "
            "computed with that scale, and the term residual holds what it changes."
        )
    elif optimizer == "momentum":
        yield "What server momentum carries over from earlier steps is in the term residual."
