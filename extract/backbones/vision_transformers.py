"""Image backbones in the transformers format: vision transformers and convolutional networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.backbones.checkpoints import hub_source, model_type
from extract.backbones.contract import Backbone, folder_source, mismatch
from extract.backbones.processors import image_settings, processor_files
from extract.backbones.vision_cards import (
    CONVNEXT_BASE,
    CONVNEXT_TINY,
    DINOV2_B,
    DINOV2_L,
    DINOV2_S,
    DINOV3_B,
    DINOV3_L,
    DINOV3_S,
    EFFICIENTNET_B0,
    VIT_B16,
)
from extract.backbones.vision_families import (
    CLASS_TOKEN,
    FAMILIES,
    VisionFamily,
    fixed_size,
    has_pooler,
    layout_of,
    model_class,
    vision_shape,
)
from extract.cards import Card
from extract.registry import register_backbone, register_family
from extract.weight_sources import WeightSource
from extract.weights import torch_dtype, transformers_weight_files

if TYPE_CHECKING:
    from extract.backbones.image_towers import VisionModelTower
    from extract.backbones.pixels import PixelRecipe


class VisionBackbone(Backbone):
    """An image checkpoint in the transformers format; a classifier that it may have is left out."""

    @property
    def family(self) -> VisionFamily:
        """What the family's networks give."""
        return FAMILIES[self.card.family]

    def preprocessing(self, modality: str) -> dict[str, Any]:
        """Return the image settings. See :meth:`Backbone.preprocessing`."""
        self._check_request(modality, ("pooled",))
        pooled = self.family.pooled if self._has_pooler(self._folder) else CLASS_TOKEN
        settings = {**self.recipe.as_dict(), "readouts": self.family.layout.descriptions(pooled)}
        return {**settings, "batch_norms": "folded"} if self.family.has_batch_norms else settings

    def open_tower(
        self,
        modality: str,
        *,
        readouts: Sequence[str] = ("pooled",),
        device: str = "cpu",
        precision: str = "fp32",
    ) -> VisionModelTower:
        """Load the network. See :meth:`Backbone.open_tower`."""
        from extract.backbones.image_towers import VisionModelTower

        self._check_request(modality, readouts)
        network = self._load(device, precision)
        return VisionModelTower(
            network,
            self.recipe,
            readouts=readouts,
            device=device,
            dtype=torch_dtype(precision),
            layout=layout_of(self.card.family, network.config),
        )

    @property
    def recipe(self) -> PixelRecipe:
        """How images become the network's input."""
        from extract.backbones.pixels import PixelRecipe

        return PixelRecipe.from_card(self.card, odd_margin="down", rounding=self.family.rounding)

    def _load(self, device: str, precision: str) -> Any:
        import torch

        from extract.backbones.arithmetic import loading_dtype, place
        from extract.backbones.loading import load_network, read_network
        from extract.backbones.staged_networks import fold_batch_norms

        options = {} if self._has_pooler(self._folder) else {"add_pooling_layer": False}
        if not self.family.layout.is_maps:
            return load_network(
                model_class(self.card.family),
                self._folder,
                precision=precision,
                device=device,
                options=options,
            )
        # Batch norms are folded in float32, so that only the product is rounded.
        network = read_network(
            model_class(self.card.family), self._folder, dtype=torch.float32, options=options
        ).eval()
        if self.family.has_batch_norms:
            fold_batch_norms(network)
        network.to(loading_dtype(precision, device)).to(memory_format=torch.channels_last)
        return place(network, precision, device)

    def _has_pooler(self, folder: Path) -> bool:
        return has_pooler(self.card.family, folder)

    def _files(self, folder: Path) -> list[Path]:
        return [*transformers_weight_files(folder), folder / "config.json", *processor_files(folder)]

    def _mismatches(self, folder: Path) -> list[str]:
        transformers_weight_files(folder)
        found = model_type(folder)
        if found != self.card.family:
            return mismatch("family", self.card.family, found)
        shape = vision_shape(folder)
        faults = [
            *mismatch("widths", dict(self.card.readouts["image"]), shape.readouts),
            *mismatch("layers", self.card.layers["image"], shape.layers),
        ]
        if self.card.parameters is not None:
            faults += mismatch("parameters", self.card.parameters, shape.parameters)
        if not processor_files(folder):
            return faults
        for field, value in image_settings(folder).items():
            stated = getattr(self.card, field)
            if field in ("mean", "std") and _are_near(stated, value):
                continue
            faults += mismatch(field, stated, value)
        return faults


@register_backbone(VIT_B16)
@register_backbone(DINOV2_S)
@register_backbone(DINOV2_B)
@register_backbone(DINOV2_L)
@register_backbone(DINOV3_S)
@register_backbone(DINOV3_B)
@register_backbone(DINOV3_L)
@register_backbone(CONVNEXT_TINY)
@register_backbone(CONVNEXT_BASE)
@register_backbone(EFFICIENTNET_B0)
def open_vision(card: Card, source: WeightSource | None) -> Backbone:
    """Open a published image checkpoint of the hub."""
    return VisionBackbone(card, source or hub_source(card))


def recognise_vision(name: str, source: WeightSource) -> Backbone:
    """Build an image backbone from any folder or repository of a known family."""
    folder = source.folder()
    transformers_weight_files(folder)
    found = model_type(folder)
    family = FAMILIES[found]
    shape = vision_shape(folder)
    card = Card(
        name=name,
        family=found,
        modalities=("image",),
        readouts={"image": shape.readouts},
        layers={"image": shape.layers},
        source=folder_source(name),
        parameters=shape.parameters,
        **image_settings(folder, fixed_size(folder) if family.fixed_size else None),
    )
    return VisionBackbone(card, source)


for _family in FAMILIES:
    register_family(_family)(recognise_vision)


def _are_near(stated: Sequence[float], found: Sequence[float]) -> bool:
    """Whether two means are equal but for folding: EfficientNet's file holds square roots."""
    return max(abs(a - b) for a, b in zip(stated, found, strict=True)) < 1e-5
