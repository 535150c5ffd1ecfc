"""How long an ablation of 12 rows x 5 folds takes on 4,000 x 1,536 features, from stores to tables.

    python benchmarks/ablate_speed.py [--rows 4000] [--width 768] [--heads logreg,mlp]

Two sets of stores (text and image of one width each) and two heads: each modality alone and both. Prints the
seconds of the whole command by the clock and of CPU, of the fits added up, and of each head, and how many
cores it had.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.ablate import AblateSettings, ablate
from pipelines.ablation.fitting import n_threads
from pipelines.importing import ImportSettings, import_arrays


def _vectors(codes: np.ndarray, width: int, seed: int) -> np.ndarray:
    """Return correlated columns, as embeddings have: 64 directions and noise."""
    generator = np.random.default_rng(seed)
    hidden = generator.normal(size=(len(codes), 64))
    hidden[:, :3] += 0.6 * np.eye(3)[codes]
    mixed = hidden @ generator.normal(size=(64, width)) / 8
    return (mixed + 0.5 * generator.normal(size=mixed.shape)).astype(np.float32)


def _stores(folder: Path, n_rows: int, width: int) -> tuple[str, ...]:
    """Import two sets of stores at 6 : 1 : 3 and return them as values of --swap."""
    codes = np.random.default_rng(0).choice(3, size=n_rows, p=[0.6, 0.1, 0.3])
    table = folder / "table.csv"
    table.write_text("\n".join(["id,label", *(f"{i},{'abc'[c]}" for i, c in enumerate(codes))]) + "\n")
    swaps = []
    for number, name in enumerate(("first", "second")):
        paths = []
        for place, modality in enumerate(("text", "image")):
            paths.append(folder / f"{name}-{modality}.npy")
            np.save(paths[-1], _vectors(codes, width, 10 * number + place))
        store = folder / f"{name}.h5"
        import_arrays(ImportSettings(table, store, paths[0], paths[1], None))
        swaps.append(f"{name}={store}")
    return tuple(swaps)


def main() -> None:
    """Measure once and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--width", type=int, default=768, help="of each modality")
    parser.add_argument("--heads", default="logreg,mlp")
    parser.add_argument("--shuffles", type=int, default=0, help="as of embedonce ablate")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        swaps = _stores(folder, options.rows, options.width)
        settings = AblateSettings(
            swap=swaps, heads=tuple(options.heads.split(",")), shuffles=options.shuffles, out=folder / "runs"
        )
        began, used = time.perf_counter(), time.process_time()
        found = ablate(settings)
        seconds, used = time.perf_counter() - began, time.process_time() - used
    fits = sum(row["seconds"] for row in found.rows)
    by_head = {row["head"]: 0.0 for row in found.rows}
    for row in found.rows:
        by_head[row["head"]] += row["seconds"]
    print(  # noqa: T201
        f"{len(found.rows)} rows x 5 folds on {options.rows:,} x {2 * options.width:,}: {seconds:.1f} s, "
        f"{used:.1f} s of CPU; fits {fits:.1f} s on {n_threads()} threads ("
        + ", ".join(f"{head} {value:.1f} s" for head, value in by_head.items())
        + f"); load average at the end {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
