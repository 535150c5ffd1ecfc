"""Precision: the number format of a forward, and what "auto" stands for. Importing this loads no torch.

Measured on an AMD EPYC with avx512_bf16, torch 2.15, one thread, forwards of the size that a pass uses
(``benchmarks/cpu_precision.py`` gives the figures of the machine at hand). "Worst cosine" is the smallest
over the rows against float32; where weights are random they have the true size.

==============================  ============  ========================================================
network                         bf16 / fp32   worst cosine
==============================  ============  ========================================================
BERT-base, RoBERTa, FLAVA text  1.95 to 2.1   0.99998 (random)
DeBERTa v1 and v3               2.1 to 2.4    0.99999 (random)
CLIP images B/32, L/14          1.85          0.99999 (random)
ViT, DINOv2, DINOv3, BLIP, ...  1.8 to 2.0    0.99995 (random)
SigLIP B/16 images, texts       1.7, 1.9      0.99997 (random)
MiniLM-L6                       1.8           0.99998 (trained)
ResNet50, ConvNeXt-Base         2.1           0.99999 (random: says little about convolutional networks)
EfficientNet-Lite0              2.4           0.9964 (trained): below the tolerance of 0.999
==============================  ============  ========================================================

The ratios are of torch's own layers; since layers keep packed weights, which gains more in fp32, they are
smaller (``benchmarks/packed_layers.py``: MiniLM-L6 1.65, BERT-base 1.76, CLIP B/32 1.72, ResNet50 1.93).

So "auto" takes bf16 for transformers and leaves convolutional networks in fp32: the one that could be
measured with trained weights misses the tolerance. Small networks stay in fp32 as well: they are done in
minutes, so there is little to gain.
"""

from __future__ import annotations

from extract.cards import VISION_LANGUAGE_FAMILIES, Card

PRECISIONS = ("fp32", "fp16", "bf16")

#: Smallest number of weights for which "auto" leaves fp32 on a CPU.
BF16_PARAMETERS = 60_000_000

#: Families of transformers whose bf16 forward was measured on a CPU (speed and cosine, see above), and two
#: that are the same networks: camembert (RoBERTa) and metaclip_2 (CLIP).
BF16_FAMILIES = frozenset(
    {
        "beit",
        "bert",
        "blip",
        "camembert",
        "chinese_clip",
        "clip",
        "deberta",
        "deberta-v2",
        "dinov2",
        "dinov2_with_registers",
        "dinov3_vit",
        "distilbert",
        "electra",
        "flava",
        "metaclip_2",
        "mpnet",
        "roberta",
        "sentence-transformers",
        "siglip",
        "siglip2",
        "swin",
        "vit",
        "xlm-roberta",
    }
)


def resolve_precision(precision: str, device: str, card: Card | None = None) -> str:
    """Return the precision that "auto" stands for on a resolved device.

    Parameters
    ----------
    precision : {"auto", "fp32", "fp16", "bf16"}
    device : str
        "cpu", "cuda" or "cuda:N".
    card : Card or None
        The backbone; None leaves "auto" at fp32 on a CPU.

    Returns
    -------
    {"fp32", "fp16", "bf16"}
        For "auto": on CUDA fp16, and bf16 for vision-language models, which overflow in fp16; on a CPU bf16
        if the processor multiplies it in hardware and the backbone is a large transformer (see
        :func:`gains_from_bf16`), else fp32.

    Raises
    ------
    ValueError
        If `precision` is not one of those words.
    """
    if precision == "auto":
        if device.startswith("cuda"):
            return "bf16" if card is not None and card.family in VISION_LANGUAGE_FAMILIES else "fp16"
        return "bf16" if card is not None and gains_from_bf16(card) and cpu_has_bf16() else "fp32"
    if precision not in PRECISIONS:
        raise ValueError(f"Precision '{precision}' is not known; allowed are auto, {', '.join(PRECISIONS)}.")
    return precision


def gains_from_bf16(card: Card) -> bool:
    """Whether a backbone is large enough, and of a family that was measured, to compute in bf16 on a CPU.

    A card that was read from a folder does not know its parameters; its layers then tell its size.
    """
    in_layers = sum(12 * width**2 for widths in card.layers.values() for width in widths[1:])
    return card.family in BF16_FAMILIES and (card.parameters or in_layers) >= BF16_PARAMETERS


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bf16 matrices in hardware (AVX512-BF16 or AMX), by torch's own test.

    Without it torch emulates bf16, which is slower than fp32. ARM processors count as without: not measured.
    """
    import torch

    # Neither name is public, so a later torch may lack them; then nothing is known, and fp32 is always right.
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, test, bool)() for test in tests)
