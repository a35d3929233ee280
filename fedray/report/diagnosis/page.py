"""The page of a diagnosis: one HTML file that opens offline and prints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fedray.report import words
from fedray.report.definitions import MODES
from fedray.report.diagnosis.arm_charts import arm_name
from fedray.report.diagnosis.arm_curves import arm_curves
from fedray.report.diagnosis.cause_sections import (
    checks_section,
    costs_section,
    curves_section,
    interactions_section,
    participation_section,
)
from fedray.report.diagnosis.causes import CAUSES, CONTROLS, METHOD, sentence
from fedray.report.diagnosis.effects import effect
from fedray.report.diagnosis.prescription import prescription_section
from fedray.report.diagnosis.reader import PAGE, Diagnosis
from fedray.report.layout import Section, Table, fill_template, write_page
from fedray.report.words import Tile


def build_diagnosis_page(path: str | Path) -> Path:
    """Writes diagnosis.html into the folder of a diagnosis; returns the page's path.

    Raises `InputError` where the folder holds none or cannot be read, StorageError where
    it cannot be written.
    """
    of = Diagnosis(path)
    target = of.path / PAGE
    page = render_diagnosis(of)
    write_page(page, target)
    return target


def render_diagnosis(of: Diagnosis) -> str:
    """The page as text."""
    shown = [s for s in _sections(of) if s.pictures or s.tables or s.text]
    return fill_template(
        "diagnosis.html",
        [picture for section in shown for picture in section.all_pictures],
        title=of.name,
        words=of.words,
        facts=_facts(of),
        tiles=_tiles(of),
        sections=shown,
        config=_config_text(of),
    )


def _sections(of: Diagnosis) -> Iterator[Section]:
    yield costs_section(of)
    yield prescription_section(of)
    yield curves_section(of)
    yield interactions_section(of)
    yield participation_section(of)
    yield checks_section(of)
    yield _definitions(of)


def _facts(of: Diagnosis) -> str:
    """What was diagnosed, in a line."""
    found = of.findings
    mode = MODES.get(str(found.get("mode")), str(found.get("mode") or ""))
    seeds = [str(seed) for seed in found.get("seeds") or ()]
    parts = [
        " ".join(filter(None, [str(found.get("algorithm") or ""), mode and f"({mode})"])),
        _count(found.get("clients"), "client"),
        _count(found.get("versions"), "version"),
        _count(found.get("updates"), "update"),
        f"{words.seconds(found.get('virtual_time_s'))} of virtual time",
        f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(seeds)}" if seeds else "",
    ]
    return " · ".join(filter(None, parts))


def _count(number: object, noun: str) -> str:
    if not isinstance(number, int | float):
        return ""
    return f"{words.number(number)} {noun}{'' if number == 1 else 's'}"


def _tiles(of: Diagnosis) -> list[Tile]:
    """The key figures: both ends, the gap, the fall, and what is behind each."""
    measure, found = of.measure, of.findings
    run, pooled = found.get("run") or {}, found.get("pooled") or {}
    name = "level (accuracy)" if measure.metric == "accuracy" else "level (loss)"
    tiles = []
    for label, figures in (("the run's", run), ("pooled", pooled)):
        if (level := effect(figures.get("level"))) is not None:
            tiles.append(Tile(f"{label} {name}", measure.level(level.value)))
    unit = " pts" if measure.metric == "accuracy" else ""
    gap, fall = effect(of.part().get("gap")), effect(run.get("fall"))
    if gap is not None:
        note = _most(of, "level")
        tiles.append(Tile("gap", f"{measure.difference(gap.value)}{unit}", note))
    if fall is not None:
        note = _most(of, "fall")
        tiles.append(Tile("largest fall", f"{measure.difference(fall.value)}{unit}", note))
    return tiles


def _most(of: Diagnosis, question: str) -> str:
    """The costliest cause of a question, of those that are distinguishable from zero."""
    shares = of.shares(question)
    sure = {cause: share.value for cause, share in shares.items() if not share.doubtful}
    cause = max(sure, key=sure.__getitem__, default=None)
    if cause is None or sure[cause] <= 0:
        unsure = any(share.doubtful and share.value for share in shares.values())
        return "no cause is distinguishable from zero" if unsure else ""
    leads = sure[cause] >= max(share.value for share in shares.values())
    cost = f"{CAUSES[cause].short}, {of.measure.difference(sure[cause])}"
    return f"{'largest share' if leads else 'in part'}: {cost}"


def _definitions(of: Diagnosis) -> Section:
    """Causes, arms and method."""
    causes = Table(
        "The four causes: as in the run, and switched off",
        ("cause", "on", "off"),
        [(cause.name, cause.on, cause.off) for cause in CAUSES.values()],
    )
    curves = arm_curves(of.arms, of.measure.metric, "updates")
    rows = []
    for curve in curves:
        text = CONTROLS[curve.name][1] if curve.control else sentence(curve.on)
        text = text[0].upper() + text[1:].rstrip(".") + "."
        if curve.also:
            same = "; ".join(map(arm_name, curve.also))
            text += f" The same as: {same}."
        rows.append((arm_name(curve.name), text, of.measure.level(curve.final)))
    last = "last evaluation"
    arms = Table("The arms, means over seeds", ("arm", "what it does", last), rows, (last,))
    tables = [causes, arms] if rows else [causes]
    return Section("method", "What was done", METHOD, (), tables)


def _config_text(of: Diagnosis) -> str:
    path = of.path / "config.yaml"
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
