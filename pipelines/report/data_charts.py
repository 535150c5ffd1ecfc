"""Charts of the data set: classes, lengths of texts, sizes of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.report.charts import Axis, Chart, Mark, names_axis

_MOST_CLASSES = 20


def class_chart(per_class: Mapping[str, Mapping[str, Any]]) -> Chart:
    """Rows of each class."""
    names = sorted(per_class, key=lambda name: -per_class[name]["support"])[:_MOST_CLASSES]
    names = [name for name in per_class if name in names]
    counts = [int(per_class[name]["support"]) for name in names]
    total = sum(int(entry["support"]) for entry in per_class.values()) or 1
    cut = f" The {_MOST_CLASSES} most frequent of {len(per_class)}." if len(per_class) > _MOST_CLASSES else ""
    marks = [
        Mark(
            "bars", [count], [-float(k)], colour=k if len(names) <= 8 else 0, width=0.62,
            notes=[f"{name}: {count:,} rows, {count / total:.0%}"],
        )
        for k, (name, count) in enumerate(zip(names, counts, strict=True))
    ]  # fmt: skip
    return Chart(
        "classes",
        "Labelled rows of each class",
        f"Always answering the largest class would be right in {max(counts) / total:.0%} of the rows.{cut}",
        Axis("rows", 0, max(counts) * 1.08),
        names_axis([f"{name} {count / total:.0%}" for name, count in zip(names, counts, strict=True)]),
        marks,
        across=True,
    )


def length_chart(texts: Sequence[str]) -> Chart:
    """Characters of each text, after cleaning."""
    lengths = np.array([len(text) for text in texts])
    top = max(1.0, float(np.percentile(lengths, 99)))
    step = int(np.ceil((top + 1) / 30))  # whole characters, so that every bar covers as many lengths
    edges = np.arange(0, top + 1 + step, step, dtype=np.float64)
    counts, _ = np.histogram(np.minimum(lengths, top), bins=edges)
    words = np.array([len(text.split()) for text in texts])
    longest = f"; the longest has {lengths.max():,}" if lengths.max() > top else ""
    empty = int((lengths == 0).sum())
    note = f" {empty:,} text(s) are empty." if empty else ""
    return Chart(
        "text-lengths",
        "Length of the texts",
        f"In characters after cleaning{longest}. Half of the texts have {np.median(words):.0f} words or "
        f"fewer, 95 % have at most {np.percentile(words, 95):.0f}.{note}",
        Axis("characters", 0, float(edges[-1])),
        Axis("texts", 0, float(counts.max()) * 1.08),
        [_histogram(edges, counts, "texts of {low:.0f} to less than {high:.0f} characters")],
    )


def size_chart(sizes: np.ndarray) -> Chart | None:
    """Longer side of each picture in pixels; None when all are alike or no size is known."""
    known = sizes[(sizes > 0).all(axis=1)]
    longer = known.max(axis=1).astype(np.float64)
    if not len(known) or longer.min() == longer.max():
        return None
    edges = np.linspace(longer.min() - 0.5, longer.max() + 0.5, 31)
    counts, _ = np.histogram(longer, bins=edges)
    width, height = np.median(known, axis=0)
    unknown = len(sizes) - len(known)
    note = f" The size of {unknown:,} is not known." if unknown else ""
    return Chart(
        "image-sizes",
        "Size of the pictures",
        f"Longer side; the median picture is {width:.0f} by {height:.0f} pixels.{note}",
        Axis("pixels", float(edges[0]), float(edges[-1])),
        Axis("pictures", 0, float(counts.max()) * 1.08),
        [_histogram(edges, counts, "{low:.0f} to {high:.0f} pixels")],
    )


def size_sentence(sizes: np.ndarray) -> str:
    """Say what `size_chart` does not draw: that all pictures are alike, or that no size is known."""
    known = sizes[(sizes > 0).all(axis=1)]
    if not len(known):
        return "The stores do not say how large the pictures are."
    sides = f"a longer side of {known.max()} pixels"
    return f"All {len(known):,} pictures have {sides}."


def _histogram(edges: np.ndarray, counts: np.ndarray, words: str) -> Mark:
    middle, width = (edges[:-1] + edges[1:]) / 2, float((edges[1:] - edges[:-1]).min())
    notes = [
        words.format(low=low, high=high) + f": {count:,}"
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    return Mark("bars", middle.tolist(), counts.tolist(), width=width * 0.94, notes=notes)
