"""Folders and cards of vision-language backbones: what is read, what is refused, and the true sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from extract.registry import find_card, open_backbone
from tests.kit.tiny_joint import make_tiny_qwen
from tests.kit.vision_language import KINDS, MODALITIES, prepared


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl"])
def test_vision_language_weights_of_recent_layout_load_too(
    qwen_folders: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    """Recent versions save other names than the published files have; both give the same vectors."""
    folder = make_tiny_qwen(tmp_path / kind, kind=kind)
    old = load_file(folder / "model.safetensors")
    assert "visual.merger.ln_q.weight" in old and "model.norm.weight" in old
    new = {
        f"model.{name}"
        if name.startswith("visual.")
        else name.replace("model.", "model.language_model.", 1): w
        for name, w in old.items()
    }
    save_file(new, folder / "model.safetensors", metadata={"format": "pt"})
    for modality in MODALITIES:
        one: Any = open_backbone(str(folder)).open_tower(modality)
        other: Any = open_backbone(str(qwen_folders[kind])).open_tower(modality)
        np.testing.assert_array_equal(
            one.forward(prepared(one))["pooled"], other.forward(prepared(other))["pooled"]
        )


@pytest.mark.parametrize("kind", KINDS)
def test_vision_language_texts_load_no_vision_tower(qwen_folders: dict[str, Path], kind: str) -> None:
    """For texts alone only the decoder is in memory; the language-model head never is."""
    backbone = open_backbone(str(qwen_folders[kind]))
    parts = {}
    for modality in MODALITIES:
        tower: Any = backbone.open_tower(modality)
        parts[modality] = {name.split(".")[0] for name, _ in tower.network.named_parameters()}
    assert parts["text"] == {"language_model"}
    assert parts["image"] == parts["joint"] == {"language_model", "visual"}


def test_vision_language_hash_covers_template_and_processor(tmp_path: Path) -> None:
    """Another template or another image processor is another set of weights files."""
    folder = make_tiny_qwen(tmp_path / "qwen", template_file="chat_template.jinja")
    hashes = [open_backbone(str(folder)).weights_sha256()]
    for name, old, new in (
        ("chat_template.jinja", "helpful", "terse"),
        ("preprocessor_config.json", "3136", "6272"),
    ):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))
        hashes.append(open_backbone(str(folder)).weights_sha256())
    assert len(set(hashes)) == 3


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("chat_template.json", None, "has no chat template; it would be in one of chat_template.json"),
        ("preprocessor_config.json", None, "lacks 'preprocessor_config.json' or 'processor_config.json'"),
        ("tokenizer.json", None, "holds no vocabulary"),
        ("tokenizer_config.json", {"pad_token": None}, "no padding token"),
        ("preprocessor_config.json", {"resample": 2, "do_resize": False}, "do_resize is off; resample is 2"),
        ("preprocessor_config.json", {"image_processor_type": "CLIPImageProcessor"}, "class is 'CLIPImage"),
        ("preprocessor_config.json", {"rescale_factor": 1.0}, "rescale_factor is 1.0, supported is 1/255"),
    ],
)
def test_vision_language_folder_that_lacks_something_is_refused(
    tmp_path: Path, file: str, change: dict[str, Any] | None, message: str
) -> None:
    """A missing or unsupported file is one clear error, before any weight is read."""
    folder = make_tiny_qwen(tmp_path / "qwen")
    if change is None:
        (folder / file).unlink()
    else:
        settings = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**settings, **change}))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        open_backbone(str(folder)).open_tower("joint")


@pytest.mark.parametrize("kind", KINDS)
def test_vision_language_with_a_missing_weight_is_refused(tmp_path: Path, kind: str) -> None:
    """A vision tower that the file lacks is named, never filled with random numbers; texts do without it."""
    folder = make_tiny_qwen(tmp_path / kind, kind=kind)
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if "visual.patch_embed.proj.weight" in name)
    del weights[lost]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match=r"lack 1 tensors of the network \(model.visual.patch_embed.proj.weight"
    ):
        open_backbone(str(folder)).open_tower("joint")
    tower: Any = open_backbone(str(folder)).open_tower("text")
    assert np.isfinite(tower.forward(prepared(tower))["pooled"]).all()


@pytest.mark.parametrize(
    ("name", "kind", "faults"),
    [
        ("qwen2-vl-2b", "qwen2_vl", r"width is 32, the card says 1536; layers is 2, the card says 28\."),
        ("qwen2.5-vl-3b", "qwen2_5_vl", r"width is 32, the card says 2048; layers is 2, the card says 36\."),
        ("qwen3-vl-embedding-2b", "qwen3_vl", r"width is 32, the card says 2048; layers is 2"),
        ("qwen3-vl-2b", "qwen2_vl", r"family is 'qwen2_vl', the card says 'qwen3_vl'\."),
    ],
)
def test_vision_language_weights_of_another_size_are_refused(
    qwen_folders: dict[str, Path], name: str, kind: str, faults: str
) -> None:
    """--weights must be of the card's family, width and depth."""
    with pytest.raises(ValueError, match=faults):
        open_backbone(name, weights=qwen_folders[kind])


def test_vision_language_cards_state_the_true_sizes() -> None:
    """Networks of the published sizes, built without memory, have the cards' parameters and widths."""
    import transformers as t

    # The sizes in the repositories' config.json.
    text2 = {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
    }
    text25 = {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36}
    text25 |= {"num_attention_heads": 16, "num_key_value_heads": 2, "vocab_size": 151936}
    text3 = {
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
    }
    text3 |= {"num_key_value_heads": 8, "vocab_size": 151936}
    vision25 = {"hidden_size": 1280, "out_hidden_size": 2048}
    vision3 = {"hidden_size": 1024, "depth": 24, "intermediate_size": 4096, "out_hidden_size": 2048}
    vision3 |= {"deepstack_visual_indexes": [5, 11, 17]}
    networks = {
        "qwen2-vl-2b": (
            t.Qwen2VLModel,
            t.Qwen2VLConfig(
                text_config={**text2, "num_key_value_heads": 2, "vocab_size": 151936},
                vision_config={"hidden_size": 1536},
            ),
        ),
        "qwen2.5-vl-3b": (t.Qwen2_5_VLModel, t.Qwen2_5_VLConfig(text_config=text25, vision_config=vision25)),
        "qwen3-vl-2b": (t.Qwen3VLModel, t.Qwen3VLConfig(text_config=text3, vision_config=vision3)),
    }
    for name, (model_class, config) in networks.items():
        card = find_card(name)
        with torch.device("meta"):
            model = model_class(config)
        assert sum(p.numel() for p in model.parameters()) == card.parameters == (card.weights_bytes or 0) / 2
        assert card.readouts["joint"]["pooled"] == config.text_config.hidden_size
        assert len(card.layers["joint"]) == config.text_config.num_hidden_layers + 1
