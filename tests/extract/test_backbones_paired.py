"""Paired backbones: CLIP's two towers equal transformers' own, and load one at a time."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from extract.backbones import ImageTower, TextTower
from extract.registry import backbone_names, find_card, open_backbone
from tests.kit.emoji_images import draw_emoji
from tests.kit.tiny_checkpoints import make_tiny_clip

CLIPS = [name for name in backbone_names() if find_card(name).family == "clip"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny CLIP for the module."""
    return make_tiny_clip(tmp_path_factory.mktemp("weights") / "clip")


@pytest.fixture(scope="module")
def text_tower(folder: Path) -> TextTower:
    """Its text tower with both readouts."""
    tower = open_backbone(str(folder)).open_tower("text", readouts=("pooled", "hidden"))
    assert isinstance(tower, TextTower)
    return tower


@pytest.fixture(scope="module")
def image_tower(folder: Path) -> ImageTower:
    """Its image tower with both readouts."""
    tower = open_backbone(str(folder)).open_tower("image", readouts=("pooled", "hidden"))
    assert isinstance(tower, ImageTower)
    return tower


def mixed_texts(n: int) -> list[str]:
    """Draw texts of 0 to 12 words: some pass the limit of 16 tokens."""
    draw = random.Random(0)
    words = ["the", "cat", "dog", "go", "x", "é", "😀", "2", "!"]
    return [" ".join(draw.choices(words, k=draw.randint(0, 12))) for _ in range(n)]


def reference(folder: Path, method: str, inputs: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Embed with transformers' whole CLIPModel."""
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(str(folder), dtype=torch.float32).eval()
    tower = {"text": model.text_model, "image": model.vision_model}[method]
    features = {"text": model.get_text_features, "image": model.get_image_features}[method]
    with torch.no_grad():
        return {
            "pooled": features(**inputs).pooler_output.numpy(),
            "hidden": tower(**inputs).pooler_output.numpy(),
        }


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_clip_text_equals_transformers(text_tower: TextTower, folder: Path, batch_size: int) -> None:
    """Both readouts equal CLIPModel's own at any batch size, over-long texts included."""
    from transformers import CLIPTokenizer

    texts = mixed_texts(64)
    tokenizer = CLIPTokenizer.from_pretrained(str(folder))
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=16, return_tensors="pt")
    expected = reference(folder, "text", dict(inputs))
    tokens = text_tower.tokenise(texts)
    assert max(item.full_length for item in tokens) > 16 and min(item.full_length for item in tokens) == 2
    for readout in ("pooled", "hidden"):
        rows = [text_tower.forward(tokens[i : i + batch_size])[readout] for i in range(0, 64, batch_size)]
        np.testing.assert_allclose(np.concatenate(rows), expected[readout], atol=1e-5, rtol=1e-5)
        assert np.ptp(expected[readout], axis=0).max() > 0.1, "the texts differ, so a mixed-up row would show"


def test_clip_text_padded_to_full_length_is_the_same(text_tower: TextTower, folder: Path) -> None:
    """OpenAI pads every text to the limit; padding less changes no vector, so texts may be bucketed."""
    from transformers import CLIPTokenizer

    texts = mixed_texts(20)
    tokenizer = CLIPTokenizer.from_pretrained(str(folder))
    full = tokenizer(texts, padding="max_length", truncation=True, max_length=16, return_tensors="pt")
    expected = reference(folder, "text", {"input_ids": full["input_ids"]})
    found = text_tower.forward(text_tower.tokenise(texts))
    np.testing.assert_allclose(found["pooled"], expected["pooled"], atol=1e-5, rtol=1e-5)
    assert text_tower.bucket(text_tower.tokenise(["a"])[0]) == 8


def test_clip_tokenise_keeps_the_closing_token(text_tower: TextTower) -> None:
    """A text over the limit still ends with the token that CLIP reads the vector at."""
    (long,) = text_tower.tokenise(["cat " * 40])
    assert len(long.ids) == 16 and long.full_length == 42
    assert long.ids[-1] == max(long.ids) and (long.ids == long.ids[-1]).sum() == 1


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_clip_image_equals_transformers(image_tower: ImageTower, folder: Path, batch_size: int) -> None:
    """Both readouts equal the PIL processor and CLIPModel at any batch size."""
    from transformers import CLIPImageProcessorPil

    images = [
        draw_emoji("😀😢❤🎉"[i % 4], 20 + 3 * i).crop((0, 0, 20 + 2 * i, 20 + 3 * i)) for i in range(64)
    ]
    processor = CLIPImageProcessorPil.from_pretrained(str(folder))
    pixels = processor(images, return_tensors="pt")["pixel_values"]
    expected = reference(folder, "image", {"pixel_values": pixels})
    batch = np.stack([image_tower.preprocess(image) for image in images])
    np.testing.assert_allclose(batch, pixels.numpy(), atol=1e-6)
    for readout in ("pooled", "hidden"):
        rows = [image_tower.forward(batch[i : i + batch_size])[readout] for i in range(0, 64, batch_size)]
        np.testing.assert_allclose(np.concatenate(rows), expected[readout], atol=1e-5, rtol=1e-5)


