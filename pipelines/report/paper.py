"""Charts as PNG and SVG files for papers, by matplotlib (the extra ``report``)."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cache import write_file
from pipelines.errors import UsageError
from pipelines.report.charts import PALETTE, SOFT, Chart, Mark
from pipelines.report.grids import Grid
from pipelines.report.maps import SampleMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SOFT_COLOUR = "#8a939e"
_STYLE: Any = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "legend.frameon": False,
    "savefig.bbox": "tight",
    "svg.fonttype": "none",  # letters stay letters
    "svg.hashsalt": "embedonce",  # the same figure gives the same bytes
}


def check_library() -> None:
    """Refuse ``--figures`` when matplotlib is not installed.

    Raises
    ------
    UsageError
        Naming the extra.
    """
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise UsageError(
            "--figures draws with matplotlib, which is not installed. Install it with: pip install "
            "'embedonce[report]'. The page itself does not need it."
        )


def write_figures(figures: Sequence[Chart | Grid | SampleMap], folder: Path) -> list[Path]:
    """Write every figure as ``<key>.png`` (300 dots per inch) and ``<key>.svg``.

    Returns
    -------
    list of Path
        In the order of `figures`.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context(_STYLE):
        for figure in figures:
            sheet = Figure(figsize=_size(figure), layout="constrained")
            FigureCanvasAgg(sheet)
            _draw(figure, sheet.add_subplot())
            for suffix in ("png", "svg"):
                buffer = io.BytesIO()
                # No date, so that the same run gives the same bytes.
                metadata = {"Date": None} if suffix == "svg" else {"Software": None}
                sheet.savefig(buffer, format=suffix, dpi=300, metadata=metadata)
                path = folder / f"{figure.key}.{suffix}"
                write_file(path, buffer.getvalue())
                written.append(path)
    return written


def _size(figure: Chart | Grid | SampleMap) -> tuple[float, float]:
    """Return width and height in inches: one column of a two-column paper."""
    if isinstance(figure, Chart) and not figure.square and not figure.bare:
        named = sum(bool(mark.name) for mark in figure.marks)
        below = 0.16 * math.ceil(named / 2)  # two columns of names under the frame
        return 3.4, 0.22 * len(figure.y.marks()) + 0.7 + below if figure.across else 2.3
    return 3.4, 3.2


def _draw(figure: Chart | Grid | SampleMap, axes: Axes) -> None:
    axes.set_title(_plain(figure.title), fontsize=8)
    if isinstance(figure, Chart):
        _draw_chart(figure, axes)
    elif isinstance(figure, Grid):
        _draw_grid(figure, axes)
    else:
        _draw_map(figure, axes)


def _draw_chart(chart: Chart, axes: Axes) -> None:
    for mark in chart.marks:
        _MARKS[mark.kind](mark, axes, chart)
    for axis, is_x in ((chart.x, True), (chart.y, False)):
        (axes.set_xlim if is_x else axes.set_ylim)(axis.low, axis.high)
        (axes.set_xlabel if is_x else axes.set_ylabel)(_plain(axis.label))
        if axis.log:
            (axes.set_xscale if is_x else axes.set_yscale)("log")
        if axis.ticks is not None or axis.log:
            values, texts = zip(*axis.marks(), strict=True)
            (axes.set_xticks if is_x else axes.set_yticks)(values, [_plain(text) for text in texts])
            axes.minorticks_off()
    if chart.bare:
        axes.set_axis_off()
    if chart.square or chart.bare:
        axes.set_aspect("equal")
    if any(mark.name for mark in chart.marks):
        if chart.across or chart.bare:  # what is drawn fills the whole frame
            axes.figure.legend(fontsize=6.5, loc="outside lower center", ncols=2)
        else:
            axes.legend(fontsize=6.5)


def _plain(text: str) -> str:
    """Return a text that matplotlib does not read as mathematics."""
    return text.replace("$", r"\$")


def _colour(mark: Mark) -> str:
    return _SOFT_COLOUR if mark.colour == SOFT else PALETTE[mark.colour % len(PALETTE)]


def _style(mark: Mark) -> dict[str, Any]:
    return {"color": _colour(mark), "label": _plain(mark.name) or "_nolegend_"}


def _line(mark: Mark, axes: Axes, _: Chart) -> None:
    axes.plot(mark.x, mark.y, lw=1.2, ls="--" if mark.dashed else "-", **_style(mark))


def _points(mark: Mark, axes: Axes, _: Chart) -> None:
    face = "none" if mark.hollow else _colour(mark)
    axes.scatter(
        mark.x,
        mark.y,
        s=10,
        facecolors=face,
        edgecolors=_colour(mark),
        lw=0.8,
        label=_plain(mark.name) or None,
        zorder=3,
    )


def _band(mark: Mark, axes: Axes, _: Chart) -> None:
    axes.fill_between(mark.x, mark.y, mark.end, alpha=0.18, lw=0, **_style(mark))


def _bars(mark: Mark, axes: Axes, chart: Chart) -> None:
    alpha = 0.3 if mark.colour == SOFT else 0.9
    if chart.across:
        axes.barh(mark.y, mark.x, height=mark.width, alpha=alpha, **_style(mark))
    else:
        axes.bar(mark.x, mark.y, width=mark.width, alpha=alpha, **_style(mark))


def _span(mark: Mark, axes: Axes, _: Chart) -> None:
    axes.hlines(mark.y, mark.x, mark.end, lw=1.6, alpha=0.6, **_style(mark))


def _text(mark: Mark, axes: Axes, _: Chart) -> None:
    for x, y, note in zip(mark.x, mark.y, mark.notes, strict=True):
        axes.text(x, y, _plain(note), ha="center", va="center", fontsize=6.5)


_MARKS: dict[str, Callable[[Mark, Any, Chart], None]] = {
    "line": _line,
    "points": _points,
    "band": _band,
    "bars": _bars,
    "span": _span,
    "text": _text,
}


def _draw_grid(grid: Grid, axes: Axes) -> None:
    axes.imshow(grid.shades, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, cells in enumerate(grid.texts):
        for column, text in enumerate(cells):
            ink = "white" if grid.shades[row][column] > 0.55 else "black"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=ink)
    axes.set_xticks(range(len(grid.columns)), [_plain(name) for name in grid.columns])
    axes.set_yticks(range(len(grid.rows)), [_plain(name) for name in grid.rows])
    axes.set_xlabel(grid.column_axis)
    axes.set_ylabel(grid.row_axis)


def _draw_map(sample_map: SampleMap, axes: Axes) -> None:
    for code, name in enumerate(sample_map.classes):
        inside = sample_map.codes == code
        at = np.asarray(sample_map.xy)[inside]
        axes.scatter(
            at[:, 0],
            at[:, 1],
            s=4,
            lw=0,
            alpha=0.7,
            color=PALETTE[code % len(PALETTE)],
            label=_plain(name),
        )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend(fontsize=6.5, markerscale=2)
