"""Paired backbones: CLIP and its relatives, a text and an image tower projected into one space."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.backbones.checkpoints import (
    checkpoint_files,
    hub_source,
    is_openclip_layout,
    model_type,
    tokenizer_settings,
)
from extract.backbones.contract import Backbone, ImageTower, TextTower, folder_source, mismatch
from extract.backbones.paired_cards import PROJECTED_CHECKPOINTS
from extract.backbones.paired_families import (
    FAMILIES,
    PairedShape,
    ProjectedFamily,
    card_widths,
    projected_shape,
)
from extract.backbones.paired_readouts import Meanings
from extract.backbones.processors import image_settings, processor_files
from extract.cards import Card
from extract.registry import register_backbone, register_family
from extract.weight_sources import GivenFolder, WeightSource
from extract.weights import read_json, transformers_weight_files

if TYPE_CHECKING:
    from extract.backbones.clip_towers import ProjectedImageTower, ProjectedTextTower
    from extract.backbones.contract import Tokenise
    from extract.backbones.pixels import PixelRecipe


#: What each tower consists of; the rest of a two-tower network is never loaded with it.
HALVES = {"text": ("text_model", "text_projection"), "image": ("vision_model", "visual_projection")}


class PairedBackbone(Backbone):
    """A two-tower checkpoint in the transformers format.

    Parameters
    ----------
    patch_size : int
        Pixels; tells checkpoints of equal width apart.
    activation : str
        Non-linearity of the image tower; tells OpenAI's CLIP from OpenCLIP's copies of the same size.
    """

    def __init__(self, card: Card, source: WeightSource, *, patch_size: int, activation: str) -> None:
        super().__init__(card, source)
        self._patch_size, self._activation = patch_size, activation

    def preprocessing(self, modality: str) -> dict[str, Any]:
        """Return the settings of one modality. See :meth:`Backbone.preprocessing`."""
        self._check_request(modality, ("pooled",))
        readouts = dict(self._meanings[modality])
        if modality == "image":
            return {**self._image_preparation(), "readouts": readouts}
        return {
            **self._tokenizer_settings(),
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
    ) -> TextTower | ImageTower:
        """Load one tower. See :meth:`Backbone.open_tower`."""
        self._check_request(modality, readouts)
        open_one = self._open_text if modality == "text" else self._open_image
        return open_one(readouts, device, precision)

    def open_tokeniser(self, modality: str) -> Tokenise:
        """Load the tokenizer alone. See :meth:`Backbone.open_tokeniser`."""
        from extract.backbones.tokenisers import CutTokeniser

        if modality != "text":
            return super().open_tokeniser(modality)
        return CutTokeniser(self._load_tokenizer(), self._token_limit)

    def logit_scale(self) -> float:
        """Return the factor that the network was trained to multiply cosines of text and image by.

        Raises
        ------
        ValueError
            If the weights hold none.
        """
        for path in self._files(self._folder):
            value = _scalar(path, "logit_scale")
            if value is not None:
                return math.exp(value)
        raise ValueError(f"Weights in '{self._folder}' hold no 'logit_scale'; pass a scale.")

    @property
    def recipe(self) -> PixelRecipe:
        """How images become the network's input."""
        from extract.backbones.pixels import PixelRecipe

        return PixelRecipe.from_card(self.card, odd_margin="down")

    @property
    @abstractmethod
    def _meanings(self) -> Meanings:
        """How each readout is made, by modality."""

    @abstractmethod
    def _shape(self, folder: Path) -> PairedShape:
        """Return the sizes of the checkpoint in `folder`."""

    @abstractmethod
    def _load_tokenizer(self) -> Any:
        """Load the tokenizer, which neither cuts nor pads."""

    @abstractmethod
    def _open_text(self, readouts: Sequence[str], device: str, precision: str) -> TextTower:
        """Load the text tower."""

    @abstractmethod
    def _open_image(self, readouts: Sequence[str], device: str, precision: str) -> ImageTower:
        """Load the image tower."""

    @property
    @abstractmethod
    def _network(self) -> str:
        """Name of the transformers class of the whole network."""

    def _load_half(self, modality: str, device: str, precision: str) -> Any:
        import transformers

        from extract.backbones.loading import load_network
        from extract.backbones.network_parts import parts_of

        half = parts_of(getattr(transformers, self._network), HALVES[modality])
        return load_network(half, self._folder, precision=precision, device=device)

    def _image_preparation(self) -> dict[str, Any]:
        return self.recipe.as_dict()

    def _tokenizer_settings(self) -> dict[str, Any]:
        return tokenizer_settings(self._folder)

    def _files(self, folder: Path) -> list[Path]:
        return [*checkpoint_files(folder), *processor_files(folder)]

    def _mismatches(self, folder: Path) -> list[str]:
        transformers_weight_files(folder)
        if model_type(folder) != self.card.family:
            return mismatch("family", self.card.family, model_type(folder))
        return [*self._size_mismatches(self._shape(folder)), *self._image_mismatches(folder)]

    def _size_mismatches(self, shape: PairedShape) -> list[str]:
        widths = {m: dict(w) for m, w in self.card.readouts.items()}
        layers = {m: list(w) for m, w in self.card.layers.items()}
        found = card_widths(shape, self._meanings)
        return [
            *mismatch("widths", widths, found["readouts"]),
            *mismatch("layers", {m: len(w) for m, w in layers.items()}, _counts(found["layers"])),
            *mismatch("image size", self.card.image_size, shape.image_size),
            *mismatch("patch size", self._patch_size, shape.patch_size),
            *mismatch("token limit", self.card.token_limit, shape.token_limit),
            *mismatch("activation", self._activation, shape.activation),
        ]

    def _image_mismatches(self, folder: Path) -> list[str]:
        """Compare the folder's own image processor, if it has one, with the card."""
        if not processor_files(folder):
            return []
        found = image_settings(folder)
        names = ("resize", "resize_mode", "interpolation", "mean", "std")
        return [line for name in names for line in mismatch(name, getattr(self.card, name), found[name])]


