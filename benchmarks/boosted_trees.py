"""Time a search over LightGBM configurations on 4,000 rows at 6 : 1 : 3, rung by rung.

    python benchmarks/boosted_trees.py [--rows 4000] [--members 60] [--widths 768,768] [--wide] [--seed 0]

All members go to 40 rounds on two folds, the better third to the end, the best eight on to all five folds.
Prints wall-clock and processor seconds of each step (on a busy machine only the latter count) and memory.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from peak import peak_bytes

from tuning import Configuration, confusion, macro_f1, make_folds
from tuning.boosted_trees import BoostedTrees
from tuning.reductions import Reductions

_FIRST_RUNG = 40

# Highest num_leaves, highest feature_fraction, widths of pca, max_bin.
_NARROW = (15, 0.3, (16, 32, 64), 31)
_WIDE = (31, 0.6, (32, 64, 128), 63)


def main() -> None:
    """Run the search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--members", type=int, default=60)
    parser.add_argument("--widths", default="768,768", help="columns of each block")
    parser.add_argument("--wide", action="store_true", help="wider ranges, which cost three times as much")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    blocks = {f"block {i}": int(width) for i, width in enumerate(arguments.widths.split(","))}
    X, y = rows(arguments.rows, list(blocks.values()), arguments.seed)
    folds = make_folds(y, n_folds=5, random_state=0)
    reductions = Reductions(X, y, folds, blocks=blocks)
    timed("reductions of five folds", lambda: [reductions.rows(fold, 128) for fold in range(5)])
    members = configurations(arguments.members, _WIDE if arguments.wide else _NARROW, arguments.seed)
    trees = BoostedTrees(members, reductions, n_classes=3, random_state=0)
    search(trees, y, folds)


def search(trees: BoostedTrees, y: np.ndarray, folds: list) -> None:
    """Take members up the rungs and time each."""
    everyone = list(range(len(trees.configurations)))
    last = len(trees.checkpoints) - 1
    first = trees.checkpoints.index(_FIRST_RUNG)

    def best(members: list[int], n: int) -> list[int]:
        """Keep the best by the mean over two folds at their best checkpoint."""
        scores = {m: float(mean_scores(trees, m, y, folds[:2]).max()) for m in members}
        kept = sorted(members, key=lambda m: -scores[m])[:n]
        for member in set(members) - set(kept):
            trees.drop(member)
        return kept

    def climb(members: list[int], numbers: range, until: int) -> None:
        trees.train(dict.fromkeys(members, until), numbers)

    timed(f"{len(everyone)} members, 2 folds, {_FIRST_RUNG} rounds", lambda: climb(everyone, range(2), first))
    third = best(everyone, max(1, len(everyone) // 3))
    timed(f"{len(third)} members, 2 folds, to the end", lambda: climb(third, range(2), last))
    few = best(third, 8)
    timed(f"{len(few)} members, 3 more folds", lambda: climb(few, range(2, 5), last))
    scores = {m: mean_scores(trees, m, y, folds) for m in few}
    winner = max(scores, key=lambda m: float(scores[m].max()))
    checkpoint = int(scores[winner].argmax())
    chosen = trees.final(winner, checkpoint)
    say(f"best: macro-F1 {scores[winner][checkpoint]:.4f} with {dict(chosen.parameters)}")


def mean_scores(trees: BoostedTrees, member: int, y: np.ndarray, folds: list) -> np.ndarray:
    """Return the mean macro-F1 over folds at each checkpoint."""
    per_fold = [
        [macro_f1(confusion(y[valid], p.argmax(axis=1), 3)) for p in trees.probabilities(member, fold)]
        for fold, (_, valid) in enumerate(folds)
    ]
    return np.mean(per_fold, axis=0)


def configurations(n: int, ranges: tuple[int, float, tuple[int, ...], int], seed: int) -> list[Configuration]:
    """Draw configurations."""
    leaves, fraction, widths, bins = ranges
    random = np.random.default_rng(seed)

    def log(low: float, high: float) -> float:
        return float(np.exp(random.uniform(np.log(low), np.log(high))))

    return [
        Configuration(
            "lightgbm",
            "none",
            {
                "n_estimators": 200,
                "max_bin": bins,
                "learning_rate": log(0.02, 0.3),
                "num_leaves": round(log(3, leaves)),
                "min_child_samples": round(log(5, 80)),
                "feature_fraction": float(random.uniform(0.1, fraction)),
                "reg_lambda": log(0.01, 100),
                "pca": widths[random.integers(3)],
                "class_weight": [None, "balanced"][random.integers(2)],
            },
        )
        for _ in range(n)
    ]


def rows(n: int, widths: list[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw blocks of correlated columns, as embeddings are, with signal in leading and middle directions."""
    random = np.random.default_rng(seed)
    y = random.permutation(np.select([np.arange(n) % 10 < 6, np.arange(n) % 10 < 7], [0, 1], 2))
    blocks = []
    for width in widths:
        Z = random.normal(size=(n, 150))
        a, b, c, d = random.choice(60, 4, replace=False)
        Z[:, a] += 0.6 * (y == 1)
        Z[:, b] += 0.5 * (y == 2)
        Z[:, c] += 0.5 * (y == 2) * np.sign(Z[:, d])
        noise = 0.5 * random.normal(size=(n, width))
        blocks.append((Z * np.linspace(1, 0.05, 150)) @ random.normal(size=(150, width)) + noise)
    return np.concatenate(blocks, axis=1).astype(np.float32), y.astype(np.int64)


def timed(what: str, job: Callable[[], object]) -> None:
    """Run a job and print what it cost."""
    wall, processor = time.perf_counter(), time.process_time()
    job()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = peak_bytes() / (1 << 20)
    say(f"{what}: {wall:.2f} s ({processor:.2f} s of processor time), peak memory {peak:.0f} MB")


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
