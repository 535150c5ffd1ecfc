"""Metrics: what ``metrics.json`` says, computed from stored out-of-fold predictions only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.after import after_training
from pipelines.finalists import finalist_entries
from tuning import (
    SCORES,
    EarlyDrops,
    bbc_cv,
    bbc_difference,
    bbc_finalists,
    bbc_finalists_difference,
    cv_summary,
    majority_scores,
    mcnemar,
    paired_difference,
    per_class,
)

if TYPE_CHECKING:
    from heads import AfterSteps
    from pipelines.matrices import Matrix
    from tuning import ChoiceOnSplits, Estimate, Finalists, SearchResult, Trial

#: Scores shown in tables, in this order; ``metrics.json`` has all of `tuning.SCORES`.
SHOWN = ("macro_f1", "weighted_f1", "accuracy")


def metrics_of_run(
    found: SearchResult,
    y: np.ndarray,
    class_names: Sequence[str],
    *,
    groups: np.ndarray | None = None,
    test: dict[str, Any] | None,
    finalists: Finalists | None = None,
    decided: bool = False,
    random_state: int,
) -> dict[str, Any]:
    """Return the contents of ``metrics.json`` but for the seconds.

    Parameters
    ----------
    found : SearchResult
    y : ndarray of shape (n_samples,), integer
        Class codes of the rows that were cross-validated.
    class_names : sequence of str
    groups : ndarray of shape (n_samples,), integer, or None
        Related rows have equal numbers; intervals are over draws of groups.
    test : dict or None
        Scores on the test split.
    finalists : Finalists or None
        From `finalists.repeated_finalists`.
    decided : bool
        Whether they chose the winner, which `found` then has as its best.
    random_state : int
        Of the bootstrap.
    """
    n_classes = len(class_names)
    best = found.trials[found.best]
    arguments: dict[str, Any] = {"n_classes": n_classes, "groups": groups, "random_state": random_state}
    choice = None if finalists is None or not decided else finalists.choice(found, y, groups=groups)
    default = None if found.default is None else found.trials[found.default]
    return {
        "classes": list(class_names),
        "n": len(y),
        "metric": found.metric,
        "cv": cv_summary(best.oof, y, found.folds, **arguments),
        "corrected": _corrected(found, choice, y, arguments),
        "default": None if default is None else cv_summary(default.oof, y, found.folds, **arguments),
        "majority": majority_scores(y, n_classes),
        "per_class": class_scores(best.oof.argmax(axis=1), y, class_names),
        "test": test,
        "winner": {**best.configuration.as_dict(), "number": best.number},
        "chosen_on": "search split" if choice is None else "other splits",
        "runner_up": _runner_up(found, finalists if decided else None, y, arguments),
        "against_default": _against_default(found, y, arguments),
        "overtuning": _overtuning(found, choice, y, arguments),
        "finalists": finalist_entries(finalists, found),
        "after": after_training(found, y, random_state=random_state, groups=groups),
        "n_trials": len(found.trials),
        "n_dropped": len(found.dropped),
        "n_failed": len(found.failures),
    }


def class_scores(
    predictions: np.ndarray, y: np.ndarray, class_names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return class name -> precision, recall, f1 and support."""
    scores = per_class(y, predictions, len(class_names))
    return {
        name: {key: values[code].item() for key, values in scores.items()}
        for code, name in enumerate(class_names)
    }


def _corrected(
    found: SearchResult, choice: ChoiceOnSplits | None, y: np.ndarray, arguments: Mapping[str, Any]
) -> dict[str, Estimate]:
    """Estimate the scores of the choice, made again as it was made."""
    if choice is not None:
        return bbc_finalists(choice, random_state=arguments["random_state"])
    if len(found.trials) == 1 and not found.dropped:  # nothing was chosen
        return cv_summary(found.trials[0].oof, y, found.folds, **arguments)
    dropped = EarlyDrops.of(found.trials, found.dropped)
    return bbc_cv(found.predictions, y, metric=found.metric, dropped=dropped, **arguments)


