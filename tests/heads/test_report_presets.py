"""Presets: the settings that the reports name, and heads that learn with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from heads import PRESETS, RESAMPLERS, find_preset, load_model, make_pipeline, save_model

BLOCKS = {"text.pooled": 96, "image.pooled": 64}
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "presets.md"
SETTINGS = {
    "clip-l14-concat": {
        "fusion": "concat",
        "hidden": 256,
        "norm": "layer",
        "activation": "gelu",
        "dropout": 0.5,
        "schedule": "one-cycle",
        "learning_rate": 1e-4,
        "warmup": 0.3,
        "weight_decay": 0.01,
        "batch_size": 64,
        "max_epochs": 10,
        "patience": 2,
        "stop_metric": "weighted_f1",
    },
    "clip-l14-weighted": {"fusion": "weighted_sum", "hidden": 256, "n_hidden": 1},
    "clip-l14-attention": {"fusion": "attention", "hidden": 256, "n_hidden": 1},
    "clip-l14-attention-linear": {"fusion": "attention", "n_hidden": 0},
    "bert-resnet50-mlp0": {"fusion": "concat", "patience": 15, "max_epochs": 200, "class_weight": "balanced"},
    "bert-resnet50-mlp1": {"fusion": "projection", "projection_width": 256, "stop_metric": "loss"},
    "bert-resnet50-mlp2": {"fusion": "attention", "projection_width": 256, "patience": 15},
    "tfidf-resnet18": {"fusion": "concat", "max_epochs": 5, "class_weight": "balanced"},
    "bert-resnet18-concat": {"fusion": "concat", "max_epochs": 5, "batch_size": 16},
    "bert-resnet18-gated": {"fusion": "gated", "max_epochs": 5, "batch_size": 16},
    "bert-resnet18-late": {"fusion": "late", "max_epochs": 5, "batch_size": 16},
    "clip-base": {"n_hidden": 1, "activation": "relu", "norm": "none", "dropout": 0.15, "patience": 3},
    "clip-ln": {"n_hidden": 1, "input_norm": True, "max_epochs": 12, "weight_decay": 1e-4},
    "clip-mlp": {"n_hidden": 2, "input_norm": False, "max_epochs": 12},
    "clip-gated": {"fusion": "gated", "dropout": 0.15},
    "clip-late-512": {"fusion": "projection", "projection_width": 512, "class_boost": {"neutral": 1.5}},
    "clip-early-512": {"fusion": "early", "schedule": "plateau", "learning_rate": 5e-4, "batch_size": 16},
    "clip-attention-512": {"fusion": "attention", "norm": "layer", "class_weight": "balanced"},
    "flava-global-3mlp": {
        "hidden": [768, 384],
        "dropout": 0.3,
        "learning_rate": 1e-4,
        "batch_size": 32,
        "max_epochs": 10,
        "activation": "relu",
        "validation_fraction": 0.0,
    },
    "deberta-cnn": {"fusion": "concat", "learning_rate": 1e-4, "patience": 5, "max_epochs": 8},
    "qwen2-vl-2layer": {"n_hidden": 1, "learning_rate": 2e-4, "batch_size": 4, "max_epochs": 5},
}
SAMPLED = {"flava-global-3mlp": "inverse-frequency", **{f"bert-resnet50-mlp{i}": "smote" for i in range(3)}}


def _rows(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw 360 rows; in every column of both blocks the classes lie a little apart."""
    centres = np.random.default_rng(7).normal(size=(3, sum(BLOCKS.values())))
    random = np.random.default_rng(seed)
    y = random.permutation(np.repeat([0, 1, 2], [216, 36, 108]))
    return (centres[y] + random.normal(size=(360, centres.shape[1]))).astype(np.float32), y


def _fit(name: str, X: np.ndarray, y: np.ndarray):
    """Train a preset as a command does: classes by code, and fewer epochs where the report has many steps."""
    preset = find_preset(name)
    parameters = preset.expanded()
    parameters["max_epochs"] = min(parameters["max_epochs"], 4 if parameters["batch_size"] <= 16 else 12)
    parameters["class_boost"] = {1: 1.5} if parameters["class_boost"] else None
    return make_pipeline(
        preset.head, blocks=BLOCKS, resampler=preset.resampler, parameters=parameters, random_state=0
    ).fit(X, y)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_has_the_settings_of_its_report(name):
    """Every number that a report names is in its preset."""
    preset = find_preset(name)
    expanded = preset.expanded()
    assert {key: expanded[key] for key in SETTINGS[name]} == SETTINGS[name]
    assert expanded["screen_blocks"] is False  # no report left a modality out
    assert preset.resampler == SAMPLED.get(name, "none") in RESAMPLERS


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_written_in_full(name):
    """A preset expands to every argument that may be tuned, as JSON, and says which are not reported."""
    preset = find_preset(name)
    expanded = preset.expanded()
    assert json.loads(json.dumps(expanded)) == expanded
    assert set(expanded) >= set(preset.parameters) | set(preset.unreported)
    assert len(set(preset.unreported)) == len(preset.unreported)
    assert set(expanded) == set(make_pipeline(preset.head)["head"].get_params()) - {
        "blocks",
        "device",
        "random_state",
        "resampler",
    }


@pytest.mark.parametrize("name", PRESETS)
def test_preset_learns(name):
    """On rows whose classes lie apart a preset does better on other rows than the most frequent class."""
    X, y = _rows(seed=0)
    X_new, y_new = _rows(seed=1)
    found = f1_score(y_new, _fit(name, X, y).predict(X_new), average="weighted")
    assert found > f1_score(y_new, np.zeros_like(y_new), average="weighted") + 0.05


def test_preset_scores_chance_on_permuted_labels():
    """Labels that mean nothing are not learnt, whatever the resampling and the stopping."""
    for name in ("bert-resnet50-mlp0", "flava-global-3mlp", "clip-l14-concat"):
        X, y = _rows(seed=0)
        X_new, y_new = _rows(seed=1)
        shuffled = np.random.default_rng(2).permutation(y)
        assert f1_score(y_new, _fit(name, X, shuffled).predict(X_new), average="macro") < 0.45


def test_unknown_preset_is_refused_with_what_was_meant():
    """A name that does not exist is answered with near matches."""
    with pytest.raises(
        ValueError, match=r"unknown preset 'clip-l14-atention'.*did you mean 'clip-l14-attention'"
    ):
        find_preset("clip-l14-atention")


@pytest.mark.parametrize("name", PRESETS)
def test_document_says_what_a_preset_holds(name):
    """docs/presets.md has one row for each preset, with its figures and with what is not reported."""
    preset = find_preset(name)
    rows = [
        line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{name}` |")
    ]
    assert len(rows) == 1
    cells = [cell.strip() for cell in rows[0].strip("|").split("|")]
    figures = ", ".join(f"{score} {value:.4g}" for score, value in preset.reported.items()) or "none"
    assert cells[-1] == figures
    assert cells[-2] == ", ".join(preset.unreported)


def test_model_with_weights_of_many_classes_can_be_read(tmp_path):
    """Class codes are numbers in memory and words in JSON, whose orders differ from ten classes on."""
    y = np.repeat(np.arange(12), 4)
    X = np.eye(12, dtype=np.float32)[y]
    weights = {code: 1.0 + code for code in range(12)}
    pipeline = make_pipeline("logreg", parameters={"class_weight": weights}).fit(X, y)
    save_model(pipeline, tmp_path / "model", classes=[f"c{code}" for code in range(12)])
    found = load_model(tmp_path / "model").predict_proba(X)
    np.testing.assert_array_equal(found, pipeline.predict_proba(X))