class ProjectedBackbone(PairedBackbone):
    """CLIP, MetaCLIP 2, Chinese-CLIP, AltCLIP and AIMv2."""

    @property
    def _family(self) -> ProjectedFamily:
        return FAMILIES[self.card.family]

    @property
    def _network(self) -> str:
        return self._family.network

    @property
    def _meanings(self) -> Meanings:
        return self._family.meanings

    def _shape(self, folder: Path) -> PairedShape:
        return projected_shape(folder, self._family)

    @cached_property
    def _closing_token(self) -> int | None:
        return self._shape(self._folder).closing_token

    def _load_tokenizer(self) -> Any:
        from extract.backbones.loading import load_tokenizer

        return load_tokenizer(self._folder)

    def _open_text(self, readouts: Sequence[str], device: str, precision: str) -> ProjectedTextTower:
        from extract.backbones.clip_towers import ProjectedTextTower

        tokenizer = self._load_tokenizer()
        self._check_closing_token(tokenizer)
        return ProjectedTextTower(
            self._load_half("text", device, precision),
            tokenizer,
            readouts=readouts,
            token_limit=self._token_limit,
            device=device,
            reads=self._family.reads,
            writes_mask=self._family.writes_mask,
        )

    def _open_image(self, readouts: Sequence[str], device: str, precision: str) -> ProjectedImageTower:
        from extract.backbones.clip_towers import ProjectedImageTower
        from extract.weights import torch_dtype

        return ProjectedImageTower(
            self._load_half("image", device, precision),
            self.recipe,
            readouts=readouts,
            device=device,
            dtype=torch_dtype(precision),
            has_class_token=self._family.has_class_token,
        )

    def _check_closing_token(self, tokenizer: Any) -> None:
        """Refuse a checkpoint whose network looks for another closing token: it would read position 0."""
        expected = self._closing_token
        if expected is None:
            return
        if self.card.family == "clip" and expected == 2:
            # The value of old configs; the network then takes the highest id, which must be the closing one.
            expected = len(tokenizer) - 1
        if tokenizer.eos_token_id != expected:
            raise ValueError(
                f"Weights in '{self._folder}' look for closing token {expected}, but the tokenizer "
                f"closes texts with {tokenizer.eos_token_id}. Correct text_config.eos_token_id in "
                "config.json, or copy the tokenizer that the weights were trained with."
            )


def _scalar(path: Path, name: str) -> float | None:
    """Return one number of a file of weights; None if it is not there or the file is of another kind."""
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            return float(file.get_tensor(name).float()) if name in file.keys() else None  # noqa: SIM118
    if path.suffix in (".bin", ".pt", ".pth"):
        from extract.weights import read_state_dict

        value = read_state_dict(path).get(name)
        return None if value is None else float(value.float())
    return None


def _counts(layers: Mapping[str, Sequence[int]]) -> dict[str, int]:
    return {modality: len(widths) for modality, widths in layers.items()}


def open_published(card: Card, source: WeightSource | None) -> Backbone:
    """Open a published checkpoint of one of the projected families.

    A folder that the user names may also be in OpenCLIP's own layout.
    """
    facts = PROJECTED_CHECKPOINTS[card.name]
    kind = ProjectedBackbone
    if isinstance(source, GivenFolder) and is_openclip_layout(source.folder()):
        from extract.backbones.openclip_layout import OpenClipBackbone

        kind = OpenClipBackbone
    return kind(card, source or hub_source(card), patch_size=facts.patch_size, activation=facts.activation)


def recognise_projected(name: str, source: WeightSource) -> Backbone:
    """Build a backbone from any folder or repository of one of the projected families."""
    folder = source.folder()
    kind = model_type(folder)
    family = FAMILIES[kind]
    if kind == "aimv2" and "text_config" not in read_json(folder / "config.json"):
        raise ValueError(
            f"Weights in '{folder}' are an AIMv2 image encoder without a text tower; supported is the paired "
            "form (aimv2-large-patch14-224-lit). Make its vectors elsewhere and use 'embedonce import'."
        )
    shape = projected_shape(folder, family)
    card = Card(
        name=name,
        family=kind,
        modalities=("text", "image"),
        source=folder_source(name),
        token_limit=shape.token_limit,
        padding="longest",
        **card_widths(shape, family.meanings),
        **image_settings(folder, shape.image_size),
    )
    return ProjectedBackbone(card, source, patch_size=shape.patch_size, activation=shape.activation)


for _facts in PROJECTED_CHECKPOINTS.values():
    register_backbone(_facts.card)(open_published)
for _kind in FAMILIES:
    register_family(_kind)(recognise_projected)
