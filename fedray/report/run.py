"""A run folder, opened: tables as Arrow, figures as plain Python."""

from __future__ import annotations

from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedray.errors import InputError
from fedray.report.files import read_json, read_rows, read_yaml, unreadable
from fedray.report.opened import Copy, Opened

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

CONFIG, SUMMARY, MODEL = "config.yaml", "summary.json", "model.npz"


class Run(Opened):
    """What `fedray launch` left in `path`; everything is read when first asked for.

    `path` is a folder, or the URI of one (s3://, gs://, ...), which is downloaded first, without
    its checkpoints. `of` is for who has its local copy already.

    Works on interrupted runs too: they have no `summary` and no `model` yet.
    Raises `InputError` where `path` is no run folder, or a file in it cannot be read.
    """

    def __init__(self, path: str | Path, *, of: Copy | None = None) -> None:
        super().__init__(path, of)
        missing = [n for n in (CONFIG, "rounds.parquet") if not (self.path / n).exists()]
        if missing:
            what = "not a run folder" if self.there else "no such folder"
            raise InputError(
                f"{self.place}: {what}; expected a folder that `fedray launch` wrote, "
                f"with {' and '.join(missing)}"
            )

    @cached_property
    def config(self) -> dict[str, Any]:
        """The fully resolved configuration."""
        return read_yaml(self.path / CONFIG)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Final figures and versions of packages; empty while the run is unfinished."""
        path = self.path / SUMMARY
        content = read_json(path) if path.exists() else {}
        return content if isinstance(content, dict) else {}

    @cached_property
    def rounds(self) -> pa.Table:
        """A row per global version, version 0 included."""
        from fedray.report.tables import rounds_schema

        return self._table("rounds", rounds_schema(self._classification_hint))

    @cached_property
    def updates(self) -> pa.Table:
        """A row per client update."""
        from fedray.report.tables import UPDATES

        return self._table("updates", UPDATES)

    @cached_property
    def clients(self) -> pa.Table:
        """A row per client; empty while the run is unfinished."""
        from fedray.report.tables import clients_schema

        return self._table("clients", clients_schema(self.classification))

    @cached_property
    def client_evals(self) -> pa.Table:
        """A row per client and version evaluated under `eval.clients_every`, often none."""
        from fedray.report.tables import client_evals_schema

        return self._table("client_evals", client_evals_schema(self.classification))

    @cached_property
    def decomposition(self) -> pa.Table:
        """A row per update of the versions that `diagnosis.decompose` looked into."""
        from fedray.report.tables import DECOMPOSITION

        return self._table("decomposition", DECOMPOSITION)

    @cached_property
    def quality(self) -> pa.Table:
        """A row per update that `server.quality` weighed."""
        from fedray.report.tables import QUALITY

        return self._table("quality", QUALITY)

    @cached_property
    def model(self) -> dict[str, NDArray[np.generic]]:
        """Final parameters by name; empty while the run is unfinished."""
        import numpy as np

        path = self.path / MODEL
        if not path.exists():
            return {}
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        except Exception as error:  # NumPy has a dozen ways to say that a file is broken
            raise unreadable(path, error) from error

    @property
    def name(self) -> str:
        """The name given in the configuration, else the folder's."""
        return str(self.summary.get("name") or self.config.get("name") or self.path.name)

    @property
    def classification(self) -> bool:
        """Whether the figure of merit is accuracy; R^2 otherwise."""
        return "r2" not in self.rounds.column_names

    @property
    def finished(self) -> bool:
        """Whether the run came to its end, by whatever rule."""
        return bool(self.summary) and self.summary.get("stopped_by") != "interrupted"

    def plot(self) -> Figure:
        """Accuracy (or R^2) and loss over versions and over virtual time, falls marked."""
        from fedray.report.plots import overview

        return overview(self)

    @property
    def _classification_hint(self) -> bool:
        return bool(self.summary.get("classification", True))

    def _table(self, name: str, schema: pa.Schema) -> pa.Table:
        path = self.path / f"{name}.parquet"
        return read_rows(path, schema) if path.exists() else schema.empty_table()

    def __repr__(self) -> str:
        from fedray.report.facts import facts
        from fedray.report.words import one_line

        return f"Run({self.place!r}: {one_line(facts(self))})"

    def _repr_html_(self) -> str:
        """A card for notebooks: the figures that matter, and the curve."""
        from fedray.report.facts import facts
        from fedray.report.words import tiles

        known = facts(self)
        cells = "".join(
            f'<div style="margin-right:1.6em"><div style="font-size:1.25em;font-weight:600">'
            f"{escape(tile.value)}</div>"
            f'<div style="opacity:.7;font-size:.85em">{escape(tile.label)}</div></div>'
            for tile in tiles(known)[:5]
        )
        state = "" if self.finished else ' <em style="opacity:.7">(unfinished)</em>'
        return (
            '<div style="border:1px solid #8886;border-radius:8px;padding:.8em 1em;max-width:52em;'
            'font-family:system-ui,sans-serif">'
            f"<div><strong>{escape(self.name)}</strong>{state} "
            f'<code style="opacity:.7">{escape(self.place)}</code></div>'
            f'<div style="display:flex;flex-wrap:wrap;align-items:center;margin-top:.5em">{cells}'
            f"{_sparkline(list(known.curve.values))}</div></div>"
        )


def _sparkline(values: list[float], width: int = 180, height: int = 44) -> str:
    """A curve as inline SVG; nothing for fewer than two points."""
    if len(values) < 2:
        return ""
    import numpy as np

    from fedray.report.figures import thin

    kept = thin(np.asarray(values), 300)
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    points = " ".join(
        f"{2 + (width - 4) * i / (len(values) - 1):.1f},"
        f"{height - 3 - (height - 6) * (values[i] - low) / span:.1f}"
        for i in kept
    )
    return (
        f'<svg role="img" aria-label="curve over versions" width="{width}" height="{height}">'
        f'<polyline points="{points}" fill="none" stroke="#0072B2" stroke-width="1.8"/></svg>'
    )
