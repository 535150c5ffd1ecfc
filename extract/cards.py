"""Cards: the typed description of a backbone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

MODALITIES = ("text", "image", "joint")
#: Families that read a text, an image or both as a message of a chat.
VISION_LANGUAGE_FAMILIES = frozenset({"qwen2_vl", "qwen2_5_vl", "qwen3_vl"})
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")


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
    resize_mode : {"shorter", "exact", "dynamic"}
        "shorter": the shorter side becomes `resize` and the middle square is cut out. "exact": the picture is
        squeezed to `resize` both ways and the middle square is cut out. "dynamic": the network takes many
        sizes; then `image_size`, `resize` and `interpolation` may be None.
    interpolation : {"nearest", "bilinear", "bicubic", "lanczos"} or None
        Pillow filter; all but "nearest" antialias.
    mean, std : tuple of 3 floats or None
        Normalisation of RGB values in 0 to 1.
    token_limit : int or None
        Most tokens of a text, special tokens included.
    padding : {"longest", "max_length"} or None
        "longest": padded tokens are masked, so texts may be bucketed by length.
    licence, paper : str
    parameters : int or None
        Approximate number of weights.
    weights_bytes : int or None
        Size of the weight file that `source` offers; None estimates it as float32.
    layers : dict of str to tuple of int
        Modality -> width of each hidden state that readout ``layer:k`` may take, k from 0 (the input of the
        first layer) to ``len - 1`` (the output of the last one). Empty if the network offers none.
    prompt : str
        Words that are put before every text, such as "query: "; part of the preprocessing.
    default_modalities : tuple of str
        Modalities that are embedded unless others are asked for; empty means all.

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
    resize_mode: str = "shorter"
    weights_bytes: int | None = None
    layers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    prompt: str = ""
    default_modalities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        faults = [*self._readout_faults(), *self._text_faults(), *self._image_faults()]
        if faults:
            raise ValueError(f"Card '{self.name}' is not valid: {'; '.join(faults)}.")

    def as_dict(self) -> dict[str, Any]:
        """Return the card as plain values that JSON can hold."""
        plain = asdict(self)
        plain["modalities"] = list(self.modalities)
        plain["readouts"] = {modality: dict(widths) for modality, widths in self.readouts.items()}
        plain["layers"] = {modality: list(widths) for modality, widths in self.layers.items()}
        plain["default_modalities"] = list(self.default_modalities)
        for name in ("mean", "std"):
            if plain[name] is not None:
                plain[name] = list(plain[name])
        return plain

    def width(self, modality: str, readout: str) -> int:
        """Return the number of columns of a readout.

        Parameters
        ----------
        modality : str
            One of `modalities`.
        readout : str
            A name from `readouts`, or ``layer:k``.

        Raises
        ------
        ValueError
            If the modality has no such readout; the message lists those that it has.
        """
        widths = self.readouts[modality]
        if readout in widths:
            return widths[readout]
        layers = self.layers.get(modality, ())
        match = re.fullmatch(r"layer:(\d{1,4})", readout)
        if match and int(match[1]) < len(layers) and readout == f"layer:{int(match[1])}":
            return layers[int(match[1])]
        offered = ", ".join(widths) + (f", layer:0 to layer:{len(layers) - 1}" if layers else "")
        raise ValueError(
            f"Readout '{readout}' of '{self.name}' does not exist for {modality}; allowed are {offered}. "
            "Change --readout."
        )

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
        unknown = (set(self.default_modalities) | set(self.layers)) - set(self.modalities)
        if unknown:
            faults.append(f"default_modalities or layers name {', '.join(sorted(unknown))}, not a modality")
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
        if self.resize_mode not in ("shorter", "exact", "dynamic"):
            faults.append(f"resize_mode {self.resize_mode!r} must be 'shorter', 'exact' or 'dynamic'")
        dynamic = self.resize_mode == "dynamic"
        if not dynamic and (not self.image_size or not self.resize or self.resize < self.image_size):
            faults.append(
                f"resize {self.resize} must be at least image_size {self.image_size}, both positive"
            )
        if not dynamic and self.interpolation not in INTERPOLATIONS:
            faults.append(f"interpolation {self.interpolation!r} must be one of {', '.join(INTERPOLATIONS)}")
        if (
            self.mean is None
            or self.std is None
            or len(self.mean) != 3
            or len(self.std) != 3
            or min(self.std) <= 0
        ):
            faults.append(f"mean {self.mean} and std {self.std} must be three numbers each, std above 0")
        return faults
