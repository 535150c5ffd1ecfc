"""Memory: sizes as words, what a tower takes on its device (an estimate), and a limit that the device keeps.

The estimate is arithmetic on the card, so it needs no weights and no torch. Live tensors of single forwards
were counted for it, in elements (numbers) per input:

=====================================  =========================
network                                peak
=====================================  =========================
CLIP image B/32 and L/14, CLIP text    16.0 per token and column
BERT-base at 128 and 512 tokens        11.0 and 11.2
the same, with every layer's states    13.0 and 13.2
ResNet50, EfficientNet-B0              52 per pixel
ConvNeXt-Base                          80 per pixel
=====================================  =========================

It takes the upper values. Not in it: the CUDA context (outside of torch's reach), the blocks
that torch's allocator keeps in reserve, and attention without a fused kernel, which grows with the square of
the tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from extract.cards import VISION_LANGUAGE_FAMILIES, Card

#: Inputs that go through the network together in a quoted figure.
QUOTED_INPUTS = 16

_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
_PER_TOKEN_AND_COLUMN = 16
_PER_PIXEL = 80
#: Workspaces of the matrix library.
_WORKSPACE = 64_000_000
#: Image tokens of a network that takes pictures of many sizes.
_DYNAMIC_TOKENS = 1024
#: Longest text that is counted: some networks take 8192 tokens, which no post has.
TEXT_TOKENS = 512
_FINEST_PATCH = 14
_PATCH = re.compile(r"patch(\d\d)|vit[-_]?[a-z]+(\d\d)\b|-[bslhg](\d\d)\b")
_CONVOLUTIONAL = re.compile(
    r"resnet|resnext|efficientnet|convnext|mobilenet|regnet|densenet|nfnet|inception|vgg"
)
_UNITS = {"": 1, **{unit: 1000 ** (i + 1) for i, unit in enumerate("kmgt")}} | {
    f"{unit}i": 1024 ** (i + 1) for i, unit in enumerate("kmgt")
}


@dataclass(frozen=True)
class MemoryEstimate:
    """About how much device memory a tower takes.

    Attributes
    ----------
    weights : int
        Bytes of the weights.
    per_input : int
        Bytes that one input adds while it is embedded: an image, a text of full length (at most 512 tokens),
        or both.
    """

    weights: int
    per_input: int

    def total(self, n_inputs: int = QUOTED_INPUTS) -> int:
        """Return the bytes of a forward of `n_inputs`."""
        return self.weights + n_inputs * self.per_input + _WORKSPACE


def estimate_memory(card: Card, modality: str, precision: str = "fp16") -> MemoryEstimate | None:
    """Estimate the device memory of one tower from its card; None if the card does not know its parameters.

    Parameters
    ----------
    card : Card
    modality : {"text", "image", "joint"}
        One of the card's.
    precision : {"fp32", "fp16", "bf16"}
    """
    if not card.parameters:
        return None
    elements = (
        _PER_PIXEL * card.image_size**2
        if modality == "image" and card.image_size and _is_convolutional(card)
        else _PER_TOKEN_AND_COLUMN * _tokens(card, modality) * _width(card, modality)
    )
    size = _BYTES[precision]
    return MemoryEstimate(size * _tower_parameters(card, modality), size * elements)


def largest_estimate(card: Card, precision: str = "fp16") -> MemoryEstimate | None:
    """Return the estimate of the tower that takes the most; never two are in memory together."""
    towers = [estimate_memory(card, m, precision) for m in card.default_modalities or card.modalities]
    known = [tower for tower in towers if tower is not None]
    return max(known, key=MemoryEstimate.total) if known else None


def parse_bytes(text: str) -> int:
    """Return the number of bytes that a size such as "4GB", "512 MiB" or "1.5g" stands for.

    Raises
    ------
    ValueError
        If it is not a positive number with a unit that is known.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(|[kmgt]i?)b?\s*", text.lower())
    n_bytes = int(float(match[1]) * _UNITS[match[2]]) if match else 0
    if n_bytes < 1:
        raise ValueError(
            f"Memory size {text!r} is not valid; allowed is a number above 0 with kB, MB, GB, TB (powers of "
            "1000) or KiB, MiB, GiB, TiB (powers of 1024), such as 4GB."
        )
    return n_bytes


def limit_device_memory(device: str, n_bytes: int) -> None:
    """Make torch raise out of memory on a CUDA device rather than hold more than `n_bytes` there.

    Counted is what torch's allocator holds on the device for this process, reserved blocks included: weights,
    activations, workspaces. Not counted are the CUDA context and loaded kernels (present as soon as the
    device is used), libraries that allocate by themselves, and other processes. The limit stays
    until it is set again. A limit above the device's memory changes nothing.

    Parameters
    ----------
    device : str
        "cuda" or "cuda:N".
    n_bytes : int

    Raises
    ------
    ValueError
        If the device is a CPU, whose memory torch cannot limit.
    """
    if not device.startswith("cuda"):
        raise ValueError(
            f"--max-memory limits the memory of a GPU, but the device is '{device}'. Leave it out: on a CPU "
            "a pass holds the network and a few inputs per core, whatever the number of rows."
        )
    import torch

    total = torch.cuda.get_device_properties(device).total_memory
    index = torch.device(device).index  # which torch asks for here, unlike elsewhere
    torch.cuda.set_per_process_memory_fraction(
        min(1.0, n_bytes / total), torch.cuda.current_device() if index is None else index
    )


def _tower_parameters(card: Card, modality: str) -> int:
    """Return about how many weights the tower of one modality has."""
    total = card.parameters or 0
    others = [m for m in card.modalities if m != modality]
    if modality == "joint" or not others or card.family in VISION_LANGUAGE_FAMILIES:
        return total  # one network reads it all
    if not all(card.layers.get(m) for m in card.modalities):
        return total  # an upper bound: the card does not tell the towers apart
    if modality == "image":
        return min(total, _layer_parameters(card, "image"))
    # What is left is the text tower: it has the word embeddings, whose number the card does not know.
    return max(0, total - sum(_layer_parameters(card, m) for m in others))


def _layer_parameters(card: Card, modality: str) -> int:
    """Return the weights of a transformer's layers: 4 d^2 of attention and 8 d^2 of the MLP each."""
    return sum(12 * width**2 for width in card.layers[modality][1:])


def _width(card: Card, modality: str) -> int:
    return max([*card.layers.get(modality, ()), *card.readouts[modality].values()])


def _tokens(card: Card, modality: str) -> int:
    """Return the most tokens of one input."""
    text = min(card.token_limit or 0, TEXT_TOKENS)
    if modality == "text":
        return text
    image = _DYNAMIC_TOKENS
    if card.image_size:
        image = (card.image_size // _patch_size(card)) ** 2 + 1
    return image if modality == "image" else image + text


def _patch_size(card: Card) -> int:
    """Return the patch size that the names give ("patch32", "vit-b16"), else the finest usual one."""
    found = _PATCH.search(f"{card.source} {card.name}".lower())
    return int(next(digits for digits in found.groups() if digits)) if found else _FINEST_PATCH


def _is_convolutional(card: Card) -> bool:
    return bool(_CONVOLUTIONAL.search(f"{card.family} {card.name}".lower()))