def test_clip_rows_have_the_same_bits_in_any_company(
    text_tower: TextTower, image_tower: ImageTower, two_torch_threads: None
) -> None:
    """Neither tower's vectors depend, to the last bit, on batch size or order (fp32, CPU)."""
    tokens = text_tower.tokenise(mixed_texts(30))
    whole = text_tower.forward(tokens)["pooled"]
    np.testing.assert_array_equal(text_tower.forward(tokens[::-1])["pooled"], whole[::-1])
    np.testing.assert_array_equal(
        np.concatenate([text_tower.forward([t])["pooled"] for t in tokens[:6]]), whole[:6]
    )
    batch = np.random.default_rng(0).normal(size=(11, 3, 32, 32)).astype(np.float32)
    whole = image_tower.forward(batch)["pooled"]
    np.testing.assert_array_equal(image_tower.forward(batch[::-1])["pooled"], whole[::-1])
    np.testing.assert_array_equal(
        np.concatenate([image_tower.forward(row[None])["pooled"] for row in batch[-5:]]), whole[-5:]
    )


def test_clip_loads_one_tower_only(text_tower: Any, image_tower: Any) -> None:
    """Each tower holds its own weights and no tensor of the other."""
    text_names = [name for name, _ in text_tower.network.named_parameters()]
    image_names = [name for name, _ in image_tower.network.named_parameters()]
    assert text_names and all(name.startswith(("text_model.", "text_projection.")) for name in text_names)
    assert image_names and all(
        name.startswith(("vision_model.", "visual_projection.")) for name in image_names
    )


def test_clip_towers_give_only_what_was_asked(folder: Path) -> None:
    """pooled alone is the default, and each modality has its own preprocessing."""
    backbone = open_backbone(str(folder))
    tower = backbone.open_tower("text")
    assert isinstance(tower, TextTower)
    assert set(tower.forward(tower.tokenise(["cat"]))) == {"pooled"} == set(tower.readouts)
    text, image = backbone.preprocessing("text"), backbone.preprocessing("image")
    assert json.loads(json.dumps([text, image])) == [text, image]
    assert "tokenizer_sha256" in text and "mean" in image and "mean" not in text
    with pytest.raises(ValueError, match="has no joint tower; it embeds text and image"):
        backbone.open_tower("joint")


@pytest.mark.parametrize("name", CLIPS)
def test_clip_weights_of_another_size_are_refused(name: str, folder: Path) -> None:
    """--weights must have the card's widths, image size, patches and token limit."""
    faults = r"widths is .*'pooled': 24.*image size is 32, .*patch size is 8, .*token limit is 16"
    with pytest.raises(ValueError, match=faults):
        open_backbone(name, weights=folder)


def test_clip_weights_that_differ_in_patches_alone_are_refused(tmp_path: Path) -> None:
    """B/32 and B/16 agree in every width; the patch size tells them apart."""
    from transformers import CLIPConfig

    config = CLIPConfig(vision_config={"patch_size": 16})
    config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    open_backbone("clip-vit-b16", weights=tmp_path)
    with pytest.raises(
        ValueError, match=r"backbone 'clip-vit-b32': patch size is 16, the card says 32\. Pass"
    ):
        open_backbone("clip-vit-b32", weights=tmp_path)


def test_clip_with_another_closing_token_is_refused(tmp_path: Path) -> None:
    """A config that names another closing token would read the vector at position 0."""
    folder = make_tiny_clip(tmp_path / "clip")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 7
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ValueError, match=r"look for closing token 7, but the tokenizer closes texts with 520"
    ):
        open_backbone(str(folder)).open_tower("text")


def test_clip_with_a_tokenizer_without_padding_is_refused(tmp_path: Path) -> None:
    """A tokenizer that cannot pad is one clear error, not a failure in the first batch."""
    folder = make_tiny_clip(tmp_path / "clip")
    file = folder / "tokenizer_config.json"
    settings = {**json.loads(file.read_text()), "pad_token": None}
    file.write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="has no fast version or no padding token"):
        open_backbone(str(folder)).open_tower("text")


def test_clip_with_the_old_closing_token_equals_the_new(tmp_path: Path, text_tower: TextTower) -> None:
    """Old configs say 2 and mean the highest id; the vectors are the same."""
    folder = make_tiny_clip(tmp_path / "clip")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 2
    (folder / "config.json").write_text(json.dumps(config))
    old = open_backbone(str(folder)).open_tower("text")
    assert isinstance(old, TextTower)
    tokens = old.tokenise(mixed_texts(5))
    np.testing.assert_array_equal(old.forward(tokens)["pooled"], text_tower.forward(tokens)["pooled"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(do_center_crop=False), "do_center_crop is off"),
        (lambda s: s.update(size={"height": 32, "width": 40}), "not a shorter side"),
        (lambda s: s.update(resample=5), "resample is 5, supported are 0"),
        (lambda s: s.update(crop_size={"height": 30, "width": 30}), "crop size is 30, the card says 32"),
        (lambda s: s.update(rescale_factor=0), "rescale_factor is 0"),
        (lambda s: s.update(do_resize=False, resample=5), "do_resize is off; resample is 5"),
    ],
)
def test_clip_refuses_an_image_processor_it_would_get_wrong(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    """A preprocessing step that is not supported is refused, never skipped; all faults are named."""
    file = make_tiny_clip(tmp_path / "clip") / "preprocessor_config.json"
    settings = json.loads(file.read_text())
    change(settings)
    file.write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=message):
        open_backbone(str(file.parent))


def test_clip_reads_the_processor_files_of_both_versions(tmp_path: Path) -> None:
    """transformers 5 nests the settings in processor_config.json; without either file nothing is guessed."""
    folder = make_tiny_clip(tmp_path / "clip")
    card = open_backbone(str(folder)).card
    old = folder / "preprocessor_config.json"
    (folder / "processor_config.json").write_text(
        json.dumps({"image_processor": json.loads(old.read_text())})
    )
    old.unlink()
    assert open_backbone(str(folder)).card == card
    (folder / "processor_config.json").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"lacks 'preprocessor_config.json' or 'processor_config.json'"
    ):
        open_backbone(str(folder))
