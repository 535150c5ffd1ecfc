"""CLIP-like towers: "pooled" is the projected embedding, not normalised; "hidden" is what is projected."""

from __future__ import annotations

from typing import Any

import torch

from extract.backbones.image_towers import PixelTower
from extract.backbones.text_towers import MaskedTextTower
from extract.backbones.token_states import asked_states, mean_of_tokens


class ProjectedTextTower(MaskedTextTower):
    """Text halves with a projection: CLIP, MetaCLIP 2, AIMv2 (closing token), Chinese-CLIP, AltCLIP (first).

    Padding is masked in every family. In those that read the closing token attention is causal as well, so
    what follows that token changes nothing.

    Parameters
    ----------
    reads : {"last", "cls"}
        The token that is projected: the closing one or the first one.
    writes_mask : bool
        Whether the causal mask is written out. transformers' AIMv2 drops it from a batch without padding and
        then attends in both directions, so that a text's vector would depend on the batch that it is in.
    """

    def __init__(self, *arguments: Any, reads: str, writes_mask: bool = False, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._reads, self._writes_mask = reads, writes_mask
        self._states = asked_states(self.readouts)

    def _readout(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        attention = causal_mask(mask) if self._writes_mask else mask
        output = self.network.text_model(input_ids=ids, attention_mask=attention, **self._states.request)
        states = output.last_hidden_state  # (b, length, width)
        hidden = output.pooler_output if self._reads == "last" else states[:, 0]  # (b, width)
        return {
            "hidden": hidden,
            self._reads: hidden,
            "pooled": self.network.text_projection(hidden),
            "mean": mean_of_tokens(states, mask),
            **self._states.read(output, lambda layer: mean_of_tokens(layer, mask)),
        }


class ProjectedImageTower(PixelTower):
    """Image halves with a projection.

    Parameters
    ----------
    has_class_token : bool
        Whether a class token comes before the patches; else "hidden" is the network's own pooling of them.
    """

    def __init__(self, *arguments: Any, has_class_token: bool, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._has_class_token = has_class_token
        self._states = asked_states(self.readouts)

    def _readout(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        output = self.network.vision_model(pixel_values=pixels, **self._states.request)
        states = output.last_hidden_state  # (b, tokens, width)
        vectors = {
            "hidden": output.pooler_output,  # (b, width)
            "pooled": self.network.visual_projection(output.pooler_output),
            "mean": mean_of_tokens(states[:, 1:] if self._has_class_token else states),
        }
        if not self._has_class_token:
            return {**vectors, **self._states.read(output, mean_of_tokens)}
        vectors["cls"] = states[:, 0]
        return {**vectors, **self._states.read(output, lambda layer: layer[:, 0])}


def causal_mask(mask: torch.Tensor) -> torch.Tensor:
    """Return (b, 1, length, length), bool: what each position sees, given which (b, length) are in use."""
    length = mask.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    return earlier[None, None] & mask.bool()[:, None, None]
