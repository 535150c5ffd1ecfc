"""Charts of out-of-fold predictions: ROC, precision and recall, confidence, reliability."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipelines.report.charts import SOFT, Axis, Chart, Mark
from pipelines.report.evidence import OutOfFold

if TYPE_CHECKING:
    from heads import ReliabilityBins

_MOST_CLASSES = 8
_MOST_CORNERS = 240
_N_BINS = 20
_FEWEST_IN_BIN = 10


def shown_classes(rows: OutOfFold) -> list[int]:
    """Return the codes of at most 8 classes that have rows and lack some, most frequent first, in order."""
    counts = np.bincount(rows.y, minlength=len(rows.classes))
    usable = [code for code in np.argsort(-counts, kind="stable") if 0 < counts[code] < len(rows.y)]
    return sorted(int(code) for code in usable[:_MOST_CLASSES])


def roc_chart(rows: OutOfFold) -> Chart:
    """One ROC curve per class, against all others."""
    from sklearn.metrics import roc_auc_score, roc_curve

    marks = [Mark("line", [0, 1], [0, 1], colour=SOFT, dashed=True, name="chance")]
    for code in shown_classes(rows):
        is_it, score = rows.y == code, rows.probabilities[:, code]
        false, true, _ = roc_curve(is_it, score)
        area = roc_auc_score(is_it, score)
        keep = _corners(len(false))
        marks.append(_curve(false[keep], true[keep], f"{rows.classes[code]} {area:.3f}", code))
    return Chart(
        "roc",
        "ROC, one class against the others",
        "The nearer to the top left the better; behind each name is the area under its curve (chance: 0.5).",
        Axis("false positive rate", -0.01, 1.01, _TENTHS),
        Axis("true positive rate", -0.01, 1.01, _TENTHS),
        marks,
        square=True,
    )


def precision_recall_chart(rows: OutOfFold) -> Chart:
    """One precision-recall curve per class."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    marks = []
    for code in shown_classes(rows):
        is_it, score = rows.y == code, rows.probabilities[:, code]
        precision, recall, _ = precision_recall_curve(is_it, score)
        average = average_precision_score(is_it, score)
        keep = _corners(len(precision))
        marks.append(_curve(recall[keep], precision[keep], f"{rows.classes[code]} {average:.3f}", code))
        share = float(is_it.mean())
        marks.append(Mark("line", [0, 1], [share, share], colour=code, dashed=True))
    return Chart(
        "precision-recall",
        "Precision and recall",
        "Behind each name is its average precision; its dashed line is chance, the share of the class.",
        Axis("recall", -0.01, 1.01, _TENTHS),
        Axis("precision", -0.01, 1.01, _TENTHS),
        marks,
        square=True,
    )


_TENTHS = [(k / 5, f"{k / 5:.1f}") for k in range(6)]


def _curve(x: np.ndarray, y: np.ndarray, name: str, colour: int) -> Mark:
    return Mark("line", x.tolist(), y.tolist(), name=name, colour=colour)


def _corners(n: int) -> np.ndarray:
    """Return which points of a long curve are drawn: evenly many, the ends among them."""
    return np.unique(np.linspace(0, n - 1, min(n, _MOST_CORNERS)).round().astype(np.int64))


def density_charts(rows: OutOfFold) -> list[Chart]:
    """For each class: how probable it is held, for rows of the class and for the others."""
    edges = np.linspace(0, 1, _N_BINS + 1)
    charts = []
    for code in shown_classes(rows):
        score = rows.probabilities[:, code]
        inside, _ = np.histogram(score[rows.y == code], bins=edges, density=True)
        outside, _ = np.histogram(score[rows.y != code], bins=edges, density=True)
        x = np.repeat(edges, 2)[1:-1]
        name = rows.classes[code]
        charts.append(
            Chart(
                f"confidence-{code}",
                f"Probability of \u201c{name}\u201d",
                "",
                Axis("probability out of fold", 0, 1, _TENTHS),
                Axis("density", 0, float(max(inside.max(), outside.max())) * 1.08),
                [
                    *_outline(x, np.repeat(outside, 2), "rows of other classes", SOFT),
                    *_outline(x, np.repeat(inside, 2), f"rows of {name}", code),
                ],
            )
        )
    return charts


def _outline(x: np.ndarray, y: np.ndarray, name: str, colour: int) -> list[Mark]:
    floor = [0.0] * len(x)
    return [
        Mark("band", x.tolist(), floor, y.tolist(), colour=colour),
        Mark("line", x.tolist(), y.tolist(), name=name, colour=colour),
    ]


def reliability_charts(rows: OutOfFold) -> list[Chart]:
    """Reliability diagrams as trained and after temperature scaling that was fitted on the other folds."""
    from heads import expected_calibration_error, fit_temperature, nested_apply, reliability_bins

    total = rows.probabilities.sum(axis=1, keepdims=True)
    before = rows.probabilities / total  # oof.csv holds six digits
    tables = [("before", "As trained", before)]
    if len(np.unique(rows.folds)) > 1:
        after = nested_apply(fit_temperature, before, rows.y, rows.folds)
        tables.append(("after", "After temperature scaling", after))
    charts = []
    for key, title, table in tables:
        bins = reliability_bins(table, rows.y, n_bins=10)
        error = expected_calibration_error(table, rows.y)
        full = bins.count > 0
        middle = ((bins.edges[:-1] + bins.edges[1:]) / 2)[full].tolist()
        share = (bins.count[full] / bins.count.sum()).tolist()
        charts.append(
            Chart(
                f"reliability-{key}",
                f"{title}: calibration error {error:.3f}",
                "On the diagonal, a confidence of 0.8 is right 8 times in 10; below it the head boasts. "
                "Grey: share of the rows; rings: fewer than 10 rows.",
                Axis("confidence", 0, 1, _TENTHS),
                Axis("share that is right", 0, 1, _TENTHS),
                [
                    Mark("bars", middle, share, colour=SOFT, width=0.094),
                    Mark("line", [0, 1], [0, 1], colour=SOFT, dashed=True),
                    *_bins_drawn(bins),
                ],
                square=True,
            )
        )
    return charts


def _bins_drawn(bins: ReliabilityBins) -> list[Mark]:
    """Return a line through the bins that hold enough rows to mean something, and a dot for each bin."""
    enough = bins.count >= _FEWEST_IN_BIN
    marks = [Mark("line", bins.confidence[enough].tolist(), bins.accuracy[enough].tolist())]
    for chosen, hollow in ((enough, False), (~enough & (bins.count > 0), True)):
        confidence, accuracy = bins.confidence[chosen].tolist(), bins.accuracy[chosen].tolist()
        notes = [
            f"confidence {c:.2f}, right {a:.2f}, {n:,} rows"
            for c, a, n in zip(confidence, accuracy, bins.count[chosen].tolist(), strict=True)
        ]
        marks.append(Mark("points", confidence, accuracy, hollow=hollow, notes=notes))
    return marks
