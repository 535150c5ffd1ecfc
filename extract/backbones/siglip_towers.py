"""SigLIP's towers: texts padded to full length, images pooled by an attention head.

SigLIP's text tower takes no attention mask: padding takes part in every layer, and the vector is read at the
last position, which padding fills unless the text is long. A text padded to another length therefore gets
another vector, so texts are always padded to the limit and never share a shorter batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from extract.backbones.contract import ImageTower, Tokens
from extract.backbones.device_forwards import run_forward
from extract.backbones.fixed_batches import CPU_IMAGES, chunks
from extract.backbones.image_towers import PixelTower
from extract.backbones.naflex_patches import NaflexRecipe, Patches
from extract.backbones.text_towers import MaskedTextTower
from extract.backbones.token_states import asked_states, mean_of_tokens


class SiglipTextTower(MaskedTextTower):
    """Text half of SigLIP and SigLIP 2."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._states = asked_states(self.readouts)

    def bucket(self, tokens: Tokens) -> int:  # noqa: ARG002
        """Return the limit, whatever the text. See :meth:`TextTower.bucket`."""
        return self._limit

    def forward(self, batch: Sequence[Tokens]) -> dict[str, np.ndarray]:
        """Embed tokenised texts. See :meth:`TextTower.forward`."""
        rows = self.rows_per_forward(self._limit)
        if rows is None:
            return self._embed(batch, self._limit)
        parts = [
            (self._embed([batch[i] for i in positions], self._limit), n_real)
            for positions, n_real in chunks(range(len(batch)), rows)
        ]
        return _joined(parts)

    def _readout(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        # `mask` marks the text's own tokens; the network must not see it.
        output = self.network.text_model(input_ids=ids, **self._states.request)
        states = output.last_hidden_state  # (b, limit, width)
        return {
            "pooled": output.pooler_output,
            "hidden": states[:, -1],
            "mean": mean_of_tokens(states, mask),
            **self._states.read(output, lambda layer: mean_of_tokens(layer, mask)),
        }


class SiglipImageTower(PixelTower):
    """Image half of SigLIP and of SigLIP 2 with a fixed size."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._states = asked_states(self.readouts)

    def _readout(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        output = self.network.vision_model(pixel_values=pixels, **self._states.request)
        return {
            "pooled": output.pooler_output,
            "mean": mean_of_tokens(output.last_hidden_state),
            **self._states.read(output, mean_of_tokens),
        }


class NaflexImageTower(ImageTower):
    """Image half of SigLIP 2 for pictures of any shape: patches, filled up to a fixed number and masked.

    Parameters
    ----------
    network : torch.nn.Module
        In eval mode, on `device`.
    recipe : NaflexRecipe
    readouts : sequence of str
    device : str
    dtype : torch.dtype
        Of the network's weights.
    """

    def __init__(
        self, network: Any, recipe: NaflexRecipe, *, readouts: Sequence[str], device: str, dtype: torch.dtype
    ) -> None:
        self.network = network
        self.readouts = tuple(readouts)
        self._recipe, self._device, self._dtype = recipe, device, dtype
        self._states = asked_states(self.readouts)

    def preprocess(self, image: Any) -> Patches:
        """Return the picture's patches. See :meth:`ImageTower.preprocess`."""
        return self._recipe.apply(image)

    def rows_per_forward(self, bucket: int) -> int | None:  # noqa: ARG002
        """Return the rows of a fixed shape. See :meth:`Tower.rows_per_forward`."""
        return CPU_IMAGES if self._device == "cpu" else None

    def forward(self, batch: Sequence[Patches]) -> dict[str, np.ndarray]:
        """Embed images. See :meth:`ImageTower.forward`."""
        if self._device != "cpu":
            return self._embed(batch)
        return _joined(
            [
                (self._embed([batch[i] for i in rows]), n_real)
                for rows, n_real in chunks(range(len(batch)), CPU_IMAGES)
            ]
        )

    def _embed(self, batch: Sequence[Patches]) -> dict[str, np.ndarray]:
        return run_forward(
            self.network,
            self._device,
            self.readouts,
            self._read,
            np.stack([patches.pixels for patches in batch]),
            np.stack([patches.mask for patches in batch]),
            np.array([patches.grid for patches in batch], dtype=np.int64),
        )

    def _read(self, pixels: torch.Tensor, mask: torch.Tensor, grids: torch.Tensor) -> dict[str, torch.Tensor]:
        output = self.network.vision_model(
            pixel_values=pixels.to(self._dtype),
            pixel_attention_mask=mask,
            spatial_shapes=grids,
            **self._states.request,
        )
        return {
            "pooled": output.pooler_output,
            "mean": mean_of_tokens(output.last_hidden_state, mask),
            **self._states.read(output, lambda layer: mean_of_tokens(layer, mask)),
        }


def _joined(parts: Sequence[tuple[dict[str, np.ndarray], int]]) -> dict[str, np.ndarray]:
    """Return the real rows of forwards that were filled up."""
    return {
        readout: np.concatenate([vectors[readout][:n_real] for vectors, n_real in parts])
        for readout in parts[0][0]
    }
