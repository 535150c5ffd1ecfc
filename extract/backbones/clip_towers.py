"""CLIP's two towers: "pooled" is the projected embedding, not normalised; "hidden" is before projection."""

from __future__ import annotations

import torch

from extract.backbones.image_towers import PixelTower
from extract.backbones.text_towers import MaskedTextTower


class ClipTextTower(MaskedTextTower):
    """Text half: the state at the closing token. Attention is causal, so padding after it changes nothing."""

    def _readout(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.network.text_model(input_ids=ids, attention_mask=mask).pooler_output  # (b, width)
        return {"hidden": hidden, "pooled": self.network.text_projection(hidden)}


class ClipImageTower(PixelTower):
    """Image half: the class token after the last norm."""

    def _readout(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.network.vision_model(pixel_values=pixels).pooler_output  # (b, width)
        return {"hidden": hidden, "pooled": self.network.visual_projection(hidden)}
