"""The modality ledger: what each modality brings, whether the pairing matters, and where they disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipelines.ablation.comparing import compare, with_holm
from pipelines.ablation.feature_sets import FeatureSets, modality_of
from pipelines.ablation.fitted_rows import Fitted
from pipelines.ablation.grid import Candidate, Shuffle, without_fusion
from tuning import Configuration, Fold, confusion, mean_paired_difference, score, score_name

#: Short name -> what is exchanged.
SHUFFLES = {
    "shuffled partner": False,
    "shuffled within class": True,
}
#: The cases of a sample by which single modality is right.
CASES = ("both right", "only text right", "only image right", "both wrong")


@dataclass(frozen=True)
class LedgerRows:
    """Rows that one ledger is made of: a feature set with text and image under one head.

    Attributes
    ----------
    feature_set : str
    text, image, both : Candidate
    shuffled : dict of str to list of Candidate
        Kind of shuffle -> one row per seed.
    """

    feature_set: str
    text: Candidate
    image: Candidate
    both: Candidate
    shuffled: dict[str, list[Candidate]]

    @property
    def all(self) -> list[Candidate]:
        """Every row that has to be fitted."""
        return [self.text, self.image, self.both, *(row for rows in self.shuffled.values() for row in rows)]


def ledger_rows(sets: FeatureSets, configuration: Configuration, n_shuffles: int) -> list[LedgerRows]:
    """Return a ledger for every feature set that holds text and image.

    Parameters
    ----------
    sets : FeatureSets
    configuration : Configuration
        The head of the reference row.
    n_shuffles : int
        Seeds per kind of shuffle.
    """
    ledgers = []
    for name, matrix in sets.matrices.items():
        blocks = {
            kinds: tuple(block for block in matrix.blocks if modality_of(block) in kinds)
            for kinds in (("text",), ("image",), ("text", "image"))
        }
        text, image, together = blocks.values()
        if not text or not image:
            continue
        both = Candidate("both", name, "both", together, configuration)
        shuffled = {
            kind: [
                replace(both, name=f"{kind} {seed}", shuffle=Shuffle(within_class, seed))
                for seed in range(n_shuffles)
            ]
            for kind, within_class in SHUFFLES.items()
        }
        ledgers.append(
            LedgerRows(
                name,
                _alone(both, "text", text),
                _alone(both, "image", image),
                both,
                {kind: rows for kind, rows in shuffled.items() if rows},
            )
        )
    return ledgers


def _alone(both: Candidate, modality: str, blocks: tuple[str, ...]) -> Candidate:
    configuration = both.configuration if len(blocks) > 1 else without_fusion(both.configuration)
    return replace(both, name=modality, features=modality, blocks=blocks, configuration=configuration)


def described_ledger(
    ledger: LedgerRows,
    fitted: Mapping[str, Fitted],
    sets: FeatureSets,
    folds: Sequence[Fold],
    *,
    metric: str,
    seed: int,
) -> dict[str, Any]:
    """Return what ``metrics.json`` says of one ledger.

    Parameters
    ----------
    ledger : LedgerRows
    fitted : mapping of str to Fitted
        By `Candidate.key`.
    sets : FeatureSets
    folds : sequence of (train, valid)
    metric : str
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        ``rows``: name, score (of a shuffle the mean over its seeds, with their standard deviation), and how
        much better "both" is, with interval, p-value, the p-value with Holm's correction over the ledger,
        and verdict; ``cases``: how many samples each single modality gets right, and what "both" makes of
        them.
    """
    y, n_classes = sets.labels, len(sets.samples.class_names)
    both = fitted[ledger.both.key]

    def against(row: Candidate) -> dict[str, Any]:
        return compare(both, fitted[row.key], sets, folds, metric=metric, seed=seed)

    def against_seeds(shuffled: Sequence[Candidate]) -> dict[str, Any]:
        others = [fitted[row.key].predictions for row in shuffled]
        arguments: dict[str, Any] = {"n_classes": n_classes, "metric": metric, "random_state": seed}
        return dict(
            mean_paired_difference(both.predictions, others, y, folds, groups=sets.groups, **arguments)
        )

    def score_of(row: Candidate) -> float:
        return _score(fitted[row.key], y, folds, n_classes, metric)

    rows: list[dict[str, Any]] = [
        {"features": row.name, "score": score_of(row), "deviation": None, "both_better_by": against(row)}
        for row in (ledger.text, ledger.image)
    ]
    rows.append(
        {"features": "both", "score": score_of(ledger.both), "deviation": None, "both_better_by": None}
    )
    for kind, shuffled in ledger.shuffled.items():
        scores = [score_of(row) for row in shuffled]
        rows.append(
            {
                "features": kind,
                "score": float(np.mean(scores)),
                "deviation": float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
                "both_better_by": against_seeds(shuffled),
            }
        )
    with_holm([row["both_better_by"] for row in rows if row["both_better_by"] is not None])
    cases = _cases(fitted[ledger.text.key], fitted[ledger.image.key], both, y)
    return {"set": ledger.feature_set, "metric": score_name(metric), "rows": rows, "cases": cases}


def _score(fitted: Fitted, y: np.ndarray, folds: Sequence[Fold], n_classes: int, metric: str) -> float:
    counts = [confusion(y[valid], fitted.predictions[valid], n_classes) for _, valid in folds]
    return float(score(np.stack(counts), metric).mean())


def cases_of(text: np.ndarray, image: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return for every sample the position in `CASES`.

    Parameters
    ----------
    text, image, y : ndarray of shape (n_samples,), integer
        Predicted codes of the single modalities, and true codes.
    """
    return np.where(text == y, np.where(image == y, 0, 1), np.where(image == y, 2, 3))


def _cases(alone_text: Fitted, alone_image: Fitted, together: Fitted, y: np.ndarray) -> list[dict[str, Any]]:
    text, image, both = alone_text.predictions, alone_image.predictions, together.predictions
    case = cases_of(text, image, y)
    return [
        {
            "case": name,
            "n": int((case == number).sum()),
            "both_right": int(((case == number) & (both == y)).sum()),
            "both_as_text": int(((case == number) & (both == text)).sum()),
            "both_as_image": int(((case == number) & (both == image)).sum()),
        }
        for number, name in enumerate(CASES)
    ]


def disagreements(ledger: LedgerRows, fitted: Mapping[str, Fitted], sets: FeatureSets) -> list[list[object]]:
    """Return a line for every training sample on which text alone and image alone name different classes.

    Returns
    -------
    list of list
        Set, id, label, what text, image and both say, and the case.
    """
    text, image, both = (fitted[row.key].predictions for row in (ledger.text, ledger.image, ledger.both))
    y, names = sets.labels, sets.samples.class_names
    case = cases_of(text, image, y)
    ids = [sets.samples.ids[row] for row in sets.samples.training]
    return [
        [ledger.feature_set, ids[i], *(names[code[i]] for code in (y, text, image, both)), CASES[case[i]]]
        for i in np.flatnonzero(text != image)
    ]
