"""SigLIP and SigLIP 2 equal the library's own networks; padding is part of a text, so it never changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

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
from tests.kit.tiny_paired import make_tiny_siglip, make_tiny_siglip2
from tests.kit.tiny_text import change_json

LAYERS = ("layer:0", "layer:1", "layer:2")
KINDS: dict[str, Callable[[Path], Path]] = {
    "siglip": make_tiny_siglip,
    "siglip2": make_tiny_siglip2,
    "naflex": lambda folder: make_tiny_siglip2(folder, naflex=True),
}
LIMIT = 16


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One tiny checkpoint of each kind."""
    root = tmp_path_factory.mktemp("weights")
    return {kind: make(root / kind) for kind, make in KINDS.items()}


def open_text(folder: Path, *readouts: str) -> TextTower:
    """Open the text tower with all readouts or the given ones."""
    names = readouts or ("pooled", "hidden", "mean", *LAYERS)
    tower = open_backbone(str(folder)).open_tower("text", readouts=names)
    assert isinstance(tower, TextTower)
    return tower


def open_image(folder: Path) -> ImageTower:
    """Open the image tower with every readout."""
    tower = open_backbone(str(folder)).open_tower("image", readouts=("pooled", "mean", *LAYERS))
    assert isinstance(tower, ImageTower)
    return tower


def library_tokenizer(folder: Path, kind: str) -> Any:
    """Return the library's tokenizer; for SigLIP 2 the one it made for it, whatever the folder declares."""
    from transformers import AutoTokenizer, Siglip2Tokenizer

    loader: Any = AutoTokenizer if kind == "siglip" else Siglip2Tokenizer
    return loader.from_pretrained(str(folder))


