"""Posts with a drawn picture and a few words each, and copies of some of them planted in the test split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from cache import Plan, RowTable, ShardData, SpaceSpec, Split, write_store

WORDS = [
    f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("ld", "mp", "rk", "st", "n", "v", "sh")
]
VARIANTS = ("q40", "q60", "q90", "half", "crop")


@dataclass
class Posts:
    """A data set in memory; change it, then `write` it.

    Attributes
    ----------
    folder : Path
        Gets ``data/``, ``posts.csv`` and ``features/posts.h5``.
    texts : list of str
    pictures : list of Image
        Written as JPEG of quality 95, except those of `qualities`.
    labels : ndarray of int
    is_test : ndarray of bool
    """

    folder: Path
    texts: list[str]
    pictures: list[Image.Image]
    labels: np.ndarray
    is_test: np.ndarray
    qualities: dict[int, int] = field(default_factory=dict)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(f"p{row}" for row in range(len(self.texts)))

    @property
    def store(self) -> Path:
        return self.folder / "features" / "posts.h5"

    def copy_exactly(self, source: int, target: int) -> None:
        """Make a row the same post as another."""
        self.texts[target], self.pictures[target] = self.texts[source], self.pictures[source]

    def copy_nearly(self, source: int, target: int, rng: np.random.Generator, kind: str) -> None:
        """Make a row a near duplicate: picture encoded, resized or cropped anew, a text a little changed."""
        self.texts[target] = vary_text(self.texts[source], rng)
        self.pictures[target], quality = vary_picture(self.pictures[source], rng, kind)
        self.qualities[target] = quality

    def write(self, columns: np.ndarray | None = None) -> Posts:
        """Write pictures, table and store; `columns` are added to the first columns of the image vectors."""
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        self.store.parent.mkdir(exist_ok=True)
        hashes = []
        for row, picture in enumerate(self.pictures):
            path = self.folder / "data" / f"{row}.jpg"
            picture.save(path, quality=self.qualities.get(row, 95))
            hashes.append(hashlib.sha256(path.read_bytes()).digest())
        splits = ["test" if test else "train" for test in self.is_test]
        names = ["yes" if label else "no" for label in self.labels]
        images = [f"data/{row}.jpg" for row in range(len(self.texts))]
        pd.DataFrame(
            {"id": self.ids, "text": self.texts, "image": images, "label": names, "split": splits}
        ).to_csv(self.folder / "posts.csv", index=False)
        image = image_vectors(self.pictures)
        if columns is not None:
            image[:, : columns.shape[1]] += columns
        _write_store(self, images, hashes, {"text": text_vectors(self.texts), "image": image})
        return self


def make_posts(folder: Path, n: int = 300, *, seed: int = 0, test_share: float = 0.3) -> Posts:
    """Draw unrelated posts whose label is a coin."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, rng.integers(8, 15), replace=False)) for _ in range(n)]
    return Posts(
        folder,
        texts,
        [draw_picture(rng) for _ in range(n)],
        rng.integers(0, 2, n).astype(np.int32),
        rng.random(n) < test_share,
    )


