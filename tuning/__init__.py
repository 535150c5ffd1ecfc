"""Folds, search and honest selection statistics for heads on feature matrices.

The floor takes arrays and imports `heads` only. Names are loaded on first use, so that `import tuning` costs
next to nothing and brings in neither optuna nor scikit-learn.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuning.folds import connected_groups, make_folds
    from tuning.ledger import TrialMemory
    from tuning.scores import (
        SCORES,
        accuracy,
        balanced_accuracy,
        confusion,
        log_loss,
        macro_f1,
        macro_precision,
        macro_recall,
        per_class,
        score,
        score_name,
        weighted_f1,
    )
    from tuning.search_loop import SearchResult, search
    from tuning.selection import bbc_cv
    from tuning.spaces import default_configuration, suggest
    from tuning.studies import open_study
    from tuning.trials import Configuration, Trial, evaluate
    from tuning.uncertainty import (
        Difference,
        Estimate,
        cv_summary,
        majority_scores,
        mcnemar,
        paired_difference,
    )

_MODULE_OF = {
    "SCORES": "scores",
    "Configuration": "trials",
    "Difference": "uncertainty",
    "Estimate": "uncertainty",
    "SearchResult": "search_loop",
    "Trial": "trials",
    "TrialMemory": "ledger",
    "accuracy": "scores",
    "balanced_accuracy": "scores",
    "bbc_cv": "selection",
    "confusion": "scores",
    "connected_groups": "folds",
    "cv_summary": "uncertainty",
    "default_configuration": "spaces",
    "evaluate": "trials",
    "log_loss": "scores",
    "macro_f1": "scores",
    "macro_precision": "scores",
    "macro_recall": "scores",
    "majority_scores": "uncertainty",
    "make_folds": "folds",
    "mcnemar": "uncertainty",
    "open_study": "studies",
    "paired_difference": "uncertainty",
    "per_class": "scores",
    "score": "scores",
    "score_name": "scores",
    "search": "search_loop",
    "suggest": "spaces",
    "weighted_f1": "scores",
}

__all__ = [
    "SCORES",
    "Configuration",
    "Difference",
    "Estimate",
    "SearchResult",
    "Trial",
    "TrialMemory",
    "accuracy",
    "balanced_accuracy",
    "bbc_cv",
    "confusion",
    "connected_groups",
    "cv_summary",
    "default_configuration",
    "evaluate",
    "log_loss",
    "macro_f1",
    "macro_precision",
    "macro_recall",
    "majority_scores",
    "make_folds",
    "mcnemar",
    "open_study",
    "paired_difference",
    "per_class",
    "score",
    "score_name",
    "search",
    "suggest",
    "weighted_f1",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'tuning' has no attribute {name!r}")
    value = getattr(import_module(f"tuning.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
