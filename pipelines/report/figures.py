"""Figures of the report as inline SVG: small, sharp in print, and in the page's light or dark colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

_WIDTH = 640


def intervals(rows: Sequence[tuple[str, float, float, float]], *, label: str) -> str:
    """Draw one line per row: a point with its 95 % interval, on a common axis.

    Parameters
    ----------
    rows : sequence of (name, mean, low, high)
    label : str
        Caption of the axis.
    """
    low = max(0.0, min(row[2] for row in rows) - 0.05)
    high = min(1.0, max(row[3] for row in rows) + 0.05)
    left, right, step = 190, _WIDTH - 60, 30
    height = step * len(rows) + 36

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    parts = [_axis(low, high, x, height - 26, label)]
    for i, (name, mean, start, stop) in enumerate(rows):
        y = 18 + step * i
        parts.append(f'<text x="{left - 12}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<line class="range" x1="{x(start):.1f}" x2="{x(stop):.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="point" cx="{x(mean):.1f}" cy="{y}" r="5"/>')
        parts.append(f'<text x="{right + 8}" y="{y + 4}">{mean:.3f}</text>')
    return _svg(parts, height, f"{label} with 95 % intervals")


def history(points: Sequence[tuple[int, float, str]], *, label: str) -> str:
    """Draw every trial's score by its number, and the best so far as a step line.

    Parameters
    ----------
    points : sequence of (number, score, head)
    label : str
    """
    scores = [score for _, score, _ in points]
    low, high = min(scores) - 0.02, max(scores) + 0.02
    last = max(1, max(number for number, _, _ in points))
    left, right, top, bottom = 56, _WIDTH - 20, 12, 200
    heads = list(dict.fromkeys(head for _, _, head in points))

    def x(number: float) -> float:
        return left + number / last * (right - left)

    def y(score: float) -> float:
        return bottom - (score - low) / (high - low) * (bottom - top)

    parts = []
    for k in range(5):
        value = low + (high - low) * k / 4
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text x="{left - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.2f}</text>')
    best, path = float("-inf"), ""
    for number, score, _ in sorted(points):
        if score > best:
            path += f"{'M' if not path else 'H'}{x(number):.1f}" + (
                f",{y(score):.1f}" if best == float("-inf") else f"V{y(score):.1f}"
            )
            best = score
    parts.append(f'<path class="best" d="{path}H{right}"/>')
    for number, score, head in points:
        title = f"<title>trial {number}: {escape(head)} {score:.4f}</title>"
        parts.append(
            f'<circle class="c{heads.index(head) % 4}" cx="{x(number):.1f}" cy="{y(score):.1f}" r="4">'
            f"{title}</circle>"
        )
    for i, head in enumerate(heads):
        at = left + 110 * i
        parts.append(
            f'<circle class="c{i % 4}" cx="{at}" cy="{bottom + 34}" r="4"/>'
            f'<text x="{at + 9}" y="{bottom + 38}">{escape(head)}</text>'
        )
    parts.append(f'<text x="{right}" y="{bottom + 18}" text-anchor="end">trial</text>')
    return _svg(parts, bottom + 48, f"{label} of every trial")


def _axis(low: float, high: float, x: Callable[[float], float], y: float, label: str) -> str:
    ticks = [low + (high - low) * k / 4 for k in range(5)]
    marks = "".join(
        f'<line class="grid" x1="{x(t):.1f}" x2="{x(t):.1f}" y1="4" y2="{y}"/>'
        f'<text x="{x(t):.1f}" y="{y + 16}" text-anchor="middle">{t:.2f}</text>'
        for t in ticks
    )
    return marks + f'<text x="4" y="{y + 16}">{escape(label)}</text>'


def _svg(parts: Sequence[str], height: float, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )
