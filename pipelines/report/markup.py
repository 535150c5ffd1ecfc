"""Markup: the page around the sections, and the pieces they are built of; data is escaped here."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any

from pipelines.console import is_number
from pipelines.report.charts import Chart
from pipelines.report.grids import Grid, grid_table
from pipelines.report.maps import SampleMap
from pipelines.report.svg import NARROW, WIDE, draw


@dataclass(frozen=True)
class Section:
    """One section of the page; `body` is HTML."""

    key: str
    title: str
    body: str


def page(
    title: str, lead: str, sections: Sequence[Section], data: Mapping[str, Any], sheets: Sequence[bytes]
) -> bytes:
    """Return the whole page, UTF-8.

    Parameters
    ----------
    title : str
    lead : str
        HTML above the sections.
    sections : sequence of Section
    data : mapping
        What the script reads: ``classes``, ``rows`` and ``maps``.
    sheets : sequence of bytes
        WebP sprite sheets of thumbnails.

    Notes
    -----
    The content security policy allows the page's own script by its hash, styles and pictures inside the page,
    and no network. So even markup that slipped through could neither run nor call home.
    """
    script = _read("script.js")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    links = "".join(f'<a href="#{s.key}">{escape(s.title)}</a>' for s in sections)
    body = "".join(f'<section id="{s.key}"><h2>{escape(s.title)}</h2>{s.body}</section>' for s in sections)
    pictures = "".join(
        f".s{k}{{background-image:url(data:image/webp;base64,{base64.b64encode(sheet).decode()})}}"
        for k, sheet in enumerate(sheets)
    )
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)} - embedonce</title>"
        f"<style>{_read('style.css')}{pictures}</style></head><body>"
        f'<nav aria-label="Sections"><div>{links}</div></nav>'
        f'<main><h1>{escape(title)}</h1>{lead}{body}</main><div id="tip" role="tooltip" hidden></div>'
        f'<script type="application/json" id="page-data">{_json(data)}</script>'
        f"<script>{script}</script></body></html>\n"
    )
    return text.encode("utf-8", "backslashreplace")


def _read(name: str) -> str:
    return files("pipelines.report").joinpath(name).read_text(encoding="utf-8")


def _json(data: Mapping[str, Any]) -> str:
    """Write JSON that cannot end the element it stands in."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def no_rows() -> dict[str, Any]:
    """Return the script's data for a page without rows."""
    return {
        "classes": [],
        "blocks": [],
        "slices": [],
        "rows": {
            "id": [], "y": [], "predicted": [], "p": [], "fold": [], "tile": [], "weights": [], "slices": [],
            "doubt": [], "text": None,
        },
        "maps": [],
    }  # fmt: skip


def why(sentence: str) -> str:
    """Say why something is not there."""
    return f'<p class="why">{escape(sentence)}</p>'


def figures(items: Sequence[Chart | Grid], beside: str = "") -> str:
    """Return charts and grids side by side, each with its title and what to read off.

    Three, six, ... stand in rows of three, others in rows of two; `beside` is HTML in the last place.
    """
    three = (len(items) + bool(beside)) % 3 == 0
    width = NARROW if three else WIDE
    drawn = "".join(_figure(item, width) for item in items)
    last = f"<div>{beside}</div>" if beside else ""
    return f'<div class="figures{" three" if three else ""}">{drawn}{last}</div>'


def _figure(item: Chart | Grid, width: int) -> str:
    drawn = draw(item, width=width) if isinstance(item, Chart) else grid_table(item)
    return figure(item.key, item.title, drawn, item.caption)


def map_figures(maps: Sequence[SampleMap]) -> str:
    """Return a canvas for each map; the script draws on it, and it can be walked with the arrow keys."""
    drawn = "".join(
        figure(
            m.key,
            m.title,
            f'<canvas data-map="{k}" tabindex="0" role="img" aria-label="{escape(m.title, quote=True)}, '
            f'{len(m.rows):,} rows. {escape(m.caption, quote=True)}"></canvas>',
            m.caption,
        )
        for k, m in enumerate(maps)
    )
    return f'<div class="figures{" three" if len(maps) % 3 == 0 else ""}">{drawn}</div>'


def figure(key: str, title: str, drawn: str, caption: str) -> str:
    """Return one figure; `drawn` is HTML."""
    words = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure data-figure="{escape(key, quote=True)}"><h3>{escape(title)}</h3>{drawn}{words}</figure>'


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, long: str = "") -> str:
    """Return a table; columns of numbers stand right, and the column named `long` may wrap."""
    cells = [[str(cell) for cell in row] for row in rows]
    css = [
        ' class="long"' if name == long
        else ' class="number"' if cells and all(is_number(row[k]) for row in cells)
        else ""
        for k, name in enumerate(header)
    ]  # fmt: skip
    head = "".join(f"<th{c}>{escape(name)}</th>" for c, name in zip(css, header, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{c}>{escape(cell)}</td>" for c, cell in zip(css, row, strict=True)) + "</tr>"
        for row in cells
    )
    whole = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{whole}</div>'


def tiles(items: Sequence[tuple[str, str, str]]) -> str:
    """Return (large, label, note) as a row of tiles."""
    return f'<div class="tiles">{"".join(_tile(*item) for item in items)}</div>'


def _tile(large: str, label: str, note: str) -> str:
    words = f"<b>{escape(large)}</b><span>{escape(label)}</span><small>{escape(note)}</small>"
    return f'<div class="tile">{words}</div>'
