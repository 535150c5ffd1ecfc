"""Readouts of two-tower networks: their names, what each one means, and how wide it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: Modality -> readout -> how it is made. It enters the fingerprint.
Meanings = Mapping[str, Mapping[str, str]]

_PROJECTED = "projected, not normalised"
_TEXT_LAYER = "masked mean of hidden state k, float32; 0 is the input of the first layer"
_PATCH_LAYER = "mean of the patch tokens of hidden state k, float32; 0 is the input of the first layer"


def projected_meanings(reads: str, *, has_class_token: bool) -> Meanings:
    """Return the readouts of networks that project each tower's pooled state into a shared space.

    Parameters
    ----------
    reads : {"last", "cls"}
        The text token that is projected: the closing one or the first one.
    has_class_token : bool
        Whether the image tower pools by a class token before the patches.
    """
    token = "closing token" if reads == "last" else "first token"
    text = {
        "pooled": _PROJECTED,
        "hidden": f"state of the {token} after the last layer and its norm, before projection",
        reads: f"state of the {token}, the same vector as hidden",
        "mean": "masked mean of the states after the last layer and its norm, float32",
        "layer:k": _TEXT_LAYER,
    }
    if has_class_token:
        image = {
            "pooled": _PROJECTED,
            "hidden": "class token after the last layer and the final norm, before projection",
            "cls": "class token after the last layer, before the final norm",
            "mean": "mean of the patch tokens after the last layer, before the final norm, float32",
            "layer:k": "class token of hidden state k; 0 is the input of the first layer",
        }
    else:
        image = {
            "pooled": _PROJECTED,
            "hidden": "the network's pooling of the patch tokens, before projection",
            "mean": "mean of the patch tokens after the last layer and its norm, float32",
            "layer:k": _PATCH_LAYER,
        }
    return {"text": text, "image": image}


#: SigLIP pads every text to full length and lets the padding take part; only the means leave it out.
SIGLIP_MEANINGS: Meanings = {
    "text": {
        "pooled": "head on the state of the last position, not normalised",
        "hidden": "state of the last position after the last layer and its norm, before the head",
        "mean": "mean of the states of the text's own tokens after the last layer and its norm, float32",
        "layer:k": "mean of hidden state k over the text's own tokens, float32; 0 is the first layer's input",
    },
    "image": {
        "pooled": "attention-pooling head, not normalised",
        "mean": "mean of the patch tokens after the last layer and its norm, float32",
        "layer:k": _PATCH_LAYER,
    },
}


@dataclass(frozen=True)
class TowerWidths:
    """Sizes of one tower.

    Attributes
    ----------
    pooled : int
        Width of the shared space.
    states : int
        Width of the states after the last layer.
    layers : tuple of int
        Width of each hidden state, the first layer's input included.
    """

    pooled: int
    states: int
    layers: tuple[int, ...]

    def readouts(self, meanings: Mapping[str, str]) -> dict[str, int]:
        """Return readout -> width for the readouts that `meanings` names, ``layer:k`` left out."""
        return {
            name: self.pooled if name == "pooled" else self.states for name in meanings if name != "layer:k"
        }
