"""Projected families: CLIP, MetaCLIP 2, Chinese-CLIP, AltCLIP and AIMv2 equal the library's own networks."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from extract.backbones import ImageTower, TextTower
from extract.registry import open_backbone
from tests.kit.paired_parity import (
    assert_equal_vectors,
    image_reference,
    in_batches,
    mixed_images,
    mixed_texts,
    text_reference,
    whole_network,
)
from tests.kit.tiny_paired import PROJECTED, make_tiny_projected
from tests.kit.tiny_text import change_json

LAYERS = ("layer:0", "layer:1", "layer:2")
#: Families whose text vector is read at the first token, and those without a class token in pictures.
READS_FIRST, WITHOUT_CLASS_TOKEN = ("chinese_clip", "altclip"), ("aimv2",)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One tiny checkpoint of each family."""
    root = tmp_path_factory.mktemp("weights")
    return {family: make_tiny_projected(root / family, family) for family in PROJECTED}


def text_readouts(family: str) -> tuple[str, ...]:
    """Return every text readout of a family."""
    return ("pooled", "hidden", "mean", "cls" if family in READS_FIRST else "last", *LAYERS)


def image_readouts(family: str) -> tuple[str, ...]:
    """Return every image readout of a family."""
    cls = () if family in WITHOUT_CLASS_TOKEN else ("cls",)
    return ("pooled", "hidden", "mean", *cls, *LAYERS)


def open_text(folder: Path, family: str) -> TextTower:
    """Open the text tower with every readout."""
    tower = open_backbone(str(folder)).open_tower("text", readouts=text_readouts(family))
    assert isinstance(tower, TextTower)
    return tower


def open_image(folder: Path, family: str) -> ImageTower:
    """Open the image tower with every readout."""
    tower = open_backbone(str(folder)).open_tower("image", readouts=image_readouts(family))
    assert isinstance(tower, ImageTower)
    return tower


@pytest.mark.parametrize("family", PROJECTED)
def test_paired_text_equals_transformers(folders: dict[str, Path], family: str) -> None:
    """Every readout equals the whole network's own at batch sizes 1, 3 and 8, over-long texts included."""
    from transformers import AutoTokenizer

    folder, texts = folders[family], mixed_texts(16)
    backbone, network = open_backbone(str(folder)), whole_network(folder)
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    limit = backbone.card.token_limit
    assert limit == (52 if family == "chinese_clip" else 16)
    inputs = dict(tokenizer(texts, padding=True, truncation=True, max_length=limit, return_tensors="pt"))
    expected = text_reference(network, inputs, inputs["attention_mask"].numpy() == 1)
    with torch.no_grad():
        if family in READS_FIRST:
            states = network.text_model(**inputs).last_hidden_state
            expected["hidden"] = expected["cls"] = states[:, 0].numpy()
        else:
            state = network.text_model(**inputs).pooler_output.numpy()
            expected["hidden"] = expected["last"] = state
    tower = open_text(folder, family)
    tokens = tower.tokenise(texts)
    assert max(len(item.ids) for item in tokens) == limit or family == "chinese_clip"
    for size in (1, 3, 8):
        assert_equal_vectors(in_batches(tower, tokens, size), expected)


@pytest.mark.parametrize("family", PROJECTED)
def test_paired_image_equals_transformers(folders: dict[str, Path], family: str) -> None:
    """Every readout equals the PIL processor and the whole network at batch sizes 1, 3 and 8."""
    import transformers

    folder, images = folders[family], mixed_images(9)
    named = "ChineseCLIP" if family == "chinese_clip" else "CLIP"
    processor = getattr(transformers, f"{named}ImageProcessorPil").from_pretrained(str(folder))
    inputs = dict(processor(images, return_tensors="pt"))
    network, has_class_token = whole_network(folder), family not in WITHOUT_CLASS_TOKEN
    expected = image_reference(network, inputs, has_class_token=has_class_token)
    with torch.no_grad():
        expected["hidden"] = network.vision_model(**inputs).pooler_output.numpy()
    tower = open_image(folder, family)
    pixels = [tower.preprocess(image) for image in images]
    np.testing.assert_allclose(np.stack(pixels), inputs["pixel_values"].numpy(), atol=1e-6)
    for size in (1, 3, 8):
        assert_equal_vectors(in_batches(tower, pixels, size), expected)


@pytest.mark.parametrize("family", PROJECTED)
def test_paired_rows_have_the_same_bits_in_any_company(folders: dict[str, Path], family: str) -> None:
    """No readout depends, to the last bit, on batch size, order or a second thread (fp32, CPU)."""
    text, image = open_text(folders[family], family), open_image(folders[family], family)
    pixels = [image.preprocess(picture) for picture in mixed_images(9)]
    for tower, inputs in ((text, text.tokenise(mixed_texts(16))), (image, pixels)):
        whole = tower.forward(inputs)
        turned, alone = tower.forward(inputs[::-1]), in_batches(tower, inputs, 1)
        with ThreadPoolExecutor(2) as pool:
            threads = list(pool.map(tower.forward, [inputs, inputs[::-1]] * 2))
        for name, rows in whole.items():
            np.testing.assert_array_equal(turned[name][::-1], rows, err_msg=name)
            np.testing.assert_array_equal(alone[name], rows, err_msg=name)
            for first, second in zip(threads[::2], threads[1::2], strict=True):
                np.testing.assert_array_equal(first[name], rows, err_msg=name)
                np.testing.assert_array_equal(second[name][::-1], rows, err_msg=name)