def draw_picture(rng: np.random.Generator, size: tuple[int, int] = (120, 96)) -> Image.Image:
    """Draw a background that fades from one colour to another, and a few shapes."""
    a, b = rng.integers(0, 256, (2, 3))
    fade = np.linspace(0, 1, size[1] if rng.random() < 0.5 else size[0])
    ramp = fade[:, None, None] if len(fade) == size[1] else fade[None, :, None]
    ground = np.broadcast_to(a * (1 - ramp) + b * ramp, (size[1], size[0], 3))
    picture = Image.fromarray(ground.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(4, 9))):
        x, y = rng.integers(0, size[0]), rng.integers(0, size[1])
        w, h = rng.integers(12, 60, 2)
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        box = [int(x - w // 2), int(y - h // 2), int(x + w // 2), int(y + h // 2)]
        shape(box, fill=tuple(rng.integers(0, 256, 3).tolist()))
    return picture


def vary_picture(picture: Image.Image, rng: np.random.Generator, kind: str) -> tuple[Image.Image, int]:
    """Return a variant and the JPEG quality to write it with."""
    w, h = picture.size
    if kind == "half":
        return picture.resize((w // 2, h // 2)), 90
    if kind == "crop":
        left, top, right, bottom = rng.uniform(0, 0.03, 4)
        return picture.crop(
            (round(left * w), round(top * h), round(w - right * w), round(h - bottom * h))
        ), 90
    return picture, int(kind[1:])


def vary_text(text: str, rng: np.random.Generator) -> str:
    """Change case and punctuation, add a link, or put another word for one."""
    words = text.split()
    kind = int(rng.integers(4))
    if kind == 0:
        return ", ".join(words).upper() + "!!"
    if kind == 1:
        return text + " https://t.example/" + str(rng.integers(1000))
    if kind == 2:
        words[int(rng.integers(len(words)))] = "zzz"
        return " ".join(words)
    return text.capitalize() + "..."


def text_vectors(texts: Sequence[str]) -> np.ndarray:
    """Return a random direction per word, summed: texts with the same words have nearly the same vector."""
    directions = np.random.default_rng(7).normal(size=(4096, 48))
    rows = []
    for text in texts:
        places = [int(hashlib.sha256(w.encode()).hexdigest(), 16) % 4096 for w in text.lower().split()]
        rows.append(directions[places].mean(axis=0))
    return np.array(rows, dtype=np.float32)


def image_vectors(pictures: Sequence[Image.Image]) -> np.ndarray:
    """Return the colours at 6 x 6 places, through a random mixing layer."""
    small = np.array([np.asarray(p.resize((6, 6), Image.Resampling.BOX), dtype=np.float64) for p in pictures])
    mixing = np.random.default_rng(8).normal(size=(108, 64)) / 108
    return (small.reshape(len(pictures), -1) @ mixing).astype(np.float32)


def _write_store(
    posts: Posts, images: list[str], hashes: list[bytes], vectors: dict[str, np.ndarray]
) -> None:
    n = len(posts.texts)
    plan = Plan(
        backbone="drawn",
        n_rows=n,
        shard_rows=n,
        spaces=tuple(
            SpaceSpec(f"{m}.pooled", x.shape[1], "float32", f"drawn-{m}") for m, x in vectors.items()
        ),
        modalities=tuple(vectors),
        identity={"backbone": "drawn", "path": str(hashlib.sha256(b"".join(hashes)).hexdigest())},
    )
    sizes = np.array([p.size for p in posts.pictures], dtype=np.int32)
    pixels = np.frombuffer(b"".join(hashes), dtype=np.uint8).reshape(n, 32)
    source = [hashlib.sha256(t.encode() + h).digest() for t, h in zip(posts.texts, hashes, strict=True)]
    table = RowTable(
        ids=posts.ids,
        label=posts.labels.astype(np.int32),
        split=np.where(posts.is_test, Split.TEST, Split.TRAIN).astype(np.uint8),
        group=np.full(n, -1, dtype=np.int32),
        source_sha256=np.frombuffer(b"".join(source), dtype=np.uint8).reshape(n, 32),
        status=np.zeros((n, len(vectors)), dtype=np.uint8),
        text=tuple(posts.texts),
        encoding=np.zeros(n, dtype=np.uint8),
        image_path=tuple(images),
        image_width=sizes[:, 0].copy(),
        image_height=sizes[:, 1].copy(),
        image_sha256=pixels,
    )
    data = {
        m: ShardData({f"{m}.pooled": x}, np.ones(n, dtype=np.uint8), np.zeros(n, dtype=np.uint8))
        for m, x in vectors.items()
    }
    posts.store.unlink(missing_ok=True)
    write_store(
        posts.store, plan, table=table, data=data, meta={"class_names": ["no", "yes"], "encodings": ["utf-8"]}
    )
