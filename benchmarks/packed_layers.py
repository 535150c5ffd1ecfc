"""Measure what packed layers are worth on this processor, and how far they move a vector.

    python benchmarks/packed_layers.py [--nets minilm,bert,...] [--precisions fp32,bf16] [--rounds 7]

The same tower twice, with packed weights and with torch's own layers, forwards of one thread on the same
ready inputs, in turns. Printed: milliseconds of the processor per input (medians over the rounds), their
ratio, and the worst cosine and the largest difference of a vector (over the largest number) between both.
MiniLM-L6 and EfficientNet-Lite0 have their real weights (extra ``test``), the others random ones of the true
size. Needs up to 3 GB of disk; takes about ten minutes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from true_sizes import make_bert, make_clip, make_resnet50, write_tweets

from extract import Backbone, open_backbone
from extract.backbones import arithmetic

#: Network -> its modality and how many inputs a round embeds.
NETS = {
    "minilm": ("text", 256),
    "bert": ("text", 64),
    "clip-b32-text": ("text", 64),
    "clip-b32": ("image", 16),
    "clip-l14": ("image", 8),
    "resnet50": ("image", 16),
    "efficientnet-lite0": ("image", 64),
}


def main() -> None:
    """Measure the networks that are named and print one line for each precision."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nets", default=",".join(NETS))
    parser.add_argument("--precisions", default="fp32,bf16")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    say(f"{'network':20}{'prec':>6}{'plain':>9}{'packed':>9}{'ratio':>7}{'worst cosine':>15}{'differs':>12}")
    with tempfile.TemporaryDirectory() as folder:
        texts = write_tweets(Path(folder) / "tweets.csv", 300)
        for name in options.nets.split(","):
            modality, n_inputs = NETS[name]
            backbone = opened(name, Path(folder) / name)
            for precision in options.precisions.split(","):
                say(
                    f"{name:20}{precision:>6}"
                    + measure(backbone, modality, precision, texts, n_inputs, options.rounds)
                )


def opened(name: str, folder: Path) -> Backbone:
    """Return a backbone, its checkpoint written first where it is a random one."""
    if name == "minilm":
        return open_backbone("minilm-l6")
    if name == "efficientnet-lite0":
        return open_backbone(name)
    if name == "bert":
        return open_backbone(str(make_bert(folder)))
    if name == "resnet50":
        return open_backbone(str(make_resnet50(folder)))
    return open_backbone(str(make_clip(folder, size="l14" if "l14" in name else "b32")))


def measure(
    backbone: Backbone, modality: str, precision: str, texts: Sequence[str], n_inputs: int, rounds: int
) -> str:
    """Return the figures of one network in one precision."""
    towers: list[Any] = [backbone.open_tower(modality, precision=precision)]
    with mock.patch.object(arithmetic, "pack_layers", lambda _: None):
        towers.insert(0, backbone.open_tower(modality, precision=precision))
    inputs = ready_inputs(towers[0], modality, texts[:n_inputs], n_inputs)
    plain, packed = (tower.forward(inputs)["pooled"].astype(np.float64) for tower in towers)  # warms up
    seconds: list[list[float]] = [[], []]
    for _ in range(rounds):
        for tower, spent in zip(towers, seconds, strict=True):
            began = time.process_time()
            tower.forward(inputs)
            spent.append(time.process_time() - began)
    before, after = (1e3 * statistics.median(spent) / n_inputs for spent in seconds)
    lengths = np.linalg.norm(plain, axis=1) * np.linalg.norm(packed, axis=1)
    cosine = np.min((plain * packed).sum(1) / lengths)
    difference = np.abs(plain - packed).max() / np.abs(plain).max()
    return f"{before:9.2f}{after:9.2f}{before / after:7.2f}{cosine:15.9f}{difference:12.1e}"


def ready_inputs(tower: Any, modality: str, texts: Sequence[str], n_inputs: int) -> list[Any]:
    """Return inputs of the tower: tokens of the texts, or pictures of random pixels."""
    if modality == "text":
        return list(tower.tokenise(texts))
    from PIL import Image

    numbers = np.random.default_rng(0)
    pictures = (numbers.integers(0, 256, (300, 300, 3), dtype=np.uint8) for _ in range(n_inputs))
    return [tower.preprocess(Image.fromarray(pixels)) for pixels in pictures]


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
