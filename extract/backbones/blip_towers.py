"""BLIP's towers: a vision transformer, a BERT that may look at the image, and a caption decoder."""

from __future__ import annotations

from typing import Any

import torch

from extract.backbones.image_towers import PixelTower
from extract.backbones.pair_towers import PairTower
from extract.backbones.text_towers import MaskedTextTower
from extract.backbones.token_pooling import pool_tokens
from extract.backbones.token_states import asked_states, mean_of_tokens


class BlipTextTower(MaskedTextTower):
    """Text encoder without the image: "pooled" is the projected class token, "hidden" the class token."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._states = asked_states(self.readouts)

    def _readout(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        output = self.network.text_encoder(input_ids=ids, attention_mask=mask, **self._states.request)
        hidden = output.last_hidden_state[:, 0]
        return {
            "pooled": self.network.text_proj(hidden),
            "hidden": hidden,
            "mean": mean_of_tokens(output.last_hidden_state, mask),
            **self._states.read(output, lambda layer: mean_of_tokens(layer, mask)),
        }


class BlipImageTower(PixelTower):
    """Image encoder: "hidden" is the class token, "pooled" the projected one.

    A captioning checkpoint has no projection; its "pooled" is the class token itself.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._states = asked_states(self.readouts)

    def _readout(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        output = self.network.vision_model(pixel_values=pixels, **self._states.request)
        # Not pooler_output: transformers applies the final norm to it a second time.
        hidden = output.last_hidden_state[:, 0]
        projection = getattr(self.network, "vision_proj", None)
        return {
            "pooled": hidden if projection is None else projection(hidden),
            "hidden": hidden,
            "mean": mean_of_tokens(output.last_hidden_state[:, 1:]),
            **self._states.read(output, lambda layer: layer[:, 0]),
        }


class BlipPairTower(PairTower):
    """Text encoder that looks at the image: "pooled" is its class token, what the matching head reads.

    transformers' ``BlipForImageTextRetrieval`` leaves [CLS] in front of the text, and "pooled" does as it
    does. In training [ENC] stood there (salesforce/BLIP, ``models/blip_retrieval.py``); "enc" is the state of
    that token. Asked for together they share the image encoder's forward.

    Parameters
    ----------
    enc_id : int
        Token [ENC].
    """

    def __init__(self, *arguments: Any, enc_id: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._enc_id = enc_id

    def _readout(
        self, ids: torch.Tensor, mask: torch.Tensor, pixels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        image = self.network.vision_model(pixel_values=pixels).last_hidden_state  # (b, 1 + patches, d_image)
        vectors: dict[str, torch.Tensor] = {}
        if "enc" in self.readouts:
            as_trained = ids.clone()
            as_trained[:, 0] = self._enc_id
            vectors["enc"] = self._encode(as_trained, mask, image).last_hidden_state[:, 0]
        if any(readout != "enc" for readout in self.readouts):
            output = self._encode(ids, mask, image)
            vectors |= {
                "pooled": output.last_hidden_state[:, 0],
                "mean": mean_of_tokens(output.last_hidden_state, mask),
                **self._states.read(output, lambda layer: mean_of_tokens(layer, mask)),
            }
        return vectors

    def _encode(self, ids: torch.Tensor, mask: torch.Tensor, image: torch.Tensor) -> Any:
        return self.network.text_encoder(
            input_ids=ids, attention_mask=mask, encoder_hidden_states=image, **self._states.request
        )


class BlipCaptionTower(PairTower):
    """Caption decoder over a text: "pooled" is its state at the closing token, which has read everything.

    The text stands where the caption would: behind [DEC], as in training and in ``generate``.

    Parameters
    ----------
    dec_id : int
        Token [DEC].
    """

    def __init__(self, *arguments: Any, dec_id: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._dec_id = dec_id

    def _readout(
        self, ids: torch.Tensor, mask: torch.Tensor, pixels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        image = self.network.vision_model(pixel_values=pixels).last_hidden_state  # (b, 1 + patches, d_image)
        ids = ids.clone()
        ids[:, 0] = self._dec_id
        output = self.network.text_decoder.bert(
            input_ids=ids,
            attention_mask=mask,
            encoder_hidden_states=image,
            is_decoder=True,
            use_cache=False,
            **self._states.request,
        )
        return {
            "pooled": pool_tokens("lasttoken", output.last_hidden_state, mask),
            "mean": mean_of_tokens(output.last_hidden_state, mask),
            **self._states.read(output, lambda layer: mean_of_tokens(layer, mask)),
        }
