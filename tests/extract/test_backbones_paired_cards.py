"""Cards of published two-tower checkpoints: their sizes are those of the published networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from extract.backbones.paired_cards import PROJECTED_CHECKPOINTS, SIGLIP2_NAFLEX, SIGLIP_CHECKPOINTS
from extract.registry import open_backbone

_L = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
_H = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16}
_L_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
_SO = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
_CHINESE = {"vocab_size": 21128}
_GELU = {"hidden_act": "gelu"}

#: Name -> projection width, text and image sizes: what differs from transformers' defaults in the published
#: config.json. Pictures of 224 pixels unless stated.
PUBLISHED: dict[str, tuple[int, dict[str, Any], dict[str, Any]]] = {
    "clip-vit-b32": (512, {}, {}),
    "clip-vit-b16": (512, {}, {"patch_size": 16}),
    "clip-vit-l14": (768, _L_TEXT, {**_L, "patch_size": 14}),
    "clip-vit-l14-336": (768, _L_TEXT, {**_L, "patch_size": 14, "image_size": 336}),
    "openclip-vit-b32-laion2b": (512, _GELU, _GELU),
    "openclip-vit-l14-laion2b": (768, {**_L_TEXT, **_GELU}, {**_L, **_GELU, "patch_size": 14}),
    "openclip-vit-h14-laion2b": (1024, {**_L, **_GELU}, {**_H, **_GELU, "patch_size": 14}),
    "metaclip-vit-b32-400m": (512, {}, {}),
    "chinese-clip-vit-b16": (512, _CHINESE, {"patch_size": 16}),
    "chinese-clip-vit-l14": (768, _CHINESE, {**_L, "patch_size": 14}),
    "siglip-b16-224": (0, {}, {}),
    "siglip-so400m-14-384": (0, _SO, {**_SO, "patch_size": 14, "image_size": 384}),
    "siglip2-b16-224": (0, {"vocab_size": 256_000}, {}),
    "siglip2-so400m-14-384": (
        0, {**_SO, "vocab_size": 256_000}, {**_SO, "patch_size": 14, "image_size": 384},
    ),
    "siglip2-b16-naflex": (0, {"vocab_size": 256_000}, {}),
}  # fmt: skip
CARDS = {
    **{name: facts.card for name, facts in {**PROJECTED_CHECKPOINTS, **SIGLIP_CHECKPOINTS}.items()},
    SIGLIP2_NAFLEX.card.name: SIGLIP2_NAFLEX.card,
}
_CLASSES = {"clip": "CLIP", "chinese_clip": "ChineseCLIP", "siglip": "Siglip", "siglip2": "Siglip2"}


def published_network(name: str) -> Any:
    """Build the network of a published configuration without memory."""
    import transformers

    projection, text, image = PUBLISHED[name]
    kind = _CLASSES[CARDS[name].family]
    fields: dict[str, Any] = {"projection_dim": projection} if projection else {}
    # An empty table would make the library warn that it takes defaults.
    config = getattr(transformers, f"{kind}Config")(
        text_config={"layer_norm_eps": 1e-5, **text},
        vision_config={"layer_norm_eps": 1e-5, **image},
        **fields,
    )
    with torch.device("meta"):
        return getattr(transformers, f"{kind}Model")(config)


def test_every_paired_card_is_checked() -> None:
    """A new card needs its published sizes here."""
    assert set(PUBLISHED) == set(CARDS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_paired_card_fits_its_network(name: str, tmp_path: Path) -> None:
    """Parameters, widths, layers, sizes, vocabulary and activation are the published configuration's."""
    card, network = CARDS[name], published_network(name)
    assert card.parameters == sum(parameter.numel() for parameter in network.parameters())
    network.config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    if card.family == "siglip2":
        settings = '{"image_processor_type": "Siglip2ImageProcessor"}'
        (tmp_path / "preprocessor_config.json").write_text(settings)
    open_backbone(name, weights=tmp_path).check_available()


@pytest.mark.parametrize(
    ("name", "other", "message"),
    [
        ("clip-vit-b32", "clip-vit-b16", "patch size is 16, the card says 32"),
        ("clip-vit-b32", "openclip-vit-b32-laion2b", "activation is 'gelu', the card says 'quick_gelu'"),
        ("openclip-vit-l14-laion2b", "clip-vit-l14", "activation is 'quick_gelu', the card says 'gelu'"),
        ("clip-vit-l14", "clip-vit-l14-336", "image size is 336, the card says 224"),
        ("siglip-b16-224", "siglip2-b16-224", "vocabulary size is 256000, the card says 32000"),
        ("clip-vit-b16", "chinese-clip-vit-b16", "family is 'chinese_clip', the card says 'clip'"),
        ("siglip2-b16-224", "siglip2-b16-naflex", "family is 'siglip2', the card says 'siglip'"),
    ],
)
def test_weights_of_a_relative_are_refused(name: str, other: str, message: str, tmp_path: Path) -> None:
    """Checkpoints that agree in most sizes are told apart by what is left."""
    published_network(other).config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=message):
        open_backbone(name, weights=tmp_path)


def test_weights_prepared_for_other_pixels_are_refused(tmp_path: Path) -> None:
    """The folder's image processor is compared with the card: OpenCLIP's L/14 wants pixels in -1 to 1."""
    published_network("openclip-vit-l14-laion2b").config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    settings = '{"image_processor_type": "CLIPImageProcessor"}'
    (tmp_path / "preprocessor_config.json").write_text(settings)
    with pytest.raises(
        ValueError, match=r"mean is \(0\.48145466, .*, the card says \(0\.5, 0\.5, 0\.5\); std"
    ):
        open_backbone("openclip-vit-l14-laion2b", weights=tmp_path)
