"""How long the page of a run takes, with pictures, maps and curves, and how large it is.

    python benchmarks/report_speed.py [--rows 4000] [--width 768] [--keep FOLDER]

Makes a data set of photo-like JPEGs (600 x 563) and texts, embeds it with a tiny CLIP (so that a store names
texts and pictures), imports a text and an image block of the given width beside it, trains a gated MLP on
both, and times ``embedonce report`` in a process of its own. Prints wall and CPU seconds and the size of the
page. With --keep the run stays, and a second call only times. Needs the extra ``test``.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from true_sizes import make_clip, write_photos, write_tweets

EMBEDONCE = [sys.executable, "-m", "pipelines"]
_ROOT = str(Path(__file__).resolve().parents[1])
_SHARES = (0.6, 0.1, 0.3)


def main() -> None:
    """Measure once and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--width", type=int, default=768, help="of each modality")
    parser.add_argument("--keep", type=Path, help="a folder for the data set and the run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = (options.keep or Path(name)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "runs" / "bench").is_dir():
            _make_run(folder, options.rows, options.width)
        _time(folder)


def _make_run(folder: Path, n_rows: int, width: int) -> None:
    """Write pictures, texts, stores and a trained run."""
    generator = np.random.default_rng(0)
    codes = generator.choice(3, size=n_rows, p=_SHARES)
    write_photos(folder / "photos", n_rows)
    texts = write_tweets(folder / "tweets.csv", n_rows)
    with (folder / "all.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "image", "text", "label"])
        writer.writerows(
            [str(i), f"photos/{i}.jpg", text, "abc"[code]]
            for i, (text, code) in enumerate(zip(texts, codes, strict=True))
        )
    for name in ("text", "image"):
        hidden = generator.normal(size=(n_rows, 64))
        hidden[:, :3] += 0.6 * np.eye(3)[codes]
        mixed = hidden @ generator.normal(size=(64, width)) / 8
        vectors = mixed + 0.5 * generator.normal(size=mixed.shape)
        np.save(folder / f"{name}.npy", vectors.astype(np.float32))
    clip = make_clip(folder / "tiny-clip", size="tiny")
    _run(folder, "extract", "--backbone", str(clip), "--data", "all.csv", "--modality", "image")
    arrays = ["--text", "text.npy", "--image", "image.npy"]
    _run(folder, "import", "--table", "all.csv", *arrays, "--out", "wide.h5")
    small = next((folder / "features").glob("*.h5"))
    words = ["--features", "wide.h5", "--features", f"{small}"]
    words += ["--set", 'fusion="gated"', "--set", "max_epochs=8"]
    _run(folder, "train", "--head", "mlp", *words, "--study", "bench")


def _run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": _ROOT, "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [*EMBEDONCE, *words]
    return subprocess.run(command, cwd=folder, check=True, text=True, stdout=subprocess.PIPE, env=environment)


def _time(folder: Path) -> None:
    """Time the command and print one line."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    found = json.loads(_run(folder, "report", "--run", "runs/bench", "--json").stdout)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(  # noqa: T201
        f"embedonce report: {seconds:.1f} s, {used:.1f} s of CPU, page {found['bytes'] / 1e6:.2f} MB, notes "
        f"{found['notes']}; load average at the end {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
