"""The section of a run's report that says what happened at its falls: `autopsy.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedray.errors import InputError
from fedray.report import words
from fedray.report.charts import SERIES, Chart, plain
from fedray.report.decomposition_charts import effects_chart
from fedray.report.definitions import TERMS
from fedray.report.diagnosis.effects import minus
from fedray.report.layout import Picture, Section, Table

AUTOPSY = "autopsy.json"
KINDS = {"fall": "Fall", "shift": "Shift of the level", "step": "Step"}
Found = Mapping[str, Any]


def autopsy_section(folder: Path) -> Section:
    """Empty where the run in `folder` had no autopsy; `InputError` where it cannot be read."""
    title, path = "What happened where accuracy was lost", folder / AUTOPSY
    if not path.exists():
        return Section("autopsy", title)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds no autopsy")
    metric = str((found.get("run") or {}).get("metric") or "accuracy")
    falls = found.get("falls") or ()
    text = [
        "The effect of an update, or of a part of it, is the change of the test loss that it "
        "caused, to first order: positive is harm."
    ]
    if not falls:
        text = ["No fall and no shift of the level was found that stands out from the noise."]
    tables = [t for t in (_mitigations(found), _outliers(found)) if t]
    parts = [_part(number, fall, metric) for number, fall in enumerate(falls, 1)]
    return Section("autopsy", title, text, (), tables, parts=[*parts, _method(found)])


def _method(found: Found) -> Section:
    """How it was found out, and what limits apply."""
    text = [words.sentence(how) for how in (found.get("methods") or {}).values()]
    replay = found.get("replay") or {}
    if replay.get("same"):
        text.append(
            f"{words.number(replay.get('versions'))} versions were replayed for this, "
            f"{words.number(replay.get('checked'))} evaluations compared: all came out as recorded."
        )
    elif replay.get("same") is False:
        text.append(
            f"{words.number(replay.get('versions'))} versions were replayed for this, and "
            f"differ from the record by up to {words.number(replay.get('difference'))}."
        )
    return Section(
        "autopsy-method",
        "How this was found out",
        [*text, *(words.sentence(note) for note in found.get("notes") or ())],
    )


def _mitigations(found: Found) -> Table | None:
    """What to try, each with its reason."""
    rows = [
        (
            str(one.get("title")),
            " ".join(words.sentence(one[key]) for key in ("evidence", "reason") if one.get(key)),
            " ".join(f"--set {setting}" for setting in one.get("set") or ()) or words.NONE,
            ", ".join(str(index + 1) for index in one.get("falls") or ()),
        )
        for one in found.get("mitigations") or ()
    ]
    return Table("Worth trying", ("what", "because", "how", "for"), rows) if rows else None


def _outliers(found: Found) -> Table | None:
    """Clients unlike the others, over all that was looked at."""
    rows = [
        (
            str(one.get("name")),
            _signed(one.get("score")),
            _signed(one.get("effect")),
            _signed(one.get("others")),
            words.number(one.get("updates")),
            words.percent(one.get("against")),
            _labels(one.get("labels")),
        )
        for one in found.get("outliers") or ()
    ]
    header = ("client", "robust z", "its effect", "the others'", "updates", "raise the loss",
              "its labels")  # fmt: skip
    return Table("Clients unlike the others", header, rows, header[1:6]) if rows else None


def _part(number: int, fall: Found, metric: str) -> Section:
    """One fall: its words, the clients and terms behind it, what was lost."""
    start, end = fall.get("from") or {}, fall.get("to") or {}
    kind = KINDS.get(str(fall.get("kind")), "Fall")
    lost = float(fall.get("lost") or 0.0)
    change = "lost" if lost >= 0 else "gained"
    title = (
        f"{number}. {kind} from version {start.get('version')} to {end.get('version')}: "
        f"{words.points(abs(lost), metric)} {change}"
    )
    pictures = [p for p in (_clients(number, fall), _terms(number, fall)) if p]
    tables = [
        t for t in (_step(fall, metric), _groups(fall), _harmful(fall), _by_label(fall),
                    _classes_lost(fall)) if t
    ]  # fmt: skip
    return Section(
        f"autopsy-{number}",
        title,
        [words.sentence(s) for s in fall.get("words") or ()],
        pictures,
        tables,
        2,
    )


def _clients(number: int, fall: Found) -> Picture | None:
    """Bars of the most harmful and the most helpful clients."""
    sides = fall.get("clients") or {}
    shown = [*(sides.get("harmful") or ()), *reversed(sides.get("helpful") or ())]
    shown = [one for one in shown if isinstance(one.get("effect"), int | float)]
    if not shown:
        return None
    names = [str(one.get("name")) for one in shown]
    values = [float(one["effect"]) for one in shown]
    notes = [
        f"{words.number(one.get('updates'))} updates, staleness "
        f"{words.number(one.get('staleness'))}"
        for one in shown
    ]
    title = "Effect of each client on the test loss"
    said = ", ".join(f"{n} {_signed(v)}" for n, v in zip(names, values, strict=True))
    chart = effects_chart(names, values, notes, "effect on the test loss")
    note = "The most harmful and the most helpful; orange raised the loss."
    return Picture(f"autopsy-{number}-clients", title, f"{title}: {said}.", chart, note)


def _terms(number: int, fall: Found) -> Picture | None:
    """The terms of the worst step beside what is usual."""
    terms = fall.get("terms") or {}
    worst, usual = terms.get("worst") or {}, terms.get("usual") or {}
    shown = [term for term in TERMS if (worst.get(term) or {}).get("effect") is not None]
    if not shown:
        return None
    version = (fall.get("worst") or {}).get("version")
    title = f"What the worst step was made of (version {version})"
    said = ", ".join(f"{TERMS[t].name.lower()} {_signed(worst[t]['effect'])}" for t in shown)
    groups = {"worst step": [worst[term]["effect"] for term in shown]}
    if usual:
        groups["usual"] = [(usual.get(term) or {}).get("effect") for term in shown]
    chart = _beside([TERMS[term].name for term in shown], groups)
    note = f"Usual: median of {words.number(terms.get('steps'))} other steps." if usual else ""
    return Picture(f"autopsy-{number}-terms", title, f"{title}: {said}.", chart, note)


def _beside(names: Sequence[str], groups: Mapping[str, Sequence[Any]]) -> Chart:
    """Grouped bars."""
    colours = (SERIES[1], SERIES[7])
    data = [
        {
            "type": "bar",
            "name": group,
            "x": list(range(len(names))),
            "y": plain(float("nan") if v is None else v for v in values),
            "customdata": list(names),
            "marker": {"color": colour},
            "hovertemplate": f"%{{customdata}}, {group}<br><b>%{{y:.4g}}</b><extra></extra>",
        }
        for (group, values), colour in zip(groups.items(), colours, strict=False)
    ]
    layout = {
        "height": 300,
        "barmode": "group",
        "bargap": 0.25,
        "showlegend": len(data) > 1,
        "xaxis": {"tickvals": list(range(len(names))), "ticktext": list(names), "showgrid": False},
        "yaxis": {"title": {"text": "effect on the test loss"}, "zeroline": True, "nticks": 6},
    }
    return {"data": data, "layout": layout}


def _step(fall: Found, metric: str) -> Table | None:
    """How much of the change of the loss is explained by what."""
    effect, worst = fall.get("effect") or {}, fall.get("worst") or {}
    if not effect:
        return None
    rows = [
        (name, _signed(effect.get(key)), meaning)
        for key, name, meaning in (
            ("updates", "the updates", "first order, all of them together"),
            ("memory", "the server's memory", "first order, momentum of its optimizer"),
            ("left_over", "curvature", "beyond first order"),
            ("actual", "total", "change of the test loss"),
        )
        if key != "memory" or abs(effect.get(key) or 0.0) > 1e-6 * abs(effect.get("actual") or 1.0)
    ]
    seen, steps = words.number(fall.get("inspected")), words.number(fall.get("steps"))
    caption = f"Change of the test loss over {seen} of {steps} steps"
    if worst.get("version") is not None and isinstance(worst.get("lost"), int | float):
        caption += f"; worst: version {worst['version']}"
        caption += f", {words.points(float(worst['lost']), metric)} lost"
    return Table(caption, ("by", "effect", ""), rows, ("effect",))


def _groups(fall: Found) -> Table | None:
    """Stale against fresh updates."""
    rows = [
        (
            name,
            words.number(group.get("updates")),
            _signed(group.get("weight")),
            _signed(group.get("effect")),
            _signed(group.get("harm")),
            words.percent(group.get("share")),
        )
        for name, group in (fall.get("groups") or {}).items()
    ]
    header = ("updates", "number", "weight", "effect", "harm", "of all harm")
    return Table("Stale and fresh updates", header, rows, header[1:]) if rows else None


def _harmful(fall: Found) -> Table | None:
    rows = [
        (
            str(one.get("name")),
            words.number(one.get("updates")),
            words.number(one.get("staleness")),
            _signed(one.get("effect")),
            words.percent(one.get("share")),
            _labels(one.get("labels")),
        )
        for one in (fall.get("clients") or {}).get("harmful") or ()
    ]
    header = ("client", "updates", "staleness", "effect", "of all harm", "its labels")
    return Table("Most harmful clients", header, rows, header[1:5]) if rows else None


def _by_label(fall: Found, most: int = 8) -> Table | None:
    """Effect by the labels that clients were trained on."""
    shown = list(fall.get("labels") or ())
    if len(shown) > most:
        shown = [*shown[: most // 2], *shown[-most // 2 :]]
    rows = [(str(one.get("label")), _signed(one.get("effect"))) for one in shown]
    return Table("By the clients' labels", ("label", "effect"), rows, ("effect",)) if rows else None


def _classes_lost(fall: Found) -> Table | None:
    rows = [
        (
            str(one.get("label")),
            words.percent(one.get("before")),
            words.percent(one.get("after")),
            words.percent(one.get("share")),
        )
        for one in [c for c in fall.get("classes_lost") or () if (c.get("lost") or 0) > 0][:8]
    ]
    header = ("class", "before", "after", "of the fall")
    return Table("Classes that were lost", header, rows, header[1:]) if rows else None


def _labels(labels: Any) -> str:
    """`7 (71%), 1 (20%)`."""
    if not isinstance(labels, Mapping) or not labels:
        return words.NONE
    return ", ".join(f"{label} ({100 * share:.0f}%)" for label, share in labels.items())


def _signed(value: Any) -> str:
    if not isinstance(value, int | float):
        return words.NONE
    return minus(words.number(float(f"{value:.3g}")))
