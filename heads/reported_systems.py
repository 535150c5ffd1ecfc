"""The heads of five reports on one course data set, by name, with what stands in where they are silent.

A table, so that names can be listed without loading anything heavy; ``docs/presets.md`` says it in words. An
argument that is in no row keeps its default, which is what ``unreported`` then means.
"""

from __future__ import annotations

from collections.abc import Mapping

from heads.names import unknown_name
from heads.report_presets import Preset, ReportedBackbone

# What a report that says nothing of them does not have; the head's own defaults are others.
_PLAIN: dict[str, object] = {
    "class_weight": None,
    "label_smoothing": 0.0,
    "validation_fraction": 0.0,
    "screen_blocks": False,
}
# The network's arguments, of which some reports say little.
_NETWORK = ("hidden", "n_hidden", "norm", "activation", "dropout", "weight_decay")

# --- report 000: CLIP fusions and Qwen2-VL, 3,400 / 600 rows ----------------------------------------

_CLIP = {"text": ReportedBackbone("clip-vit"), "image": ReportedBackbone("clip-vit")}
_CLIP_512: dict[str, object] = {
    **_PLAIN,
    "projection_width": 512,
    "norm": "layer",
    "hidden": 512,
    "n_hidden": 2,
    "taper": True,
    "learning_rate": 5e-4,
    "batch_size": 16,
    "max_epochs": 10,
    "schedule": "plateau",
    "validation_fraction": 0.15,
    "stop_metric": "weighted_f1",
    "class_weight": "balanced",
    "class_boost": {"neutral": 1.5},
}
_CLIP_512_OURS = ("hidden", "n_hidden", "activation", "dropout", "weight_decay", "patience")
_CLIP_512_BEYOND = (
    "the report halved its learning rate on top of a cosine, augmented texts and pictures, and had a rule "
    "for doubtful rows"
)


def _clip_512(name: str, system: str, fusion: str, weighted_f1: float, accuracy: float) -> Preset:
    attention = fusion == "attention"
    return Preset(
        name,
        "000",
        system,
        _CLIP,
        {**_CLIP_512, "fusion": fusion},
        unreported=(*_CLIP_512_OURS, *(("n_attention_heads",) if attention else ())),
        not_reproduced=_CLIP_512_BEYOND,
        reported={"weighted_f1": weighted_f1, "accuracy": accuracy},
    )


_REPORT_000 = (
    _clip_512("clip-late-512", "projections side by side", "projection", 0.7810, 0.7800),
    _clip_512("clip-early-512", "projections added", "early", 0.7854, 0.7883),
    _clip_512("clip-attention-512", "attention over the projections", "attention", 0.7306, 0.7500),
    Preset(
        "deberta-cnn",
        "000",
        "DeBERTa's features beside a picture's",
        {"text": ReportedBackbone("deberta-large-mnli", 1024), "image": ReportedBackbone("")},
        {
            **_PLAIN,
            "fusion": "concat",
            "learning_rate": 1e-4,
            "max_epochs": 8,
            "patience": 5,
            "validation_fraction": 0.15,
        },
        unreported=(*_NETWORK, "batch_size", "stop_metric"),
        not_reproduced="the report trained a CNN of its own on the pictures; a stored backbone stands in",
        reported={"weighted_f1": 0.6329, "accuracy": 0.6613},
    ),
    Preset(
        "qwen2-vl-2layer",
        "000",
        "two layers on the last hidden state of Qwen2-VL-2B",
        {"joint": ReportedBackbone("qwen2-vl-2b", 1536)},
        {
            **_PLAIN,
            "fusion": "concat",
            "n_hidden": 1,
            "learning_rate": 2e-4,
            "batch_size": 4,
            "max_epochs": 5,
            "label_smoothing": 0.05,
        },
        unreported=("hidden", "norm", "activation", "dropout", "weight_decay", "label_smoothing"),
        not_reproduced="the report also trained adapters inside Qwen2-VL (18.5 M parameters)",
        reported={"accuracy": 0.8250},
    ),
)

