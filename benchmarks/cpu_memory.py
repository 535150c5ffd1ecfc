"""Measure the memory of a pass on a CPU against what ``--max-memory`` is compared with.

    PYTHONPATH=. python benchmarks/cpu_memory.py [--nets bert,...] [--precisions fp32,bf16] [--threads 1,2]

Each network has random weights of its true size and runs in a process of its own. A pass of the same family
with a tiny network comes first, so that what the libraries themselves take is there before. Printed: the
growth of the process at its peak, the estimate, and their ratio. Needs the extra ``test``, 3 GB of disk and
7 GB of memory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from true_sizes import make_bert, make_clip, make_resnet50, write_photos, write_tweets

from benchmarks.peak import peak_bytes, resident_bytes
from tests.kit.tiny_checkpoints import make_resnet18, make_tiny_bert, make_tiny_clip

#: Network -> its modality, how it is made, and a smaller one of its family.
NETS: dict[str, tuple[str, Callable[[Path], Path], Callable[[Path], Path]]] = {
    "bert": ("text", make_bert, make_tiny_bert),
    "clip-b32": ("image", partial(make_clip, size="b32"), make_tiny_clip),
    "clip-l14": ("image", partial(make_clip, size="l14"), make_tiny_clip),
    "resnet50": ("image", make_resnet50, make_resnet18),
}
N_TEXTS, N_IMAGES = 200, 32


def main() -> None:
    """Measure the networks that are named and print one line for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nets", default=",".join(NETS))
    parser.add_argument("--precisions", default="fp32,bf16")
    parser.add_argument("--threads", default="1,2")
    options = parser.parse_args()
    say(f"{'network':12}{'prec':>6}{'threads':>9}{'peak':>10}{'estimate':>11}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_tweets(root / "texts.csv", N_TEXTS)
        write_photos(root / "images", N_IMAGES)
        for name in options.nets.split(","):
            _, make, make_small = NETS[name]
            make(root / name)
            make_small(root / f"{name}-small")
            for precision in options.precisions.split(","):
                for threads in options.threads.split(","):
                    peak, estimate = measured(root, name, precision, threads)
                    say(
                        f"{name:12}{precision:>6}{threads:>9}{peak / 1e6:7.0f} MB{estimate / 1e6:8.0f} MB"
                        f"{peak / estimate:8.2f}"
                    )


def measured(root: Path, name: str, precision: str, threads: str) -> tuple[int, int]:
    """Return the growth at the peak of a pass and its estimate, in bytes, from a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", str(root), name, precision],
        env={**os.environ, "OMP_NUM_THREADS": threads},
        capture_output=True,
        text=True,
        check=True,
    )
    peak, estimate = done.stdout.split()
    return int(peak), int(estimate)


def measure_one(root: Path, name: str, precision: str) -> None:
    """Print the growth of this process and the estimate."""
    from extract import PassOptions, open_backbone, read_data_set, run_pass
    from extract.probing import bytes_on_cpu

    modality = NETS[name][0]
    data = root / ("texts.csv" if modality == "text" else "images")
    for weights in (root / f"{name}-small", root / name):
        backbone = open_backbone(str(weights))
        before = resident_bytes()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        with tempfile.TemporaryDirectory(dir=root) as out:
            options = PassOptions(out=Path(out), precision=precision, modalities=(modality,))
            run_pass(read_data_set(data), backbone, options)
        peak = peak_bytes() - before
    say(f"{peak} {bytes_on_cpu(backbone, modality, precision)}")


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        measure_one(Path(sys.argv[2]), *sys.argv[3:])
    else:
        main()