@pytest.mark.parametrize("family", PROJECTED)
def test_paired_loads_one_tower_only(folders: dict[str, Path], family: str) -> None:
    """Each tower holds its own weights, no tensor of the other and nothing that it does not read."""
    from safetensors import safe_open

    # AltCLIP's files spell its layers in an older way, which transformers keeps to when it saves.
    with safe_open(folders[family] / "model.safetensors", framework="pt") as file:
        saved = {name.replace(".layer.", ".layers.") for name in file.keys()}  # noqa: SIM118
    halves = {"text": ("text_model.", "text_projection."), "image": ("vision_model.", "visual_projection.")}
    for modality, prefixes in halves.items():
        tower: Any = open_backbone(str(folders[family])).open_tower(modality)
        names = {name.replace(".layer.", ".layers.") for name, _ in tower.network.named_parameters()}
        assert names == {name for name in saved if name.startswith(prefixes)}


@pytest.mark.parametrize("family", PROJECTED)
def test_paired_preprocessing_tells_every_readout(folders: dict[str, Path], family: str) -> None:
    """The settings are plain JSON, and name each readout that could be asked for."""
    backbone = open_backbone(str(folders[family]))
    for modality in ("text", "image"):
        settings = backbone.preprocessing(modality)
        assert json.loads(json.dumps(settings)) == settings
        assert set(settings["readouts"]) == {*backbone.card.readouts[modality], "layer:k"}
        with pytest.raises(ValueError, match=r"allowed are pooled, .*layer:0 to layer:2"):
            backbone.open_tower(modality, readouts=("layer:3",))


@pytest.mark.parametrize("family", ["metaclip_2", "aimv2"])
def test_paired_with_another_closing_token_is_refused(tmp_path: Path, family: str) -> None:
    """Networks that read the closing token must name the tokenizer's; only CLIP's old 2 means another one."""
    folder = make_tiny_projected(tmp_path / family, family)
    config = json.loads((folder / "config.json").read_text())
    change_json(folder / "config.json", text_config={**config["text_config"], "eos_token_id": 3})
    with pytest.raises(ValueError, match="look for closing token 3, but the tokenizer closes texts with"):
        open_backbone(str(folder)).open_tower("text")


def test_paired_with_missing_weights_is_refused(tmp_path: Path) -> None:
    """A tower without its projection is never filled with random numbers; the other tower still opens."""
    from safetensors.torch import load_file, save_file

    folder = make_tiny_projected(tmp_path / "weights", "chinese_clip")
    state = load_file(folder / "model.safetensors")
    del state["text_projection.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    backbone = open_backbone(str(folder))
    backbone.open_tower("image")
    with pytest.raises(ValueError, match=r"lack 1 tensors of the network \(text_projection\.weight\)"):
        backbone.open_tower("text")


def test_paired_reads_plain_pickles_and_refuses_others(tmp_path: Path) -> None:
    """pytorch_model.bin is read when it holds tensors only, and gives the same vectors."""
    from extract.weights import UnsafeWeightsError

    folders = [
        make_tiny_projected(tmp_path / str(kind), "altclip", safetensors=kind) for kind in (True, False)
    ]
    found = []
    for folder in folders:
        tower = open_backbone(str(folder)).open_tower("text")
        assert isinstance(tower, TextTower)
        found.append(tower.forward(tower.tokenise(["the cat"]))["pooled"])
    np.testing.assert_array_equal(*found)
    torch.save({"weight": Path("x")}, folders[1] / "pytorch_model.bin")
    with pytest.raises(UnsafeWeightsError, match="holds more than tensors"):
        open_backbone(str(folders[1])).open_tower("text")


def test_paired_families_that_are_code_are_refused(tmp_path: Path) -> None:
    """jina-clip exists only as program code in its repository, which is never run."""
    settings = {"model_type": "jina_clip", "auto_map": {"AutoModel": "jinaai/jina-clip--modeling.JinaCLIP"}}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"family 'jina_clip', which is not .*which is never run\. Choose"):
        open_backbone(str(tmp_path))


def test_aimv2_without_a_text_tower_is_refused(tmp_path: Path) -> None:
    """AIMv2's image encoders alone declare the same family, flat."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "aimv2", "hidden_size": 64}))
    with pytest.raises(ValueError, match="an AIMv2 image encoder without a text tower"):
        open_backbone(str(tmp_path))
