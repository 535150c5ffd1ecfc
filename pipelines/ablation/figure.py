"""The figure: every row's score with its interval, and the reference's as a line to compare with."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from importlib.util import find_spec
from pathlib import Path

from cache import write_file

#: Name, mean, low and high of the interval, and whether the row is the reference.
Point = tuple[str, float, float, float, bool]

_WIDTH, _STEP, _RIGHT = 760, 26, 640
_INK, _SOFT, _ACCENT, _ORANGE = "#1c1f24", "#9aa4b1", "#0072b2", "#d55e00"  # Okabe and Ito's blue and orange


def write_figure(folder: Path, stem: str, points: Sequence[Point], *, label: str) -> list[Path]:
    """Write ``<stem>.svg``, and ``<stem>.png`` when matplotlib is installed.

    Parameters
    ----------
    folder : Path
    stem : str
    points : sequence of (name, mean, low, high, is_reference)
        From top to bottom.
    label : str
        Of the axis.

    Returns
    -------
    list of Path
        What was written.
    """
    if find_spec("matplotlib") is None:
        path = folder / f"{stem}.svg"
        write_file(path, _by_hand(points, label).encode("utf-8"))
        return [path]
    return _by_matplotlib(folder, stem, points, label)


def _by_matplotlib(folder: Path, stem: str, points: Sequence[Point], label: str) -> list[Path]:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 0.9 + 0.28 * len(points)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for place, (_, mean, low, high, is_reference) in enumerate(points):
        colour = _ORANGE if is_reference else _ACCENT
        axes.plot([low, high], [place, place], color=colour, linewidth=2, alpha=0.55)
        axes.plot([mean], [place], "o", color=colour, markersize=5)
        axes.text(1.02, place, f"{mean:.3f}", transform=axes.get_yaxis_transform(), va="center")
        if is_reference:
            axes.axvline(mean, color=_SOFT, linewidth=0.8, linestyle="--", zorder=0)
    axes.set_yticks(range(len(points)), [name for name, *_ in points], parse_math=False)
    axes.set_ylim(len(points) - 0.4, -0.6)  # the first row on top
    axes.set_xlabel(f"{label} (95 % interval; dashed: the reference)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    paths = []
    with matplotlib.rc_context({"svg.hashsalt": "embedonce", "svg.fonttype": "none"}):
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=200, metadata=metadata)
            write_file(folder / f"{stem}.{kind}", buffer.getvalue())
            paths.append(folder / f"{stem}.{kind}")
    return paths


def _by_hand(points: Sequence[Point], label: str) -> str:
    lowest, highest = min(point[2] for point in points), max(point[3] for point in points)
    margin = max(0.02, 0.08 * (highest - lowest))
    low, high = lowest - margin, highest + margin
    left = min(320, 24 + max(7 * len(name) for name, *_ in points))
    bottom = 16 + _STEP * len(points)

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (_RIGHT - left)

    parts = [_axis(low, high, x(low), x(high), bottom, label)]
    for place, (name, mean, start, stop, is_reference) in enumerate(points):
        y, colour = 20 + _STEP * place, _ORANGE if is_reference else _ACCENT
        if is_reference:
            parts.append(
                f'<line x1="{x(mean):.1f}" x2="{x(mean):.1f}" y1="6" y2="{bottom}" stroke="{_SOFT}" '
                'stroke-dasharray="4 3"/>'
            )
        parts.append(
            f'<text x="{left - 12}" y="{y + 4}" text-anchor="end">{escape(name)}</text>'
            f'<line x1="{x(start):.1f}" x2="{x(stop):.1f}" y1="{y}" y2="{y}" stroke="{colour}" '
            'stroke-width="3" stroke-linecap="round" opacity=".55"/>'
            f'<circle cx="{x(mean):.1f}" cy="{y}" r="4.5" fill="{colour}"/>'
            f'<text x="{_RIGHT + 12}" y="{y + 4}">{mean:.3f}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {bottom + 44}" role="img" '
        f'aria-label="{escape(label)} of every row, with 95 % intervals" font-family="sans-serif" '
        f'font-size="12" fill="{_INK}"><rect width="100%" height="100%" fill="#ffffff"/>{"".join(parts)}'
        "</svg>\n"
    )


def _axis(low: float, high: float, left: float, right: float, bottom: float, label: str) -> str:
    parts = [f'<line x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}" stroke="{_SOFT}"/>']
    for k in range(5):
        at, tick = left + k / 4 * (right - left), low + k / 4 * (high - low)
        parts.append(f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{tick:.2f}</text>')
    caption = f"{escape(label)} (95 % interval; dashed: the reference)"
    parts.append(
        f'<text x="{(left + right) / 2:.1f}" y="{bottom + 36}" text-anchor="middle">{caption}</text>'
    )
    return "".join(parts)
