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
    from extract.choices import parts_of, readouts_by_modality, shared_modalities
    from extract.data_sets import DataSet
    from extract.devices import WorkerDiedError, resolve_devices
    from extract.drift import DriftError
    from extract.edited_inputs import Edit, EditedInputs
    from extract.faults_of_inputs import FAULTS_VERSION, INPUT_FAULTS, SEVERITIES, faulty_image, faulty_text
    from extract.images import BadImageError, decode_image, read_image_file
    from extract.manifests import read_data_set
    from extract.memory import parse_bytes
    from extract.plans import PassOptions, library_versions, make_plan
    from extract.precision import resolve_precision
    from extract.registry import (
        BackboneNameError,
        backbone_names,
        find_card,
        open_backbone,
        opens_by_name,
        register_backbone,
    )
    from extract.rehearsal import dry_run, dry_runs
    from extract.reports import DryRun, PassProgress, PassReport, reasons_not_ok
    from extract.run import TooManyBadRowsError, run_pass, run_passes
    from extract.samples import DataError, Sample, repair_id, repair_label, repair_split
    from extract.source_table import Source, status_columns
    from extract.sources import (
        SourceOptions,
        count_names,
        count_statuses,
        read_sources,
        row_table,
    )
    from extract.string_columns import roomy_folder
    from extract.tables import load_frame, rename_columns
    from extract.texts import DEFAULT_ENCODINGS, RECIPES, clean_text, decode_text
    from extract.weights import UnsafeWeightsError, WeightsMissingError, resolve_device

_HOME = {
    "DEFAULT_ENCODINGS": "texts",
    "RECIPES": "texts",
    "Backbone": "backbones",
    "BackboneNameError": "registry",
    "BadImageError": "images",
    "Card": "cards",
    "DataError": "samples",
    "DataSet": "data_sets",
    "DriftError": "drift",
    "DryRun": "reports",
    "Edit": "edited_inputs",
    "EditedInputs": "edited_inputs",
    "FAULTS_VERSION": "faults_of_inputs",
    "INPUT_FAULTS": "faults_of_inputs",
    "ImageTower": "backbones",
    "PassOptions": "plans",
    "PassProgress": "reports",
    "PassReport": "reports",
    "Sample": "samples",
    "Source": "source_table",
    "SEVERITIES": "faults_of_inputs",
    "SourceOptions": "sources",
    "TextTower": "backbones",
    "Tokens": "backbones",
    "TooManyBadRowsError": "run",
    "UnsafeWeightsError": "weights",
    "WeightsMissingError": "weights",
    "WorkerDiedError": "devices",
    "backbone_names": "registry",
    "clean_text": "texts",
    "count_names": "sources",
    "count_statuses": "sources",
    "decode_image": "images",
    "decode_text": "texts",
    "dry_run": "rehearsal",
    "dry_runs": "rehearsal",
    "faulty_image": "faults_of_inputs",
    "faulty_text": "faults_of_inputs",
    "find_card": "registry",
    "library_versions": "plans",
    "load_frame": "tables",
    "make_plan": "plans",
    "open_backbone": "registry",
    "opens_by_name": "registry",
    "parse_bytes": "memory",
    "parts_of": "choices",
    "read_data_set": "manifests",
    "read_image_file": "images",
    "read_sources": "sources",
    "readouts_by_modality": "choices",
    "reasons_not_ok": "reports",
    "register_backbone": "registry",
    "rename_columns": "tables",
    "repair_id": "samples",
    "repair_label": "samples",
    "repair_split": "samples",
    "resolve_device": "weights",
    "resolve_devices": "devices",
    "resolve_precision": "precision",
    "roomy_folder": "string_columns",
    "row_table": "sources",
    "run_pass": "run",
    "run_passes": "run",
    "shared_modalities": "choices",
    "status_columns": "source_table",
}

__all__ = [
    "DEFAULT_ENCODINGS",
    "FAULTS_VERSION",
    "INPUT_FAULTS",
    "RECIPES",
    "SEVERITIES",
    "Backbone",
    "BackboneNameError",
    "BadImageError",
    "Card",
    "DataError",
    "DataSet",
    "DriftError",
    "DryRun",
    "Edit",
    "EditedInputs",
    "ImageTower",
    "PassOptions",
    "PassProgress",
    "PassReport",
    "Sample",
    "Source",
    "SourceOptions",
    "TextTower",
    "Tokens",
    "TooManyBadRowsError",
    "UnsafeWeightsError",
    "WeightsMissingError",
    "WorkerDiedError",
    "backbone_names",
    "clean_text",
    "count_names",
    "count_statuses",
    "decode_image",
    "decode_text",
    "dry_run",
    "dry_runs",
    "faulty_image",
    "faulty_text",
    "find_card",
    "library_versions",
    "load_frame",
    "make_plan",
    "open_backbone",
    "opens_by_name",
    "parse_bytes",
    "parts_of",
    "read_data_set",
    "read_image_file",
    "read_sources",
    "readouts_by_modality",
    "reasons_not_ok",
    "register_backbone",
    "rename_columns",
    "repair_id",
    "repair_label",
    "repair_split",
    "resolve_device",
    "resolve_devices",
    "resolve_precision",
    "roomy_folder",
    "row_table",
    "run_pass",
    "run_passes",
    "shared_modalities",
    "status_columns",
]


def __getattr__(name: str) -> Any:
    """Import the module that holds `name` and keep the name (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"Package 'extract' has no name {name!r}; it has {', '.join(__all__)}.")
    value = getattr(import_module(f"extract.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
