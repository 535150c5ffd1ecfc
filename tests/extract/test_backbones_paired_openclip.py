"""Folders in OpenCLIP's own layout give the vectors that OpenCLIP gives, without OpenCLIP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from extract.backbones import ImageTower, TextTower
from extract.backbones.openclip_layout import clip_tokenizer, packaged_vocabulary
from extract.registry import open_backbone
from extract.weights import UnsafeWeightsError
from tests.kit.paired_parity import in_batches, mixed_images, mixed_texts
from tests.kit.tiny_paired import make_tiny_openclip, make_tiny_projected
from tests.kit.tiny_text import change_json

TEXT = ("pooled", "hidden", "last", "mean", "layer:1")
IMAGE = ("pooled", "hidden", "cls", "mean", "layer:1")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP in the transformers format."""
    return make_tiny_projected(tmp_path_factory.mktemp("weights") / "clip", "clip")


def embed(folder: Path) -> dict[str, np.ndarray]:
    """Embed texts and pictures with every readout."""
    backbone = open_backbone(str(folder))
    text = backbone.open_tower("text", readouts=TEXT)
    image = backbone.open_tower("image", readouts=IMAGE)
    assert isinstance(text, TextTower) and isinstance(image, ImageTower)
    vectors = text.forward(text.tokenise(mixed_texts(9)))
    # The pixels are the folder's own matter; the same ones go into every network here.
    pixels = list(np.random.default_rng(0).normal(size=(5, 3, 32, 32)).astype(np.float32))
    return {
        **{f"text.{name}": rows for name, rows in vectors.items()},
        **{f"image.{name}": rows for name, rows in image.forward(pixels).items()},
    }


@pytest.mark.parametrize("safetensors", [True, False])
@pytest.mark.parametrize("custom_text", [True, False])
def test_openclip_names_give_the_same_bits(
    clip: Path, tmp_path: Path, safetensors: bool, custom_text: bool
) -> None:
    """The same weights under OpenCLIP's names, in either kind of file, give every readout bit for bit."""
    folder = make_tiny_openclip(tmp_path / "open", clip, safetensors=safetensors, custom_text=custom_text)
    expected, found = embed(clip), embed(folder)
    for name, rows in expected.items():
        np.testing.assert_array_equal(found[name], rows, err_msg=name)
    card = open_backbone(str(folder)).card
    original = open_backbone(str(clip)).card
    assert (card.readouts, card.layers, card.token_limit) == (
        original.readouts, original.layers, original.token_limit,
    )  # fmt: skip
    assert card.mean == (0.5, 0.4, 0.3), "pixels are prepared as open_clip_config.json says"


@pytest.mark.parametrize(
    "changes",
    [{}, {"quick_gelu": False}, {"preprocess_cfg": {"resize_mode": "squash", "interpolation": "bilinear"}}],
)
def test_openclip_equals_openclip(clip: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    """Vectors and pixels equal OpenCLIP's own network and transform, with QuickGELU and with GELU."""
    open_clip = pytest.importorskip("open_clip", reason="open-clip-torch is not installed")
    folder = make_tiny_openclip(tmp_path / "open", clip, **changes)
    config = json.loads((folder / "open_clip_config.json").read_text())
    network = open_clip.CLIP(**config["model_cfg"]).eval()
    open_clip.load_checkpoint(network, str(folder / "open_clip_model.safetensors"))
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(size=32, **config["preprocess_cfg"]), is_train=False
    )
    backbone, images = open_backbone(str(folder)), mixed_images(9)
    text, image = backbone.open_tower("text"), backbone.open_tower("image")
    assert isinstance(text, TextTower) and isinstance(image, ImageTower)
    tokens, pixels = text.tokenise(mixed_texts(9)), [image.preprocess(picture) for picture in images]
    theirs = torch.stack([transform(picture) for picture in images])
    np.testing.assert_allclose(np.stack(pixels), theirs.numpy(), atol=1e-6)
    ids = torch.zeros(len(tokens), 16, dtype=torch.int64)  # OpenCLIP pads with 0
    for row, item in enumerate(tokens):
        ids[row, : len(item.ids)] = torch.from_numpy(item.ids)
    with torch.no_grad():
        expected = network.encode_text(ids).numpy(), network.encode_image(theirs).numpy()
    for size in (1, 3, 8):
        found = in_batches(text, tokens, size)["pooled"], in_batches(image, pixels, size)["pooled"]
        for ours, reference in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, reference, atol=2e-5, rtol=1e-5)


def test_openclip_activation_changes_the_vectors(clip: Path, tmp_path: Path) -> None:
    """The QuickGELU trap: the flag alone gives other vectors, so it is read and never guessed."""
    quick, plain = (
        embed(make_tiny_openclip(tmp_path / str(flag), clip, quick_gelu=flag)) for flag in (True, False)
    )
    assert np.abs(quick["image.pooled"] - plain["image.pooled"]).max() > 0.01


