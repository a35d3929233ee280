"""What was tried against the causes, ranked: a section of a diagnosis's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedray.report import words
from fedray.report.charts import GREY, Chart, label, plain
from fedray.report.diagnosis.causes import CAUSES
from fedray.report.diagnosis.effects import Effect, Measure, effect
from fedray.report.diagnosis.reader import Diagnosis
from fedray.report.layout import Picture, Section, Table

Entry = Mapping[str, Any]
HELPS, COSTS = {"css": "helps"}, {"css": "costs"}


def prescription_section(of: Diagnosis) -> Section:
    """Mitigations by what they recover, with their price; empty where none was tried."""
    title, found = "What would help", of.prescription
    if not found:
        return Section("prescription", title)
    measure = of.measure
    ranking: list[Entry] = [entry for entry in found.get("ranking") or () if _recovered(entry)]
    text = [str(paragraph) for paragraph in found.get("words") or [found.get("verdict") or ""]]
    text.append(_tried(found))
    pictures, tables = [], []
    if ranking:
        pictures.append(_picture(ranking, measure))
        tables += [_ranking(ranking, measure), _commands(ranking)]
    if out := _out(found, measure):
        tables.append(out)
    return Section("prescription", title, [t for t in text if t], pictures, tables)


def acts_on(cause: Any) -> str:
    """A cause of the diagnosis, or that few clients make a version."""
    if cause in CAUSES:
        return CAUSES[cause].short
    return "partial participation" if cause == "participation" else str(cause or "")


def _recovered(entry: Entry) -> Effect | None:
    return effect(entry.get("recovered"))


def _tried(found: Mapping[str, Any]) -> str:
    """How the ranking came about."""
    rungs = found.get("rungs") or ()
    steps = "; ".join(
        f"{words.number(rung.get('tried'))} tried for {words.number(rung.get('updates'))} updates "
        f"on {_seeds(rung.get('seeds'))}, {words.number(rung.get('kept'))} kept"
        for rung in rungs
    )
    text = f"{words.number(found.get('tried'))} changes of the configuration were tried, each "
    text += f"with the run's own budget of {words.number(found.get('budget_updates'))} updates"
    halving = f" (successive halving: {steps})" if steps else ""
    return f"{text}{halving}. Recovered is how much higher the level ends than the run's."


def _seeds(count: Any) -> str:
    return "one seed" if count == 1 else f"{words.number(count)} seeds"


def _picture(ranking: Sequence[Entry], measure: Measure) -> Picture:
    title = "Recovered, best first"
    said = ", ".join(f"{e.get('name')} {measure.interval(_recovered(e))}" for e in ranking)
    note = "Green: the whole interval is above zero. Orange: it made the run worse."
    if any(one.low is None for one in map(_recovered, ranking) if one):
        note = "One seed: no intervals, so nothing can be said to beat the run."
    about = f"Recovered in {measure.unit}: {said}."
    return Picture("prescription-ranking", title, about, dots_chart(ranking, measure), note)


def dots_chart(ranking: Sequence[Entry], measure: Measure) -> Chart:
    """A dot per mitigation on its interval; zero is what there is."""
    effects = [one.times(measure.scale) for one in map(_recovered, ranking) if one]
    rows = list(range(len(ranking)))
    names = [label(str(entry.get("name")), 46) for entry in ranking]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": plain(one.value for one in effects),
        "y": rows,
        "marker": {"size": 10, "color": list(map(_colour, ranking, effects))},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": plain((o.value if o.high is None else o.high) - o.value for o in effects),
            "arrayminus": plain(o.value - (o.value if o.low is None else o.low) for o in effects),
            "color": {"css": "soft"},
            "thickness": 1.4,
            "width": 4 if any(o.low is not None for o in effects) else 0,
        },
        "customdata": [
            f"<b>{name}</b><br>{measure.interval(_recovered(entry))} {measure.unit}"
            for name, entry in zip(names, ranking, strict=True)
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    zero = {"type": "line", "x0": 0, "x1": 0, "y0": 0, "y1": 1, "yref": "paper", "layer": "below"}
    unit = "points of accuracy" if measure.metric == "accuracy" else "loss"
    return {
        "data": [trace],
        "layout": {
            "height": 110 + 30 * len(rows),
            "shapes": [zero | {"line": {"color": GREY, "width": 1.2}}],
            "xaxis": {"title": {"text": f"recovered ({unit})"}},
            "yaxis": {"tickvals": rows, "ticktext": names, "range": [len(rows) - 0.4, -0.6]},
        },
    }


def _colour(entry: Entry, of: Effect) -> Chart:
    if entry.get("beats"):
        return HELPS
    return COSTS if of.value < 0 and not of.doubtful else GREY


def _ranking(ranking: Sequence[Entry], measure: Measure) -> Table:
    """What each change wins, and what it costs against the run."""
    numeric = ("recovered", "fall reduced", "bytes", "time", "compute")
    rows = [
        (
            f"{place}. {entry.get('name')}",
            acts_on(entry.get("cause")),
            measure.interval(_recovered(entry)),
            measure.interval(effect(entry.get("fall_reduced"))),
            *(_ratio(entry.get(f"{price}_ratio")) for price in ("bytes", "time", "compute")),
            _better(entry),
        )
        for place, entry in enumerate(ranking, 1)
    ]
    unit = "points" if measure.metric == "accuracy" else "units of the loss"
    header = ("change", "acts on", *numeric, "better?")
    return Table(f"Won in {unit}; price as a multiple of the run's", header, rows, numeric)


def _better(entry: Entry) -> str:
    if entry.get("beats"):
        return "yes"
    recovered = _recovered(entry)
    sure = recovered and recovered.high is not None and recovered.high < 0
    return "worse" if sure else "unclear"


def _ratio(ratio: Any) -> str:
    if not isinstance(ratio, int | float):
        return words.NONE
    return f"{ratio:.2f}\N{MULTIPLICATION SIGN}"


def _commands(ranking: Sequence[Entry]) -> Table:
    rows = []
    for entry in ranking:
        why = " ".join(map(words.sentence, (entry.get("reason"), entry.get("note")))).strip()
        keys = ", ".join(f"{key}={value}" for key, value in (entry.get("set") or {}).items())
        rows.append((str(entry.get("name")), why, str(entry.get("command") or keys)))
    return Table("Why, and how to run it", ("change", "reason", "command"), rows)


def _out(found: Mapping[str, Any], measure: Measure) -> Table | None:
    """Who went out on the way."""
    rows = [
        (
            str(entry.get("name")),
            acts_on(entry.get("cause")),
            words.number(entry.get("rung")),
            _so_far(entry, measure),
        )
        for entry in found.get("dropped") or ()
    ]
    rows += [
        (str(e.get("name")), acts_on(e.get("cause")), words.number(e.get("rung")), "diverged")
        for e in found.get("diverged") or ()
    ]
    if not rows:
        return None
    caption = "Went out on the way: recovered so far, after fewer updates and on fewer seeds"
    return Table(caption, ("change", "acts on", "round", "recovered"), rows, ("round", "recovered"))


def _so_far(entry: Entry, measure: Measure) -> str:
    recovered = _recovered(entry)
    return "too few updates" if recovered is None else measure.difference(recovered.value)
