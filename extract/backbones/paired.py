"""Paired backbones: CLIP, a text and an image tower into one space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.backbones.checkpoints import hub_source, tokenizer_files, tokenizer_settings
from extract.backbones.contract import Backbone, folder_source, mismatch
from extract.backbones.processors import PROCESSOR_FILES, image_settings
from extract.cards import Card
from extract.registry import register_backbone, register_family
from extract.weight_sources import WeightSource
from extract.weights import read_json, transformers_weight_files

if TYPE_CHECKING:
    from extract.backbones.clip_towers import ClipImageTower, ClipTextTower
    from extract.backbones.pixels import PixelRecipe

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

CLIP_VIT_B32 = Card(
    name="clip-vit-b32",
    family="clip",
    modalities=("text", "image"),
    readouts={"text": {"pooled": 512, "hidden": 512}, "image": {"pooled": 512, "hidden": 768}},
    source="hf:openai/clip-vit-base-patch32",
    image_size=224,
    resize=224,
    interpolation="bicubic",
    mean=_CLIP_MEAN,
    std=_CLIP_STD,
    token_limit=77,
    padding="longest",
    licence="MIT",
    paper="https://arxiv.org/abs/2103.00020",
    parameters=151_277_313,
)
CLIP_VIT_B16 = replace(
    CLIP_VIT_B32, name="clip-vit-b16", source="hf:openai/clip-vit-base-patch16", parameters=149_620_737
)
CLIP_VIT_L14 = replace(
    CLIP_VIT_B32,
    name="clip-vit-l14",
    readouts={"text": {"pooled": 768, "hidden": 768}, "image": {"pooled": 768, "hidden": 1024}},
    source="hf:openai/clip-vit-large-patch14",
    parameters=427_616_513,
)
CLIP_VIT_L14_336 = replace(
    CLIP_VIT_L14,
    name="clip-vit-l14-336",
    source="hf:openai/clip-vit-large-patch14-336",
    image_size=336,
    resize=336,
    parameters=427_944_193,
)
#: B/32 and B/16 agree in every width and size; only the patches tell their weights apart.
_PATCH_SIZE = {"clip-vit-b32": 32, "clip-vit-b16": 16, "clip-vit-l14": 14, "clip-vit-l14-336": 14}


@dataclass(frozen=True)
class ClipShape:
    """Sizes of a CLIP checkpoint, from its config.json."""

    projection: int
    text_width: int
    image_width: int
    image_size: int
    patch_size: int
    token_limit: int

    @property
    def readouts(self) -> dict[str, dict[str, int]]:
        """Readouts and widths by modality."""
        return {
            "text": {"pooled": self.projection, "hidden": self.text_width},
            "image": {"pooled": self.projection, "hidden": self.image_width},
        }


class ClipBackbone(Backbone):
    """A CLIP checkpoint in the transformers format; `patch_size` tells checkpoints of equal width apart."""

    def __init__(self, card: Card, source: WeightSource, *, patch_size: int) -> None:
        super().__init__(card, source)
        self._patch_size = patch_size

    def preprocessing(self, modality: str) -> dict[str, Any]:
        """Return the settings of one modality. See :meth:`Backbone.preprocessing`."""
        self._check_request(modality, ("pooled",))
        readouts = {"pooled": "projected, not normalised", "hidden": "before projection"}
        if modality == "image":
            return {**self.recipe.as_dict(), "readouts": readouts}
        return {
            **tokenizer_settings(self._folder),
            "token_limit": self.card.token_limit,
            "padding": self.card.padding,
            "truncation": "right, closing token kept",
            "readouts": readouts,
        }

    def open_tower(
        self,
        modality: str,
        *,
        readouts: Sequence[str] = ("pooled",),
        device: str = "cpu",
        precision: str = "fp32",
    ) -> ClipTextTower | ClipImageTower:
        """Load one tower. See :meth:`Backbone.open_tower`."""
        self._check_request(modality, readouts)
        open_one = self._open_text if modality == "text" else self._open_image
        return open_one(readouts, device, precision)

    def _open_text(self, readouts: Sequence[str], device: str, precision: str) -> ClipTextTower:
        from transformers import CLIPTextModelWithProjection

        from extract.backbones.clip_towers import ClipTextTower
        from extract.backbones.loading import load_network, load_tokenizer

        network = load_network(CLIPTextModelWithProjection, self._folder, precision=precision, device=device)
        tokenizer = load_tokenizer(self._folder)
        self._check_closing_token(network.config.eos_token_id, tokenizer)
        assert self.card.token_limit is not None, "Card refuses a text modality without a token limit"
        return ClipTextTower(
            network, tokenizer, readouts=readouts, token_limit=self.card.token_limit, device=device
        )

    def _open_image(self, readouts: Sequence[str], device: str, precision: str) -> ClipImageTower:
        from transformers import CLIPVisionModelWithProjection

        from extract.backbones.clip_towers import ClipImageTower
        from extract.backbones.loading import load_network
        from extract.weights import torch_dtype

        network = load_network(
            CLIPVisionModelWithProjection, self._folder, precision=precision, device=device
        )
        return ClipImageTower(
            network, self.recipe, readouts=readouts, device=device, dtype=torch_dtype(precision)
        )

    def _check_closing_token(self, configured: int, tokenizer: Any) -> None:
        """Refuse a checkpoint whose network looks for another closing token: it would read position 0."""
        # 2 is the value of old configs; the network then takes the highest id, which must be the closing
        # token.
        expected = len(tokenizer) - 1 if configured == 2 else configured
        if tokenizer.eos_token_id != expected:
            raise ValueError(
                f"Weights in '{self._folder}' look for closing token {expected}, but the tokenizer "
                "closes texts with "
                f"{tokenizer.eos_token_id}. Correct text_config.eos_token_id in config.json."
            )

    @property
    def recipe(self) -> PixelRecipe:
        """How images become the network's input."""
        from extract.backbones.pixels import PixelRecipe

        return PixelRecipe.from_card(self.card, odd_margin="down")

    def _files(self, folder: Path) -> list[Path]:
        named = [folder / name for name in PROCESSOR_FILES if (folder / name).is_file()]
        return [*transformers_weight_files(folder), folder / "config.json", *tokenizer_files(folder), *named]

    def _mismatches(self, folder: Path) -> list[str]:
        transformers_weight_files(folder)
        found = read_json(folder / "config.json").get("model_type")
        if found != self.card.family:
            return mismatch("family", self.card.family, found)
        shape = clip_shape(folder)
        return [
            *mismatch("widths", {m: dict(w) for m, w in self.card.readouts.items()}, shape.readouts),
            *mismatch("image size", self.card.image_size, shape.image_size),
            *mismatch("patch size", self._patch_size, shape.patch_size),
            *mismatch("token limit", self.card.token_limit, shape.token_limit),
        ]


