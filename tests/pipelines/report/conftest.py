"""Runs to make pages of: a gated MLP over text and image of the small data set, and a hostile data set."""

from __future__ import annotations

import html
import os
import re
from pathlib import Path

import pytest
from PIL import Image

from pipelines.cli import main
from pipelines.report import Report, write_report
from tests.pipelines.conftest import World

#: What a data set may hold to break a page.
EVIL = (
    """</script><script>document.title='owned'</script><img src=x onerror="document.title='owned'">'"&lt;"""
)


@pytest.fixture(scope="session")
def gated(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run whose head has epochs and weighs its blocks."""
    out = tmp_path_factory.mktemp("gated")
    words = ["--set", 'fusion="gated"', "--set", "max_epochs=4", "--set", "projection_width=8"]
    # So that the nine rows of the smallest class suffice for an inner validation split.
    words += ["--set", "validation_fraction=0.3"]
    before = Path.cwd()
    os.chdir(world.root)
    try:
        assert (
            main(["train", "--head", "mlp", *words, "--folds", "3", "--study", "gated", "--out", str(out)])
            == 0
        )
    finally:
        os.chdir(before)
    return out / "gated"


@pytest.fixture(scope="session")
def gated_page(world: World, gated: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Its page, with maps and pictures."""
    before = Path.cwd()
    os.chdir(world.root)
    try:
        target = tmp_path_factory.mktemp("page") / "page.html"
        return write_report(gated, target, title="gated", thorough=True)
    finally:
        os.chdir(before)


@pytest.fixture(scope="session")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run whose ids, texts and class names are markup."""
    import csv

    import numpy as np

    root = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(0)
    np.save(root / "x.npy", rng.normal(size=(60, 4)).astype(np.float32))
    with (root / "t.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label", "text"])
        writer.writerows([f"{i}{EVIL}", EVIL if i % 2 else "b", f"{EVIL} {i}\u2028"] for i in range(60))
    store = ["--table", str(root / "t.csv"), "--text", str(root / "x.npy"), "--out", str(root / "s.h5")]
    assert main(["import", *store]) == 0
    words = ["--features", str(root / "s.h5"), "--study", "r", "--out", str(root)]
    assert main(["train", *words, "--duplicates", "none"]) == 0  # its texts are nearly all alike
    assert main(["report", "--run", str(root / "r")]) == 0
    return root / "r" / "report.html"


def figure_keys(page: Path) -> list[str]:
    """Return the keys of the figures in a page, in order."""
    return re.findall(r'data-figure="([^"]+)"', page.read_text(encoding="utf-8"))


def shown_text(page: Path) -> str:
    """Return what is written in a page, without its script and styles, unescaped."""
    text = page.read_text(encoding="utf-8")
    return html.unescape(re.sub(r"<(script|style).*?</\1>", "", text, flags=re.DOTALL))


def picture(path: Path) -> Image.Image:
    """Return a picture, decoded."""
    with Image.open(path) as image:
        return image.convert("RGB")
