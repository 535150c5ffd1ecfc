"""Joint backbones of the encoder kind: a text half, an image half, and a network that sees both."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.backbones.checkpoints import checkpoint_files, model_type, tokenizer_settings
from extract.backbones.contract import Backbone, folder_source, mismatch
from extract.backbones.processors import image_settings, processor_files
from extract.cards import Card
from extract.weights import transformers_weight_files

if TYPE_CHECKING:
    from extract.backbones.contract import ImageTower, JointTower, TextTower, Tokenise
    from extract.backbones.pixels import PixelRecipe

#: Modality -> readout -> how it is made. It enters the fingerprint.
Meanings = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class JointShape:
    """Sizes of a checkpoint, from its config.json.

    Attributes
    ----------
    readouts : dict of str to dict of str to int
        Modality -> readout -> width.
    layers : dict of str to tuple of int
        Modality -> width of each hidden state.
    image_size, token_limit : int
    """

    readouts: Mapping[str, Mapping[str, int]]
    layers: Mapping[str, tuple[int, ...]]
    image_size: int
    token_limit: int


class JointBackbone(Backbone):
    """A transformers checkpoint of one of the families in ``flava`` and ``blip``."""

    @property
    @abstractmethod
    def meanings(self) -> Meanings:
        """How each readout is made, by modality."""

    @abstractmethod
    def _shape(self, folder: Path) -> JointShape:
        """Read the sizes of the checkpoint in `folder`."""

    @abstractmethod
    def _open_text(self, readouts: Sequence[str], device: str, precision: str) -> TextTower:
        """Load the text half."""

    @abstractmethod
    def _open_image(self, readouts: Sequence[str], device: str, precision: str) -> ImageTower:
        """Load the image half."""

    @abstractmethod
    def _open_pair(self, readouts: Sequence[str], device: str, precision: str) -> JointTower:
        """Load the network that sees both."""

    def open_tower(
        self,
        modality: str,
        *,
        readouts: Sequence[str] = ("pooled",),
        device: str = "cpu",
        precision: str = "fp32",
    ) -> TextTower | ImageTower | JointTower:
        """Load one tower. See :meth:`Backbone.open_tower`."""
        self._check_request(modality, readouts)
        if modality == "text":
            return self._open_text(readouts, device, precision)
        if modality == "image":
            return self._open_image(readouts, device, precision)
        return self._open_pair(readouts, device, precision)

    def preprocessing(self, modality: str) -> dict[str, Any]:
        """Return the settings of one modality. See :meth:`Backbone.preprocessing`."""
        self._check_request(modality, ("pooled",))
        readouts = {"readouts": dict(self.meanings[modality])}
        if modality == "image":
            return {**self.recipe.as_dict(), **readouts}
        text = {
            **tokenizer_settings(self._folder),
            "token_limit": self.card.token_limit,
            "padding": self.card.padding,
            "truncation": "right, closing token kept",
        }
        image = {} if modality == "text" else {"image": self.recipe.as_dict()}
        return {**text, **image, **readouts}

    def open_tokeniser(self, modality: str) -> Tokenise:
        """Load the tokenizer alone. See :meth:`Backbone.open_tokeniser`."""
        from extract.backbones.loading import load_tokenizer
        from extract.backbones.tokenisers import CutTokeniser

        if modality == "image":
            return super().open_tokeniser(modality)
        return CutTokeniser(load_tokenizer(self._folder), self._token_limit)

    @property
    def recipe(self) -> PixelRecipe:
        """How images become the network's input."""
        from extract.backbones.pixels import PixelRecipe

        return PixelRecipe.from_card(self.card, odd_margin="down")

    def _files(self, folder: Path) -> list[Path]:
        return [*checkpoint_files(folder), *processor_files(folder)]

    def _mismatches(self, folder: Path) -> list[str]:
        transformers_weight_files(folder)
        if model_type(folder) != self.card.family:
            return mismatch("family", self.card.family, model_type(folder))
        shape = self._shape(folder)
        return [
            *mismatch("widths", {m: dict(w) for m, w in self.card.readouts.items()}, shape.readouts),
            *mismatch("layers", dict(self.card.layers), shape.layers),
            *mismatch("image size", self.card.image_size, shape.image_size),
            *mismatch("token limit", self.card.token_limit, shape.token_limit),
        ]


def card_of_folder(name: str, family: str, folder: Path, shape: JointShape) -> Card:
    """Return the card of a checkpoint that is not registered."""
    return Card(
        name=name,
        family=family,
        modalities=tuple(shape.readouts),
        readouts=shape.readouts,
        layers=shape.layers,
        source=folder_source(name),
        token_limit=shape.token_limit,
        padding="longest",
        **image_settings(folder, shape.image_size),
    )
