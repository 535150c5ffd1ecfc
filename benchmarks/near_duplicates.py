"""Near duplicates: what is found among planted ones, what is merged wrongly, and what looking costs.

    python benchmarks/near_duplicates.py [--photos DIR] [--emoji 200] [--rows 100000] [--seed 0]

Pictures: tiles of 160 pixels of scikit-learn's two photographs (and of those in DIR) and drawings of the
OpenMoji font, embedded by efficientnet-lite0; of each original seven variants. Then vectors and word sets of
4,000 and of --rows rows. Prints shares found, originals merged with another original, and seconds: wall-clock
and of the processor (on a busy machine only the latter count).
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from peak import peak_bytes
from PIL import Image

from pipelines.cli import main as embedonce
from pipelines.matrices import read_matrix
from tests.kit.planted_posts import vary_picture
from tuning import near_pairs, similar_sets

_TILE = 160
_KINDS = ("q90", "q70", "q40", "half", "crop", "crop6", "q60 of a crop at 0.7")


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder with more photographs")
    parser.add_argument("--emoji", type=int, default=200, help="drawings (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=100_000, help="of the timing (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pictures(Path(folder), arguments.photos, arguments.emoji, arguments.seed)
    for n in (4000, arguments.rows):
        speed(n, arguments.seed)


def pictures(folder: Path, photos: Path | None, n_emoji: int, seed: int) -> None:
    """Plant variants, extract, and count what shares a group."""
    rng = np.random.default_rng(seed)
    originals = {"photo": tiles(photos), "drawing": drawings(n_emoji)}
    rows = []
    for domain, some in originals.items():
        for number, picture in enumerate(some):
            for kind in ("original", *_KINDS):
                varied, quality = (picture, 0) if kind == "original" else variant(picture, rng, kind)
                name = f"{domain}{number}-{_KINDS.index(kind) if quality else 'o'}"
                path = folder / (f"{name}.jpg" if quality else f"{name}.png")
                varied.save(path, **({"quality": quality} if quality else {}))
                rows.append((name, path.name, "ab"[number % 2], f"{domain}{number}", kind))
    with (folder / "t.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "image", "label", "base", "kind"), *rows])
    store = folder / "features" / "efficientnet-lite0.h5"
    words = ["extract", "--backbone", "efficientnet-lite0", "--data", str(folder / "t.csv")]
    if embedonce([*words, "--out", str(store.parent)]):
        raise SystemExit(1)
    matrix = timed("read and group", lambda: read_matrix([str(store)]))
    group = dict(zip(matrix.ids, matrix.groups.tolist(), strict=True))
    for domain, some in originals.items():
        own = [group[f"{domain}{number}-o"] for number in range(len(some))]
        for kind, place in zip(_KINDS, range(len(_KINDS)), strict=True):
            found = np.mean([group[f"{domain}{k}-{place}"] == own[k] for k in range(len(some))])
            say(f"  {domain}: {kind}: {found:.1%} found")
        sizes = np.bincount(own)[own]
        merged = int((sizes > 1).sum())
        say(
            f"  {domain}: {merged} of {len(some)} originals merged with another, at most {sizes.max()} in one"
        )


def variant(picture: Image.Image, rng: np.random.Generator, kind: str) -> tuple[Image.Image, int]:
    """Return a variant and its JPEG quality."""
    if kind == "crop6":
        w, h = picture.size
        left, top, right, bottom = rng.uniform(0, 0.06, 4)
        return picture.crop(
            (round(left * w), round(top * h), round(w - right * w), round(h - bottom * h))
        ), 90
    if kind.startswith("q60 of"):
        cropped, _ = vary_picture(picture, rng, "crop")
        return cropped.resize((round(cropped.width * 0.7), round(cropped.height * 0.7))), 60
    return vary_picture(picture, rng, kind)


def tiles(photos: Path | None) -> list[Image.Image]:
    """Cut photographs into tiles that do not overlap."""
    from sklearn.datasets import load_sample_images

    whole = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    for path in sorted(photos.iterdir()) if photos is not None else []:
        with Image.open(path) as image:
            whole.append(image.convert("RGB"))
    cut = []
    for picture in whole:
        picture.thumbnail((900, 900))
        for y in range(0, picture.height - _TILE + 1, _TILE):
            for x in range(0, picture.width - _TILE + 1, _TILE):
                cut.append(picture.crop((x, y, x + _TILE, y + _TILE)))
    return cut


def drawings(n: int) -> list[Image.Image]:
    """Draw emoji, animals first."""
    from tests.kit.emoji_images import draw_emoji

    return [draw_emoji(chr(code), 160) for code in range(0x1F400, 0x1F400 + n)]


def speed(n: int, seed: int) -> None:
    """Plant 5 % near copies among vectors of 768 columns, and look; then word sets of 12 words."""
    rng = np.random.default_rng(seed)
    X = (rng.standard_normal((n, 32)) @ rng.standard_normal((32, 768))).astype(np.float32)
    X += rng.standard_normal((n, 768), dtype=np.float32)
    k = n // 20
    X[:k] = X[-k:] + 0.05 * rng.standard_normal((k, 768), dtype=np.float32)
    pairs = timed(f"near_pairs of {n:,} x 768", lambda: near_pairs(X))
    hits = int((pairs[:, 1] - pairs[:, 0] == n - k).sum())
    say(f"  {hits:,} of {k:,} planted pairs found, {len(pairs) - hits:,} others")
    shares = 1 / np.arange(1, 20_001)
    draws = rng.choice(20_000, size=(n, 12), p=shares / shares.sum())
    sets = [frozenset(f"w{word}" for word in row) for row in draws]
    timed(f"similar_sets of {n:,} x 12 words", lambda: similar_sets(sets, 0.7, fewest=6))


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def timed(label: str, work: Callable[[], Any]) -> Any:
    """Run, print seconds and the peak memory so far."""
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    peak = peak_bytes() / 1e9
    say(
        f"{label}: {time.perf_counter() - wall:.2f} s wall, {time.process_time() - processor:.2f} s "
        f"processor, peak {peak:.2f} GB"
    )
    return result


if __name__ == "__main__":
    main()
