"""An autopsy on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fedray.diagnosis.autopsy.terms import NAMES
from fedray.diagnosis.autopsy.words import name_of, points, shares
from fedray.report.run import Run

_INDENT = (0, 0, 0, 2)
_HARMFUL, _HELPFUL, _LABELS = 4, 2, 3
_LEGEND = (
    "Effects are changes of the test loss to first order: positive is harm. Shares are of all "
    "harm, which is the sum of the positive effects of updates."
)


def show(console: Console, found: Mapping[str, Any], run: Run) -> None:
    """Falls one after the other, then who stands out, what to try, and what limits all this."""
    console.print(Text(_headline(found), style="bold"))
    if found["falls"]:
        console.print(Text(_LEGEND, style="dim"))
    for number, fall in enumerate(found["falls"], 1):
        console.print()
        console.print(Text(_title(number, fall, found["run"]["metric"]), style="bold cyan"))
        console.print(Padding(Text(" ".join(fall["words"])), _INDENT))
        if any(fall["clients"].values()):
            console.print(Padding(_clients(fall), (1, 0, 0, 2)))
        if fall["terms"] is not None:
            console.print(Padding(_terms(fall), (1, 0, 0, 2)))
        if fall["labels"]:
            console.print(Padding(Text(_labels(fall["labels"])), (1, 0, 0, 2)))
    _outliers(console, found["outliers"])
    _mitigations(console, found["mitigations"])
    if found["notes"]:
        console.print()
    for note in found["notes"]:
        console.print(Text(note, style="yellow" if "not the run" in note else ""))
    console.print()
    _line(console, f"autopsy: {run.named('autopsy.json')}")
    if (run.path / "report.html").exists():
        _line(console, f"page: {run.named('report.html')}")


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)


def _headline(found: Mapping[str, Any]) -> str:
    run, replay = found["run"], found["replay"]
    counts = [
        f"{count} {word}{'s' if count != 1 else ''}"
        for word in ("fall", "shift", "step")
        if (count := sum(fall["kind"] == word for fall in found["falls"]))
    ]
    text = f"{run['name']}, {run['versions']:,} versions: {' and '.join(counts) or 'no fall'}"
    if not replay["checked"]:
        return text
    replayed = f"{replay['versions']:,} replayed"
    if replay["same"]:
        return f"{text}; {replayed}, equal to the run's bit for bit"
    return f"{text}; {replayed}, which DIFFER from the run's"


def _title(number: int, fall: Mapping[str, Any], metric: str) -> str:
    what = {"fall": "Fall", "shift": "Shift of level", "step": "Step"}[fall["kind"]]
    change = f"{'down' if fall['lost'] > 0 else 'up'} {points(fall['lost'], metric)}"
    if fall["lost"] == 0:
        change = "unchanged"
    start, end = fall["from"], fall["to"]
    return (
        f"{number}. {what}: {name_of(metric)} {change}, version "
        f"{start['version']:,} to {end['version']:,}, {start['time_s']:,.1f} s to "
        f"{end['time_s']:,.1f} s"
    )


def _table(*headers: str, left: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in headers:
        table.add_column(title, justify="left" if title in left else "right", overflow="fold")
    return table


def _clients(fall: Mapping[str, Any]) -> Table:
    table = _table(
        "client", "its labels", "updates", "staleness", "weight", "effect", "share of harm",
        left=("client", "its labels"),
    )  # fmt: skip
    groups = fall["clients"]
    for one in [*groups["harmful"][:_HARMFUL], *groups["helpful"][:_HELPFUL]]:
        table.add_row(
            Text(one["name"]),
            Text(shares(one["labels"]) if one["labels"] else ""),
            f"{one['updates']:,}",
            f"{one['staleness']:.1f}",
            f"{one['weight']:.2f}",
            _effect(one["effect"]),
            "" if one["share"] is None else f"{one['share']:.0%}",
        )
    return table


def _terms(fall: Mapping[str, Any]) -> Table:
    terms = fall["terms"]
    table = _table("effect", *NAMES, left=("effect",))
    usual = f"median of {terms['steps']} others"
    rows = [(f"step to {fall['worst']['version']:,}", terms["worst"]), (usual, terms["usual"])]
    for title, row in rows:
        if row is not None:
            effects = [row[name]["effect"] for name in NAMES]
            rounding = 1e-6 * max(abs(effect or 0.0) for effect in effects)
            table.add_row(title, *(_effect(effect, rounding) for effect in effects))
    return table


def _effect(value: float | None, rounding: float = 0.0) -> str:
    """Three digits, 0 for what is no more than rounding, a dash for what is not finite."""
    if value is None:
        return "-"
    return f"{value:+.3g}" if abs(value) > rounding else "0"


def _labels(labels: Sequence[Mapping[str, Any]]) -> str:
    shown = labels if len(labels) <= 2 * _LABELS else [*labels[:_LABELS], *labels[-_LABELS:]]
    named = [f"{one['label']}: {_effect(one['effect'])}" for one in shown]
    if len(shown) < len(labels):
        named.insert(_LABELS, "...")
    return "Effect by label of the clients' samples: " + ", ".join(named)


def _outliers(console: Console, outliers: Sequence[Mapping[str, Any]]) -> None:
    if not outliers:
        return
    console.print()
    console.print(Text("Clients that stand out", style="bold cyan"))
    table = _table(
        "client", "its labels", "updates", "raise the loss", "mean effect",
        "others' median", "robust z", left=("client", "its labels"),
    )  # fmt: skip
    for one in outliers:
        table.add_row(
            Text(one["name"]), Text(shares(one["labels"]) if one["labels"] else ""),
            f"{one['updates']:,}", f"{one['against']:.0%}", _effect(one["effect"]),
            _effect(one["others"]), f"{one['score']:.1f}",
        )  # fmt: skip
    console.print(Padding(table, _INDENT))


def _mitigations(console: Console, mitigations: Sequence[Mapping[str, Any]]) -> None:
    if not mitigations:
        return
    console.print()
    console.print(Text("Worth trying", style="bold cyan"))
    said = ""
    for one in mitigations:
        about = ", ".join(f"{index + 1}" for index in one["falls"])
        if one["evidence"] != said:
            said = one["evidence"]
            because = f"For {about}: {said}" if about else f"{said[:1].upper()}{said[1:]}"
            console.print(Padding(Text(because), _INDENT))
        what = Text.assemble((one["title"], "bold"), f": {one['reason']}")
        console.print(Padding(what, (0, 0, 0, 4)))
        if one["set"]:
            line = " ".join(f"--set {setting}" for setting in one["set"])
            console.print(Padding(Text(line, style="green"), (0, 0, 0, 6)))
