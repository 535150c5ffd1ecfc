"""Cards: the typed description of a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

MODALITIES = ("text", "image", "joint")


@dataclass(frozen=True)
class Card:
    """What a backbone is, where it comes from, and what its inputs and vectors look like.

    Attributes
    ----------
    name : str
        Registered name, ``hf:ORG/NAME``, or the name of a folder of weights (without its path, so that moving
        the folder changes no fingerprint).
    family : str
        Architecture family, such as "bert", "sentence-transformers", "clip" or "resnet18".
    modalities : tuple of {"text", "image", "joint"}
    readouts : dict of str to dict of str to int
        Modality -> readout -> width of its vectors. "pooled" is the default readout of every backbone.
    source : str
        Where the weights come from: "hf:ORG/NAME", "package:NAME", "torchvision:FILE" or "folder:NAME".
    revision : str or None
        Revision that `source` is asked for; None takes what is there.
    image_size : int or None
        Height and width that the network sees, in pixels.
    resize : int or None
        Length of the shorter side after resizing, in pixels.
    interpolation : {"bilinear", "bicubic"} or None
        Pillow filter, always with antialias.
    mean, std : tuple of 3 floats or None
        Normalisation of RGB values in 0 to 1.
    token_limit : int or None
        Most tokens of a text, special tokens included.
    padding : {"longest", "max_length"} or None
        "longest": padded tokens are masked, so texts may be bucketed by length.
    licence, paper : str
    parameters : int or None
        Approximate number of weights.

    Raises
    ------
    ValueError
        If a field that a modality needs is missing or out of range; all faults are named together.
    """

    name: str
    family: str
    modalities: tuple[str, ...]
    readouts: Mapping[str, Mapping[str, int]]
    source: str
    revision: str | None = None
    image_size: int | None = None
    resize: int | None = None
    interpolation: str | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    token_limit: int | None = None
    padding: str | None = None
    licence: str = "unknown"
    paper: str = "unknown"
    parameters: int | None = None

    def __post_init__(self) -> None:
        faults = [*self._readout_faults(), *self._text_faults(), *self._image_faults()]
        if faults:
            raise ValueError(f"Card '{self.name}' is not valid: {'; '.join(faults)}.")

    def as_dict(self) -> dict[str, Any]:
        """Return the card as plain values that JSON can hold."""
        plain = asdict(self)
        plain["modalities"] = list(self.modalities)
        plain["readouts"] = {modality: dict(widths) for modality, widths in self.readouts.items()}
        for field in ("mean", "std"):
            if plain[field] is not None:
                plain[field] = list(plain[field])
        return plain

    def _readout_faults(self) -> list[str]:
        faults = [
            f"modality '{m}' is not one of {', '.join(MODALITIES)}"
            for m in self.modalities
            if m not in MODALITIES
        ]
        if set(self.modalities) != set(self.readouts) or not self.modalities:
            faults.append(
                f"readouts are given for {list(self.readouts)}, modalities are {list(self.modalities)}"
            )
        for modality, widths in self.readouts.items():
            if "pooled" not in widths:
                faults.append(f"readout 'pooled' is missing for {modality}")
            faults += [f"width {w} of '{modality}.{r}' must be positive" for r, w in widths.items() if w < 1]
        return faults

    def _text_faults(self) -> list[str]:
        if "text" not in self.modalities:
            return []
        faults = []
        if self.token_limit is None or self.token_limit < 3:
            faults.append(f"token_limit {self.token_limit} must be at least 3")
        if self.padding not in ("longest", "max_length"):
            faults.append(f"padding {self.padding!r} must be 'longest' or 'max_length'")
        return faults

    def _image_faults(self) -> list[str]:
        if "image" not in self.modalities:
            return []
        faults = []
        if not self.image_size or not self.resize or self.resize < self.image_size:
            faults.append(
                f"resize {self.resize} must be at least image_size {self.image_size}, both positive"
            )
        if self.interpolation not in ("bilinear", "bicubic"):
            faults.append(f"interpolation {self.interpolation!r} must be 'bilinear' or 'bicubic'")
        if (
            self.mean is None
            or self.std is None
            or len(self.mean) != 3
            or len(self.std) != 3
            or min(self.std) <= 0
        ):
            faults.append(f"mean {self.mean} and std {self.std} must be three numbers each, std above 0")
        return faults
