"""An autopsy in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf, isfinite
from typing import Any

from fedray.diagnosis.autopsy.terms import NAMES
from fedray.diagnosis.counterfactual.study import Study

Fall = Mapping[str, Any]


def in_words(fall: Fall, found: Mapping[str, Any]) -> list[str]:
    """What happened, in a few sentences: how much, why to first order, who, and what is lost."""
    metric = found["run"]["metric"]
    told = [
        _what(fall, metric),
        _against_noise(fall, found["noise"], metric),
        _first_order(fall),
        _who(fall),
        _classes(fall, metric),
        _terms(fall),
    ]
    return [text for text in told if text]


def points(value: float, metric: str) -> str:
    """A difference of the figure of merit, without sign."""
    return f"{100 * abs(value):.1f} points" if metric == "accuracy" else f"{abs(value):.3g}"


def figure(value: float, metric: str) -> str:
    """The figure of merit."""
    return f"{100 * value:.1f}%" if metric == "accuracy" else f"{value:.4g}"


def _what(fall: Fall, metric: str) -> str:
    start, end, name = fall["from"], fall["to"], "accuracy" if metric == "accuracy" else "R²"
    values = f"({figure(start['value'], metric)} to {figure(end['value'], metric)})"
    back, lost = fall["recovered"], points(fall["lost"], metric)
    if fall["kind"] == "step":
        verb = "lowered" if fall["lost"] >= 0 else "raised"
        return f"The step to version {end['version']} {verb} {name} by {lost} {values}."
    if fall["kind"] == "shift":
        until = f"until version {back['version']}" if back else "and stayed down"
        return f"At version {end['version']} the level of {name} went down by {lost}, {until}."
    until = f"it was back at version {back['version']}" if back else "it never came back"
    return (
        f"From version {start['version']} to {end['version']} {name} fell by {lost} {values}; "
        f"{until}."
    )


def _against_noise(fall: Fall, noise: float, metric: str) -> str:
    """Says where a fall is no larger than the curve's own jitter."""
    if fall["kind"] == "shift" or not noise or abs(fall["lost"]) > 3 * noise:
        return ""
    return (
        "That is no more than three times what this curve jitters from one evaluation to the next "
        f"({points(noise, metric)}), so there may be nothing to explain."
    )


def _first_order(fall: Fall) -> str:
    effect, seen = fall["effect"], fall["inspected"]
    actual, first = effect["actual"], effect["first_order"]
    if not isfinite(actual):
        return "The test loss is no longer a finite number: the model has diverged."
    if fall["steps"] == 1:
        over = "The test loss"
    elif seen == fall["steps"]:
        over = f"Over its {seen} steps the test loss"
    else:
        over = f"Over the {seen} worst of its {fall['steps']} steps the test loss"
    loss = f"{over} {'rose' if actual > 0 else 'fell'} by {abs(actual):.3g}"
    if actual <= 0:
        return f"{loss}: predictions near the border changed, but the model is no worse on average."
    if first <= 0:
        return (
            f"{loss}, although to first order the updates lower it by {abs(first):.3g}: the "
            "direction was right, and the steps went too far."
        )
    if effect["left_over"] > 0.5 * actual:
        return f"{loss}, {first:.3g} of it to first order; the rest is curvature."
    memory = effect["memory"]
    part = (
        f", of which the server optimizer's memory did {memory:.3g}" if memory > 0.1 * first else ""
    )
    return f"{loss}: to first order the updates raise it by {first:.3g}{part}."


def _who(fall: Fall) -> str:
    stale, fresh = fall["groups"]["stale"], fall["groups"]["fresh"]
    told = []
    if stale["updates"] and fresh["updates"] and stale["share"]:
        weight = stale["weight"] / ((stale["weight"] + fresh["weight"]) or 1.0)
        told.append(
            f"stale updates did {stale['share']:.0%} of the harm with {weight:.0%} of the weight"
        )
    first = next(iter(fall["clients"]["harmful"]), None)
    if first is not None and first["share"] and first["share"] >= 0.25:
        labels = first["labels"]
        mix = f" (labels {shares(labels)})" if labels else ""
        told.append(f"{first['name']}{mix} did {first['share']:.0%} of the harm")
    text = "; ".join(told)
    return text[:1].upper() + text[1:] + "." if text else ""


def shares(labels: Mapping[str, float]) -> str:
    """Labels with their shares: 7 71%, 1 20%."""
    return ", ".join(f"{label} {share:.0%}" for label, share in labels.items())


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
    return f"Lost above all: class {', '.join(said)}."


def _terms(fall: Fall) -> str:
    terms = fall["terms"]
    if terms is None or not 0 < fall["effect"]["actual"] < inf:
        return ""
    harm = shares_of_harm(terms["worst"])
    name = max(NAMES[1:], key=lambda term: harm[term])
    if not harm[name]:
        return ""
    return f"At the worst step, to version {fall['worst']['version']}, {harm_of(fall, name)}."


def harm_of(fall: Fall, name: str) -> str:
    """What part of the harm a term did at the worst step of a fall, and usually does."""
    terms = fall["terms"]
    usual = ""
    if terms["usual"] is not None:
        usual = f" (usually {shares_of_harm(terms['usual'])[name]:.0%})"
    return f"{name} was {shares_of_harm(terms['worst'])[name]:.0%} of the harm{usual}"


def shares_of_harm(terms: Mapping[str, Any]) -> dict[str, float]:
    """By term, its effect over the sum of all that raise the test loss; 0 if it lowers it."""
    harm = {name: max(float(term["effect"]), 0.0) for name, term in terms.items()}
    total = sum(harm.values())
    return {name: part / total if 0 < total < inf else 0.0 for name, part in harm.items()}


def notes(found: Mapping[str, Any], study: Study) -> list[str]:
    """What limits this autopsy."""
    return list(_notes(found, study))


def _notes(found: Mapping[str, Any], study: Study) -> Iterator[str]:
    replay = found["replay"]
    if replay["same"] is False:
        yield (
            "The replay is not the run: its evaluations differ from the recorded ones by up to "
            f"{replay['difference']:.2g}. Other versions of numpy or another processor can do "
            "this; so can data that has changed. What follows is about the replay."
        )
    elif replay["same"] is None:
        yield "No replayed version was evaluated by the run, so the replay is not checked."
    if any(fall["inspected"] < fall["steps"] for fall in found["falls"]):
        yield "Of long falls only the worst steps are looked at; their sums are over those."
    if any(fall["kind"] == "shift" for fall in found["falls"]):
        yield "Of a shift the steps between the two evaluations around it are looked at."
    optimizer = study.plan.config.server.optimizer.kind
    if optimizer not in ("sgd", "momentum"):
        yield (
            f"server.optimizer {optimizer} scales every parameter by its history; effects take "
            "that scale as given, and the terms have what it changes in residual."
        )
    elif optimizer == "momentum":
        yield "What server momentum adds from earlier versions is effect.memory, and in residual."
