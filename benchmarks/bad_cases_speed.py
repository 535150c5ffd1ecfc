"""How long `find_bad_cases` takes on 4,000 rows of two blocks of 768 columns, texts and all.

    python benchmarks/bad_cases_speed.py [--rows 4000]

Makes a store with planted faults and a trained run in a temporary folder, then finds its bad cases in this
process. Prints wall and processor seconds, without imports, and how well the planted faults are found.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from sklearn.metrics import average_precision_score

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.bad_cases import find_bad_cases, write_bad_cases
from pipelines.tune import train
from pipelines.tune_settings import TuneSettings
from tests.pipelines.planted_errors import SLICE, plant


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        planted = plant(folder, n=rows, signal=8.0, width=768)
        run = train(TuneSettings(features=(str(planted.store),), heads=("ridge",), out=folder / "runs")).path
        wall, cpu = time.perf_counter(), time.process_time()
        found = find_bad_cases(run)
        write_bad_cases(found)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        precision = average_precision_score(planted.flipped, found.scores)
    lines = [
        f"{rows:,} rows, {len(found.cases):,} cases, {len(found.slices)} slices",
        f"{wall:.2f} s by the clock, {cpu:.2f} s of CPU",
        f"label errors: average precision {precision:.3f}; first slice {found.slices['name'][0]!r} (planted "
        f"{SLICE!r})",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
