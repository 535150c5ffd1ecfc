"""How many matrices training in memory holds: peak of ``embedonce train`` and ``tune``, in sizes of X.

    PYTHONPATH=. python benchmarks/training_memory.py [--rows 16000] [--heads ridge ...] [--tune mlp ...]

Every head is trained with its default settings, and every search made, in a process of its own, in five
folds, on a store as ``train_at_scale.py`` writes it; X is its 768 columns in float32. A small run loads the
libraries first, and what the process holds after that does not count. Rows are not compared for near
duplicates. The most of all this is what ``pipelines/matrix_memory.TRAINING`` is for: a matrix that would not
fit so many times is refused beforehand.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does

from peak import peak_bytes, resident_bytes
from train_at_scale import MIB, WIDTH, in_child, write

HEADS = ("logreg", "ridge", "svm", "centroid", "knn", "mlp", "lightgbm")
WARM_ROWS = 500


def main() -> None:
    """Train every head, or one of them in a child process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=16_000)
    parser.add_argument("--heads", nargs="*", default=HEADS, choices=HEADS, help="of train")
    parser.add_argument("--tune", nargs="*", default=("mlp", "logreg", "lightgbm"), help="heads to search")
    parser.add_argument("--trials", type=int, default=6, help="of each search")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        command, head, store, warm = arguments.child
        found = measure(command, head, Path(store), Path(warm), arguments.trials)
        sys.stdout.write(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as temporary:
        store, warm = (write(Path(temporary) / f"{n}.h5", "image", n) for n in (arguments.rows, WARM_ROWS))
        for command, heads in (("train", arguments.heads), ("tune", arguments.tune)):
            for head in heads:
                words = ("--trials", str(arguments.trials), "--child", command, head, str(store), str(warm))
                found = in_child(__file__, *words)
                matrix = arguments.rows * WIDTH * 4 / (1 << 20)
                sys.stdout.write(
                    f"{command} {head} {arguments.rows:,} x {WIDTH}: {found['mb'] / matrix:.1f} matrices of "
                    f"{matrix:.0f} MiB above {found['before']:.0f}, {found['cpu']:.0f} s CPU\n"
                )
                sys.stdout.flush()


def measure(command: str, head: str, store: Path, warm: Path, trials: int) -> dict[str, float]:
    """Run the command on the small store, then on the large one."""
    with tempfile.TemporaryDirectory() as out:
        run(command, head, warm, Path(out) / "warm", 2)
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        before, began = resident_bytes() / MIB, time.process_time()
        run(command, head, store, Path(out) / "runs", trials)
        return {"before": before, "mb": peak_bytes() / MIB - before, "cpu": time.process_time() - began}


def run(command: str, head: str, store: Path, out: Path, trials: int) -> None:
    """Run ``embedonce train`` or ``tune``."""
    import pipelines.tune as commands
    from pipelines.tune_settings import TuneSettings

    settings = TuneSettings(
        features=(str(store),), heads=(head,), trials=trials, out=out, duplicates="exact", repeats=0
    )
    (commands.train if command == "train" else commands.tune)(settings)


if __name__ == "__main__":
    main()