@register_backbone(CLIP_VIT_B32)
@register_backbone(CLIP_VIT_B16)
@register_backbone(CLIP_VIT_L14)
@register_backbone(CLIP_VIT_L14_336)
def open_clip(card: Card, source: WeightSource | None) -> Backbone:
    """Open one of OpenAI's CLIP checkpoints."""
    return ClipBackbone(card, source or hub_source(card), patch_size=_PATCH_SIZE[card.name])


@register_family("clip")
def recognise_clip(name: str, source: WeightSource) -> Backbone:
    """Build a CLIP backbone from any folder or repository of that family."""
    folder = source.folder()
    shape = clip_shape(folder)
    card = Card(
        name=name,
        family="clip",
        modalities=("text", "image"),
        readouts=shape.readouts,
        source=folder_source(name),
        token_limit=shape.token_limit,
        padding="longest",
        **image_settings(folder, shape.image_size),
    )
    return ClipBackbone(card, source, patch_size=shape.patch_size)


def clip_shape(folder: Path) -> ClipShape:
    """Read the sizes of the checkpoint in `folder`."""
    from transformers import CLIPConfig

    from extract.backbones.loading import load_config

    config = load_config(CLIPConfig, folder)
    return ClipShape(
        projection=config.projection_dim,
        text_width=config.text_config.hidden_size,
        image_width=config.vision_config.hidden_size,
        image_size=config.vision_config.image_size,
        patch_size=config.vision_config.patch_size,
        token_limit=config.text_config.max_position_embeddings,
    )
