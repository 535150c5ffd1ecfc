"""Time one training of each head, and of the MLP with each fusion, on 4,000 x 1,536 rows at 6 : 1 : 3.

    python benchmarks/heads_fit.py [--repeats 7] [--only PART_OF_A_NAME]

Prints the median and the range of the wall seconds, and the fewest processor seconds; the MLP runs 20 epochs
without stopping early. Takes two minutes. Repeats of different heads take turns, so that a busy spell of the
machine hits all of them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does

import numpy as np

BLOCKS = {"text.pooled": 768, "image.pooled": 768}
EPOCHS = {"max_epochs": 20, "patience": 20}
SEARCHED_WIDTH = 64  # of what blocks are projected to, in `tune`; 128 is the head's default


def main() -> None:
    """Run every benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", default="", help="time the lines whose name contains this")
    arguments = parser.parse_args()
    began = time.perf_counter()
    import heads

    say(f"import heads: {time.perf_counter() - began:.3f} s")
    X, y = rows()
    jobs = {name: job for name, job in fits(heads, X, y).items() if arguments.only in name}
    if not jobs:
        parser.error(f"no line contains {arguments.only!r}; the lines are {', '.join(fits(heads, X, y))}")
    for job in jobs.values():  # loads the libraries and warms the caches
        job()
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    used: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(arguments.repeats):
        for name, job in jobs.items():
            began, begun = time.perf_counter(), time.process_time()
            job()
            seconds[name].append(time.perf_counter() - began)
            used[name].append(time.process_time() - begun)
    for name, taken in seconds.items():
        spread = f"({min(taken):.2f} to {max(taken):.2f})"
        say(f"{name}: {statistics.median(taken):.2f} s {spread}, {min(used[name]):.2f} s of processor")


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Draw rows with 64 strong directions, as embeddings have, and a signal in three of them.

    Both blocks show it: one that does not speak would be left out, and half of the work with it.
    """
    random = np.random.default_rng(0)
    y = random.permutation(np.repeat([0, 1, 2], [2400, 400, 1200]))
    directions = random.normal(size=(4000, 64))
    directions[np.arange(4000), y] += 1
    X = directions @ random.normal(size=(64, 1536)) + random.normal(size=(4000, 1536))
    return X.astype(np.float32), y


def fits(heads: Any, X: np.ndarray, y: np.ndarray) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name."""
    jobs: dict[str, Callable[[], object]] = {}
    for name in ("logreg", "lightgbm"):
        jobs[name] = lambda name=name: heads.make_pipeline(name, blocks=BLOCKS).fit(X, y)
    for fusion in heads.FUSIONS:
        widths = (128,) if fusion in ("concat", "late") else (128, SEARCHED_WIDTH)
        for width in widths:
            parameters = {**EPOCHS, "fusion": fusion, "projection_width": width}
            name = f"mlp {fusion}{'' if len(widths) == 1 else f' of {width} units'}, 20 epochs"
            jobs[name] = lambda p=parameters: heads.make_pipeline("mlp", blocks=BLOCKS, parameters=p).fit(
                X, y
            )
    return jobs


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
