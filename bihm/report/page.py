"""The page itself: what stands on it, and the template that makes HTML of it. Only here is jinja2 used.

Whatever comes from a file is a text that the template escapes; only the plots, which are ours, are not.
"""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from bihm import __version__
from bihm.report.pictures import Shown

HERE = Path(__file__).parent


class Key(NamedTuple):
    """An entry of a chart's legend: one of the page's colours, or None for a grey line."""

    label: str
    colour: int | None
    dashed: bool = False


class Chart(NamedTuple):
    """A plot, and one plain sentence that explains it."""

    title: str
    svg: str
    caption: str
    legend: Sequence[Key] = ()


class Cell(NamedTuple):
    """A cell of a table: what is read, and the number it is sorted by."""

    text: str
    number: float | None = None


class Table(NamedTuple):
    """A table; one that can be sorted has a button in each head."""

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    sortable: bool = False


class Section(NamedTuple):
    """A heading and what stands below it."""

    title: str
    lead: str = ""
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    pictures: Sequence[Shown] = ()
    folded: bool = False  # behind its heading until somebody opens it
    beside: bool = False  # tables and charts side by side, where there is room


class Tile(NamedTuple):
    """A number in large type."""

    name: str
    value: str
    note: str = ""


class Part(NamedTuple):
    """What the page says of one run, or of several together."""

    title: str
    lead: str
    status: str = ""
    tiles: Sequence[Tile] = ()
    notes: Sequence[str] = ()  # what is missing, and why
    sections: Sequence[Section] = ()


class Page(NamedTuple):
    """All of it."""

    title: str
    lead: str
    parts: Sequence[Part]
    status: str = ""  # of the only run


def render(page: Page) -> str:
    """The page as HTML that asks for nothing outside of itself.

    Its policy says so to the browser, too: the only script that may run is the one that sorts tables.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    script = _read("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts: dict[str, Any] = page._asdict()
    html = environment.from_string(_read("page.html")).render(
        **parts,
        style=Markup(_read("page.css")),
        script=Markup(script),
        digest=digest,
        version=__version__,
        safe_svg=Markup,
    )
    return html.rstrip() + "\n"


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
