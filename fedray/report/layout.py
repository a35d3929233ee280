"""What a page is made of, and the file that it becomes: self-contained, opens offline."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedray.report.charts import Chart

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Picture:
    """A chart on the page: `about` is read out where the picture cannot be seen."""

    id: str
    title: str
    about: str
    chart: Chart
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Cells are text already; a column is right-aligned if its header is in `numeric`."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Sequence[str] = ()


@dataclass(frozen=True)
class Section:
    """A heading, some text, some pictures and tables. `columns` per row of pictures.

    `parts` are sections within it, which have no parts of their own.
    """

    id: str
    title: str
    text: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    columns: int = 1
    parts: Sequence[Section] = ()

    @property
    def all_pictures(self) -> list[Picture]:
        """Its own and those of its parts."""
        return [*self.pictures, *(picture for part in self.parts for picture in part.pictures)]


def fill_template(name: str, pictures: Iterable[Picture], **values: Any) -> str:
    """A template with plotly.js, style, script and the pictures' data put in."""
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    data = json.dumps({p.id: p.chart for p in pictures}, allow_nan=False, separators=(",", ":"))
    return (
        _environment()
        .get_template(name)
        .render(
            **values,
            style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
            script=Markup((HERE / "page.js").read_text(encoding="utf-8")),
            plotly=Markup(get_plotlyjs().replace("</script", "<\\/script")),
            # Within a script element nothing is escaped, so no "<" may appear at all.
            data=Markup(data.replace("<", "\\u003c").replace("\u2028", "\\u2028")),
        )
    )


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_page(text: str, target: Path) -> None:
    """Writes the file whole or not at all."""
    from fedray.report.tables import write_text

    write_text(target, text)
