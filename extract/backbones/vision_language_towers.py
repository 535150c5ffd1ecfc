"""Vision-language towers: a chat in, the decoder's state at the last token out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch.nn.functional import normalize

from extract.backbones.chat import ChatTokeniser
from extract.backbones.contract import ImageTower, JointTower, Pair, Tokens
from extract.backbones.device_forwards import run_forward
from extract.backbones.fixed_batches import padded_length
from extract.backbones.patches import ImagePatches, PatchRecipe
from extract.backbones.text_towers import MaskedTextTower
from extract.backbones.token_pooling import pool_tokens
from extract.backbones.token_states import AskedStates, asked_states, mean_of_tokens


class ChatTextTower(MaskedTextTower):
    """Texts alone, read by the decoder without its vision tower.

    Parameters
    ----------
    network : torch.nn.Module
        Has the decoder as ``language_model``.
    tokenizer : transformers tokenizer
    chats : ChatTokeniser
    normalised : bool
        Whether "pooled" has length 1.
    readouts, token_limit, device
        See :class:`MaskedTextTower`.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        *,
        chats: ChatTokeniser,
        normalised: bool,
        readouts: Sequence[str],
        token_limit: int,
        device: str,
    ) -> None:
        super().__init__(network, tokenizer, readouts=readouts, token_limit=token_limit, device=device)
        self._chats, self._normalised = chats, normalised
        self._states = asked_states(readouts)

    def tokenise(self, texts: Sequence[str]) -> list[Tokens]:
        """Put texts into the chat template. See :meth:`TextTower.tokenise`."""
        return [self._chats.tokens(text) for text in texts]

    def _readout(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        output = self.network.language_model(
            input_ids=ids, attention_mask=_causal(mask), use_cache=False, **self._states.request
        )
        return _vectors(output, mask, self._states, normalised=self._normalised)


class _VisualTower:
    """What towers with images share: the network and one forward over prepared chats."""

    def __init__(
        self,
        network: Any,
        chats: ChatTokeniser,
        *,
        recipe: PatchRecipe,
        pad_id: int,
        normalised: bool,
        readouts: Sequence[str],
        device: str,
    ) -> None:
        self.network = network
        self.readouts = tuple(readouts)
        self._chats, self._recipe, self._pad_id = chats, recipe, pad_id
        self._normalised, self._device = normalised, device
        self._states = asked_states(readouts)

    def rows_per_forward(self, bucket: int) -> int | None:  # noqa: ARG002
        """Return 1 on a CPU. See :meth:`Tower.rows_per_forward`."""
        return 1 if self._device == "cpu" else None

    def _pair(self, text: str, image: Image) -> Pair:
        patches = self._recipe.apply(image)
        return Pair(self._chats.tokens(text, self._recipe.tokens(patches)), patches)

    def _forward(self, batch: Sequence[Pair]) -> dict[str, np.ndarray]:
        if self._device != "cpu":
            return self._embed(batch)
        # One chat a forward: its shape, and so its bits, depend on it alone.
        parts = [self._embed([pair]) for pair in batch]
        return {readout: np.concatenate([part[readout] for part in parts]) for readout in self.readouts}

    def _embed(self, batch: Sequence[Pair]) -> dict[str, np.ndarray]:
        # A single chat is not padded; among others padding stands on the right, where the causal decoder
        # cannot see it from any token that is read.
        length = max(len(pair.tokens.ids) for pair in batch)
        ids = np.full((len(batch), length), self._pad_id, dtype=np.int64)
        mask = np.zeros((len(batch), length), dtype=np.int64)
        positions = np.zeros((3, len(batch), length), dtype=np.int64)
        for row, pair in enumerate(batch):
            n_tokens = len(pair.tokens.ids)
            ids[row, :n_tokens] = pair.tokens.ids
            mask[row, :n_tokens] = 1
            positions[:, row, :n_tokens] = chat_positions(
                pair.tokens.ids, self.network.config.image_token_id, pair.pixels, self._recipe.merge
            )
        images = [pair.pixels for pair in batch]
        values = np.concatenate([image.values for image in images])
        grids = np.array([[1, image.height, image.width] for image in images], dtype=np.int64)
        return run_forward(
            self.network, self._device, self.readouts, self._read, ids, mask, positions, values, grids
        )

    def _read(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        positions: torch.Tensor,
        values: torch.Tensor,
        grids: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        output = self.network(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            pixel_values=self._frames(values.to(self.network.visual.dtype)),
            image_grid_thw=grids,
            use_cache=False,
            **self._states.request,
        )
        return _vectors(output, mask, self._states, normalised=self._normalised)

    def _frames(self, values: torch.Tensor) -> torch.Tensor:
        """Repeat each channel of each patch, as if the image were a film that stands still."""
        frames = self._recipe.frames
        return values.view(len(values), 3, 1, -1).expand(-1, -1, frames, -1).reshape(len(values), -1)


class ChatImageTower(_VisualTower, ImageTower):
    """Images alone, in the chat template. The arguments are those of :class:`ChatPairTower`."""

    def preprocess(self, image: Image) -> Pair:
        """Return the chat and the image's patches. See :meth:`ImageTower.preprocess`."""
        return self._pair("", image)

    def forward(self, batch: Sequence[Pair]) -> dict[str, np.ndarray]:
        """Embed images. See :meth:`ImageTower.forward`."""
        return self._forward(batch)


class ChatPairTower(_VisualTower, JointTower):
    """Texts and images together, in the chat template.

    Parameters
    ----------
    network : torch.nn.Module
        A transformers model without the language-model head, in eval mode, on `device`.
    chats : ChatTokeniser
    recipe : PatchRecipe
    pad_id : int
    normalised : bool
        Whether "pooled" has length 1.
    readouts : sequence of str
    device : str
    """

    def prepare(self, text: str, image: Image) -> Pair:
        """Return the chat and the image's patches. See :meth:`JointTower.prepare`."""
        return self._pair(text, image)

    def bucket(self, pair: Pair) -> int:
        """Return the chat's padded length. See :meth:`JointTower.bucket`."""
        return padded_length(len(pair.tokens.ids), len(pair.tokens.ids) + 7)

    def forward(self, batch: Sequence[Pair]) -> dict[str, np.ndarray]:
        """Embed prepared pairs. See :meth:`JointTower.forward`."""
        return self._forward(batch)


def chat_positions(ids: np.ndarray, image_id: int, image: ImagePatches, merge: int) -> np.ndarray:
    """Return the positions of a chat's tokens: one after the other in texts, in two dimensions in the image.

    They are worked out here and passed in: left to itself the network keeps them on the module, where threads
    would overwrite each other's, and asks for other arguments in other versions.

    Parameters
    ----------
    ids : ndarray of shape (n_tokens,), int64
        With one run of visual tokens.
    image_id : int
        The visual token.
    image : ImagePatches
    merge : int
        Patches per side of a visual token.

    Returns
    -------
    ndarray of shape (3, n_tokens), int64
        Position in time, row and column. After the image they go on behind its longer side.

    References
    ----------
    Qwen2-VL, section 2.1 (M-RoPE), https://arxiv.org/abs/2409.12191
    """
    rows, columns = image.height // merge, image.width // merge
    start = int(np.argmax(ids == image_id))
    stop = start + rows * columns
    positions = np.tile(np.arange(len(ids)), (3, 1))
    positions[0, start:stop] = start
    positions[1, start:stop] = start + np.repeat(np.arange(rows), columns)
    positions[2, start:stop] = start + np.tile(np.arange(columns), rows)
    positions[:, stop:] = start + max(rows, columns) + np.arange(len(ids) - stop)
    return positions


def _vectors(
    output: Any, mask: torch.Tensor, states: AskedStates, *, normalised: bool
) -> dict[str, torch.Tensor]:
    last = pool_tokens("lasttoken", output.last_hidden_state, mask)
    return {
        "pooled": normalize(last, dim=1) if normalised else last,
        "mean": mean_of_tokens(output.last_hidden_state, mask),
        **states.read(output, lambda layer: pool_tokens("lasttoken", layer, mask)),
    }


def _causal(mask: torch.Tensor) -> torch.Tensor:
    """Return which token may look at which: (b, 1, length, length), bool, from a mask of padding (b, length).

    Always spelled out: transformers leaves the mask away when no text of a batch is padded, so that the
    kernel that reads a text would depend on its neighbours.
    """
    length = mask.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    return earlier & mask.bool()[:, None, None, :]
