"""What every backbone and every tower promises; importing this loads no torch."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.weight_sources import GivenFolder, WeightSource
from extract.weights import count_parameters, hash_files

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from extract.cards import Card


@dataclass(frozen=True)
class Tokens:
    """One tokenised text.

    Attributes
    ----------
    ids : ndarray of shape (n_tokens,), int64
        Token ids with special tokens, cut to the network's limit; the closing token is kept.
    full_length : int
        Number of tokens before cutting.
    visual_tokens : int
        How many of them stand for the picture of a pair; these are never cut.
    """

    ids: np.ndarray
    full_length: int
    visual_tokens: int = 0

    @property
    def counts(self) -> tuple[int, int]:
        """Tokens before and after cutting, where a picture is one token whatever its size."""
        spare = max(self.visual_tokens - 1, 0)
        return self.full_length - spare, len(self.ids) - spare


Tokenise = Callable[[Sequence[str]], list[Tokens]]
"""Returns one :class:`Tokens` per text, in order."""


class Tower(ABC):
    """A loaded network of one modality. It owns its weights; dropping the last reference frees them.

    Attributes
    ----------
    readouts : tuple of str
        Keys of what ``forward`` returns.
    reentrant : bool
        Whether several threads may call ``forward`` at once; False for networks that keep state between
        calls.
    """

    readouts: tuple[str, ...]
    reentrant: bool = True

    @abstractmethod
    def rows_per_forward(self, bucket: int) -> int | None:
        """Return how many rows one forward takes; None if it takes any number.

        On a CPU forwards have a fixed shape, so that a row's vector does not depend on its neighbours (see
        ``fixed_batches``); a batch with fewer rows is filled up, which costs as much as a full one.

        Parameters
        ----------
        bucket : int
            What inputs that may share a forward have in common: a padded length, or 0.
        """


class TextTower(Tower):
    """A text network."""

    @abstractmethod
    def tokenise(self, texts: Sequence[str]) -> list[Tokens]:
        """Return one :class:`Tokens` per text, in order. Safe to call from several threads."""

    @abstractmethod
    def bucket(self, tokens: Tokens) -> int:
        """Return the length in tokens that a text is padded to; texts of one bucket share a forward.

        Networks that pad to full length return that length for every text.
        """

    @abstractmethod
    def forward(self, batch: Sequence[Tokens]) -> dict[str, np.ndarray]:
        """Embed tokenised texts.

        Returns
        -------
        dict of str to ndarray of shape (n_texts, width), float32
            Rows in the order of `batch`. On CPU in fp32, with one number of threads, a row depends on its own
            text alone, to the last bit.
        """


class ImageTower(Tower):
    """An image network."""

    @abstractmethod
    def preprocess(self, image: Image) -> Any:
        """Return the network's input for an RGB image. Safe to call from several threads.

        Returns
        -------
        ndarray of shape (3, height, width), float32
            Or what else the tower's :meth:`forward` understands: bytes for a GPU, patches of pictures of many
            sizes.
        """

    @abstractmethod
    def forward(self, batch: Sequence[Any]) -> dict[str, np.ndarray]:
        """Embed preprocessed images.

        Parameters
        ----------
        batch : sequence
            What :meth:`preprocess` returned, one per image.

        Returns
        -------
        dict of str to ndarray of shape (n_images, width), float32
            Rows in the order of `batch`. On CPU in fp32, with one number of threads, a row depends on its own
            image alone, to the last bit.
        """


@dataclass(frozen=True)
class Pair:
    """One prepared text and image.

    Attributes
    ----------
    tokens : Tokens
    pixels : Any
        The image's input array or arrays.
    """

    tokens: Tokens
    pixels: Any


class JointTower(Tower):
    """A network that sees a text and an image together."""

    @abstractmethod
    def prepare(self, text: str, image: Image) -> Pair:
        """Return the network's input for a text and an RGB image. Safe to call from several threads."""

    @abstractmethod
    def bucket(self, pair: Pair) -> int:
        """Return what pairs that may share a forward have in common, such as a padded length."""

    @abstractmethod
    def forward(self, batch: Sequence[Pair]) -> dict[str, np.ndarray]:
        """Embed prepared pairs.

        Returns
        -------
        dict of str to ndarray of shape (n_pairs, width), float32
            Rows in the order of `batch`. On CPU in fp32, with one number of threads, a row depends on its own
            pair alone, to the last bit.
        """