def test_openclip_towers_read_their_own_weights_only(clip: Path, tmp_path: Path) -> None:
    """A tower holds no tensor of the other, and does not need the other's to be there."""
    from safetensors.torch import load_file, save_file

    folder = make_tiny_openclip(tmp_path / "open", clip)
    file = folder / "open_clip_model.safetensors"
    save_file({k: v for k, v in load_file(file).items() if not k.startswith("visual.")}, file)
    tower: Any = open_backbone(str(folder)).open_tower("text")
    assert all(n.startswith(("text_model.", "text_projection.")) for n, _ in tower.network.named_parameters())
    with pytest.raises(ValueError, match=r"lacks \d+ tensors of the network \(vision_model\."):
        open_backbone(str(folder)).open_tower("image")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"vision_cfg": {"timm_model_name": "fastvit_mci0"}},
            r"vision_cfg\.timm_model_name is 'fastvit_mci0'",
        ),
        (
            {"text_cfg": {"hf_model_name": "xlm-roberta-base"}},
            r"text_cfg\.hf_model_name is 'xlm-roberta-base'",
        ),
        ({"text_cfg": {"no_causal_mask": True}}, r"text_cfg\.no_causal_mask is True"),
        ({"text_cfg": {"pool_type": "last", "proj_bias": True}}, r"pool_type is 'last'; text_cfg\.proj_bias"),
        ({"vision_cfg": {"layers": [3, 4, 6, 3]}}, r"vision_cfg\.layers is \[3, 4, 6, 3\], not one number"),
        ({"multimodal_cfg": {"width": 512}}, r"model_cfg\.multimodal_cfg is \{'width': 512\}"),
    ],
)
def test_openclip_refuses_other_towers_by_name(
    clip: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    """Towers that OpenCLIP builds from other parts are named, all of them, and never half loaded."""
    folder = make_tiny_openclip(tmp_path / "open", clip, **changes)
    with pytest.raises(ValueError, match=message):
        open_backbone(str(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resize_mode": "longest"}, "resize_mode is 'longest', supported are shortest, squash"),
        ({"interpolation": "nearest", "size": 64}, "size is 64, the network takes 32; interpolation is"),
        ({"mean": 0.5}, "mean is 0.5, not three numbers"),
    ],
)
def test_openclip_refuses_other_pixels(
    clip: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    """A preparation that is not supported is refused, never skipped."""
    folder = make_tiny_openclip(tmp_path / "open", clip, preprocess_cfg=changes)
    with pytest.raises(ValueError, match=message):
        open_backbone(str(folder))


def test_openclip_refuses_pickles_and_foreign_weights(clip: Path, tmp_path: Path) -> None:
    """A pickle with more than tensors, and weights of no standard part, are one clear error each."""
    folder = make_tiny_openclip(tmp_path / "open", clip, safetensors=False)
    file = folder / "open_clip_pytorch_model.bin"
    state = torch.load(file, weights_only=True)
    torch.save({**state, "visual.attn_pool.query": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match=r"1 weights belong to no part .*\(visual\.attn_pool\.query\)"):
        open_backbone(str(folder)).open_tower("image")
    torch.save({**state, "positional_embedding": torch.zeros(3, 32)}, file)
    with pytest.raises(ValueError, match=r"does not fit the network that its open_clip_config\.json"):
        open_backbone(str(folder)).open_tower("text")
    torch.save({"weights": Path("x")}, file)
    with pytest.raises(UnsafeWeightsError, match="holds more than tensors"):
        open_backbone(str(folder)).open_tower("text")
    file.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"holds no weights: expected 'open_clip_model\.safetensors' or"
    ):
        open_backbone(str(folder)).check_available()
        _ = open_backbone(str(folder)).weights_sha256()


def test_openclip_folder_under_a_published_name(clip: Path, tmp_path: Path) -> None:
    """--weights takes this layout too, and compares it with the card, activation included."""
    folder = make_tiny_openclip(tmp_path / "open", clip)
    message = r"widths is .*image size is 32, .*activation is 'quick_gelu', the card says 'gelu'.*mean is"
    with pytest.raises(ValueError, match=message):
        open_backbone("openclip-vit-b32-laion2b", weights=folder)


def test_openclip_vocabulary_of_the_package(clip: Path, tmp_path: Path) -> None:
    """A folder without a tokenizer takes the vocabulary inside the package, and gives OpenCLIP's own ids."""
    open_clip = pytest.importorskip("open_clip", reason="open-clip-torch is not installed")
    texts = ["the cat's 2 dogs!! don't GO", "naïve café — über 東京 🎉", "a" * 40, "", "  two   spaces "]
    ours = clip_tokenizer(packaged_vocabulary(tmp_path)).backend_tokenizer
    theirs = open_clip.SimpleTokenizer()
    for text, found in zip(texts, ours.encode_batch(texts), strict=True):
        assert found.ids == [theirs.sot_token_id, *theirs.encode(text), theirs.eot_token_id], text
    folder = make_tiny_openclip(tmp_path / "open", clip)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (folder / name).unlink()
    assert len(open_backbone(str(folder)).preprocessing("text")["tokenizer_sha256"]) == 64
    with pytest.raises(
        ValueError, match="look for closing token 520, but the tokenizer closes texts with 49407"
    ):
        open_backbone(str(folder)).open_tower("text")


def test_openclip_without_any_vocabulary_is_refused(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the folder nor in a package: the message gives both ways."""
    folder = make_tiny_openclip(tmp_path / "open", clip)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (folder / name).unlink()
    monkeypatch.setattr("extract.backbones.openclip_layout.find_spec", lambda _: None)
    with pytest.raises(FileNotFoundError, match=r"holds no tokenizer\. Copy .* pip install open-clip-torch"):
        open_backbone(str(folder)).open_tower("text")


def test_openclip_beside_the_transformers_format_is_transformers(clip: Path, tmp_path: Path) -> None:
    """The published folders hold both layouts; then config.json counts."""
    folder = make_tiny_openclip(tmp_path / "open", clip)
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (folder / name).write_bytes((clip / name).read_bytes())
    change_json(folder / "open_clip_config.json", model_cfg=None)
    assert open_backbone(str(folder)).card.mean == (0.48, 0.46, 0.41)
