"""FLAVA's towers: text, image, and the encoder that reads both."""

from __future__ import annotations

from typing import Any

import torch

from extract.backbones.image_towers import PixelTower
from extract.backbones.pair_towers import PairTower
from extract.backbones.text_towers import MaskedTextTower
from extract.backbones.token_states import asked_states, mean_of_tokens


class FlavaTextTower(MaskedTextTower):
    """Text half: "pooled" is the class token after the final norm, before the pooler."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._states = asked_states(self.readouts)

    def _readout(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        output = self.network.text_model(input_ids=ids, attention_mask=mask, **self._states.request)
        return {
            "pooled": output.last_hidden_state[:, 0],
            "mean": mean_of_tokens(output.last_hidden_state, mask),
            **self._states.read(output, lambda layer: mean_of_tokens(layer, mask)),
        }


class FlavaImageTower(PixelTower):
    """Image half: "pooled" is the class token after the final norm, before the pooler."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._states = asked_states(self.readouts)

    def _readout(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        output = self.network.image_model(pixel_values=pixels, **self._states.request)
        return {
            "pooled": output.last_hidden_state[:, 0],
            "mean": mean_of_tokens(output.last_hidden_state[:, 1:]),
            **self._states.read(output, lambda layer: layer[:, 0]),
        }


class FlavaPairTower(PairTower):
    """Multimodal encoder: "pooled" is its class token, FLAVA's global token, after the final norm.

    The same steps as transformers' ``FlavaModel.forward``, without the final norms and poolers of the two
    halves, which the multimodal encoder does not read. Padding is masked in the text encoder and again in the
    multimodal one.
    """

    def _readout(
        self, ids: torch.Tensor, mask: torch.Tensor, pixels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        image_model, text_model = self.network.image_model, self.network.text_model
        # Neither half's final norm is applied: the multimodal encoder was trained on the raw states.
        image = image_model.encoder(image_model.embeddings(pixels)).last_hidden_state  # (b, 1 + patches, d)
        text = text_model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[-1]
        states = torch.cat(
            [self.network.image_to_mm_projection(image), self.network.text_to_mm_projection(text)], dim=1
        )
        own_token = int(self.network.multimodal_model.use_cls_token)
        everything = torch.cat([mask.new_ones(len(mask), image.shape[1] + own_token), mask], dim=1)
        output = self.network.multimodal_model(
            states, attention_mask=everything, **self._states.request
        )  # (b, own_token + 1 + patches + length, d)
        return {
            "pooled": output.last_hidden_state[:, 0],
            "mean": mean_of_tokens(output.last_hidden_state, everything),
            **self._states.read(output, lambda layer: mean_of_tokens(layer, everything)),
        }
