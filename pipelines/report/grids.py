"""Grids: tables whose cells are shaded, such as a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from pipelines.report.evidence import OutOfFold

_MOST_CLASSES = 20


@dataclass(frozen=True)
class Grid:
    """A shaded table.

    Attributes
    ----------
    key, title, caption : str
        As of `charts.Chart`.
    rows, columns : sequence of str
    shades : sequence of sequence of float
        0 (blank) to 1.
    texts : sequence of sequence of str
    row_axis, column_axis : str
        What the lines and columns are.
    """

    key: str
    title: str
    caption: str
    rows: Sequence[str]
    columns: Sequence[str]
    shades: Sequence[Sequence[float]]
    texts: Sequence[Sequence[str]]
    row_axis: str = "true"
    column_axis: str = "predicted"


def attention_grid(blocks: Sequence[str], attention: np.ndarray) -> Grid:
    """Return what each block takes from each in an attention fusion, mean over rows and heads.

    Parameters
    ----------
    blocks : sequence of str
    attention : ndarray of shape (n_blocks, n_blocks), float64
        Each line sums to one.
    """
    return Grid(
        "fusion-attention",
        "Attention between blocks",
        "Each line is a block that asks, each column one that it takes from; lines sum to 1. Mean over rows "
        "and attention heads of the final model.",
        list(blocks),
        list(blocks),
        attention.tolist(),
        [[f"{share:.2f}" for share in row] for row in attention.tolist()],
        row_axis="asks",
        column_axis="is asked",
    )


def confusion_grids(rows: OutOfFold) -> list[Grid]:
    """Return the confusion matrix twice: counts, and shares of each true class.

    With more than 20 classes the 20 most frequent are shown.
    """
    n = len(rows.classes)
    counts = np.zeros((n, n), dtype=np.int64)
    np.add.at(counts, (rows.y, rows.predicted), 1)
    shown = np.argsort(-counts.sum(axis=1), kind="stable")[:_MOST_CLASSES]
    shown = np.sort(shown)
    rates = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    counts, rates = counts[np.ix_(shown, shown)], rates[np.ix_(shown, shown)]
    names = [rows.classes[code] for code in shown]
    cut = f" The {_MOST_CLASSES} most frequent of {n} classes." if n > _MOST_CLASSES else ""
    shades = rates.tolist()
    by_count = [[f"{count:,}" for count in row] for row in counts.tolist()]
    by_rate = [[f"{rate:.0%}" for rate in row] for row in shades]
    errors = "Rows are the true classes. Off the diagonal are errors." + cut
    recall = "Share of each true class; the diagonal is its recall." + cut
    return [
        Grid("confusion-counts", "Confusion, counts", errors, names, names, shades, by_count),
        Grid("confusion-rates", "Confusion, rates", recall, names, names, shades, by_rate),
    ]


def grid_table(grid: Grid) -> str:
    """Return the grid as an HTML table."""
    head = "".join(f"<th>{escape(name)}</th>" for name in grid.columns)
    body = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(map(_cell, shades, texts))}</tr>"
        for name, shades, texts in zip(grid.rows, grid.shades, grid.texts, strict=True)
    )
    return (
        '<div class="scroll" tabindex="0"><table class="grid"><thead><tr><th class="corner">'
        f"{escape(grid.row_axis)} \\ {escape(grid.column_axis)}</th>{head}</tr></thead><tbody>{body}</tbody>"
        "</table></div>"
    )


def _cell(shade: float, text: str) -> str:
    deep = " deep" if shade > 0.55 else ""
    return f'<td class="heat{deep}" style="--share:{shade:.3f}">{escape(text)}</td>'
