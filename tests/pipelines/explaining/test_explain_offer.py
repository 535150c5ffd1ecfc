"""``errors --id`` offers the explanations that can be made, and no other."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from pipelines.cli import main
from tests.pipelines.explaining.conftest import Planted


def _offered(capsys: pytest.CaptureFixture[str], run: Path, guid: str, *words: str) -> list[str] | None:
    """Words of the explain command that ``errors --id`` proposes, or None."""
    capsys.readouterr()
    assert main(["errors", "--run", str(run), "--id", guid, *words]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "embedonce explain" in line]
    assert len(lines) <= 1
    return (
        shlex.split(lines[0].removeprefix("Next: ").removesuffix(" shows what decided it")) if lines else None
    )


def test_errors_offer_an_explanation_that_can_be_made(
    here: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The words that errors --id proposes explain that row, once DIR is the folder of the weights."""
    offered = _offered(capsys, here.run("tiny-clip"), "3", "--data", ".")
    assert offered is not None
    assert offered[:4] == ["embedonce", "explain", "--run", str(here.run("tiny-clip"))]
    assert offered[-2:] == ["--weights", "tiny-clip=DIR"]
    words = [*offered[1:-1], f"tiny-clip={here.weights['tiny-clip']}", "--out", str(tmp_path / "page.html")]
    assert main(words) == 0
    assert (tmp_path / "page.html").is_file()


def test_errors_offer_no_explanation_of_what_cannot_be_embedded_again(
    here: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not of a row whose picture is gone, nor of a run on counted terms."""
    run = here.run("clip-image")
    assert _offered(capsys, run, "3") is not None
    picture = here.root / "data" / "3.jpg"
    picture.rename(tmp_path / "3.jpg")
    try:
        assert _offered(capsys, run, "3") is None
        assert _offered(capsys, run, "4") is not None
    finally:
        (tmp_path / "3.jpg").rename(picture)
    terms = ["--features", "features/tiny-bert.h5:text.terms", "--out", str(tmp_path), "--study", "terms"]
    assert main(["train", "--folds", "2", "--duplicates", "exact", *terms]) == 0
    assert _offered(capsys, tmp_path / "terms", "3") is None
    assert main(["explain", "--run", str(tmp_path / "terms"), "--id", "3"]) == 2  # as it would have said
