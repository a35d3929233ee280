"""The folder of a sweep, opened: trials as Arrow, what came of them as plain Python."""

from __future__ import annotations

import shlex
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedray.errors import InputError
from fedray.report.diagnosis.effects import effect
from fedray.report.files import read_findings, read_rows
from fedray.report.opened import Copy, Opened
from fedray.report.run import Run
from fedray.report.sweep.merits import Merit
from fedray.report.sweep.rows import FINDINGS, SWEEP, TRIALS_TABLE

if TYPE_CHECKING:
    import pyarrow as pa

PAGE = "sweep.html"


class Sweep(Opened):
    """What `fedray sweep` left in `path`; everything is read when first asked for.

    `path` and `of` are as for `Run`. Raises `InputError` where `path` holds no sweep that has
    ended, or a file in it cannot be read.
    """

    def __init__(self, path: str | Path, *, of: Copy | None = None) -> None:
        super().__init__(path, of)
        missing = [n for n in (TRIALS_TABLE, FINDINGS) if not (self.path / n).exists()]
        if missing:
            raise InputError(f"{self.place}: {self._what()}, {' and '.join(missing)} missing")

    @cached_property
    def trials(self) -> pa.Table:
        """A row per trial, `set.<key>` per swept key; see `report.sweep.columns`."""
        return read_rows(self.path / TRIALS_TABLE)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """`sweep.json`: counts, the best setting, crossovers, importance, words."""
        return read_findings(self.path / FINDINGS)

    @property
    def best(self) -> dict[str, Any] | None:
        """The best setting: {setting, settings, value, seeds, trials, set}; None without any."""
        best = self.summary.get("best")
        return best if isinstance(best, dict) else None

    @property
    def page(self) -> Path | None:
        """`sweep.html`; None where it has not been written."""
        page = self.path / PAGE
        return page if page.exists() else None

    @property
    def words(self) -> list[str]:
        """The findings in plain sentences."""
        return [str(sentence) for sentence in self.summary.get("words") or ()]

    @property
    def name(self) -> str:
        """The name given in the sweep file, else the folder's."""
        return str(self.summary.get("name") or self.path.name)

    def trial(self, name: str) -> Run:
        """A trial's run folder, opened. Raises `InputError` where there is none."""
        folder = f"trials/{name}"
        return Run(self.path / folder, of=self.inner(folder))

    @property
    def _merit(self) -> Merit:
        said = self.summary
        metric, mode = str(said.get("metric")), str(said.get("mode"))
        return Merit(metric, mode, said.get("target"))

    def _what(self) -> str:
        """What it is, where it is not what was expected."""
        if not self.there:
            return "no such folder"
        if (self.path / SWEEP).exists():
            again = f"fedray sweep --resume {shlex.quote(self.place)}"
            return f"a sweep that has not ended ({again} goes on)"
        return "not the folder of a sweep, which `fedray sweep` writes"

    def _came_of(self) -> str:
        if self.best is None:
            return "no trial has a value yet"
        value = self._merit.say_interval(effect(self.best.get("value")))
        settings = ", ".join(f"{k}={v}" for k, v in (self.best.get("settings") or {}).items())
        return f"best {self._merit.metric} {value}" + (f" with {settings}" if settings else "")

    def __repr__(self) -> str:
        return f"Sweep({self.place!r}: {self._counted()}, {self._came_of()})"

    def _counted(self) -> str:
        counts = self.summary.get("counts") or {}
        parts = [f"{n} {name.replace('_', ' ')}" for name, n in counts.items() if n]
        return f"{self.summary.get('trials', 0)} trials ({', '.join(parts)})"

    def _repr_html_(self) -> str:
        """A card for notebooks: what was swept, and the best of it."""
        said = "".join(f"<p>{escape(sentence)}</p>" for sentence in self.words[:3])
        return (
            '<div style="border:1px solid #8886;border-radius:8px;padding:.8em 1em;max-width:52em;'
            'font-family:system-ui,sans-serif">'
            f"<div><strong>{escape(self.name)}</strong> sweep "
            f'<code style="opacity:.7">{escape(self.place)}</code></div>'
            f'<div style="margin-top:.4em">{escape(self._counted())}</div>{said}</div>'
        )