# --- report 001: from BERT + ResNet18 to CLIP, 3,600 / 400 rows -------------------------------------


def _bert_resnet18(kind: str, system: str, accuracy: float, macro_f1: float) -> Preset:
    projection = ("projection_width",) if kind == "gated" else ()
    return Preset(
        f"bert-resnet18-{kind}",
        "001",
        system,
        {"text": ReportedBackbone("bert-base", 768), "image": ReportedBackbone("resnet18", 512)},
        {**_PLAIN, "fusion": kind, "batch_size": 16, "max_epochs": 5, "class_weight": "balanced"},
        unreported=(*_NETWORK, "learning_rate", "class_weight", *projection),
        not_reproduced="the backbones are part of the report's network (113.9 M parameters)",
        reported={"accuracy": accuracy, "macro_f1": macro_f1},
    )


def _clip_b32(
    kind: str, system: str, changes: Mapping[str, object], accuracy: float, macro_f1: float
) -> Preset:
    projection = ("projection_width",) if kind == "gated" else ()
    return Preset(
        f"clip-{kind}",
        "001",
        system,
        {"text": ReportedBackbone("clip-vit-b32", 512), "image": ReportedBackbone("clip-vit-b32", 512)},
        {
            **_PLAIN,
            "fusion": "concat",
            "norm": "none",
            "activation": "relu",
            "dropout": 0.15,
            "weight_decay": 1e-4,
            "batch_size": 8,
            "max_epochs": 12,
            "patience": 3,
            "validation_fraction": 0.1,
            "stop_metric": "macro_f1",
            "class_weight": "balanced",
            **changes,
        },
        unreported=("hidden", "learning_rate", "batch_size", "stop_metric", "class_weight", *projection),
        not_reproduced="the report trained CLIP as well (learning rate 8e-6)",
        reported={"accuracy": accuracy, "macro_f1": macro_f1},
    )


_REPORT_001 = (
    Preset(
        "tfidf-resnet18",
        "001",
        "TF-IDF beside a picture's features",
        {"text": ReportedBackbone("tfidf"), "image": ReportedBackbone("resnet18", 512)},
        {**_PLAIN, "fusion": "concat", "max_epochs": 5, "class_weight": "balanced"},
        unreported=(*_NETWORK, "learning_rate", "batch_size"),
        not_reproduced="the report does not say which terms it took; here words and pairs of words",
        reported={"accuracy": 0.5025, "macro_f1": 0.4118},
    ),
    _bert_resnet18("concat", "features side by side", 0.6000, 0.5425),
    _bert_resnet18("gated", "a gate between text and picture", 0.5825, 0.5354),
    _bert_resnet18("late", "the mean of two decisions", 0.6150, 0.5600),
    _clip_b32("base", "linear, ReLU, dropout, linear", {"n_hidden": 1}, 0.7375, 0.6534),
    _clip_b32("ln", "the same after a LayerNorm", {"n_hidden": 1, "input_norm": True}, 0.7250, 0.6735),
    _clip_b32("mlp", "two hidden layers", {"n_hidden": 2}, 0.6975, 0.5900),
    _clip_b32("gated", "a gate between text and picture", {"fusion": "gated"}, 0.7025, 0.6364),
)

# --- report 002: cached BERT and ResNet50 features --------------------------------------------------


def _bert_resnet50(
    number: int, system: str, changes: Mapping[str, object], figure: float, f1: float
) -> Preset:
    heads = ("n_attention_heads",) if changes["fusion"] == "attention" else ()
    return Preset(
        f"bert-resnet50-mlp{number}",
        "002",
        system,
        {"text": ReportedBackbone("bert-base", 768), "image": ReportedBackbone("resnet50", 2048)},
        {
            **_PLAIN,
            "max_epochs": 200,
            "patience": 15,
            "stop_metric": "loss",
            "validation_fraction": 0.15,
            "class_weight": "balanced",
            **changes,
        },
        resampler="smote",
        unreported=(*_NETWORK, "learning_rate", "batch_size", "validation_fraction", *heads),
        not_reproduced="the report made SMOTE rows before it split (a leak) and searched for its settings",
        reported={"accuracy": figure, "f1": f1},
    )


