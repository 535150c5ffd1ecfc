"""SigLIP backbones: SigLIP, SigLIP 2 of a fixed size (it declares the same family), and SigLIP 2 NaFlex."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.backbones.checkpoints import hub_source, tokenizer_settings
from extract.backbones.contract import Backbone, folder_source, mismatch
from extract.backbones.paired import PairedBackbone
from extract.backbones.paired_cards import SIGLIP2_NAFLEX, SIGLIP_CHECKPOINTS
from extract.backbones.paired_families import PairedShape, card_widths
from extract.backbones.paired_readouts import SIGLIP_MEANINGS, Meanings, TowerWidths
from extract.backbones.processors import image_settings, read_processor
from extract.cards import Card
from extract.registry import register_backbone, register_family
from extract.weight_sources import WeightSource

if TYPE_CHECKING:
    from extract.backbones.naflex_patches import NaflexRecipe
    from extract.backbones.siglip_towers import NaflexImageTower, SiglipImageTower, SiglipTextTower


class SiglipBackbone(PairedBackbone):
    """SigLIP, and SigLIP 2 of a fixed size; the vocabulary tells the two apart.

    Parameters
    ----------
    vocabulary : int or None
        Number of tokens that the weights must have.
    """

    def __init__(
        self,
        card: Card,
        source: WeightSource,
        *,
        patch_size: int,
        activation: str,
        vocabulary: int | None = None,
    ) -> None:
        super().__init__(card, source, patch_size=patch_size, activation=activation)
        self._vocabulary = vocabulary

    @property
    def _network(self) -> str:
        return "SiglipModel"

    @property
    def _config_class(self) -> str:
        return "SiglipConfig"

    @property
    def _meanings(self) -> Meanings:
        return SIGLIP_MEANINGS

    def _shape(self, folder: Path) -> PairedShape:
        return siglip_shape(_siglip_config(folder, self._config_class))

    def _tokenizer_settings(self) -> dict[str, Any]:
        from extract.backbones.siglip_tokens import text_cleaning, tokenizer_kind

        return {
            **tokenizer_settings(self._folder),
            "text_cleaning": text_cleaning(tokenizer_kind(self._folder)),
            "attention": "padding included",
        }

    def _load_tokenizer(self) -> Any:
        from extract.backbones.siglip_tokens import load_siglip_tokenizer

        return load_siglip_tokenizer(self._folder)

    def _open_text(self, readouts: Sequence[str], device: str, precision: str) -> SiglipTextTower:
        from extract.backbones.siglip_towers import SiglipTextTower

        tokenizer = self._load_tokenizer()
        return SiglipTextTower(
            self._load_half("text", device, precision),
            tokenizer,
            readouts=readouts,
            token_limit=self._token_limit,
            device=device,
        )

    def _open_image(
        self, readouts: Sequence[str], device: str, precision: str
    ) -> SiglipImageTower | NaflexImageTower:
        from extract.backbones.siglip_towers import SiglipImageTower
        from extract.weights import torch_dtype

        return SiglipImageTower(
            self._load_half("image", device, precision),
            self.recipe,
            readouts=readouts,
            device=device,
            dtype=torch_dtype(precision),
        )

    def _size_mismatches(self, shape: PairedShape) -> list[str]:
        lines = super()._size_mismatches(shape)
        if self._vocabulary is not None:
            config = _siglip_config(self._source.folder(), self._config_class)
            found = config.text_config.vocab_size
            lines += mismatch("vocabulary size", self._vocabulary, found)
        return lines


class NaflexBackbone(SiglipBackbone):
    """SigLIP 2 for pictures of any shape."""

    @property
    def _network(self) -> str:
        return "Siglip2Model"

    @property
    def _config_class(self) -> str:
        return "Siglip2Config"

    @property
    def patches(self) -> NaflexRecipe:
        """How images become the network's input."""
        return naflex_recipe(self._folder)

    def _image_preparation(self) -> dict[str, Any]:
        return self.patches.as_dict()

    def _open_image(self, readouts: Sequence[str], device: str, precision: str) -> NaflexImageTower:
        from extract.backbones.siglip_towers import NaflexImageTower
        from extract.weights import torch_dtype

        return NaflexImageTower(
            self._load_half("image", device, precision),
            self.patches,
            readouts=readouts,
            device=device,
            dtype=torch_dtype(precision),
        )

    def _image_mismatches(self, folder: Path) -> list[str]:
        recipe = naflex_recipe(folder)
        return [
            *mismatch("patch size of the image processor", self._patch_size, recipe.patch_size),
            *mismatch("mean", self.card.mean, recipe.mean),
            *mismatch("std", self.card.std, recipe.std),
        ]


def naflex_recipe(folder: Path) -> NaflexRecipe:
    """Read how images are prepared from the folder's image processor.

    Raises
    ------
    WeightsMissingError
        If the folder has no image processor.
    ValueError
        If it asks for something else than the NaFlex rule; all faults are named.
    """
    from extract.backbones.naflex_patches import NaflexRecipe

    settings = read_processor(folder)
    steps = ("do_resize", "do_rescale", "do_normalize")
    faults = [f"{step} is off" for step in steps if settings.get(step, True) is not True]
    faults += mismatch("resample", 2, settings.get("resample", 2))
    if abs(settings.get("rescale_factor", 1 / 255) - 1 / 255) > 1e-9:
        faults += mismatch("rescale_factor", 1 / 255, settings["rescale_factor"])
    if faults:
        raise ValueError(
            f"Image processor in '{folder}' is not SigLIP 2's: {'; '.join(faults)}. Make its vectors "
            "elsewhere and use 'embedonce import'."
        )
    return NaflexRecipe(
        patch_size=settings.get("patch_size", 16),
        n_patches=settings.get("max_num_patches", 256),
        mean=tuple(settings.get("image_mean", (0.5, 0.5, 0.5))),
        std=tuple(settings.get("image_std", (0.5, 0.5, 0.5))),
    )


def siglip_shape(config: Any) -> PairedShape:
    """Return the sizes that a transformers configuration of SigLIP or SigLIP 2 declares."""
    text, image = config.text_config, config.vision_config
    return PairedShape(
        text=TowerWidths(
            text.projection_size, text.hidden_size, (text.hidden_size,) * (text.num_hidden_layers + 1)
        ),
        image=TowerWidths(
            image.hidden_size, image.hidden_size, (image.hidden_size,) * (image.num_hidden_layers + 1)
        ),
        image_size=getattr(image, "image_size", None),
        patch_size=image.patch_size,
        token_limit=text.max_position_embeddings,
        activation=image.hidden_act,
    )


def _siglip_config(folder: Path, name: str) -> Any:
    import transformers

    from extract.backbones.loading import load_config

    config = load_config(getattr(transformers, name), folder)
    # Earlier versions leave the entry out when it is true (seen in 5.17).
    if not getattr(config.vision_config, "vision_use_head", True):
        raise ValueError(
            f"Weights in '{folder}' are a SigLIP without its pooling head (vision_use_head is false), which "
            "gives no image vector. Choose a checkpoint with the head."
        )
    return config


def open_siglip(card: Card, source: WeightSource | None) -> Backbone:
    """Open a published SigLIP or SigLIP 2 checkpoint of a fixed size."""
    facts = SIGLIP_CHECKPOINTS[card.name]
    return SiglipBackbone(
        card,
        source or hub_source(card),
        patch_size=facts.patch_size,
        activation=facts.activation,
        vocabulary=facts.vocabulary,
    )


for _facts in SIGLIP_CHECKPOINTS.values():
    register_backbone(_facts.card)(open_siglip)


@register_backbone(SIGLIP2_NAFLEX.card)
def open_naflex(card: Card, source: WeightSource | None) -> Backbone:
    """Open SigLIP 2 for pictures of any shape."""
    return NaflexBackbone(
        card,
        source or hub_source(card),
        patch_size=SIGLIP2_NAFLEX.patch_size,
        activation=SIGLIP2_NAFLEX.activation,
        vocabulary=SIGLIP2_NAFLEX.vocabulary,
    )


@register_family("siglip")
def recognise_siglip(name: str, source: WeightSource) -> Backbone:
    """Build a SigLIP backbone from any folder or repository of that family."""
    folder = source.folder()
    shape = siglip_shape(_siglip_config(folder, "SiglipConfig"))
    card = _described(name, "siglip", shape, image_settings(folder, shape.image_size))
    return SiglipBackbone(card, source, patch_size=shape.patch_size, activation=shape.activation)


@register_family("siglip2")
def recognise_naflex(name: str, source: WeightSource) -> Backbone:
    """Build a SigLIP 2 NaFlex backbone from any folder or repository of that family."""
    folder = source.folder()
    shape = siglip_shape(_siglip_config(folder, "Siglip2Config"))
    recipe = naflex_recipe(folder)
    if recipe.patch_size != shape.patch_size:
        raise ValueError(
            f"Image processor in '{folder}' cuts patches of {recipe.patch_size} pixels, the network takes "
            f"{shape.patch_size}. Copy the whole folder of the model again."
        )
    pixels = {
        "resize_mode": "dynamic", "interpolation": "bilinear", "mean": recipe.mean, "std": recipe.std,
    }  # fmt: skip
    card = _described(name, "siglip2", shape, pixels)
    return NaflexBackbone(card, source, patch_size=shape.patch_size, activation=shape.activation)


def _described(name: str, family: str, shape: PairedShape, pixels: dict[str, Any]) -> Card:
    return Card(
        name=name,
        family=family,
        modalities=("text", "image"),
        source=folder_source(name),
        token_limit=shape.token_limit,
        padding="max_length",
        **card_widths(shape, SIGLIP_MEANINGS),
        **pixels,
    )