@pytest.mark.filterwarnings("ignore:This sequence already has </s>")  # the library's, about the last text
@pytest.mark.parametrize("kind", KINDS)
def test_siglip_text_equals_transformers(folders: dict[str, Path], kind: str) -> None:
    """Every readout equals the whole network's, texts padded to full length, at batch sizes 1, 3 and 8."""
    folder, texts = folders[kind], [*mixed_texts(14), "Cat, DOG! (the) cat?", "</s>"]
    tokenizer = library_tokenizer(folder, kind)
    inputs = tokenizer(texts, padding="max_length", truncation=True, max_length=LIMIT, return_tensors="pt")
    assert list(inputs) == ["input_ids"], "no attention mask: the network was trained without one"
    lengths = [len(ids) for ids in tokenizer(texts, truncation=True, max_length=LIMIT)["input_ids"]]
    real = np.arange(LIMIT) < np.array(lengths)[:, None]
    network = whole_network(folder)
    expected = text_reference(network, dict(inputs), real)
    with torch.no_grad():
        expected["hidden"] = network.text_model(**inputs).last_hidden_state[:, -1].numpy()
    tower = open_text(folder)
    tokens = tower.tokenise(texts)
    assert [len(item.ids) for item in tokens] == lengths
    assert max(item.full_length for item in tokens) > LIMIT
    for size in (1, 3, 8):
        assert_equal_vectors(in_batches(tower, tokens, size), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_siglip_texts_are_never_bucketed(folders: dict[str, Path], kind: str) -> None:
    """Every text is padded to the limit; padded to another length it would get another vector."""
    tower: Any = open_text(folders[kind], "pooled")
    tokens = tower.tokenise(["cat", "the cat and a dog " * 9])
    assert [tower.bucket(item) for item in tokens] == [LIMIT, LIMIT]
    ids = torch.from_numpy(tokens[0].ids)[None]
    with torch.no_grad():
        short = tower.network.text_model(input_ids=ids).pooler_output.numpy()
    assert np.abs(short - tower.forward(tokens[:1])["pooled"]).max() > 0.01


@pytest.mark.parametrize("kind", ["siglip", "siglip2"])
def test_siglip_image_equals_transformers(folders: dict[str, Path], kind: str) -> None:
    """Every readout equals the PIL processor and the whole network at batch sizes 1, 3 and 8."""
    from transformers import SiglipImageProcessorPil

    folder, images = folders[kind], mixed_images(9)
    inputs = SiglipImageProcessorPil.from_pretrained(str(folder))(images, return_tensors="pt")
    expected = image_reference(whole_network(folder), dict(inputs), has_class_token=False)
    tower = open_image(folder)
    pixels = [tower.preprocess(image) for image in images]
    np.testing.assert_allclose(np.stack(pixels), inputs["pixel_values"].numpy(), atol=1e-6)
    for size in (1, 3, 8):
        assert_equal_vectors(in_batches(tower, pixels, size), expected)


def test_naflex_image_equals_transformers(folders: dict[str, Path]) -> None:
    """Pictures of any shape become the library's patches, and every readout equals the whole network's."""
    from transformers import Siglip2ImageProcessorPil

    images = [*mixed_images(9), Image.new("RGB", (1, 1), "red"), Image.new("RGB", (3000, 7), "blue")]
    images += [Image.linear_gradient("L").convert("RGB").resize((20, 61))]
    folder = folders["naflex"]
    inputs = Siglip2ImageProcessorPil.from_pretrained(str(folder))(images, return_tensors="pt")
    network, real = whole_network(folder), inputs["pixel_attention_mask"].numpy() == 1
    expected = image_reference(network, dict(inputs), has_class_token=False, real=real)
    tower = open_image(folder)
    found = [tower.preprocess(image) for image in images]
    assert [item.grid for item in found] == [tuple(shape) for shape in inputs["spatial_shapes"].tolist()]
    np.testing.assert_allclose(np.stack([p.pixels for p in found]), inputs["pixel_values"], atol=1e-6)
    assert len({item.grid for item in found}) > 3
    for size in (1, 3, 8):
        assert_equal_vectors(in_batches(tower, found, size), expected)


def test_naflex_sizes_equal_the_published_rule() -> None:
    """Rows and columns of patches equal the library's for many shapes, at the published sizes."""
    from transformers.models.siglip2.image_processing_pil_siglip2 import get_image_size_for_max_num_patches

    from extract.backbones.naflex_patches import NaflexRecipe

    recipe = NaflexRecipe(16, 256, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    sides = (1, 2, 15, 16, 17, 255, 256, 257, 600, 563, 1000, 4032, 20_000)
    for height in sides:
        for width in sides:
            rows, columns = recipe.grid(height, width)
            assert get_image_size_for_max_num_patches(height, width, 16, 256) == (rows * 16, columns * 16)
            assert rows * columns <= 256 or 1 in (rows, columns)


@pytest.mark.parametrize("kind", KINDS)
def test_siglip_rows_have_the_same_bits_in_any_company(folders: dict[str, Path], kind: str) -> None:
    """No readout depends, to the last bit, on batch size, order or a second thread (fp32, CPU)."""
    text, image = open_text(folders[kind]), open_image(folders[kind])
    pixels = [image.preprocess(picture) for picture in mixed_images(9)]
    for tower, inputs in ((text, text.tokenise(mixed_texts(14))), (image, pixels)):
        whole = tower.forward(inputs)
        turned, alone = tower.forward(inputs[::-1]), in_batches(tower, inputs, 1)
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(tower.forward, [inputs, inputs[::-1]])
        for name, rows in whole.items():
            for found in (turned[name][::-1], alone[name], first[name], second[name][::-1]):
                np.testing.assert_array_equal(found, rows, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_siglip_loads_one_tower_only(folders: dict[str, Path], kind: str) -> None:
    """Each tower holds its own weights and no tensor of the other."""
    for modality, prefix in (("text", "text_model."), ("image", "vision_model.")):
        tower: Any = open_backbone(str(folders[kind])).open_tower(modality)
        names = [name for name, _ in tower.network.named_parameters()]
        assert names and all(name.startswith(prefix) for name in names)


@pytest.mark.parametrize("kind", KINDS)
def test_siglip_preprocessing_tells_every_readout(folders: dict[str, Path], kind: str) -> None:
    """The settings are plain JSON and say that padding takes part and how texts are cleaned."""
    backbone = open_backbone(str(folders[kind]))
    for modality in ("text", "image"):
        settings = backbone.preprocessing(modality)
        assert json.loads(json.dumps(settings)) == settings
        assert set(settings["readouts"]) == {*backbone.card.readouts[modality], "layer:k"}
    text = backbone.preprocessing("text")
    assert text["padding"] == "max_length" and text["attention"] == "padding included"
    assert text["text_cleaning"].startswith("lower case")


def test_siglip2_lowers_case_where_the_declared_class_does_not(folders: dict[str, Path]) -> None:
    """Folders declare Gemma's tokenizer, which keeps capitals; the network was trained on lower case."""
    from transformers import AutoTokenizer

    tower = open_text(folders["siglip2"], "pooled")
    upper, lower = tower.tokenise(["THE CAT", "the cat"])
    np.testing.assert_array_equal(upper.ids, lower.ids)
    declared = AutoTokenizer.from_pretrained(str(folders["siglip2"]))
    assert declared("THE CAT")["input_ids"] != declared("the cat")["input_ids"] == lower.ids.tolist()


def test_siglip_tokenises_huge_texts(folders: dict[str, Path]) -> None:
    """100,000 words, emoji alone and right-to-left letters are cut to the limit and closed."""
    for kind in ("siglip", "siglip2"):
        tower = open_text(folders[kind], "pooled")
        huge, emoji, arabic, nul = tower.tokenise(["cat " * 100_000, "😀🎉", "مرحبا", "a\0b"])
        assert huge.full_length > 100_000 and len(huge.ids) == LIMIT
        assert {item.ids[-1] for item in (huge, emoji, arabic, nul)} == {1}


def test_siglip_that_pads_on_the_left_is_refused(tmp_path: Path) -> None:
    """Padding on the left would put the text's end where the network reads."""
    folder = make_tiny_siglip2(tmp_path / "siglip2")
    change_json(folder / "tokenizer_config.json", padding_side="left")
    with pytest.raises(ValueError, match="pads on the left; SigLIP was trained with padding on the right"):
        open_backbone(str(folder)).open_tower("text")


def test_siglip_without_its_vocabulary_is_refused(tmp_path: Path) -> None:
    """A folder copied without spiece.model names the file."""
    folder = make_tiny_siglip(tmp_path / "siglip")
    (folder / "spiece.model").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 'spiece\.model', the vocabulary"):
        open_backbone(str(folder)).open_tower("text")


def test_siglip_without_a_pooling_head_is_refused(tmp_path: Path) -> None:
    """Some checkpoints leave the head out; their image tower gives no vector."""
    folder = make_tiny_siglip(tmp_path / "siglip")
    config = json.loads((folder / "config.json").read_text())
    change_json(folder / "config.json", vision_config={**config["vision_config"], "vision_use_head": False})
    with pytest.raises(ValueError, match=r"without its pooling head \(vision_use_head is false\)"):
        open_backbone(str(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"do_normalize": False, "resample": 3}, "do_normalize is off; resample is 3, the card says 2"),
        ({"rescale_factor": 1.0}, "rescale_factor is 1.0"),
        ({"patch_size": 16}, "cuts patches of 16 pixels, the network takes 8"),
    ],
)
def test_naflex_refuses_an_image_processor_it_would_get_wrong(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    """A step that is not the NaFlex rule is refused, never skipped."""
    folder = make_tiny_siglip2(tmp_path / "naflex", naflex=True)
    change_json(folder / "preprocessor_config.json", **changes)
    with pytest.raises(ValueError, match=message):
        open_backbone(str(folder))


def test_naflex_without_an_image_processor_is_refused(tmp_path: Path) -> None:
    """The number of patches is never guessed."""
    folder = make_tiny_siglip2(tmp_path / "naflex", naflex=True)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 'preprocessor_config\.json' or"):
        open_backbone(str(folder))
