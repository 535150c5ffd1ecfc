"""FLAVA: a text encoder, an image encoder, and a multimodal encoder over both."""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.backbones.checkpoints import hub_source
from extract.backbones.contract import Backbone
from extract.backbones.joint import JointBackbone, JointShape, Meanings, card_of_folder
from extract.cards import Card
from extract.registry import register_backbone, register_family
from extract.weight_sources import WeightSource

if TYPE_CHECKING:
    from extract.backbones.flava_towers import FlavaImageTower, FlavaPairTower, FlavaTextTower

_MODALITIES = ("text", "image", "joint")

# The parameters are those of the three encoders; the file also holds the pre-training heads and the image
# codebook, which are never loaded.
FLAVA_FULL = Card(
    name="flava-full",
    family="flava",
    modalities=_MODALITIES,
    readouts={modality: {"pooled": 768, "mean": 768} for modality in _MODALITIES},
    layers={"text": (768,) * 13, "image": (768,) * 13, "joint": (768,) * 7},
    source="hf:facebook/flava-full",
    image_size=224,
    resize=224,
    resize_mode="exact",
    interpolation="bicubic",
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
    token_limit=512,
    padding="longest",
    licence="BSD-3-Clause",
    paper="https://arxiv.org/abs/2112.04482",
    parameters=241_356_289,
    weights_bytes=1_430_000_000,
)
_PAIR_PARTS = frozenset(
    {"text_model", "image_model", "multimodal_model", "text_to_mm_projection", "image_to_mm_projection"}
)
_MEANINGS: Meanings = {
    "text": {
        "pooled": "class token of the text encoder after the final norm",
        "mean": "masked mean of the states after the final norm, float32",
        "layer:k": "masked mean of hidden state k, float32; 0 is the input of the first layer",
    },
    "image": {
        "pooled": "class token of the image encoder after the final norm",
        "mean": "mean of the patch tokens after the final norm, float32",
        "layer:k": "class token of hidden state k; 0 is the input of the first layer",
    },
    "joint": {
        "pooled": "class token of the multimodal encoder (the global token) after the final norm",
        "mean": "masked mean of the class, image and text tokens of the multimodal encoder, float32",
        "layer:k": "masked mean of hidden state k of the multimodal encoder, float32; 0 is its input",
    },
}


class FlavaBackbone(JointBackbone):
    """A FLAVA checkpoint; each tower loads the encoders that it reads."""

    @property
    def meanings(self) -> Meanings:
        """How each readout is made, by modality."""
        return _MEANINGS

    def _open_text(self, readouts: Sequence[str], device: str, precision: str) -> FlavaTextTower:
        from extract.backbones.flava_towers import FlavaTextTower
        from extract.backbones.loading import load_tokenizer

        return FlavaTextTower(
            self._load({"text_model"}, device, precision),
            load_tokenizer(self._folder),
            readouts=readouts,
            token_limit=self._token_limit,
            device=device,
        )

    def _open_image(self, readouts: Sequence[str], device: str, precision: str) -> FlavaImageTower:
        from extract.backbones.flava_towers import FlavaImageTower
        from extract.weights import torch_dtype

        return FlavaImageTower(
            self._load({"image_model"}, device, precision),
            self.recipe,
            readouts=readouts,
            device=device,
            dtype=torch_dtype(precision),
        )

    def _open_pair(self, readouts: Sequence[str], device: str, precision: str) -> FlavaPairTower:
        from extract.backbones.flava_towers import FlavaPairTower, FlavaTextTower
        from extract.backbones.loading import load_tokenizer
        from extract.weights import torch_dtype

        network, tokenizer = self._load(_PAIR_PARTS, device, precision), load_tokenizer(self._folder)
        return FlavaPairTower(
            network,
            FlavaTextTower(network, tokenizer, readouts=(), token_limit=self._token_limit, device=device),
            pad_id=tokenizer.pad_token_id,
            recipe=self.recipe,
            readouts=readouts,
            device=device,
            dtype=torch_dtype(precision),
        )

    def _load(self, parts: Set[str], device: str, precision: str) -> Any:
        from transformers import FlavaModel

        from extract.backbones.loading import load_network
        from extract.backbones.network_parts import parts_of

        # Not FlavaTextModel and its like: they find their weights only beside the pre-training heads.
        return load_network(parts_of(FlavaModel, parts), self._folder, precision=precision, device=device)

    def _shape(self, folder: Path) -> JointShape:
        return flava_shape(folder)


@register_backbone(FLAVA_FULL)
def open_flava(card: Card, source: WeightSource | None) -> Backbone:
    """Open the published FLAVA checkpoint."""
    return FlavaBackbone(card, source or hub_source(card))


@register_family("flava")
def recognise_flava(name: str, source: WeightSource) -> Backbone:
    """Build the backbone of a FLAVA folder from its config.json and image processor."""
    folder = source.folder()
    return FlavaBackbone(card_of_folder(name, "flava", folder, flava_shape(folder)), source)


def flava_shape(folder: Path) -> JointShape:
    """Read the sizes of the checkpoint in `folder`."""
    from transformers import FlavaConfig

    from extract.backbones.loading import load_config

    config = load_config(FlavaConfig, folder)
    parts = dict(
        zip(_MODALITIES, (config.text_config, config.image_config, config.multimodal_config), strict=True)
    )
    return JointShape(
        readouts={m: {"pooled": part.hidden_size, "mean": part.hidden_size} for m, part in parts.items()},
        layers={m: (part.hidden_size,) * (part.num_hidden_layers + 1) for m, part in parts.items()},
        image_size=config.image_config.image_size,
        token_limit=config.text_config.max_position_embeddings,
    )
