"""What a useless modality costs each fusion: text alone against text beside a block that says nothing.

    python benchmarks/useless_block.py --text TEXT.h5 --other IMAGE.h5 [--seeds 0 1 2 3 4] [--folds 5]
                                       [--block shuffled | noise] [--columns N] [--heads logreg concat]

The stores are those of one data set, such as ``demo/features/minilm-l6.h5`` and
``demo/features/efficientnet-lite0.h5`` of ``embedonce demo``. The useless block is the other store's vectors
dealt to other rows (``shuffled``: as wide and as structured as a real modality) or standard normal numbers of
the same width (``noise``), cut to ``--columns``. Every seed has its own folds, first weights and deal. Each
fusion of the MLP, and logistic regression as a yardstick, is trained with its defaults on text alone and on
both blocks, on the same folds; printed are both macro-F1 (means over seeds), and the mean difference with the
standard error of the seeds' differences. Takes about 20 s of processor time a line on the demo.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does

import numpy as np

from heads import FUSIONS
from pipelines.matrices import Matrix, read_matrix
from pipelines.trainable import matrix_folds
from tuning import Configuration, evaluate

MOST_LOST = 0.02


def main() -> None:
    """Measure every fusion on every seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--text", required=True, metavar="FILE[:SPACE]")
    parser.add_argument("--other", required=True, metavar="FILE[:SPACE]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--block", choices=["shuffled", "noise"], default="shuffled")
    parser.add_argument("--columns", type=int, help="of the useless block (default: all)")
    names = ["logreg", *FUSIONS]
    parser.add_argument("--heads", nargs="+", choices=names, default=names)
    arguments = parser.parse_args()
    matrix = read_matrix([arguments.text, arguments.other], use_views=0, duplicates="exact")
    block = (arguments.block, arguments.columns)
    for head in arguments.heads:
        began = time.process_time()
        pairs = [scores(matrix, head, seed, arguments.folds, block) for seed in arguments.seeds]
        alone, both = np.array(pairs).T
        gaps = both - alone
        error = gaps.std(ddof=1) / np.sqrt(len(gaps)) if len(gaps) > 1 else float("nan")
        verdict = "loses more than 0.02" if gaps.mean() < -MOST_LOST else "holds"
        by_seed = " ".join(f"{gap:+.3f}" for gap in gaps)
        sys.stdout.write(
            f"{head}: {alone.mean():.3f} alone, {both.mean():.3f} with the block, difference "
            f"{gaps.mean():+.3f} (standard error {error:.3f}; by seed {by_seed}), {verdict}; "
            f"{time.process_time() - began:.0f} s CPU\n"
        )
        sys.stdout.flush()


def scores(
    matrix: Matrix, head: str, seed: int, n_folds: int, block: tuple[str, int | None]
) -> tuple[float, float]:
    """Cross-validate a head on text alone and beside the useless block; return both macro-F1."""
    rows, (text, other) = matrix.training, list(matrix.blocks)
    folds = matrix_folds(matrix, n_folds, seed)
    useless = useless_block(matrix.columns([other])[rows, : block[1]], block[0], seed)
    known = matrix.columns([text])[rows]
    settings = {"n_classes": len(matrix.class_names), "metric": "macro-f1", "random_state": seed}
    configuration = Configuration("mlp", "none", {"fusion": head})
    if head == "logreg":
        configuration = Configuration("logreg", "none", {})
    inputs = [
        (known, {text: known.shape[1]}),
        (np.concatenate([known, useless], axis=1), {text: known.shape[1], other: useless.shape[1]}),
    ]
    alone, both = (
        evaluate(configuration, X, matrix.labels[rows], folds, blocks=widths, **settings).score  # type: ignore[arg-type]
        for X, widths in inputs
    )
    return alone, both


def useless_block(vectors: np.ndarray, kind: str, seed: int) -> np.ndarray:
    """Return a block of the same shape that says nothing about its rows."""
    random = np.random.default_rng(seed)
    if kind == "noise":
        return random.standard_normal(vectors.shape, dtype=np.float32)
    return vectors[random.permutation(len(vectors))]


if __name__ == "__main__":
    main()
