"""Runs to explain: of real small networks, on data whose classes differ by one word and one corner."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.cli import main
from pipelines.explaining import ExplainSettings
from tests.kit.data_sets import write_list
from tests.kit.tiny_checkpoints import make_resnet18, make_tiny_bert
from tests.kit.tiny_paired import make_tiny_projected
from tests.pipelines.report.conftest import EVIL

NETWORKS = {
    "tiny-bert": make_tiny_bert,
    "resnet": make_resnet18,
    "tiny-clip": lambda folder: make_tiny_projected(folder, "clip"),
}
#: Run -> its features.
STORES = {
    "tiny-bert": "tiny-bert.h5",
    "resnet": "resnet.h5",
    "tiny-clip": "tiny-clip.h5",
    "clip-image": "tiny-clip.h5:image.pooled",
}
FILLER = ["day", "on", "the"]


class Planted:
    """A data set whose classes differ by one word and by one corner of the picture, and its runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.weights = {name: make(root / "weights" / name) for name, make in NETWORKS.items()}

    def run(self, name: str) -> Path:
        return self.root / "runs" / name

    def options(self) -> list[str]:
        return [word for name, folder in self.weights.items() for word in ("--weights", f"{name}={folder}")]


def _write(root: Path) -> None:
    generator = np.random.default_rng(0)
    (root / "data").mkdir()
    rows = []
    for k in range(80):
        label = ("happy", "sad")[k % 2]
        words = generator.choice(FILLER, 2).tolist()
        words.insert(int(generator.integers(0, 3)), {"happy": "dog", "sad": "cat"}[label])
        (root / "data" / f"{k}.txt").write_text(" ".join(words), encoding="utf-8")
        pixels = generator.integers(122, 130, (70, 70, 3))
        pixels[20:30, 40:50] = (255, 0, 0) if label == "happy" else (0, 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(root / "data" / f"{k}.jpg", quality=95)
        rows.append((str(k), label))
    (root / "data" / "evil.txt").write_text(f"dog {EVIL}", encoding="utf-8")
    Image.new("RGB", (70, 70), (120, 130, 140)).save(root / "data" / "evil.jpg")
    write_list(root / "train.txt", [*rows, ("evil", "happy")])
    write_list(root / "test_without_label.txt", [("free", "null")])
    (root / "data" / "free.txt").write_text("day dog on", encoding="utf-8")


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """The data set with stores of three networks and a run on each, made once."""
    root = tmp_path_factory.mktemp("planted")
    made = Planted(root)
    _write(root)
    before = Path.cwd()
    os.chdir(root)
    try:
        for name, folder in made.weights.items():
            few = ["--limit", "40"] if name == "resnet" else []  # its forwards are 224 pixels wide
            assert main(["extract", "--backbone", str(folder), "--max-bad", "0.2", *few]) == 0
        train = ["train", "--folds", "2", "--duplicates", "exact"]
        for name, store in STORES.items():
            features = ["--features", f"features/{store}"]
            assert main([*train, "--head", "logreg", *features, "--study", name]) == 0
        steps = ["--calibrate", "temperature", "--decide", "low-confidence:sad,1,0"]
        words = ["--head", "logreg", "--features", "features/tiny-bert.h5", *steps]
        assert main([*train, *words, "--study", "decided"]) == 0
        mlp = ["--head", "mlp", "--set", "max_epochs=40", "--set", 'fusion="gated"']
        assert main([*train, *mlp, "--features", "features/tiny-clip.h5", "--study", "mlp"]) == 0
    finally:
        os.chdir(before)
    return made


@pytest.fixture
def here(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> Planted:
    """The planted data set, as the current folder."""
    monkeypatch.chdir(planted.root)
    return planted


def settings_of(planted: Planted, run: str, **options: object) -> ExplainSettings:
    """Return settings of an explanation of one of the runs."""
    return ExplainSettings(run=planted.run(run), weights=planted.weights, **options)
