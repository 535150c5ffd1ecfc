"""Train logistic regression and an MLP on rows that stay on disk: time and memory by the number of rows.

    python benchmarks/heads_at_scale.py [--rows 10000 100000 1000000] [--epochs 2] [--folder FOLDER]

Writes one synthetic HDF5 matrix of float16 x 768 (1.5 GB at a million rows) into a temporary folder, chunk by
chunk, and trains on its first rows through ``heads.make_pipeline``, imputer included. Every line is a process
of its own: wall and processor seconds and the largest resident set. All sizes are read by chunks, the small
ones too, which would otherwise be read as a whole. The MLP has its default settings but for the epochs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does

import h5py
import numpy as np
from peak import peak_bytes
from train_at_scale import MIB, WIDTH, in_child

CHUNK_ROWS = 512
TEST_ROWS = 2000


def main() -> None:
    """Write the matrix and time every head on every size, or one of them in a child process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--heads", nargs="+", default=["logreg", "mlp"], choices=["logreg", "mlp"])
    parser.add_argument("--epochs", type=int, default=2, help="of the MLP")
    parser.add_argument("--folder", type=Path, help="where the matrix goes, and stays (else a temporary one)")
    parser.add_argument("--child", nargs=3, metavar=("FILE", "HEAD", "ROWS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        file, head, rows = arguments.child
        sys.stdout.write(json.dumps(fit(Path(file), head, int(rows), arguments.epochs)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        path = (arguments.folder or Path(temporary)) / "rows.h5"
        if not path.exists():
            write(path, max(arguments.rows) + TEST_ROWS)
        for head in arguments.heads:
            for rows in arguments.rows:
                say(head, rows, run(path, head, rows, arguments.epochs))


def write(path: Path, n_rows: int) -> None:
    """Write rows with a weak signal of three classes at 6:1:3 in 64 columns, one chunk at a time."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(3, 64)).astype(np.float32) * 0.3
    with h5py.File(path, "w") as file:
        X = file.create_dataset("x", (n_rows, WIDTH), "f2", chunks=(CHUNK_ROWS, WIDTH))
        y = file.create_dataset("y", (n_rows,), "i4")
        step = 16 * CHUNK_ROWS
        for start in range(0, n_rows, step):
            size = min(step, n_rows - start)
            labels = random.choice(3, size=size, p=[0.6, 0.1, 0.3])
            rows = random.standard_normal((size, WIDTH), dtype=np.float32)
            rows[:, :64] += centres[labels]
            X[start : start + size] = rows
            y[start : start + size] = labels


def run(path: Path, head: str, rows: int, epochs: int) -> dict[str, float]:
    """Train in a child process; return what it measured."""
    return in_child(__file__, "--epochs", str(epochs), "--child", str(path), head, str(rows))


def fit(path: Path, head: str, n_rows: int, epochs: int) -> dict[str, float]:
    """Train one head on the first rows and score it on the last."""
    import heads
    from heads import large_rows

    large_rows.LARGE_BYTES = 0
    parameters = {} if head == "logreg" else {"max_epochs": epochs, "patience": epochs}
    pipeline = heads.make_pipeline(head, parameters=parameters)
    with h5py.File(path) as file:
        X, y = file["x"], file["y"][:]
        began, used = time.perf_counter(), time.process_time()
        pipeline.fit(First(X, n_rows), y[:n_rows])
        wall, cpu = time.perf_counter() - began, time.process_time() - used
        accuracy = float((pipeline.predict(X[-TEST_ROWS:]) == y[-TEST_ROWS:]).mean())
    peak = peak_bytes() / MIB
    passes = int(pipeline["head"].n_iter_) if head == "logreg" else epochs
    return {"wall": wall, "cpu": cpu, "peak_mb": peak, "passes": passes, "accuracy": accuracy}


class First:
    """The first rows of a matrix on disk."""

    def __init__(self, X: h5py.Dataset, n_rows: int) -> None:
        self._source, self.shape, self.dtype, self.chunks = X, (n_rows, WIDTH), X.dtype, X.chunks

    def __getitem__(self, rows: slice) -> np.ndarray:
        found: np.ndarray = self._source[rows.start : min(rows.stop, self.shape[0])]
        return found


def say(head: str, rows: int, found: dict[str, float]) -> None:
    """Print one line at once."""
    kind = "iterations" if head == "logreg" else "epochs"
    sys.stdout.write(
        f"{head} {rows:,} x {WIDTH}: {found['wall']:.1f} s wall, {found['cpu']:.1f} s CPU, "
        f"{found['peak_mb']:,.0f} MB, {found['passes']:.0f} {kind}, accuracy {found['accuracy']:.3f}\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