_REPORT_002 = (
    _bert_resnet50(0, "features side by side", {"fusion": "concat"}, 0.81, 0.81),
    _bert_resnet50(1, "a layer for each", {"fusion": "projection", "projection_width": 256}, 0.73, 0.72),
    _bert_resnet50(
        2, "a layer for each, then attention", {"fusion": "attention", "projection_width": 256}, 0.75, 0.74
    ),
)

# --- report 003: FLAVA, 80 / 20 ---------------------------------------------------------------------

_REPORT_003 = (
    Preset(
        "flava-global-3mlp",
        "003",
        "three layers (768, 384, classes) on FLAVA's global token",
        {"joint": ReportedBackbone("flava-full", 768)},
        {
            **_PLAIN,
            "fusion": "concat",
            "hidden": [768, 384],
            "norm": "none",
            "activation": "relu",
            "dropout": 0.3,
            "learning_rate": 1e-4,
            "weight_decay": 0.0,
            "batch_size": 32,
            "max_epochs": 10,
        },
        resampler="inverse-frequency",
        not_reproduced="the report also trained FLAVA's multimodal encoder",
        reported={"accuracy": 0.73, "f1": 0.73},
    ),
)

# --- report 004: CLIP ViT-L/14@336, 3,500 / 500 -----------------------------------------------------

_CLIP_L14: dict[str, object] = {
    "hidden": 256,
    "n_hidden": 1,
    "norm": "layer",
    "activation": "gelu",
    "dropout": 0.5,
    "learning_rate": 1e-4,
    "weight_decay": 0.01,
    "schedule": "one-cycle",
    "warmup": 0.3,
    "batch_size": 64,
    "max_epochs": 10,
    "patience": 2,
    "stop_metric": "weighted_f1",
    "validation_fraction": 0.125,
    "label_smoothing": 0.05,
    "class_weight": None,
    "class_boost": {"neutral": 1.2},
    "screen_blocks": False,
}
# The report's two vectors have one width, 768; here each block goes through a layer of that width first.
_TOKENS = {"projection_width": 768}


def _clip_l14(kind: str, system: str, changes: Mapping[str, object], reported: Mapping[str, float]) -> Preset:
    inner = {"weighted_sum": ("projection_width",), "attention": ("projection_width", "n_attention_heads")}
    return Preset(
        f"clip-l14-{kind}",
        "004",
        system,
        {name: ReportedBackbone("clip-vit-l14-336", 768) for name in ("text", "image")},
        {**_CLIP_L14, **changes},
        unreported=("label_smoothing", "class_boost", *inner.get(str(changes["fusion"]), ())),
        not_reproduced="the report augmented its pictures (here: extract --views)",
        reported=reported,
    )


_REPORT_004 = (
    _clip_l14("concat", "side by side", {"fusion": "concat"}, {"weighted_f1": 0.7799, "accuracy": 0.79}),
    _clip_l14("weighted", "a weighted sum", {"fusion": "weighted_sum", **_TOKENS}, {"weighted_f1": 0.75}),
    _clip_l14(
        "attention",
        "attention over two tokens, then the head",
        {"fusion": "attention", **_TOKENS},
        {"weighted_f1": 0.7655},
    ),
    _clip_l14(
        "attention-linear",
        "attention over two tokens, then one linear layer",
        {"fusion": "attention", "n_hidden": 0, **_TOKENS},
        {},
    ),
)

PRESETS: Mapping[str, Preset] = {
    preset.name: preset for preset in (*_REPORT_000, *_REPORT_001, *_REPORT_002, *_REPORT_003, *_REPORT_004)
}
"""Every preset by name."""


def find_preset(name: str) -> Preset:
    """Return a preset by name.

    Parameters
    ----------
    name : str

    Returns
    -------
    Preset

    Raises
    ------
    ValueError
        If there is none of this name; the message has near matches.
    """
    if name not in PRESETS:
        raise ValueError(f"Nothing was made: {unknown_name('preset', name, PRESETS)}.")
    return PRESETS[name]
