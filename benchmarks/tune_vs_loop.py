"""``tune``'s search and decision against the loop that a careful user writes, on the same data in one run.

    python benchmarks/tune_vs_loop.py [--trials 200] [--sample 2] [--rows 4000] [--columns 1536] [--alone]

The loop cross-validates each configuration by itself with the plain heads on standardised columns (as
scikit-learn, imbalanced-learn, LightGBM and torch would), and is run on a sample of the search's own space.
"""

import argparse
import sys
import time

import numpy as np
from numpy.typing import NDArray
from peak import peak_bytes

from heads import default_parameters
from pipelines.finalists import repeats_of
from tuning import Configuration, decide_on_splits, evaluate, make_folds, search

HEADS = ("mlp", "logreg", "lightgbm")


def make_data(n_rows: int, n_columns: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return rows like embeddings: correlated directions that carry three classes at 6:1:3, and noise."""
    random = np.random.default_rng(seed)
    y = random.choice(3, size=n_rows, p=[0.6, 0.1, 0.3])
    rank = min(120, n_columns // 4)
    mixing = random.normal(size=(rank, n_columns)) * (np.arange(1, rank + 1) ** -0.5)[:, None]
    hidden = random.normal(size=(n_rows, rank)) + 0.2 * random.normal(size=(3, rank))[y]
    hidden[:, :20] += 0.3 * np.tanh(hidden[:, rank - 20 :])
    X = hidden @ mixing + 0.3 * random.normal(size=(n_rows, n_columns))
    return X.astype(np.float32), y.astype(np.int64)


def say(text: str) -> None:
    """Write one line of the result."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def plain_loop(
    X: NDArray[np.float32], y: NDArray[np.int64], blocks: dict[str, int], n_sample: int
) -> dict[str, float]:
    """Return the seconds of one trial of each head: the mean of `n_sample` of them."""
    folds = make_folds(y)
    raw = {
        "mlp": {"validation_fraction": 0.0, "max_epochs": 30, "batch_size": 128},
        "logreg": {},
        "lightgbm": {"pca": None, "num_leaves": 31, "feature_fraction": 1.0, "max_bin": 255},
    }
    seconds = {}
    for head in HEADS:
        began = time.perf_counter()
        for number in range(n_sample):
            changes = {"class_weight": None if number % 2 else "balanced"}
            configuration = Configuration(head, "none", {**default_parameters(head), **raw[head], **changes})
            evaluate(configuration, X, y, folds, blocks=blocks, n_classes=3)
        seconds[head] = (time.perf_counter() - began) / n_sample
    return seconds


def main() -> None:
    """Run both sides and print what each took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--sample", type=int, default=1, help="plain trials of each head")
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--columns", type=int, default=1536)
    parser.add_argument("--seed", type=int, default=0, help="of the search")
    parser.add_argument("--alone", action="store_true", help="leave the plain loop out")
    options = parser.parse_args()
    X, y = make_data(options.rows, options.columns, 0)
    blocks = {"text.pooled": options.columns // 2, "image.pooled": options.columns - options.columns // 2}
    began = time.perf_counter()
    found = search(
        X,
        y,
        heads=HEADS,
        n_trials=options.trials,
        blocks=blocks,
        folds=make_folds(y),
        n_classes=3,
        random_state=options.seed,
    )
    searched = time.perf_counter() - began
    n_repeats = repeats_of(None, n_trials=options.trials, shape=X.shape)
    found, _ = decide_on_splits(found, X, y, blocks=blocks, n_repeats=n_repeats, random_state=options.seed)
    ours = time.perf_counter() - began
    used = time.process_time()
    peak = peak_bytes() / 2**30
    made = [*found.trials, *found.dropped]
    count = {head: sum(t.configuration.head == head for t in made) for head in HEADS}
    best = found.trials[found.best]
    say(f"search: {ours:.1f} s ({used:.0f} s of processor time), {len(made)} trials {count}, {peak:.2f} GiB")
    say(f"of which finalists on other splits: {ours - searched:.1f} s")
    say(f"best: {best.configuration.head} {best.score:.4f}")
    if options.alone:
        return
    plain = plain_loop(X, y, blocks, options.sample)
    for head, seconds in plain.items():
        say(f"plain loop, one trial of {head}: {seconds:.1f} s")
    loop = sum(count[head] * seconds for head, seconds in plain.items())
    say(f"plain loop, the same trials: {loop:.0f} s, {loop / ours:.0f} times as long")


if __name__ == "__main__":
    main()
