"""Folds, search and honest selection statistics for heads on feature matrices.

The floor takes arrays and imports `heads` only. Names are loaded on first use, so that `import tuning` costs
next to nothing and brings in neither optuna nor scikit-learn.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuning.choice import simplest_within_one_se
    from tuning.early_drops import EarlyDrops
    from tuning.finalists import Finalists, decide_on_splits, finalists_of
    from tuning.folds import Fold, connected_groups, make_folds
    from tuning.grids import grid_configurations, logistic_grid
    from tuning.label_errors import LabelErrors, find_label_errors
    from tuning.ledger import TrialMemory
    from tuning.mean_differences import mean_paired_difference
    from tuning.multiple_tests import holm
    from tuning.near_duplicates import (
        centred,
        groups_of_pairs,
        near_pairs,
        rows_with_likeness,
        similar_rows,
        unit_rows,
    )
    from tuning.proportions import ShareDifference, share_difference, wilson_interval
    from tuning.repeats import (
        EvaluationOnSplits,
        Finalist,
        RepeatError,
        Repeats,
        nadeau_bengio,
        repeat_finalists,
    )
    from tuning.scores import (
        SCORES,
        accuracy,
        balanced_accuracy,
        confusion,
        log_loss,
        macro_f1,
        macro_precision,
        macro_recall,
        majority_scores,
        per_class,
        score,
        score_name,
        weighted_f1,
    )
    from tuning.search_loop import SearchResult, search
    from tuning.selection import bbc_cv, bbc_difference
    from tuning.selection_on_splits import ChoiceOnSplits, bbc_finalists, bbc_finalists_difference
    from tuning.set_similarity import similar_sets
    from tuning.shared_trials import shared_attributes, shared_trial
    from tuning.space_files import parse_space, space_as_toml
    from tuning.spaces import Space, build_spaces, default_configuration, starting_configuration, suggest
    from tuning.studies import open_study
    from tuning.trials import Configuration, Trial, evaluate, fold_seed
    from tuning.uncertainty import (
        Difference,
        Estimate,
        cv_summary,
        mcnemar,
        paired_difference,
    )

_MODULE_OF = {
    "ChoiceOnSplits": "selection_on_splits",
    "Configuration": "trials",
    "Difference": "uncertainty",
    "EarlyDrops": "early_drops",
    "Estimate": "uncertainty",
    "EvaluationOnSplits": "repeats",
    "Finalist": "repeats",
    "Finalists": "finalists",
    "Fold": "folds",
    "LabelErrors": "label_errors",
    "RepeatError": "repeats",
    "Repeats": "repeats",
    "SCORES": "scores",
    "SearchResult": "search_loop",
    "ShareDifference": "proportions",
    "Space": "spaces",
    "Trial": "trials",
    "TrialMemory": "ledger",
    "accuracy": "scores",
    "balanced_accuracy": "scores",
    "bbc_cv": "selection",
    "bbc_difference": "selection",
    "bbc_finalists": "selection_on_splits",
    "bbc_finalists_difference": "selection_on_splits",
    "build_spaces": "spaces",
    "centred": "near_duplicates",
    "confusion": "scores",
    "connected_groups": "folds",
    "cv_summary": "uncertainty",
    "decide_on_splits": "finalists",
    "default_configuration": "spaces",
    "evaluate": "trials",
    "fold_seed": "trials",
    "finalists_of": "finalists",
    "find_label_errors": "label_errors",
    "grid_configurations": "grids",
    "holm": "multiple_tests",
    "groups_of_pairs": "near_duplicates",
    "log_loss": "scores",
    "logistic_grid": "grids",
    "macro_f1": "scores",
    "macro_precision": "scores",
    "macro_recall": "scores",
    "majority_scores": "scores",
    "make_folds": "folds",
    "mcnemar": "uncertainty",
    "mean_paired_difference": "mean_differences",
    "nadeau_bengio": "repeats",
    "near_pairs": "near_duplicates",
    "open_study": "studies",
    "paired_difference": "uncertainty",
    "parse_space": "space_files",
    "per_class": "scores",
    "repeat_finalists": "repeats",
    "rows_with_likeness": "near_duplicates",
    "score": "scores",
    "score_name": "scores",
    "search": "search_loop",
    "share_difference": "proportions",
    "shared_attributes": "shared_trials",
    "shared_trial": "shared_trials",
    "similar_rows": "near_duplicates",
    "similar_sets": "set_similarity",
    "simplest_within_one_se": "choice",
    "space_as_toml": "space_files",
    "starting_configuration": "spaces",
    "suggest": "spaces",
    "unit_rows": "near_duplicates",
    "weighted_f1": "scores",
    "wilson_interval": "proportions",
}

__all__ = [
    "SCORES",
    "ChoiceOnSplits",
    "Configuration",
    "Difference",
    "EarlyDrops",
    "Estimate",
    "EvaluationOnSplits",
    "Finalist",
    "Finalists",
    "Fold",
    "LabelErrors",
    "RepeatError",
    "Repeats",
    "SearchResult",
    "ShareDifference",
    "Space",
    "Trial",
    "TrialMemory",
    "accuracy",
    "balanced_accuracy",
    "bbc_cv",
    "bbc_difference",
    "bbc_finalists",
    "bbc_finalists_difference",
    "build_spaces",
    "centred",
    "confusion",
    "connected_groups",
    "cv_summary",
    "decide_on_splits",
    "default_configuration",
    "evaluate",
    "finalists_of",
    "find_label_errors",
    "fold_seed",
    "grid_configurations",
    "groups_of_pairs",
    "holm",
    "log_loss",
    "logistic_grid",
    "macro_f1",
    "macro_precision",
    "macro_recall",
    "majority_scores",
    "make_folds",
    "mcnemar",
    "mean_paired_difference",
    "nadeau_bengio",
    "near_pairs",
    "open_study",
    "paired_difference",
    "parse_space",
    "per_class",
    "repeat_finalists",
    "rows_with_likeness",
    "score",
    "score_name",
    "search",
    "share_difference",
    "shared_attributes",
    "shared_trial",
    "similar_rows",
    "similar_sets",
    "simplest_within_one_se",
    "space_as_toml",
    "starting_configuration",
    "suggest",
    "unit_rows",
    "weighted_f1",
    "wilson_interval",
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
