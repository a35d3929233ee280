"""The sections of a diagnosis's page that hold its findings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedray.report import words
from fedray.report.diagnosis.arm_charts import arm_name, curves_chart
from fedray.report.diagnosis.arm_curves import arm_curves
from fedray.report.diagnosis.cause_charts import Fall, interactions_chart, waterfall_chart
from fedray.report.diagnosis.causes import CAUSES, QUESTIONS
from fedray.report.diagnosis.effects import Effect, Measure, effect
from fedray.report.diagnosis.reader import Diagnosis
from fedray.report.layout import Picture, Section, Table


def costs_section(of: Diagnosis) -> Section:
    """Waterfalls of the level and of the largest fall, and all shares with intervals."""
    measure = of.measure
    pictures = [
        picture
        for picture in (
            _waterfall(of, "level", f"Final {measure.metric}, pooled to run", measure.axis),
            _waterfall(of, "fall", f"{_fall_name(measure)}, pooled to run", _fall_axis(measure)),
        )
        if picture
    ]
    text = [
        "Each bar is what switching that cause on costs, on average over all orders of switching: "
        "orange where it costs, green where it helped. Bars lead from training on the pooled data "
        "to the run."
    ]
    if any(share.low != share.high for share in of.shares().values()):
        text[0] += " Whiskers are intervals over seeds; pale bars have zero within theirs."
    views = [("At equal updates", False), ("At equal virtual time", True)]
    tables = [table for caption, by_time in views if (table := _shares(of, caption, by_time))]
    return Section("costs", "What each cause costs", text, pictures, tables, columns=2)


def _fall_name(measure: Measure) -> str:
    return "Largest fall" if measure.metric == "accuracy" else "Largest rise of the loss"


def _fall_axis(measure: Measure) -> str:
    return _fall_name(measure) + (" (points)" if measure.metric == "accuracy" else "")


def _waterfall(of: Diagnosis, question: str, title: str, axis: str) -> Picture | None:
    start, end = (
        effect((of.findings.get(which) or {}).get(question)) for which in ("pooled", "run")
    )
    shares, measure = of.shares(question), of.measure
    if start is None or end is None or not shares:
        return None
    if not any((start.value, end.value, *(share.value for share in shares.values()))):
        return None  # nothing ever fell
    down = question != "fall" and measure.higher_is_better
    chart = waterfall_chart(
        Fall(start.value, end.value, shares, down), measure, axis, ("pooled", "the run")
    )
    costs = ", ".join(
        f"{CAUSES[cause].short} {measure.interval(share)}" for cause, share in shares.items()
    )
    about = f"{title}. Costs in {measure.unit}: {costs}."
    return Picture(f"waterfall-{question}", title, about, chart, QUESTIONS[question][1])


def _shares(of: Diagnosis, caption: str, by_time: bool) -> Table | None:
    """Costs by cause and question in one view."""
    measure = of.measure
    asked = [question for question in QUESTIONS if of.shares(question, by_time=by_time)]
    if not asked:
        return None
    rows = [
        (
            CAUSES[cause].name,
            *(measure.interval(of.shares(q, by_time=by_time).get(cause)) for q in asked),
        )
        for cause in CAUSES
    ]
    gaps = (effect(of.part(q, by_time=by_time).get("gap")) for q in asked)
    rows.append(("All together: the gap", *map(measure.interval, gaps)))
    names = [QUESTIONS[question][0].lower() for question in asked]
    unit = "points of accuracy" if measure.metric == "accuracy" else "units of the loss"
    return Table(f"{caption}, cost in {unit}", ("cause", *names), rows, names)


def curves_section(of: Diagnosis) -> Section:
    """Learning curves of all arms, over updates and over virtual time."""
    pictures = []
    for over, title in (
        ("updates", "The arms by client updates"),
        ("virtual_time_s", "The arms by virtual time"),
    ):
        curves = arm_curves(of.arms, of.measure.metric, over)
        if not curves or max(curve.x[-1] for curve in curves) <= 0:
            continue
        ends = ", ".join(f"{arm_name(c.name)} {of.measure.level(c.final)}" for c in curves)
        chart = curves_chart(curves, of.measure, over)
        about = f"{title}. At the end: {ends}."
        note = "The steep start lies outside the picture; a double click shows it."
        cut = "range" in chart["layout"]["yaxis"]
        pictures.append(Picture(f"arms-{over}", title, about, chart, note if cut else ""))
    text = [
        "A cause has a colour: solid is the arm in which it alone is on, dashed the one in which "
        "it alone is off. Other arms wait in the legend: a click shows or hides a curve, a double "
        "click shows it alone."
    ]
    if len(of.findings.get("seeds") or ()) > 1:
        text.append("Curves are means over seeds; bands span the lowest to the highest seed.")
    return Section("arms", "The counterfactual arms", text, pictures)


def interactions_section(of: Diagnosis) -> Section:
    """What two causes cost together beyond what they cost apart."""
    pictures = []
    for question in ("level", "fall"):
        shares = of.shares(question)
        pairs = _pairs(of.part(question).get("interactions"))
        if not any(found.value for found in (*shares.values(), *pairs.values())):
            continue  # nothing to see: no figures, or all of them exactly zero
        title = f"{QUESTIONS[question][0]}, in {of.measure.unit}"
        said = ", ".join(
            f"{' with '.join(CAUSES[c].short for c in CAUSES if c in pair)} "
            f"{of.measure.interval(index)}"
            for pair, index in pairs.items()
        )
        chart = interactions_chart(shares, pairs, of.measure)
        pictures.append(Picture(f"interactions-{question}", title, f"{title}: {said}.", chart))
    text = [
        "On the diagonal, what each cause costs. Elsewhere, how much more one costs where the "
        "other is on than where it is off: positive (orange) means that they make each other "
        "worse, negative (green) that having both costs less than the sum of each, near zero "
        "that they act independently."
    ]
    return Section("interactions", "How the causes work together", text, pictures, columns=2)


def _pairs(of: Any) -> dict[frozenset[str], Effect]:
    found = {}
    for names, index in of.items() if isinstance(of, Mapping) else ():
        pair, value = frozenset(names.split("*")), effect(index)
        if len(pair & set(CAUSES)) == 2 and value is not None:
            found[pair] = value
    return found


def participation_section(of: Diagnosis) -> Section:
    """What full participation would change: the control beside the four causes."""
    control, run = of.findings.get("participation") or {}, of.findings.get("run") or {}
    title, measure = "What it costs that few clients take part", of.measure
    if not control:
        return Section("participation", title)
    rows = [
        (
            QUESTIONS[question][0],
            write(effect(run.get(question))),
            write(effect(control.get(question))),
            measure.interval(effect(control.get(f"{question}_gain"))),
        )
        for question, write in (
            ("level", measure.level_interval),
            ("fall", measure.interval),
            ("area", measure.level_interval),
        )
        if f"{question}_gain" in control
    ]
    header = ("", "the run", "full participation", "gained")
    clients = control.get("clients")
    text = [
        "A control beside the four causes: the run with "
        + (f"all {clients:,} clients" if isinstance(clients, int) else "all clients")
        + " in every version. What it gains is what partial participation costs. It spends more "
        "updates per version, so this is no comparison at equal cost."
    ]
    table = Table("The run and its control", header, rows, header[1:])
    return Section("participation", title, text, (), [table])


def checks_section(of: Diagnosis) -> Section:
    """Why the findings can be relied on, and where they cannot."""
    findings, measure = of.findings, of.measure
    text, tables = [], []
    if table := _reference(of):
        tables.append(table)
    arms = findings.get("arms") or {}
    if arms.get("computed") is not None and arms.get("all") is not None:
        text.append(
            f"{words.number(arms['computed'])} of {words.number(arms['all'])} arms were computed: "
            "arms that differ only in causes that make no difference are the same, to the bit."
            if arms["computed"] != arms["all"]
            else f"All {words.number(arms['all'])} arms were computed."
        )
    if findings.get("window"):
        text.append(
            f"One update makes one version here, so {words.number(findings['window'])} consecutive "
            "arrivals stand for a group where members step jointly or one after another."
        )
    if len(findings.get("seeds") or ()) == 1:
        text.append(
            f"One seed: no interval can be given, and a small share in {measure.unit} may be noise."
        )
    text += [words.sentence(note) for note in findings.get("notes") or ()]
    inert = findings.get("inert") or {}
    if inert:
        rows = [(CAUSES[c].name if c in CAUSES else str(c), str(why)) for c, why in inert.items()]
        tables.append(Table("Causes that make no difference here", ("cause", "because"), rows))
    return Section("checks", "Checks and limits", text, (), tables)


def _reference(of: Diagnosis) -> Table | None:
    """The all-off arm against pooled SGD by a program of its own."""
    reference = of.findings.get("reference") or {}
    off = effect((of.findings.get("pooled") or {}).get("level"))
    level, difference = effect(reference.get("level")), effect(reference.get("difference"))
    if level is None or difference is None:
        return None
    if difference.low is None:
        verdict = "one seed: no interval to judge by"
    else:
        verdict = "equal within seed noise" if difference.doubtful else "not equal: see the notes"
    measure = of.measure
    row = (
        "All-off arm against pooled SGD",
        measure.level_interval(off),
        measure.level_interval(level),
        measure.interval(difference),
        verdict,
    )
    header = ("check", "all-off arm", "pooled SGD", f"difference ({measure.unit})", "verdict")
    caption = "The all-off corner is pooled training: a program of its own must reach the same"
    return Table(caption, header, [row], header[1:4])
