"""``embedonce train`` on stores that stay on disk: time and memory of the whole command by number of rows.

    python benchmarks/train_at_scale.py [--rows 10000 100000 1000000] [--heads logreg mlp] [--stores 1]
                                        [--epochs 2] [--folder FOLDER]

Writes synthetic stores of float16 x 768 (1.5 GB each at a million rows) shard by shard, as a pass does, and
runs the command on them in a process of its own: two folds, the final fit, ``oof.csv``, metrics with their
bootstraps and the page. Printed are wall and processor seconds, the largest resident set, and how much of
the processor time went into the three fits. All sizes are read by chunks, the small ones too, which would
otherwise be read as a whole; rows are not compared for near duplicates, as they are not in large data sets.
The MLP has its default settings but for the epochs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does

import numpy as np
from peak import peak_bytes

MIB = 1 << 20
WIDTH = 768
SHARD_ROWS = 8192
MODALITIES = ("image", "text")


def main() -> None:
    """Write the stores and train every head on every size, or one of them in a child process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--heads", nargs="+", default=["logreg", "mlp"], choices=["logreg", "mlp"])
    parser.add_argument("--stores", type=int, default=1, choices=[1, 2], help="one modality or two")
    parser.add_argument("--epochs", type=int, default=2, help="of the MLP")
    parser.add_argument("--folder", type=Path, help="where the stores go, and stay (else a temporary one)")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        out, head, *stores = arguments.child
        sys.stdout.write(json.dumps(train(Path(out), head, stores, arguments.epochs)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for rows in arguments.rows:
            modalities = MODALITIES[: arguments.stores]
            stores = [write(folder / f"{modality}-{rows}.h5", modality, rows) for modality in modalities]
            for head in arguments.heads:
                say(head, rows, WIDTH * len(stores), run(Path(temporary), head, stores, arguments.epochs))


def write(path: Path, modality: str, n_rows: int, *, shuffled: bool = False) -> Path:
    """Write a store with a weak signal of three classes at 6:1:3 in 64 columns; 2 % are unlabelled.

    With `shuffled`, the samples lie in random order.
    """
    from cache import PassFolder, Plan, RowTable, ShardData, SpaceSpec

    if path.exists():
        return path
    samples = np.random.default_rng(2).permutation(n_rows) if shuffled else np.arange(n_rows)
    labels = np.random.default_rng(0).choice(3, size=n_rows, p=[0.6, 0.1, 0.3]).astype(np.int32)[samples]
    random = np.random.default_rng([1, MODALITIES.index(modality)])
    centres = random.normal(size=(3, 64)).astype(np.float32) * 0.3
    name = f"{modality}.pooled"
    plan = Plan(
        backbone="synthetic",
        n_rows=n_rows,
        shard_rows=SHARD_ROWS,
        spaces=(SpaceSpec(name, WIDTH, "float16", f"synthetic-{modality}"),),
        modalities=(modality,),
        identity={"backbone": "synthetic"},
    )
    with PassFolder(path, plan, resume=False) as folder:
        for start, stop in list(folder.missing(modality)):
            x = random.standard_normal((stop - start, WIDTH), dtype=np.float32)
            x[:, :64] += centres[labels[start:stop]]
            ones = np.ones(stop - start, dtype=np.uint8)
            folder.write(modality, start, stop, ShardData({name: x.astype(np.float16)}, ones, 1 - ones))
        table = RowTable(
            ids=tuple(f"row{i}" for i in samples),
            label=np.where(samples % 50 == 49, -1, labels).astype(np.int32),
            split=np.zeros(n_rows, dtype=np.uint8),
            group=np.full(n_rows, -1, dtype=np.int32),
            source_sha256=np.zeros((n_rows, 32), dtype=np.uint8),
            status=np.zeros((n_rows, 1), dtype=np.uint8),
        )
        folder.publish(table, {"class_names": ["positive", "neutral", "negative"], "encodings": []})
    return path


def run(folder: Path, head: str, stores: list[Path], epochs: int) -> dict[str, float]:
    """Train in a child process; return what it measured."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        return in_child(__file__, "--epochs", str(epochs), "--child", out, head, *map(str, stores))


def in_child(script: str, *words: str) -> dict[str, float]:
    """Run a benchmark's script in a process of its own; return what its last line of output says."""
    done = subprocess.run([sys.executable, script, *words], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def train(out: Path, head: str, stores: list[str], epochs: int) -> dict[str, float]:
    """Run ``embedonce train``."""
    import heads.estimator
    from heads import large_rows
    from pipelines.tune import train as run_train
    from pipelines.tune_settings import TuneSettings

    large_rows.LARGE_BYTES = 0
    fits: list[float] = []
    plain = heads.estimator.Head.fit

    def timed(self, *arguments, **named):  # type: ignore[no-untyped-def] # whatever a head's fit takes
        began = time.process_time()
        fitted = plain(self, *arguments, **named)
        fits.append(time.process_time() - began)
        return fitted

    heads.estimator.Head.fit = timed  # type: ignore[method-assign]
    settings = TuneSettings(
        features=tuple(stores),
        heads=(head,),
        trials=1,
        folds=2,
        out=out,
        duplicates="exact",
        parameters={} if head == "logreg" else {"max_epochs": epochs, "patience": epochs},
    )
    began, used = time.perf_counter(), time.process_time()
    result = run_train(settings)
    wall, cpu = time.perf_counter() - began, time.process_time() - used
    score = result.metrics["cv"]["macro_f1"]["mean"]
    return {"wall": wall, "cpu": cpu, "fits": sum(fits), "peak_mb": peak_bytes() / MIB, "macro_f1": score}


def say(head: str, rows: int, width: int, found: dict[str, float]) -> None:
    """Print one line at once."""
    sys.stdout.write(
        f"{head} {rows:,} x {width}: {found['wall']:.1f} s wall, {found['cpu']:.1f} s CPU, of it "
        f"{found['fits']:.1f} s in three fits, {found['peak_mb']:,.0f} MB, macro-F1 {found['macro_f1']:.3f}\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
