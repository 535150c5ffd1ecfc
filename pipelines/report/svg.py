"""Charts as inline SVG: sharp in print, in the page's light or dark colours, with words on hover."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from pipelines.report.charts import PALETTE, SOFT, Chart, Mark

WIDE, NARROW = 460, 340
_LETTER = 6.4  # mean width of a character at the font size of ticks
_NAME_LETTER = 8.0  # the same on a phone, where letters are larger
_LONGEST_NAME = 30  # characters of a name on an axis

_Place = Callable[[float], float]


def draw(chart: Chart, *, width: int = WIDE) -> str:
    """Return the chart as an ``<svg>`` element, legend included; every word from data is escaped.

    Letters are 12 units high, so `width` should be about the pixels that the chart will get.
    """
    left = _left_margin(chart)
    bottom = 8 if chart.bare else 44 if chart.x.label else 26
    top = 10
    height = chart.height or _height(chart, width - 14 - left, top + bottom)
    right, low = width - 14, height - bottom

    def x(value: float) -> float:
        return left + chart.x.place(value) * (right - left)

    def y(value: float) -> float:
        return low - chart.y.place(value) * (low - top)

    parts = [] if chart.bare else _axes(chart, x, y, (left, right, top, low))
    parts += [_DRAW[mark.kind](mark, x, y, chart) for mark in chart.marks]
    label = escape(chart.title, quote=True)
    return (
        f'{_legend(chart.marks)}<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


def _left_margin(chart: Chart) -> int:
    if chart.bare:
        return 14
    longest = max((len(shortened(text)) for _, text in chart.y.marks()), default=0)
    return round(16 + longest * _NAME_LETTER) + (18 if chart.y.label else 0)


def _height(chart: Chart, inner: int, margins: int) -> int:
    if chart.square or chart.bare:
        return inner + margins
    if chart.across:
        return 26 * len(chart.y.marks()) + margins
    return round(inner * 0.56) + margins


def shortened(name: str) -> str:
    """Return a name that fits beside an axis."""
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "\u2026"


def _axes(chart: Chart, x: _Place, y: _Place, box: tuple[int, int, int, int]) -> list[str]:
    left, right, top, low = box
    parts = []
    for value, text in chart.y.marks():
        at = y(value)
        if not chart.across:
            parts.append(_line(left, at, right, at, "grid"))
        name = escape(shortened(text))
        parts.append(f'<text class="tick" x="{left - 8}" y="{at + 4:.1f}" text-anchor="end">{name}</text>')
    previous = -1e9
    for value, text in chart.x.marks():
        at = x(value)
        if chart.across or chart.x.ticks is None:
            parts.append(_line(at, top, at, low, "grid"))
        if at - previous < len(shortened(text)) * _LETTER:
            continue  # it would run into the tick before it
        previous = at
        name = escape(shortened(text))
        parts.append(f'<text class="tick" x="{at:.1f}" y="{low + 17}" text-anchor="middle">{name}</text>')
    parts.append(_line(left, low, right, low, "axis"))
    if chart.x.label:
        name = escape(chart.x.label)
        parts.append(
            f'<text class="label" x="{(left + right) / 2}" y="{low + 37}" text-anchor="middle">{name}</text>'
        )
    if chart.y.label:
        name, middle = escape(chart.y.label), (top + low) / 2
        parts.append(
            f'<text class="label" transform="translate(13 {middle:.0f}) rotate(-90)" text-anchor="middle">'
            f"{name}</text>"
        )
    return parts


def _line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    return f'<line class="{css}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _legend(marks: Sequence[Mark]) -> str:
    named = [mark for mark in marks if mark.name]
    if not named:
        return ""
    items = "".join(f'<span><i class="{_key_css(m)}"></i>{escape(m.name)}</span>' for m in named)
    return f'<div class="legend">{items}</div>'


def _key_css(mark: Mark) -> str:
    shape = " hollow" if mark.hollow else " dashed" if mark.dashed else ""
    return f"key {mark.kind}{shape} {_colour(mark)}"


def _colour(mark: Mark) -> str:
    return "soft" if mark.colour == SOFT else f"c{mark.colour % len(PALETTE)}"


def _tip(mark: Mark, i: int) -> str:
    return f' data-tip="{escape(mark.notes[i], quote=True)}"' if i < len(mark.notes) else ""


def _draw_line(mark: Mark, x: _Place, y: _Place, _: Chart) -> str:
    points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(mark.x, mark.y, strict=True))
    dashed = " dashed" if mark.dashed or mark.colour >= len(PALETTE) else ""
    return f'<polyline class="line {_colour(mark)}{dashed}" points="{points}"/>'


def _draw_points(mark: Mark, x: _Place, y: _Place, _: Chart) -> str:
    css = f"dot {_colour(mark)}{' hollow' if mark.hollow else ''}"
    return "".join(
        f'<circle class="{css}" cx="{x(a):.1f}" cy="{y(b):.1f}" r="4"{_tip(mark, i)}/>'
        for i, (a, b) in enumerate(zip(mark.x, mark.y, strict=True))
    )


def _draw_band(mark: Mark, x: _Place, y: _Place, _: Chart) -> str:
    there = [f"{x(a):.1f},{y(b):.1f}" for a, b in zip(mark.x, mark.y, strict=True)]
    back = [f"{x(a):.1f},{y(b):.1f}" for a, b in zip(mark.x, mark.end, strict=True)][::-1]
    return f'<polygon class="band {_colour(mark)}" points="{" ".join(there + back)}"/>'


def _draw_bars(mark: Mark, x: _Place, y: _Place, chart: Chart) -> str:
    css, half = f"bar {_colour(mark)}", mark.width / 2
    parts = []
    for i, (a, b) in enumerate(zip(mark.x, mark.y, strict=True)):
        if chart.across:
            x1, x2, y1, y2 = x(max(0.0, chart.x.low)), x(a), y(b + half), y(b - half)
        else:
            x1, x2, y1, y2 = x(a - half), x(a + half), y(b), y(max(0.0, chart.y.low))
        parts.append(
            f'<rect class="{css}" x="{x1:.1f}" y="{y1:.1f}" width="{max(0.0, x2 - x1):.1f}" '
            f'height="{max(0.0, y2 - y1):.1f}"{_tip(mark, i)}/>'
        )
    return "".join(parts)


def _draw_span(mark: Mark, x: _Place, y: _Place, _: Chart) -> str:
    return "".join(
        _line(x(a), y(b), x(end), y(b), f"span {_colour(mark)}")
        for a, b, end in zip(mark.x, mark.y, mark.end, strict=True)
    )


def _draw_text(mark: Mark, x: _Place, y: _Place, _: Chart) -> str:
    return "".join(
        f'<text class="tick" x="{x(a):.1f}" y="{y(b) + 4:.1f}" text-anchor="middle">{escape(note)}</text>'
        for a, b, note in zip(mark.x, mark.y, mark.notes, strict=True)
    )


_DRAW: dict[str, Callable[[Mark, _Place, _Place, Chart], str]] = {
    "line": _draw_line,
    "points": _draw_points,
    "band": _draw_band,
    "bars": _draw_bars,
    "span": _draw_span,
    "text": _draw_text,
}
