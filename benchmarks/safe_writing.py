"""Time what safe writing costs a pass, and what verifying a large store takes.

    PYTHONPATH=. python benchmarks/safe_writing.py [DATA [BACKBONE ...]]

DATA is a data set, such as the folder that `embedonce demo` makes; without it, as many rows are generated.
Safe writing is everything that a pass does beside computing and writing one plain HDF5 file: locking, shards
with their hashes and fsyncs, reading them back, hashing and verifying the store, renaming and tidying up.
Shards are written behind the forwards, so the share printed is an upper bound of what a user waits. On a
busy machine every call also waits for the processor; seconds of the processor and of fsync are printed apart.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import h5py
import numpy as np

import extract.run
from cache import FeatureStore, PassFolder, verify_store
from extract import PassOptions, open_backbone, read_data_set, run_pass
from tests.cache.builders import Toy
from tests.kit.data_sets import write_guid_data_set

BACKBONES = ("minilm-l6", "efficientnet-lite0")
N_GENERATED, N_RUNS = 637, 5
LARGE_ROWS, LARGE_WIDTH = 50_000, 768


class Clock:
    """Adds up the seconds that some functions take."""

    def __init__(self) -> None:
        self.seconds = self.processor = 0.0
        self.calls = 0

    def timed(self, function: Callable[..., object]) -> Callable[..., object]:
        """Return the function with a clock around it."""

        def call(*args: object, **options: object) -> object:
            began, began_processor = time.perf_counter(), time.thread_time()
            try:
                return function(*args, **options)
            finally:
                self.seconds += time.perf_counter() - began
                self.processor += time.thread_time() - began_processor
                self.calls += 1

        return call


@contextmanager
def clocked(owner: object, *names: str):
    """Put one clock around some functions of a class or module."""
    clock, patches = Clock(), []
    for name in names:
        patches.append(mock.patch.object(owner, name, clock.timed(getattr(owner, name))))
        patches[-1].start()
    try:
        yield clock
    finally:
        for patch in patches:
            patch.stop()


def main() -> None:
    """Run every benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("backbones", nargs="*", default=BACKBONES)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = asked.data or folder / "set"
        if asked.data is None:
            write_guid_data_set(data, N_GENERATED, 0)
        for backbone in asked.backbones:
            cost_of_a_pass(data, backbone, folder)
        verify_large_store(folder)


def cost_of_a_pass(data: Path, name: str, folder: Path) -> None:
    """Print the share of a pass that safe writing takes; the first, which loads libraries, is left out."""
    backbone = open_backbone(name)
    shares, passes, extra, processor, syncs, n_syncs = [], [], [], [], [], 0
    for number in range(N_RUNS + 1):
        out = folder / f"{name}-{number}"
        with (
            clocked(PassFolder, "__enter__", "write", "hold", "publish", "__exit__") as safe,
            clocked(extract.run, "sync_folder") as named,
            clocked(os, "fsync") as sync,
        ):
            began = time.perf_counter()
            report = run_pass(read_data_set(data), backbone, PassOptions(out=out))
            seconds = time.perf_counter() - began
        if not number:
            continue
        cost = safe.seconds + named.seconds - seconds_of_a_plain_write(report.path, folder / "plain.h5")
        passes.append(seconds)
        extra.append(cost)
        processor.append(safe.processor + named.processor)
        shares.append(cost / seconds)
        syncs.append(sync.seconds)
        n_syncs = sync.calls
    sys.stdout.write(
        f"{name}, {report.n_rows} rows: pass {statistics.median(passes):.2f} s, safe writing "
        f"{statistics.median(extra) * 1000:.0f} ms ({statistics.median(shares):.2%}; {min(shares):.2%} to "
        f"{max(shares):.2%}, {N_RUNS} runs), of it "
        f"{statistics.median(processor) * 1000:.0f} ms of the processor; {n_syncs} fsyncs, with those of the "
        f"pass log, {statistics.median(syncs) * 1000:.0f} ms\n"
    )
    sys.stdout.flush()


def seconds_of_a_plain_write(store: Path, target: Path) -> float:
    """Return the seconds that writing the same vectors into one HDF5 file takes, with no care at all."""
    with FeatureStore.open(store) as opened:
        vectors = {name: np.asarray(opened.select(name)) for name in opened.spaces}
    began = time.perf_counter()
    with h5py.File(target, "w") as file:
        for name, x in vectors.items():
            file.create_dataset(name, data=x)
    return time.perf_counter() - began


def verify_large_store(folder: Path) -> None:
    """Print the seconds of a full verification of a large store in the page cache."""
    toy = Toy(n=LARGE_ROWS, shard_rows=LARGE_ROWS // 10, width=LARGE_WIDTH, modalities=("text",))
    path = toy.write(folder / "large.h5")
    seconds = [verify_store(path).seconds for _ in range(8)][1:]
    sys.stdout.write(
        f"verify {path.stat().st_size / 1e6:.0f} MB, warm: {statistics.median(seconds):.2f} s "
        f"({min(seconds):.2f} to {max(seconds):.2f}, {len(seconds)} runs)\n"
    )


if __name__ == "__main__":
    main()
