"""Probing: the batch size of a tower on a GPU, found by trying once and remembered; and memory limits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from extract.backbones.fixed_batches import CPU_IMAGES
from extract.batch_memory import BatchKey, BatchMemory, device_name, probe_batch_size
from extract.batches import IMAGE_ROWS, MAX_TEXT_ROWS, PAIR_ROWS
from extract.memory import MemoryEstimate, estimate_memory, limit_device_memory
from extract.samples import JOINT, TEXT

if TYPE_CHECKING:
    from extract.backbones import Backbone, ImageTower, JointTower, TextTower
    from extract.backbones.contract import Tower

#: Words of the text that is tried: about the longest tweets.
_PROBE_WORDS = 60
_MOST_IMAGES = 1024
_MOST_PAIRS = 64
_START = {"text": 128, "image": IMAGE_ROWS, "joint": PAIR_ROWS}
_LIMIT = {"text": MAX_TEXT_ROWS, "image": _MOST_IMAGES, "joint": _MOST_PAIRS}


def apply_memory_limit(
    towers: Sequence[tuple[Backbone, str]], modality: str, *, device: str, max_memory: int
) -> None:
    """Keep the device within `max_memory`, or refuse what cannot fit.

    A GPU's allocator is limited, so that a batch that is too large runs out of memory and is halved. On a CPU
    nothing can be limited: the estimate decides.

    Parameters
    ----------
    towers : sequence of (Backbone, precision)
        Those that are in memory together.
    modality : str
    device : str
    max_memory : int
        Bytes.

    Raises
    ------
    ValueError
        If a CPU pass would take more by the estimate.
    """
    if device != "cpu":
        limit_device_memory(device, max_memory)
        return
    import torch

    rows = CPU_IMAGES * torch.get_num_threads()
    needed = sum(_estimate(backbone, modality, precision).total(rows) for backbone, precision in towers)
    if needed > max_memory:
        names = " and ".join(f"'{backbone.card.name}'" for backbone, _ in towers)
        raise ValueError(
            f"Embedding {modality} inputs with {names} takes about {needed / 1e9:.2f} GB on this CPU, more "
            f"than --max-memory {max_memory / 1e9:.2f} GB. Allow more, set OMP_NUM_THREADS to fewer cores, "
            "or choose a smaller --backbone."
        )


def _estimate(backbone: Backbone, modality: str, precision: str) -> MemoryEstimate:
    card = backbone.card
    if not card.parameters:  # a folder's card does not know them
        card = replace(card, parameters=backbone.count_parameters())
    estimate = estimate_memory(card, modality, precision)
    assert estimate is not None, "the card has parameters"
    return estimate


def find_batch_size(
    backbone: Backbone,
    modality: str,
    tower: Tower,
    *,
    precision: str,
    device: str,
    max_memory: int | None,
    memory: BatchMemory | None = None,
) -> int:
    """Return the batch size of a tower on a GPU: remembered, or found by trying larger and larger ones.

    Parameters
    ----------
    backbone : Backbone
    modality : str
    tower : Tower
        Loaded on `device`.
    precision : str
    device : str
        "cuda" or "cuda:N".
    max_memory : int or None
        Limit in bytes that is in force.
    memory : BatchMemory, optional
        Default: the user's.

    Returns
    -------
    int
        Images or pairs per forward; for texts, padded tokens per forward.
    """
    key = BatchKey(backbone.weights_sha256(), modality, precision, device_name(device), max_memory)
    return remembered_size(key, modality, tower, memory or BatchMemory())


def remembered_size(key: BatchKey, modality: str, tower: Tower, memory: BatchMemory) -> int:
    """Return what `memory` has for `key`; else probe with made-up inputs, and remember."""
    known = memory.remembered(key)
    if known is not None:
        return known
    item, weight = _made_up(modality, tower)
    rows = probe_batch_size(_timed(tower, item), start=_START[modality], limit=_LIMIT[modality])
    memory.remember(key, rows * weight)
    return rows * weight


def _made_up(modality: str, tower: Tower) -> tuple[Any, int]:
    """Return an input for `tower`, and what it counts in the unit of the batch size."""
    from PIL import Image

    if modality == TEXT:
        text_tower = cast("TextTower", tower)
        tokens = text_tower.tokenise([" ".join(["word"] * _PROBE_WORDS)])[0]
        return tokens, text_tower.bucket(tokens)
    picture = Image.new("RGB", (512, 384), "grey")
    if modality == JOINT:
        return cast("JointTower", tower).prepare("a word or two", picture), 1
    return cast("ImageTower", tower).preprocess(picture), 1


def _timed(tower: Any, item: Any) -> Callable[[int], float]:
    def run(n_rows: int) -> float:
        began = time.perf_counter()
        tower.forward([item] * n_rows)  # returns arrays in host memory, so the device has finished
        return time.perf_counter() - began

    return run
