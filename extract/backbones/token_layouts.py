"""Token layouts: what the states of an image network are, and which readouts that gives."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TokenLayout:
    """What the states of an image network hold.

    Attributes
    ----------
    n_prefix : int
        Tokens before the patches: class and register tokens, or DINOv3-ConvNeXt's pooled token.
    has_class_token : bool
        Whether token 0 is one that attention filled.
    is_maps : bool
        Whether the network computes with maps (b, c, h, w), as convolutional networks do.
    has_patches : bool
        Whether the last states are tokens whose mean says something that "pooled" does not.
    """

    n_prefix: int = 0
    has_class_token: bool = False
    is_maps: bool = False
    has_patches: bool = False

    @property
    def readouts(self) -> tuple[str, ...]:
        """Names of the readouts that the layout gives."""
        cls = ("cls",) if self.has_class_token else ()
        mean = ("mean",) if self.has_patches else ()
        return ("pooled", *cls, *mean)

    def descriptions(self, pooled: str) -> dict[str, str]:
        """Say what each readout is, for the fingerprint and the user."""
        cls = {"cls": "class token after the last norm"} if self.has_class_token else {}
        mean = {"mean": "mean of the patch tokens after the last norm, float32"} if self.has_patches else {}
        layer = "class token" if self.has_class_token else "mean over places, float32"
        return {"pooled": pooled, **cls, **mean, "layer:k": f"{layer} of hidden state k"}
