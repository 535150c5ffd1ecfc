"""Cards of published two-tower checkpoints.

Sizes are those of the published config.json files; parameters were counted on networks built from them
without memory (``torch.device("meta")``). Preparation of images is that of the published
preprocessor_config.json.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from extract.backbones.paired_readouts import (
    SIGLIP_MEANINGS,
    Meanings,
    TowerWidths,
    projected_meanings,
)
from extract.cards import Card

_CLIP_PIXELS: dict[str, Any] = {
    "interpolation": "bicubic",
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
}
_HALF: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
_CLIP_PAPER = "https://arxiv.org/abs/2103.00020"
_OPENCLIP_PAPER = "https://arxiv.org/abs/2212.07143"
_METACLIP_PAPER = "https://arxiv.org/abs/2309.16671"
_CHINESE_PAPER = "https://arxiv.org/abs/2211.01335"
_SIGLIP_PAPER = "https://arxiv.org/abs/2303.15343"
_SIGLIP2_PAPER = "https://arxiv.org/abs/2502.14786"


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A card, and what tells its weights from others of the same widths.

    Attributes
    ----------
    card : Card
    patch_size : int
        Pixels.
    activation : str
        Non-linearity of the image tower. OpenAI's and Meta's CLIP were trained with QuickGELU, OpenCLIP's own
        checkpoints with GELU: the same weights under the other one give other vectors without any error.
    vocabulary : int or None
        Number of tokens, where only it tells two checkpoints apart.
    """

    card: Card
    patch_size: int
    activation: str
    vocabulary: int | None = None


def _paired(
    name: str,
    source: str,
    text: TowerWidths,
    image: TowerWidths,
    meanings: Meanings,
    size: int,
    **fields: Any,
) -> Card:
    return Card(
        name=name,
        source=f"hf:{source}",
        modalities=("text", "image"),
        readouts={"text": text.readouts(meanings["text"]), "image": image.readouts(meanings["image"])},
        layers={"text": text.layers, "image": image.layers},
        image_size=size,
        resize=size,
        **fields,
    )


def _widths(pooled: int, states: int, n_layers: int) -> TowerWidths:
    return TowerWidths(pooled, states, (states,) * (n_layers + 1))


def _clip(
    name: str, source: str, text: TowerWidths, image: TowerWidths, *, patch: int, parameters: int,
    size: int = 224, activation: str = "quick_gelu", licence: str = "MIT", paper: str = _CLIP_PAPER,
    pixels: dict[str, Any] | None = None,
) -> PublishedCheckpoint:  # fmt: skip
    card = _paired(
        name, source, text, image, projected_meanings("last", has_class_token=True), size,
        family="clip", token_limit=77, padding="longest", licence=licence, paper=paper,
        parameters=parameters, **{**_CLIP_PIXELS, **(pixels or {})},
    )  # fmt: skip
    return PublishedCheckpoint(card, patch, activation)


def _chinese_clip(
    name: str, source: str, text: TowerWidths, image: TowerWidths, *, patch: int, parameters: int
) -> PublishedCheckpoint:
    card = _paired(
        name, source, text, image, projected_meanings("cls", has_class_token=True), 224,
        family="chinese_clip", token_limit=52, padding="longest", resize_mode="exact",
        # The hub's model cards state no licence; their repository, OFA-Sys/Chinese-CLIP, states this one.
        licence="MIT", paper=_CHINESE_PAPER, parameters=parameters, **_CLIP_PIXELS,
    )  # fmt: skip
    return PublishedCheckpoint(card, patch, "quick_gelu")


def _siglip(
    name: str, source: str, tower: TowerWidths, *, size: int, patch: int, parameters: int,
    vocabulary: int, interpolation: str, paper: str,
) -> PublishedCheckpoint:  # fmt: skip
    card = _paired(
        name, source, tower, tower, SIGLIP_MEANINGS, size,
        family="siglip", token_limit=64, padding="max_length", resize_mode="exact",
        interpolation=interpolation, licence="Apache-2.0", paper=paper, parameters=parameters, **_HALF,
    )  # fmt: skip
    return PublishedCheckpoint(card, patch, "gelu_pytorch_tanh", vocabulary)


_B_TEXT, _B_IMAGE = _widths(512, 512, 12), _widths(512, 768, 12)
_L_TEXT, _L_IMAGE = _widths(768, 768, 12), _widths(768, 1024, 24)
_H_TEXT, _H_IMAGE = _widths(1024, 1024, 24), _widths(1024, 1280, 32)
_OPENCLIP: dict[str, Any] = {"activation": "gelu", "paper": _OPENCLIP_PAPER}