class Backbone(ABC):
    """A named network whose weights load when a tower is opened, never before.

    Parameters
    ----------
    card : Card
    source : WeightSource
        Where the weights are. A :class:`GivenFolder` is checked against the card.
    """

    def __init__(self, card: Card, source: WeightSource) -> None:
        self.card = card
        self._source = source

    @property
    def file_name(self) -> str:
        """Stem of the store's file, safe on every file system: ``hf:ORG/NAME`` becomes ``hf--ORG--NAME``."""
        return (
            re.sub(r"[^A-Za-z0-9._-]", "_", re.sub(r"[:/]+", "--", self.card.name)).lstrip(".") or "backbone"
        )

    def check_available(self, *, download: bool = True) -> None:
        """Find the weights, fetching them if `download` allows it, and check them against the card.

        Raises
        ------
        WeightsMissingError
            If they are not on this machine and cannot be fetched.
        ValueError
            If a folder of weights does not hold what the card says.
        """
        self._source.folder(download=download)
        _ = self._folder

    @property
    def revision(self) -> str | None:
        """Commit or version of the weights in use; None for a plain folder."""
        return self._source.revision()

    def weights_sha256(self) -> str:
        """Return the SHA-256 (hex) over the weight, tokenizer and configuration files that are loaded."""
        return self._weights_sha256

    def count_parameters(self) -> int:
        """Return about how many numbers the weight files hold, of all towers together; at least 1."""
        return max(1, count_parameters(self._files(self._folder)))

    @abstractmethod
    def preprocessing(self, modality: str) -> dict[str, Any]:
        """Return everything that changes what the network sees or what is read out, as plain JSON values."""

    @abstractmethod
    def open_tower(
        self,
        modality: str,
        *,
        readouts: Sequence[str] = ("pooled",),
        device: str = "cpu",
        precision: str = "fp32",
    ) -> TextTower | ImageTower | JointTower:
        """Load one tower, and nothing of the other, in eval mode and without gradients.

        Parameters
        ----------
        modality : str
            One of the card's modalities.
        readouts : sequence of str
            Which vectors to take; names from the card, or ``layer:k``.
        device : str
            Resolved: "cpu", "cuda" or "cuda:N".
        precision : {"fp32", "fp16", "bf16"}
            Resolved. Vectors come back as float32 whatever it is.

        Raises
        ------
        ValueError
            If the modality or a readout is not on the card, or weights that the readout needs are missing.
        """

    def open_tokeniser(self, modality: str) -> Tokenise:
        """Return what turns texts into tokens as the tower of `modality` does.

        It serves to count what is cut (``Tokens.counts``). This one loads the network; a backbone that can do
        without says so by a method of its own.

        Parameters
        ----------
        modality : {"text", "joint"}
            One of the card's.

        Raises
        ------
        ValueError
            If the backbone reads no texts there.
        """
        if modality not in self.card.modalities or modality == "image":
            raise ValueError(f"Backbone '{self.card.name}' reads no texts for {modality} vectors.")
        tower: Any = self.open_tower(modality, readouts=[next(iter(self.card.readouts[modality]))])
        if modality == "text":
            tokenise: Tokenise = tower.tokenise
            return tokenise
        from PIL import Image

        picture = Image.new("RGB", (512, 384), "grey")  # any will do: its tokens count as one
        return lambda texts: [tower.prepare(text, picture).tokens for text in texts]

    @abstractmethod
    def _files(self, folder: Path) -> list[Path]:
        """Return the files of `folder` that loading reads."""

    @abstractmethod
    def _mismatches(self, folder: Path) -> list[str]:
        """Return where the weights in `folder` contradict the card, one line with both values each."""

    @cached_property
    def _folder(self) -> Path:
        folder = self._source.folder()
        if isinstance(self._source, GivenFolder):
            mismatches = self._mismatches(folder)
            if mismatches:
                raise ValueError(
                    f"Weights in '{folder}' are not those of backbone '{self.card.name}': "
                    f"{'; '.join(mismatches)}. "
                    f"Pass the weights that the card names ({self.card.source}), or the folder itself "
                    "as --backbone."
                )
        return folder

    @property
    def _token_limit(self) -> int:
        assert self.card.token_limit is not None, "Card refuses a text modality without a token limit"
        return self.card.token_limit

    @cached_property
    def _weights_sha256(self) -> str:
        return hash_files(self._folder, self._files(self._folder))

    def _check_request(self, modality: str, readouts: Sequence[str]) -> None:
        if modality not in self.card.modalities:
            raise ValueError(
                f"Backbone '{self.card.name}' has no {modality} tower; it embeds "
                f"{' and '.join(self.card.modalities)}."
            )
        if not readouts:
            raise ValueError(
                f"No readout of the {modality} tower of '{self.card.name}' is asked for; allowed are "
                f"{', '.join(self.card.readouts[modality])}."
            )
        for readout in readouts:
            self.card.width(modality, readout)


def folder_source(name: str) -> str:
    """Return the `source` of a card that is read from files: a repository names itself."""
    return name if name.startswith("hf:") else f"folder:{name}"


def mismatch(what: str, expected: object, found: object) -> list[str]:
    """Return one line for `_mismatches` if the values differ, else none."""
    return [] if expected == found else [f"{what} is {found!r}, the card says {expected!r}"]
