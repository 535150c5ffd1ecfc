"""Light heads that are trained on stored feature matrices.

Everything here takes arrays (or array-likes that slice, such as an HDF5 dataset) and knows nothing of stores,
paths or backbones; only the model files touch the disk. Names are imported on first use, so ``import heads``
itself costs a few milliseconds and loads neither torch nor scikit-learn.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heads.blocks import BlockImputer
    from heads.boosting import LightGBMHead
    from heads.linear import LogisticHead
    from heads.mlp import MLPHead
    from heads.model_files import LoadedModel, load_model, save_model
    from heads.names import FUSIONS, HEADS, LOSSES, RESAMPLERS, SCHEDULES, STOP_METRICS
    from heads.presets import default_parameters, make_pipeline
    from heads.resampling import make_resampler
    from heads.view_rows import check_views, fit_with_views

__all__ = [
    "FUSIONS",
    "HEADS",
    "LOSSES",
    "RESAMPLERS",
    "SCHEDULES",
    "STOP_METRICS",
    "BlockImputer",
    "LightGBMHead",
    "LoadedModel",
    "LogisticHead",
    "MLPHead",
    "check_views",
    "default_parameters",
    "fit_with_views",
    "load_model",
    "make_pipeline",
    "make_resampler",
    "save_model",
]

_MODULE_OF = {
    "FUSIONS": "names",
    "HEADS": "names",
    "LOSSES": "names",
    "RESAMPLERS": "names",
    "SCHEDULES": "names",
    "STOP_METRICS": "names",
    "BlockImputer": "blocks",
    "LightGBMHead": "boosting",
    "LoadedModel": "model_files",
    "LogisticHead": "linear",
    "MLPHead": "mlp",
    "check_views": "view_rows",
    "default_parameters": "presets",
    "fit_with_views": "view_rows",
    "load_model": "model_files",
    "make_pipeline": "presets",
    "make_resampler": "resampling",
    "save_model": "model_files",
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