_PROJECTED = (
    _clip(
        "clip-vit-b32", "openai/clip-vit-base-patch32", _B_TEXT, _B_IMAGE, patch=32, parameters=151_277_313
    ),
    _clip(
        "clip-vit-b16", "openai/clip-vit-base-patch16", _B_TEXT, _B_IMAGE, patch=16, parameters=149_620_737
    ),
    _clip(
        "clip-vit-l14", "openai/clip-vit-large-patch14", _L_TEXT, _L_IMAGE, patch=14, parameters=427_616_513
    ),
    _clip(
        "clip-vit-l14-336", "openai/clip-vit-large-patch14-336", _L_TEXT, _L_IMAGE, patch=14, size=336,
        parameters=427_944_193,
    ),
    _clip(
        "openclip-vit-b32-laion2b", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", _B_TEXT, _B_IMAGE, patch=32,
        parameters=151_277_313, **_OPENCLIP,
    ),
    _clip(
        "openclip-vit-l14-laion2b", "laion/CLIP-ViT-L-14-laion2B-s32B-b82K", _L_TEXT, _L_IMAGE, patch=14,
        # The only one of them that was trained on pixels in -1 to 1.
        pixels=_HALF, parameters=427_616_513, **_OPENCLIP,
    ),
    _clip(
        "openclip-vit-h14-laion2b", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", _H_TEXT, _H_IMAGE, patch=14,
        parameters=986_109_441, **_OPENCLIP,
    ),
    _clip(
        "metaclip-vit-b32-400m", "facebook/metaclip-b32-400m", _B_TEXT, _B_IMAGE, patch=32,
        parameters=151_277_313, licence="CC-BY-NC-4.0", paper=_METACLIP_PAPER,
    ),
    _chinese_clip(
        "chinese-clip-vit-b16", "OFA-Sys/chinese-clip-vit-base-patch16", _widths(512, 768, 12), _B_IMAGE,
        patch=16, parameters=188_262_913,
    ),
    _chinese_clip(
        "chinese-clip-vit-l14", "OFA-Sys/chinese-clip-vit-large-patch14", _L_TEXT, _L_IMAGE, patch=14,
        parameters=406_233_089,
    ),
)  # fmt: skip
#: Name -> checkpoint of the families that project both towers into a shared space.
PROJECTED_CHECKPOINTS = {facts.card.name: facts for facts in _PROJECTED}

_SIGLIP_B, _SIGLIP_SO = _widths(768, 768, 12), _widths(1152, 1152, 27)
_SIGLIP_1: dict[str, Any] = {"vocabulary": 32_000, "interpolation": "bicubic", "paper": _SIGLIP_PAPER}
_SIGLIP_2: dict[str, Any] = {"vocabulary": 256_000, "interpolation": "bilinear", "paper": _SIGLIP2_PAPER}

_SIGLIPS = (
    _siglip(
        "siglip-b16-224", "google/siglip-base-patch16-224", _SIGLIP_B, size=224, patch=16,
        parameters=203_155_970, **_SIGLIP_1,
    ),
    _siglip(
        "siglip-so400m-14-384", "google/siglip-so400m-patch14-384", _SIGLIP_SO, size=384, patch=14,
        parameters=877_960_498, **_SIGLIP_1,
    ),
    _siglip(
        "siglip2-b16-224", "google/siglip2-base-patch16-224", _SIGLIP_B, size=224, patch=16,
        parameters=375_187_970, **_SIGLIP_2,
    ),
    _siglip(
        "siglip2-so400m-14-384", "google/siglip2-so400m-patch14-384", _SIGLIP_SO, size=384, patch=14,
        parameters=1_136_008_498, **_SIGLIP_2,
    ),
)  # fmt: skip
#: Name -> checkpoint of the SigLIP family; SigLIP 2 of a fixed size declares the same family.
SIGLIP_CHECKPOINTS = {facts.card.name: facts for facts in _SIGLIPS}

#: SigLIP 2 for pictures of any shape; images keep their proportions and become at most 256 patches.
SIGLIP2_NAFLEX = PublishedCheckpoint(
    Card(
        name="siglip2-b16-naflex",
        family="siglip2",
        modalities=("text", "image"),
        readouts={
            "text": _SIGLIP_B.readouts(SIGLIP_MEANINGS["text"]),
            "image": _SIGLIP_B.readouts(SIGLIP_MEANINGS["image"]),
        },
        layers={"text": _SIGLIP_B.layers, "image": _SIGLIP_B.layers},
        source="hf:google/siglip2-base-patch16-naflex",
        resize_mode="dynamic",
        interpolation="bilinear",
        token_limit=64,
        padding="max_length",
        licence="Apache-2.0",
        paper=_SIGLIP2_PAPER,
        parameters=375_234_050,
        **_HALF,
    ),
    16,
    "gelu_pytorch_tanh",
    256_000,
)
