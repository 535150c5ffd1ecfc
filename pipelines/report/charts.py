"""Charts as data: what is drawn, said once, for the page (`svg`) and for papers (`paper`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

SOFT = -1
"""Colour number of what stays in the background; 0 and up are `PALETTE`."""

# Okabe and Ito's colours (jfly.uni-koeln.de/color), darkened where they would be faint on white.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#b8568f", "#a87800", "#3a9bd1", "#6b4fa0", "#5b6770")

Kind = Literal["line", "points", "band", "bars", "span", "text"]


@dataclass(frozen=True)
class Mark:
    """One series of a chart.

    Attributes
    ----------
    kind : str
        ``line`` through (x, y); ``points``; ``band`` from y to end; ``bars`` from 0 to y, `width` wide (for
        ``across`` charts: from 0 to x, at height y); ``span`` from x to end at height y; ``text`` at (x, y).
    x, y : sequence of float
    end : sequence of float
        Of bands and spans.
    name : str
        In the legend; empty leaves the mark out of it.
    colour : int
        Number in `PALETTE`, or `SOFT`.
    dashed, hollow : bool
    width : float
        Of a bar, in units of its axis.
    notes : sequence of str
        What hovering over each point or bar says, or the words of a ``text`` mark.
    """

    kind: Kind
    x: Sequence[float]
    y: Sequence[float]
    end: Sequence[float] = ()
    name: str = ""
    colour: int = 0
    dashed: bool = False
    hollow: bool = False
    width: float = 0.8
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Axis:
    """One axis: its label, its range, and its ticks when they are not chosen by `nice_ticks`."""

    label: str
    low: float = 0.0
    high: float = 1.0
    ticks: Sequence[tuple[float, str]] | None = None
    log: bool = False

    def place(self, value: float) -> float:
        """Return where a value lies, 0 to 1 within the range."""
        if not self.log:
            return (value - self.low) / (self.high - self.low)
        return math.log(value / self.low) / math.log(self.high / self.low)

    def marks(self) -> Sequence[tuple[float, str]]:
        """Return (value, text) of every tick."""
        if self.ticks is not None:
            return self.ticks
        return _decades(self.low, self.high) if self.log else nice_ticks(self.low, self.high)


@dataclass(frozen=True)
class Chart:
    """One figure.

    Attributes
    ----------
    key : str
        Its file name, e.g. ``"roc"``.
    title, caption : str
        What it shows, and what to read off.
    x, y : Axis
    marks : sequence of Mark
        Drawn in this order.
    across : bool
        Bars lie, with names on the y axis.
    bare : bool
        No axes (a radar draws its own).
    square : bool
    height : int
        In units of which a chart is 460 wide; 0 lets the shape decide.
    """

    key: str
    title: str
    caption: str
    x: Axis
    y: Axis
    marks: Sequence[Mark] = field(default=())
    across: bool = False
    bare: bool = False
    square: bool = False
    height: int = 0


def nice_ticks(low: float, high: float, wanted: int = 5) -> list[tuple[float, str]]:
    """Return about `wanted` round numbers between `low` and `high`, as (value, text)."""
    rough = (high - low) / max(1, wanted - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    values = [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]
    digits = max(0, -math.floor(math.log10(step) + 1e-9) + (1 if f"{step / power:.1f}" == "2.5" else 0))
    return [(value, f"{value:,.{digits}f}") for value in values]


def whole_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return about five whole numbers between `low` and `high`, for epochs and trials, as (value, text)."""
    step = max(1.0, nice_ticks(low, high)[1][0] - nice_ticks(low, high)[0][0] if high - low > 4 else 1.0)
    step = math.ceil(step)
    first = math.ceil(low / step - 1e-9)
    return [(k * step, f"{k * step:,}") for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[tuple[float, str]]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first >= 1:
        step = 1 + (last - first) // 6
        return [(10.0**k, f"{10.0**k:,.10g}") for k in range(first, last + 1, step)]
    return [(value, f"{value:,.3g}") for value in np.geomspace(low, high, 3).tolist()]


def span_of(
    values: Sequence[float], *, pad: float = 0.06, within: tuple[float, float] | None = None
) -> tuple[float, float]:
    """Return a range that holds all finite values with some air, clipped to `within`."""
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    low, high = (0.0, 1.0) if not len(finite) else (float(finite.min()), float(finite.max()))
    air = (high - low) * pad or abs(high) * pad or 1.0
    low, high = low - air, high + air
    if within is not None:
        low, high = max(low, within[0]), min(high, within[1])
    return (low, high) if high > low else (low, low + 1.0)


def names_axis(names: Sequence[str]) -> Axis:
    """Return a y axis with one name per row, the first on top."""
    ticks = [(-float(row), name) for row, name in enumerate(names)]
    return Axis("", -len(names) + 0.4, 0.6, ticks)
