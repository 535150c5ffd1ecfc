"""The tables of five reports: which rows they have, what each row needs, and the figures they gave.

A table of data only; ``paper_rows`` turns it into rows on a user's stores, ``docs/reproduce.md`` says it in
words. All reports worked on one course data set, each with its own single split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# Modality -> how the name of its backbone begins.
Backbones = Mapping[str, str]

_CLIP: Backbones = {"text": "clip-vit", "image": "clip-vit"}
_CLIP_B32: Backbones = {"text": "clip-vit-b32", "image": "clip-vit-b32"}
_CLIP_L14: Backbones = {"text": "clip-vit-l14-336", "image": "clip-vit-l14-336"}
_BERT_RESNET18: Backbones = {"text": "bert-base", "image": "resnet18"}
_BERT_RESNET50: Backbones = {"text": "bert-base", "image": "resnet50"}
_FLAVA: Backbones = {"text": "flava-full", "image": "flava-full", "joint": "flava-full"}

#: What to extract when the report says no more than how the name begins.
USUAL_BACKBONE = {"clip-vit": "clip-vit-b32", "bert-base": "bert-base-uncased"}


@dataclass(frozen=True)
class ReportedRow:
    """One row of a report's table.

    Attributes
    ----------
    name : str
    preset : str
        Head preset (``heads.PRESETS``) of the row; "" for a row that cannot be run or is a vote.
    backbones : mapping of str to str
        What the feature set holds: modality -> how the backbone's name begins.
    modalities : tuple of str
        Which of them the row trains on.
    reported : mapping of str to float
        The report's figures, by score; ``f1`` is an F1 of which the report does not say how it averages.
    note : str
        How the row differs from the report's, or why it is not run.
    votes : tuple of str
        Names of the rows whose majority this row is.
    """

    name: str
    preset: str = ""
    backbones: Backbones = field(default_factory=dict)
    modalities: tuple[str, ...] = ("text", "image")
    reported: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    votes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportedTable:
    """A table of a report.

    Attributes
    ----------
    name : str
        As in ``embedonce ablate --preset NAME``.
    report : str
    title : str
    rows : tuple of ReportedRow
    reference : str
        Name of the row that the others are compared with.
    tie_class : str
        Class of samples on which a vote is a tie.
    """

    name: str
    report: str
    title: str
    rows: tuple[ReportedRow, ...]
    reference: str
    tie_class: str = ""


def _both(weighted_f1: float, accuracy: float) -> dict[str, float]:
    return {"weighted_f1": weighted_f1, "accuracy": accuracy}


def _first(macro_f1: float, accuracy: float) -> dict[str, float]:
    return {"macro_f1": macro_f1, "accuracy": accuracy}


_FUSIONS_000 = ReportedTable(
    "clip-fusions",
    "000",
    "CLIP: single modalities and three fusions (10 epochs, 600 validation rows)",
    (
        ReportedRow("text", "clip-late-512", _CLIP, ("text",), _both(0.6941, 0.7083)),
        ReportedRow("image", "clip-late-512", _CLIP, ("image",), _both(0.7485, 0.7550)),
        ReportedRow("late", "clip-late-512", _CLIP, reported=_both(0.7810, 0.7800)),
        ReportedRow("early", "clip-early-512", _CLIP, reported=_both(0.7854, 0.7883)),
        ReportedRow("attention", "clip-attention-512", _CLIP, reported=_both(0.7306, 0.7500)),
    ),
    reference="early",
)

_TFIDF_RESNET18: Backbones = {"text": "tfidf", "image": "resnet18"}
_TFIDF: Backbones = {"text": "tfidf"}
_RESNET18: Backbones = {"image": "resnet18"}
_SYSTEMS_001 = ReportedTable(
    "systems",
    "001",
    "from TF-IDF + ResNet18 to CLIP ViT-B/32",
    (
        ReportedRow("TF-IDF + ResNet18", "tfidf-resnet18", _TFIDF_RESNET18, reported=_first(0.4118, 0.5025)),
        ReportedRow("TF-IDF text only", "tfidf-resnet18", _TFIDF, ("text",), {"macro_f1": 0.5267}),
        ReportedRow("ResNet18 image only", "tfidf-resnet18", _RESNET18, ("image",), {"macro_f1": 0.3788}),
        ReportedRow(
            "BERT + ResNet18 concat", "bert-resnet18-concat", _BERT_RESNET18, reported=_first(0.5425, 0.6000)
        ),
        ReportedRow(
            "BERT + ResNet18 gated", "bert-resnet18-gated", _BERT_RESNET18, reported=_first(0.5354, 0.5825)
        ),
        ReportedRow(
            "BERT + ResNet18 late", "bert-resnet18-late", _BERT_RESNET18, reported=_first(0.5600, 0.6150)
        ),
        ReportedRow(
            "BLIP captioning",
            reported=_first(0.3303, 0.5400),
            note="the report does not say enough of its head, and trained the backbone",
        ),
        ReportedRow("CLIP ViT-B/32", "clip-base", _CLIP_B32, reported=_first(0.5785, 0.6525)),
    ),
    reference="CLIP ViT-B/32",
)

_SINGLE_001 = "the report does not say with which head; here its best, ln"
_HEADS_001 = ReportedTable(
    "clip-heads",
    "001",
    "four heads on CLIP ViT-B/32, and single modalities",
    (
        ReportedRow("base", "clip-base", _CLIP_B32, reported=_first(0.6534, 0.7375)),
        ReportedRow("ln", "clip-ln", _CLIP_B32, reported=_first(0.6735, 0.7250)),
        ReportedRow("mlp", "clip-mlp", _CLIP_B32, reported=_first(0.5900, 0.6975)),
        ReportedRow("gated", "clip-gated", _CLIP_B32, reported=_first(0.6364, 0.7025)),
        ReportedRow("image only", "clip-ln", _CLIP_B32, ("image",), {"macro_f1": 0.5907}, _SINGLE_001),
        ReportedRow("text only", "clip-ln", _CLIP_B32, ("text",), {"macro_f1": 0.6249}, _SINGLE_001),
    ),
    reference="ln",
)

_LEAK = "the report made SMOTE rows before it split, so its figures are too good"
_CACHED_002 = ReportedTable(
    "cached-features",
    "002",
    "three heads on cached BERT and ResNet50 features",
    (
        ReportedRow(
            "head 0 (MLP)",
            "bert-resnet50-mlp0",
            _BERT_RESNET50,
            reported={"accuracy": 0.81, "f1": 0.81},
            note=_LEAK,
        ),
        ReportedRow(
            "head 1 (layer each)",
            "bert-resnet50-mlp1",
            _BERT_RESNET50,
            reported={"accuracy": 0.73, "f1": 0.72},
            note=_LEAK,
        ),
        ReportedRow(
            "head 2 (attention)",
            "bert-resnet50-mlp2",
            _BERT_RESNET50,
            reported={"accuracy": 0.75, "f1": 0.74},
            note=_LEAK,
        ),
    ),
    reference="head 0 (MLP)",
)

_FLAVA_PART = "FLAVA's {} vector; the report fed the multimodal encoder with one modality"
_FLAVA_003 = ReportedTable(
    "flava",
    "003",
    "FLAVA with and without text and image",
    (
        ReportedRow("both", "flava-global-3mlp", _FLAVA, ("joint",), {"accuracy": 0.73, "f1": 0.73}),
        ReportedRow(
            "without image",
            "flava-global-3mlp",
            _FLAVA,
            ("text",),
            {"accuracy": 0.63, "f1": 0.62},
            _FLAVA_PART.format("text"),
        ),
        ReportedRow(
            "without text",
            "flava-global-3mlp",
            _FLAVA,
            ("image",),
            {"accuracy": 0.70, "f1": 0.70},
            _FLAVA_PART.format("image"),
        ),
    ),
    reference="both",
)

_FUSIONS_004 = ReportedTable(
    "clip-l14-fusions",
    "004",
    "fusions of frozen CLIP ViT-L/14@336, and the majority vote of three",
    (
        ReportedRow(
            "concat", "clip-l14-concat", _CLIP_L14, reported={"weighted_f1": 0.7799, "accuracy": 0.79}
        ),
        ReportedRow("attention", "clip-l14-attention", _CLIP_L14, reported={"weighted_f1": 0.7655}),
        ReportedRow("weighted sum", "clip-l14-weighted", _CLIP_L14, reported={"weighted_f1": 0.7500}),
        ReportedRow("attention, linear", "clip-l14-attention-linear", _CLIP_L14),
        ReportedRow("image only", "clip-l14-concat", _CLIP_L14, ("image",), {"weighted_f1": 0.7312}),
        ReportedRow("text only", "clip-l14-concat", _CLIP_L14, ("text",), {"weighted_f1": 0.6962}),
        ReportedRow(
            "vote",
            votes=("concat", "attention", "weighted sum"),
            note="majority of three fusions; a three-way tie is neutral; the report gives no figure for it",
        ),
    ),
    reference="concat",
    tie_class="neutral",
)

REPORTED_TABLES: Mapping[str, ReportedTable] = {
    table.name: table
    for table in (_FUSIONS_000, _SYSTEMS_001, _HEADS_001, _CACHED_002, _FLAVA_003, _FUSIONS_004)
}
"""Every table by name."""
