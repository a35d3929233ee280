"""The folder of a diagnosis, opened: what each cause costs, and the arms that show it."""

from __future__ import annotations

import shlex
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedray.errors import InputError
from fedray.report.diagnosis.causes import CAUSES
from fedray.report.diagnosis.effects import Effect, Measure, effect
from fedray.report.files import read_findings, read_json, read_rows, read_yaml
from fedray.report.opened import Copy, Opened

if TYPE_CHECKING:
    import pyarrow as pa

FINDINGS, ARMS_TABLE, PAGE = "diagnosis.json", "arms.parquet", "diagnosis.html"
PRESCRIPTION, REQUEST = "prescription.json", "request.json"
UNFINISHED = "arms"
"""Folder with what is finished so far; gone once the diagnosis is complete."""
INSIDE = "diagnosis"
"""The folder in a run's own that its diagnosis is in, unless said otherwise."""


class Diagnosis(Opened):
    """What `fedray diagnose` left in `path`, or in the run folder `path`'s `diagnosis/`.

    Everything is read when first asked for. `path` and `of` are as for `Run`. Raises
    `InputError` where `path` holds no finished diagnosis, or a file in it cannot be read.
    """

    def __init__(self, path: str | Path, *, of: Copy | None = None) -> None:
        super().__init__(path, of)
        inside = self.path / INSIDE
        if not (self.path / FINDINGS).exists() and (inside / FINDINGS).exists():
            super().__init__(inside, self.inner(INSIDE))
        missing = [n for n in (FINDINGS, ARMS_TABLE) if not (self.path / n).exists()]
        if missing:
            raise InputError(f"{self.place}: {self._what()}, {' and '.join(missing)} missing")

    @cached_property
    def findings(self) -> dict[str, Any]:
        """`diagnosis.json`: levels, falls and areas, shares per cause, words.

        `docs/diagnosis.md` lists its keys. Effects are {value, low, high}, in shares of
        one for accuracy (0.021 is 2.1 points), in the loss's units for regression.
        """
        return read_findings(self.path / FINDINGS)

    @cached_property
    def arms(self) -> pa.Table:
        """A row per seed, arm and evaluation; controls are arms of their own."""
        return read_rows(self.path / ARMS_TABLE)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration that was diagnosed; empty where it was not kept."""
        path = self.path / "config.yaml"
        return read_yaml(path) if path.exists() else {}

    @cached_property
    def prescription(self) -> dict[str, Any] | None:
        """`prescription.json`: what was tried against the causes; None where nothing was."""
        path = self.path / PRESCRIPTION
        found = read_json(path) if path.exists() else None
        return found if isinstance(found, dict) else None

    @property
    def page(self) -> Path | None:
        """`diagnosis.html`; None where it has not been written."""
        page = self.path / PAGE
        return page if page.exists() else None

    @property
    def words(self) -> list[str]:
        """The findings in plain sentences, a paragraph each."""
        return [str(paragraph) for paragraph in self.findings.get("words") or ()]

    @property
    def name(self) -> str:
        """The name of what was diagnosed, else the folder's."""
        return str(self.findings.get("name") or self.path.name)

    @property
    def measure(self) -> Measure:
        """The units of the findings."""
        return Measure("loss" if self.findings.get("metric") == "loss" else "accuracy")

    def shares(self, question: str = "level", *, by_time: bool = False) -> dict[str, Effect]:
        """Cost per cause of `level`, `fall` or `area`, at equal updates or equal time."""
        return _effects(self.part(question, by_time=by_time).get("shares"))

    def part(self, question: str = "level", *, by_time: bool = False) -> dict[str, Any]:
        """{gap, shares, interactions} of a question; empty where it was not asked."""
        view = self.findings.get("by_time") or {} if by_time else self.findings
        return dict(view.get(question) or {})

    def _what(self) -> str:
        """What it is, where it is not what was expected."""
        if not self.there:
            return "no such folder"
        begun = (self.path / REQUEST).exists() and not (self.path / FINDINGS).exists()
        if begun or (self.path / UNFINISHED).is_dir():
            again = f"fedray diagnose --resume {shlex.quote(self.place)}"
            return f"a diagnosis that has not ended ({again} goes on)"
        return "not the folder of a diagnosis, which `fedray diagnose` writes"

    def __repr__(self) -> str:
        gap = effect(self.part().get("gap"))
        cost = "no gap" if gap is None else f"gap {_points(self.measure, gap.value)}"
        shares = ", ".join(
            f"{CAUSES[cause].short} {self.measure.difference(share.value)}"
            for cause, share in self.shares().items()
        )
        return f"Diagnosis({self.place!r}: {cost}{': ' if shares else ''}{shares})"

    def _repr_html_(self) -> str:
        """A card for notebooks: the words, and what each cause costs."""
        gap = effect(self.part().get("gap"))
        cells = "".join(
            f'<div style="margin-right:1.6em"><div style="font-size:1.25em;font-weight:600">'
            f"{escape(_points(self.measure, share.value))}</div>"
            f'<div style="opacity:.7;font-size:.85em">{escape(name)}</div></div>'
            for name, share in [
                *([("gap to pooled training", gap)] if gap else []),
                *((CAUSES[cause].name, share) for cause, share in self.shares().items()),
            ]
        )
        said = "".join(f"<p>{escape(paragraph)}</p>" for paragraph in self.words[:1])
        return (
            '<div style="border:1px solid #8886;border-radius:8px;padding:.8em 1em;max-width:52em;'
            'font-family:system-ui,sans-serif">'
            f"<div><strong>{escape(self.name)}</strong> diagnosed "
            f'<code style="opacity:.7">{escape(self.place)}</code></div>{said}'
            f'<div style="display:flex;flex-wrap:wrap;margin-top:.5em">{cells}</div></div>'
        )


def _points(measure: Measure, value: float) -> str:
    return f"{measure.difference(value)} {'pts' if measure.metric == 'accuracy' else 'loss'}"


def _effects(of: Any) -> dict[str, Effect]:
    """The known causes with a number, in their own order."""
    found = {cause: effect((of or {}).get(cause)) for cause in CAUSES}
    return {cause: share for cause, share in found.items() if share is not None}
