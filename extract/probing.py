"""Probing: the batch size of a tower on a GPU, found by trying once and remembered; its bytes on a CPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from extract.backbones.fixed_batches import CPU_IMAGES, CPU_TOKENS
from extract.batch_memory import BatchKey, BatchMemory, device_name, probe_batch_size
from extract.batches import IMAGE_ROWS, MAX_TEXT_ROWS, PAIR_ROWS
from extract.memory import TEXT_TOKENS, estimate_memory
from extract.samples import JOINT, TEXT

if TYPE_CHECKING:
    from extract.backbones import Backbone, ImageTower, JointTower, TextTower
    from extract.backbones.contract import Tower
    from extract.cards import Card

#: Words of the text that is tried: about the longest tweets.
_PROBE_WORDS = 60
_MOST_IMAGES = 1024
_MOST_PAIRS = 64
_START = {"text": 128, "image": IMAGE_ROWS, "joint": PAIR_ROWS}
_LIMIT = {"text": MAX_TEXT_ROWS, "image": _MOST_IMAGES, "joint": _MOST_PAIRS}


def bytes_on_cpu(backbone: Backbone, modality: str, precision: str, *, n_processes: int = 1) -> int:
    """Return about how much memory a tower takes on this machine's CPU, with a forward on every core.

    The weights count twice, as the file has them (in single precision at the most) and as the network
    multiplies with them: until every layer has run once, neither has been given back to the system. Half of
    what a forward takes is added for what the C library keeps between forwards
    (``benchmarks/cpu_memory.py``).

    Parameters
    ----------
    backbone : Backbone
    modality : str
    precision : str
    n_processes : int
        Processes that share the cores, each with the whole network.
    """
    import torch

    card = backbone.card
    if not card.parameters:  # a folder's card does not know them
        card = replace(card, parameters=backbone.count_parameters())
    estimate = estimate_memory(card, modality, precision)
    assert estimate is not None, "the card has parameters"
    as_read = estimate_memory(card, modality, "fp32")
    assert as_read is not None, "the card has parameters"
    n_inputs = torch.get_num_threads() * _inputs_per_forward(card, modality)
    return n_processes * (estimate.total(0) + as_read.weights) + n_inputs * estimate.per_input * 3 // 2


def _inputs_per_forward(card: Card, modality: str) -> int:
    """Return how many inputs, texts of full length, go through the network together on a CPU."""
    if modality == TEXT:
        return -(-CPU_TOKENS // max(1, min(card.token_limit or TEXT_TOKENS, TEXT_TOKENS)))
    return 1 if modality == JOINT else CPU_IMAGES


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
