"""Time what a newcomer meets: help, the demo twice, verifying a store, and training one head.

    python benchmarks/first_use.py [--skip-demo]

Prints one line per figure. Needs the extra ``demo``. Takes about two minutes.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

EMBEDONCE = [sys.executable, "-m", "pipelines"]


def main() -> None:
    """Run every benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--skip-demo", action="store_true")
    asked = parser.parse_args()
    report("embedonce --help", [seconds_of([*EMBEDONCE, "--help"]) for _ in range(7)])
    report("embedonce tune --help", [seconds_of([*EMBEDONCE, "tune", "--help"]) for _ in range(7)])
    with tempfile.TemporaryDirectory() as folder:
        if not asked.skip_demo:
            demo = [*EMBEDONCE, "demo", "--out", f"{folder}/demo"]
            report("embedonce demo, first call", [seconds_of(demo)])
            report("embedonce demo, nothing to do", [seconds_of(demo) for _ in range(3)])
        verify_large_store(Path(folder))
    train_heads()


def report(name: str, seconds: list[float]) -> None:
    """Print the median and the spread of a figure."""
    spread = f" ({min(seconds):.2f} to {max(seconds):.2f}, {len(seconds)} runs)" if len(seconds) > 1 else ""
    sys.stdout.write(f"{name}: {statistics.median(seconds):.2f} s{spread}\n")
    sys.stdout.flush()


def seconds_of(command: list[str]) -> float:
    """Run a command to its end."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def timed(work: Callable[[], object], repeats: int) -> list[float]:
    """Time a function."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return seconds


def verify_large_store(folder: Path) -> None:
    """Write and verify a store of 50,000 x 768 float32 (154 MB)."""
    from cache import verify_store
    from pipelines.importing import ImportSettings, import_arrays

    n_rows = 50_000
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(n_rows, 768)).astype(np.float32))
    lines = ["id,label", *(f"{i},{'ab'[i % 2]}" for i in range(n_rows))]
    (folder / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    settings = ImportSettings(folder / "t.csv", folder / "big.h5", text=folder / "x.npy")
    report("import 50,000 x 768 float32", timed(lambda: import_arrays(settings), 1))
    verify_store(folder / "big.h5")
    report("verify that store, warm", timed(lambda: verify_store(folder / "big.h5"), 5))


def train_heads() -> None:
    """Fit each head on 4,000 x 1,536 rows at 6:1:3."""
    from heads import make_pipeline

    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat([0, 1, 2], [2400, 400, 1200]))
    X = (rng.normal(size=(4000, 64)) @ rng.normal(size=(64, 1536)) + rng.normal(size=(4000, 1536))).astype(
        "f4"
    )
    X[np.arange(4000), y] += 4
    blocks = {"text.pooled": 768, "image.pooled": 768}
    for head in ("logreg", "mlp", "lightgbm"):
        make_pipeline(head, blocks=blocks).fit(X[:500], y[:500])  # loads the libraries
        report(
            f"fit {head}, 4,000 x 1,536", timed(lambda h=head: make_pipeline(h, blocks=blocks).fit(X, y), 3)
        )


if __name__ == "__main__":
    main()
