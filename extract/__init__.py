"""The floor that turns a data set into a feature store: manifest -> samples -> backbone -> store.

This module is the floor's whole public face. Names are imported on first use, so that ``import extract``
costs nothing and ``--help`` never loads torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from extract.backbones import Backbone, ImageTower, TextTower, Tokens
    from extract.cards import Card
    from extract.images import BadImageError, decode_image, read_image_file
    from extract.manifests import read_data_set
    from extract.plans import PassOptions, library_versions, make_plan
    from extract.registry import backbone_names, find_card, open_backbone, register_backbone
    from extract.run import DryRun, PassProgress, PassReport, TooManyBadRowsError, dry_run, run_pass
    from extract.samples import DataError, DataSet, Sample
    from extract.sources import Source, SourceOptions, count_statuses, read_sources, row_table
    from extract.tables import load_frame, rename_columns
    from extract.texts import DEFAULT_ENCODINGS, RECIPES, clean_text, decode_text
    from extract.weights import UnsafeWeightsError, WeightsMissingError, resolve_device, resolve_precision

_HOMES = {
    "extract.backbones": ("Backbone", "ImageTower", "TextTower", "Tokens"),
    "extract.cards": ("Card",),
    "extract.images": ("BadImageError", "decode_image", "read_image_file"),
    "extract.manifests": ("read_data_set",),
    "extract.plans": ("PassOptions", "library_versions", "make_plan"),
    "extract.registry": ("backbone_names", "find_card", "open_backbone", "register_backbone"),
    "extract.run": ("DryRun", "PassProgress", "PassReport", "TooManyBadRowsError", "dry_run", "run_pass"),
    "extract.samples": ("DataError", "DataSet", "Sample"),
    "extract.sources": ("Source", "SourceOptions", "count_statuses", "read_sources", "row_table"),
    "extract.tables": ("load_frame", "rename_columns"),
    "extract.texts": ("DEFAULT_ENCODINGS", "RECIPES", "clean_text", "decode_text"),
    "extract.weights": ("UnsafeWeightsError", "WeightsMissingError", "resolve_device", "resolve_precision"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'extract' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
