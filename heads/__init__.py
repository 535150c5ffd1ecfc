"""Light heads that are trained on stored feature matrices.

Everything here takes arrays (or array-likes that slice, such as an HDF5 dataset) and knows nothing of stores,
paths or backbones; only the model files touch the disk. Names are imported on first use, so ``import heads``
itself costs a few milliseconds and loads neither torch nor scikit-learn.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heads.after_steps import AfterSteps, fit_after_steps
    from heads.blocks import BlockImputer
    from heads.boosting import LightGBMHead
    from heads.calibration import (
        ReliabilityBins,
        TemperatureScaling,
        VectorScaling,
        expected_calibration_error,
        fit_temperature,
        fit_vector_scaling,
        reliability_bins,
    )
    from heads.centroids import CentroidHead
    from heads.decisions import DecisionWeights, LowConfidenceRule, decision_fit, fit_decision_weights
    from heads.ensembles import (
        StackedLogistic,
        WeightedVote,
        fit_best_single,
        fit_greedy,
        fit_soft_vote,
        fit_stacking,
        majority_vote,
        soft_vote,
    )
    from heads.linear import LogisticHead
    from heads.loaded_model import LoadedModel
    from heads.mlp import MLPHead
    from heads.model_files import load_model, save_model
    from heads.names import (
        CALIBRATIONS,
        DECISIONS,
        FUSIONS,
        HEADS,
        LOSSES,
        OTHER_HEADS,
        RESAMPLERS,
        SCHEDULES,
        STOP_METRICS,
    )
    from heads.neighbours import NeighboursHead
    from heads.nested import nested_apply, step_scores, with_and_without
    from heads.presets import default_parameters, make_pipeline, trains_by_chunks
    from heads.report_presets import Preset
    from heads.reported_systems import PRESETS, find_preset
    from heads.resampling import make_resampler
    from heads.ridge import RidgeHead
    from heads.selected_rows import select_rows
    from heads.svm import LinearSVMHead
    from heads.term_blocks import term_recipe
    from heads.term_weights import TermWeights
    from heads.view_rows import check_views, fit_with_views
    from heads.zero_shot import ZeroShotHead

__all__ = [
    "CALIBRATIONS",
    "DECISIONS",
    "FUSIONS",
    "HEADS",
    "LOSSES",
    "OTHER_HEADS",
    "PRESETS",
    "RESAMPLERS",
    "SCHEDULES",
    "STOP_METRICS",
    "AfterSteps",
    "BlockImputer",
    "CentroidHead",
    "DecisionWeights",
    "LightGBMHead",
    "LinearSVMHead",
    "LoadedModel",
    "LogisticHead",
    "LowConfidenceRule",
    "MLPHead",
    "NeighboursHead",
    "Preset",
    "ReliabilityBins",
    "RidgeHead",
    "StackedLogistic",
    "TemperatureScaling",
    "TermWeights",
    "VectorScaling",
    "WeightedVote",
    "ZeroShotHead",
    "check_views",
    "decision_fit",
    "default_parameters",
    "expected_calibration_error",
    "find_preset",
    "fit_after_steps",
    "fit_best_single",
    "fit_decision_weights",
    "fit_greedy",
    "fit_soft_vote",
    "fit_stacking",
    "fit_temperature",
    "fit_vector_scaling",
    "fit_with_views",
    "load_model",
    "majority_vote",
    "make_pipeline",
    "make_resampler",
    "nested_apply",
    "reliability_bins",
    "save_model",
    "select_rows",
    "soft_vote",
    "step_scores",
    "term_recipe",
    "trains_by_chunks",
    "with_and_without",
]

_MODULE_OF = {
    "CALIBRATIONS": "names",
    "DECISIONS": "names",
    "FUSIONS": "names",
    "HEADS": "names",
    "LOSSES": "names",
    "OTHER_HEADS": "names",
    "PRESETS": "reported_systems",
    "RESAMPLERS": "names",
    "SCHEDULES": "names",
    "STOP_METRICS": "names",
    "AfterSteps": "after_steps",
    "BlockImputer": "blocks",
    "CentroidHead": "centroids",
    "DecisionWeights": "decisions",
    "LightGBMHead": "boosting",
    "LinearSVMHead": "svm",
    "LoadedModel": "loaded_model",
    "LogisticHead": "linear",
    "LowConfidenceRule": "decisions",
    "MLPHead": "mlp",
    "NeighboursHead": "neighbours",
    "Preset": "report_presets",
    "ReliabilityBins": "calibration",
    "RidgeHead": "ridge",
    "StackedLogistic": "ensembles",
    "TemperatureScaling": "calibration",
    "TermWeights": "term_weights",
    "VectorScaling": "calibration",
    "WeightedVote": "ensembles",
    "ZeroShotHead": "zero_shot",
    "check_views": "view_rows",
    "decision_fit": "decisions",
    "default_parameters": "presets",
    "expected_calibration_error": "calibration",
    "find_preset": "reported_systems",
    "fit_after_steps": "after_steps",
    "fit_best_single": "ensembles",
    "fit_decision_weights": "decisions",
    "fit_greedy": "ensembles",
    "fit_soft_vote": "ensembles",
    "fit_stacking": "ensembles",
    "fit_temperature": "calibration",
    "fit_vector_scaling": "calibration",
    "fit_with_views": "view_rows",
    "load_model": "model_files",
    "majority_vote": "ensembles",
    "make_pipeline": "presets",
    "make_resampler": "resampling",
    "nested_apply": "nested",
    "reliability_bins": "calibration",
    "save_model": "model_files",
    "select_rows": "selected_rows",
    "soft_vote": "ensembles",
    "step_scores": "nested",
    "term_recipe": "term_blocks",
    "trains_by_chunks": "presets",
    "with_and_without": "nested",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"Module 'heads' has no attribute {name!r}; it offers {', '.join(__all__)}.")
    value: object = getattr(import_module(f"heads.{_MODULE_OF[name]}"), name)
    globals()[name] = value  # the next access is an ordinary one
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted(__all__)
