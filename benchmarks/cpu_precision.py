"""Measure what bf16 is worth on this processor, and what it costs in accuracy.

    python benchmarks/cpu_precision.py [--model b32|l14] [--images 64] [--rounds 5]

A plain transformers loop (float32, all cores in every forward, batches of 32, no gradients) against this
project's forwards (fixed shapes, one single-threaded forward per core) in fp32 and bf16: the same CLIP image
tower of random weights, the same ready tensors, in turns, medians over the rounds. The worst cosine is the
smallest over the images against the plain loop's vectors. Needs up to 1.8 GB of disk; takes one to five
minutes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is loaded

import numpy as np
import torch
from true_sizes import make_clip

BATCH = 32

Run = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=("b32", "l14"), default="b32")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    pixels = make_pixels(options.images)
    with tempfile.TemporaryDirectory() as folder:
        make_clip(Path(folder), size=options.model)
        paths = {
            "transformers loop, fp32": plain_loop(Path(folder)),
            "this project, fp32": own_forwards(Path(folder), "fp32"),
            "this project, bf16": own_forwards(Path(folder), "bf16"),
        }
        print_table(measure(paths, pixels, options.rounds), options.images)


def measure(
    paths: dict[str, Run], pixels: np.ndarray, rounds: int
) -> dict[str, tuple[list[float], np.ndarray]]:
    """Return the seconds of every round and the vectors of each path; the paths take turns."""
    results: dict[str, tuple[list[float], np.ndarray]] = {
        name: ([], run(pixels[:BATCH]))
        for name, run in paths.items()  # also warms up
    }
    for _ in range(rounds):
        for name, run in paths.items():
            began = time.perf_counter()
            vectors = run(pixels)
            results[name] = ([*results[name][0], time.perf_counter() - began], vectors)
    return results


def print_table(results: dict[str, tuple[list[float], np.ndarray]], n_images: int) -> None:
    """Print speed, ratio to the first path (median over the rounds of each round's ratio) and cosine."""
    from extract.precision import cpu_has_bf16

    (base_seconds, base), *_ = results.values()
    lines = [f"{'path':26}{'images/s':>10}{'ratio':>8}{'worst cosine':>14}"]
    for name, (seconds, vectors) in results.items():
        ratio = statistics.median(b / s for b, s in zip(base_seconds, seconds, strict=True))
        cosine = torch.nn.functional.cosine_similarity(
            torch.from_numpy(base), torch.from_numpy(vectors)
        ).min()
        rate = n_images / statistics.median(seconds)
        lines.append(f"{name:26}{rate:10.1f}{ratio:8.2f}{cosine:14.6f}")
    threads, has = torch.get_num_threads(), "has" if cpu_has_bf16() else "lacks"
    sys.stdout.write(
        "\n".join(lines) + f"\n{threads} threads, the processor {has} bf16, torch {torch.__version__}\n"
    )


def plain_loop(folder: Path) -> Run:
    """Return what a user writes without this project."""
    from transformers import CLIPVisionModelWithProjection, logging

    logging.set_verbosity_error()  # the checkpoint's text tower is left out, which it would list
    network = CLIPVisionModelWithProjection.from_pretrained(folder, dtype=torch.float32).eval()
    threads = torch.get_num_threads()

    def run(pixels: np.ndarray) -> np.ndarray:
        torch.set_num_threads(threads)
        with torch.no_grad():
            parts = [
                network(pixel_values=batch).image_embeds for batch in torch.from_numpy(pixels).split(BATCH)
            ]
        return torch.cat(parts).numpy()

    return run


def own_forwards(folder: Path, precision: str) -> Run:
    """Return the forwards of a pass: one core each, in batches of the tower's own size."""
    from extract import open_backbone

    tower = open_backbone(str(folder)).open_tower("image", precision=precision)
    size = tower.rows_per_forward(0) or BATCH
    cores = torch.get_num_threads()

    def run(pixels: np.ndarray) -> np.ndarray:
        batches = [pixels[start : start + size] for start in range(0, len(pixels), size)]
        with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            parts = list(pool.map(lambda batch: tower.forward(batch)["pooled"], batches))
        torch.set_num_threads(cores)
        return np.concatenate(parts)

    return run


def make_pixels(n_images: int) -> np.ndarray:
    """Return normalised pictures of random coarse shapes with noise, shape (n, 3, 224, 224), float32."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(n_images, 3, 8, 8, generator=random)
    smooth = torch.nn.functional.interpolate(coarse, size=224, mode="bicubic")
    noise = 0.1 * torch.randn(n_images, 3, 224, 224, generator=random)
    return ((smooth + noise).clamp(0, 1).sub(0.45) / 0.27).numpy()


if __name__ == "__main__":
    main()