def _runner_up(
    found: SearchResult, finalists: Finalists | None, y: np.ndarray, arguments: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Compare the winner with the best other configuration, where the choice was made.

    On the search's split row by row; where `finalists` decided, by the corrected test over the folds of the
    other splits, and McNemar's on the first of them.
    """
    others = [i for i in range(len(found.trials)) if i != found.best]
    if not others:
        return None
    if finalists is not None:
        winner = finalists.trials.index(found.best)
        place, entry = finalists.repeats.compared(winner)[1]
        low, high = entry["ci95"]
        mine, other = finalists.repeats.predictions[[winner, place], 0]
        return {
            **entry["configuration"],
            "number": found.trials[finalists.trials[place]].number,
            "score": entry["mean"],
            "difference": -entry["difference"],
            "ci95": [-high, -low],
            "p_value": entry["p_value"],
            "mcnemar": mcnemar(mine, other, y),
        }
    second = found.trials[max(others, key=lambda i: found.trials[i].score)]
    return {
        **second.configuration.as_dict(),
        "number": second.number,
        "score": second.score,
        **_winner_minus(second, found, y, arguments),
    }


def _winner_minus(
    other: Trial, found: SearchResult, y: np.ndarray, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Compare the winner with another trial, row by row, by the score and by how often they are right."""
    best = found.trials[found.best]
    compared = paired_difference(best.oof, other.oof, y, metric=found.metric, folds=found.folds, **arguments)
    return {**compared, "mcnemar": mcnemar(best.predictions, other.predictions, y)}


def _against_default(
    found: SearchResult, y: np.ndarray, arguments: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Compare the winner with the default configuration; None when there is none, or it won."""
    if found.default is None or found.default == found.best:
        return None
    return _winner_minus(found.trials[found.default], found, y, arguments)


def _overtuning(
    found: SearchResult, choice: ChoiceOnSplits | None, y: np.ndarray, arguments: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Say what the search gained over the default, free of the luck of choosing; None without a search."""
    if found.default is None or len(found.trials) < 2:
        return None
    if choice is not None:
        gain = bbc_finalists_difference(choice, found.default, random_state=arguments["random_state"])
    else:
        dropped = EarlyDrops.of(found.trials, found.dropped)
        gain = bbc_difference(
            found.predictions, y, found.default, metric=found.metric, dropped=dropped, **arguments
        )
    low, high = gain["ci95"]
    return {"gain": gain["difference"], "ci95": gain["ci95"], "inside_noise": low <= 0 <= high}


def test_scores(pipeline: Any, matrix: Matrix, steps: AfterSteps) -> dict[str, Any] | None:
    """Score a fitted pipeline once on the test split; None without one.

    Parameters
    ----------
    pipeline : imblearn.pipeline.Pipeline
        Fitted on the training rows.
    matrix : Matrix
    steps : AfterSteps
        What ``predict`` does to its probabilities.

    Returns
    -------
    dict or None
        ``n``, the scores of the model as it was trained (like ``cv``) and ``per_class``; ``applied`` holds
        the same of what ``predict`` answers, where calibration or decision change it.
    """
    rows = matrix.test
    if not len(rows):
        return None
    shared = np.isin(matrix.groups[rows], matrix.groups[matrix.training])
    told = pipeline.predict_proba(matrix.rows(rows))
    scores = {
        "n": len(rows),
        "sharing_text_image_or_group_with_training": int(shared.sum()),
        **_test_scores(told.astype(np.float32), pipeline.classes_, matrix),
    }
    if steps.as_dict():
        result = steps.apply(told)
        votes = np.eye(len(pipeline.classes_))[result] if result.ndim == 1 else result
        scores["applied"] = _test_scores(votes, pipeline.classes_, matrix)
    return scores


def _test_scores(probabilities: np.ndarray, classes: np.ndarray, matrix: Matrix) -> dict[str, Any]:
    """Score probabilities, or votes, of the rows of the test split; columns are those of `classes`."""
    rows, names = matrix.test, matrix.class_names
    whole = np.zeros((len(rows), len(names)), dtype=probabilities.dtype)
    whole[:, classes] = probabilities
    y = matrix.labels[rows]
    found: dict[str, Any] = dict(
        cv_summary(
            whole,
            y,
            [(np.empty(0, dtype=np.int64), np.arange(len(rows)))],
            n_classes=len(names),
            groups=matrix.groups[rows],
            random_state=0,
        )
    )
    return {
        **{name: found[name] for name in SCORES},
        "per_class": class_scores(whole.argmax(axis=1), y, names),
    }
