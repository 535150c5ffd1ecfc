"""Charts of how the winner was trained: loss, scores, learning rate, and the weight of each block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.report.charts import SOFT, Axis, Chart, Mark, span_of, whole_ticks

_N_BINS = 24


def learning_charts(training: Mapping[str, Any]) -> list[Chart]:
    """Loss, F1 and learning rate by epoch; of several networks the first is drawn."""
    network = training["networks"][0]
    history, best = network["history"], network["best_epoch"]
    charts = [
        _by_epoch(
            "learning-loss",
            "Loss",
            "Training and inner validation rows. Where they part, the network learns by heart; the dashed "
            "line is the epoch that was kept.",
            history,
            {"train_loss": "training", "valid_loss": "validation"},
            best,
        ),
        _by_epoch(
            "learning-f1",
            "Scores on the inner validation rows",
            "Few rows, so small steps are noise.",
            history,
            {"valid_macro_f1": "macro F1", "valid_weighted_f1": "weighted F1", "valid_accuracy": "accuracy"},
            best,
        ),
        _by_epoch(
            "learning-rate",
            "Learning rate",
            "At the end of each epoch.",
            history,
            {"learning_rate": "learning rate"},
            best,
        ),
    ]
    return [chart for chart in charts if chart is not None]


def _by_epoch(
    key: str,
    title: str,
    caption: str,
    history: Sequence[Mapping[str, Any]],
    names: Mapping[str, str],
    best: int,
) -> Chart | None:
    epochs = [float(entry["epoch"]) for entry in history]
    marks = []
    for colour, (name, label) in enumerate(names.items()):
        if any(entry.get(name) is None for entry in history):
            continue
        # A loss that is not finite ends a training: it is the last of the history, and has no place here.
        values = [float(entry[name]) for entry in history]
        points = [(e, v) for e, v in zip(epochs, values, strict=True) if np.isfinite(v)]
        if points:
            x, y = [e for e, _ in points], [v for _, v in points]
            notes = [f"epoch {e:.0f}, {label}: {v:.4g}" for e, v in points]
            marks.append(Mark("line", x, y, name=label if len(names) > 1 else "", colour=colour))
            marks.append(Mark("points", x, y, colour=colour, notes=notes))
    if not marks:
        return None
    low, high = span_of([value for mark in marks for value in mark.y])
    low = max(low, 0.0)
    marks.insert(0, Mark("line", [best, best], [low, high], colour=SOFT, dashed=True))
    if len(epochs) > 30:
        marks = [mark for mark in marks if mark.kind == "line"]
    return Chart(key, title, caption, _epochs(max(epochs)), Axis("", low, high), marks)


def _epochs(last: float) -> Axis:
    return Axis("epoch", 0.5, last + 0.5, whole_ticks(0.5, last + 0.5))


def fusion_epoch_chart(training: Mapping[str, Any]) -> Chart | None:
    """Mean weight of each block after each epoch; None for fusions that do not weigh blocks."""
    weights = training["networks"][0]["fusion_weights"]
    if weights is None or not weights:
        return None
    table = np.asarray(weights, dtype=np.float64)
    held_out = any(entry.get("valid_macro_f1") is not None for entry in training["networks"][0]["history"])
    rows = "inner validation rows" if held_out else "rows learnt from, for there is no inner validation split"
    known = np.isfinite(table).all(axis=1)
    if not known.any():
        return None
    epochs = (np.flatnonzero(known) + 1.0).tolist()
    marks = [
        Mark("line", epochs, table[known, k].tolist(), name=block, colour=k)
        for k, block in enumerate(training["blocks"])
    ]
    return Chart(
        "fusion-epochs",
        f"Weight of each block by epoch ({training['fusion']})",
        f"Mean over the {rows}; blocks start equal; what rises is what the network leans on.",
        _epochs(max(epochs)),
        Axis("weight", *span_of(table[known].ravel().tolist(), within=(0.0, 1.0))),
        marks,
    )


def fusion_sample_chart(fusion: Mapping[str, np.ndarray]) -> Chart:
    """Distribution of each block's weight over the labelled rows."""
    values = np.concatenate(list(fusion.values()))
    low, high = span_of(values.tolist(), within=(0.0, 1.0))
    edges = np.linspace(low, high, _N_BINS + 1)
    x = np.repeat(edges, 2)[1:-1].tolist()
    marks: list[Mark] = []
    for colour, (block, weights) in enumerate(fusion.items()):
        share = np.histogram(weights, bins=edges)[0] / len(weights)
        y = np.repeat(share, 2).tolist()
        marks += [
            Mark("band", x, [0.0] * len(x), y, colour=colour),
            Mark("line", x, y, name=block, colour=colour),
        ]
    top = max(max(mark.y) for mark in marks if mark.kind == "line")
    return Chart(
        "fusion-samples",
        "Weight of each block, row by row",
        "From the final model, which has learnt from these rows. A narrow peak: every row is weighed alike.",
        Axis("weight", low, high),
        Axis("share of rows", 0.0, top * 1.08),
        marks,
    )
