"""Pair towers: a text's tokens and an image's pixels in, one vector out of a network that sees both."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL.Image import Image

from extract.backbones.contract import JointTower, Pair
from extract.backbones.device_forwards import run_forward
from extract.backbones.pixel_inputs import PixelInputs
from extract.backbones.pixels import PixelRecipe
from extract.backbones.text_towers import MaskedTextTower
from extract.backbones.token_states import asked_states


class PairTower(JointTower):
    """A network behind a text tower's tokens and a :class:`PixelRecipe`.

    On a CPU one pair is one forward: an image of 200 to 600 tokens keeps a core busy, and the vector cannot
    depend on other pairs.

    Parameters
    ----------
    network : torch.nn.Module
        In eval mode, on `device`.
    text : MaskedTextTower
        Says how texts become tokens; its own forward is not used.
    pad_id : int
        Token that texts are padded with; it is masked.
    recipe : PixelRecipe
    readouts : sequence of str
    device : str
    dtype : torch.dtype
        Of the network's weights.
    """

    def __init__(
        self,
        network: Any,
        text: MaskedTextTower,
        *,
        pad_id: int,
        recipe: PixelRecipe,
        readouts: Sequence[str],
        device: str,
        dtype: torch.dtype,
    ) -> None:
        self.network = network
        self.readouts = tuple(readouts)
        self._text, self._pad_id, self._device = text, pad_id, device
        self._inputs = PixelInputs(recipe, device=device, dtype=dtype)
        self._states = asked_states(readouts)

    def prepare(self, text: str, image: Image) -> Pair:
        """Return tokens and pixels. See :meth:`JointTower.prepare`."""
        return Pair(self._text.tokenise([text])[0], self._inputs.prepare(image))

    def bucket(self, pair: Pair) -> int:
        """Return the text's padded length. See :meth:`JointTower.bucket`."""
        return self._text.bucket(pair.tokens)

    def rows_per_forward(self, bucket: int) -> int | None:  # noqa: ARG002
        """Return 1 on a CPU. See :meth:`Tower.rows_per_forward`."""
        return 1 if self._device == "cpu" else None

    def forward(self, batch: Sequence[Pair]) -> dict[str, np.ndarray]:
        """Embed pairs. See :meth:`JointTower.forward`."""
        if self._device != "cpu":
            return self._embed(batch)
        parts = [self._embed([pair]) for pair in batch]
        return {readout: np.concatenate([part[readout] for part in parts]) for readout in self.readouts}

    @abstractmethod
    def _readout(
        self, ids: torch.Tensor, mask: torch.Tensor, pixels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return readout -> (b, d) for ids and mask (b, length) and pixels (b, 3, height, width)."""

    def _embed(self, batch: Sequence[Pair]) -> dict[str, np.ndarray]:
        length = max(self.bucket(pair) for pair in batch)
        ids = np.full((len(batch), length), self._pad_id, dtype=np.int64)
        mask = np.zeros((len(batch), length), dtype=np.int64)
        for row, pair in enumerate(batch):
            ids[row, : len(pair.tokens.ids)] = pair.tokens.ids
            mask[row, : len(pair.tokens.ids)] = 1
        pixels = np.stack([pair.pixels for pair in batch])
        return run_forward(self.network, self._device, self.readouts, self._read, ids, mask, pixels)

    def _read(self, ids: torch.Tensor, mask: torch.Tensor, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        return self._readout(ids, mask, self._inputs.numbers(pixels))
