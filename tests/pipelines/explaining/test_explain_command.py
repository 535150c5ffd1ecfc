"""``explain`` as a command: what it prints of stored and of given rows, and what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.cli import main
from pipelines.explaining import ExplainSettings, explain
from pipelines.explaining.printing import page_path
from tests.pipelines.explaining.conftest import Planted, settings_of


def test_a_training_row_is_said_to_be_one_and_an_unlabelled_row_not(
    here: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model knows its training rows, so their honest probability is printed; other rows have none."""
    words = [
        "explain",
        "--run",
        str(here.run("tiny-bert")),
        *here.options(),
        "--out",
        str(tmp_path / "e.html"),
    ]
    assert main([*words, "--id", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    with (here.run("tiny-bert") / "oof.csv").open(encoding="utf-8", newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["id"] == "5")
    assert found["held_out"] == {"happy": float(row["p_happy"]), "sad": float(row["p_sad"])}
    assert "The model was trained on row '5'" in found["notes"][0]
    assert main([*words, "--id", "free", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["held_out"] is None
    assert found["notes"] == []
    assert found["label"] is None


def test_given_inputs_are_explained_like_the_stored_row(
    here: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same text and picture by hand give the same probabilities, words and cells."""
    text = (here.root / "data" / "4.txt").read_text(encoding="utf-8")
    stored = explain(settings_of(here, "tiny-clip", id="4"))
    given = explain(settings_of(here, "tiny-clip", text=text, image=here.root / "data" / "4.jpg"))
    np.testing.assert_allclose(given.probabilities, stored.probabilities, rtol=1e-9)
    np.testing.assert_allclose(
        given.attributions.patches[0].values, stored.attributions.patches[0].values, atol=1e-9
    )
    assert given.held_out is None and given.notes == ()
    alone = explain(settings_of(here, "tiny-clip", text=text))
    assert list(alone.shares.values) == ["text"]
    assert alone.attributions.patches == ()
    assert alone.notes == ("The input has no image.pooled; the training mean stands in for it.",)
    words = ["explain", "--run", str(here.run("tiny-clip")), *here.options(), "--text", text]
    assert main([*words, "--out", str(tmp_path / "x.html")]) == 0
    printed, told = capsys.readouterr()
    assert "embedding with tiny-clip" in told.splitlines()
    assert "Words, each left out in turn" in printed
    assert printed.splitlines()[-1] == str(tmp_path / "x.html")
    assert told.endswith("; open the page\n")
    (tmp_path / "empty.jpg").touch()
    assert main([*words, "--out", str(tmp_path / "y.html"), "--image", str(tmp_path / "empty.jpg")]) == 0
    assert capsys.readouterr().err.endswith("; open the page\n")
    picture = ["--image", str(here.root / "data" / "4.jpg")]
    assert main([*words, "--out", str(tmp_path / "z.html"), *picture]) == 0
    assert capsys.readouterr().err.endswith("; open the page for the map over the picture\n")


def test_wrong_words_and_rows_are_named(
    here: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong run or picture ends with exit 1, wrong words with exit 2, each in one line."""
    run = ["explain", "--run", str(here.run("tiny-bert")), *here.options()]
    for words, code, part in [
        ([*run, "--id", "evli"], 2, "has no row 'evli'; near matches: 'evil'"),
        (["explain", "--run", str(tmp_path), "--id", "1"], 1, "is not a finished run folder"),
        (run, 2, "give either --id, or --text and/or --image"),
        ([*run, "--id", "1", "--text", "x"], 2, "give either --id, or --text and/or --image"),
        ([*run, "--id", "1", "--method", "magic"], 2, "method 'magic' is not known; allowed are occlusion"),
        ([*run, "--id", "1", "--class", "angry"], 2, "Class 'angry' is not one of the run's: 'happy', 'sad'"),
        ([*run, "--id", "1", "--out", str(tmp_path)], 2, "cannot be written"),
        ([*run, "--image", "data/1.jpg"], 2, "the input has no usable image"),
        ([*run, "--image", "nowhere.jpg"], 1, "'nowhere.jpg' does not exist"),
        ([*run, "--text", " "], 2, "the input has no usable text"),
    ]:
        assert main(words) == code, words
        message = capsys.readouterr().err.strip().splitlines()[-1]
        assert part in message, message


@pytest.mark.parametrize(
    ("run", "content", "status"),
    [
        ("clip-image", b"", "image_corrupt"),
        ("tiny-clip", b"", "image_corrupt"),
        ("clip-image", b"hello", "image_format"),
    ],
)
def test_picture_that_cannot_be_used_is_named_with_its_status(
    here: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str], run: str, content: bytes, status: str
) -> None:
    """An empty picture and one that is none: a wrong file, no wrong word; a text beside it is explained."""
    (tmp_path / "odd.jpg").write_bytes(content)
    words = ["explain", "--run", str(here.run(run)), *here.options(), "--image", str(tmp_path / "odd.jpg")]
    assert main(words) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"has no usable image that it could be answered from: '{tmp_path}/odd.jpg' is {status}." in line
    if run == "tiny-clip":
        assert main([*words, "--text", "dog on", "--out", str(tmp_path / "page.html")]) == 0


def test_heads_without_a_gradient_point_to_occlusion(
    here: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Gradients of such a head are refused before any network runs; occlusion explains it."""
    words = [
        "--features",
        "features/tiny-bert.h5",
        "--study",
        "ridge",
        "--folds",
        "2",
        "--out",
        str(tmp_path),
    ]
    assert main(["train", "--head", "ridge", *words]) == 0
    run = ["explain", "--run", str(tmp_path / "ridge"), *here.options(), "--id", "2"]
    out = ["--out", str(tmp_path / "e.html")]
    assert main([*run, *out, "--method", "gradient"]) == 2
    assert "has no gradient that could be followed" in capsys.readouterr().err
    assert not (tmp_path / "e.html").exists()
    assert main([*run, *out]) == 0
    assert (tmp_path / "e.html").stat().st_size > 10_000


def test_ids_become_harmless_file_names() -> None:
    """Ids are data: no path, no surprise, and two of them never share a page."""
    names = [
        page_path(ExplainSettings(Path("r"), id=guid)).name
        for guid in ("12", "../../x", "..-..-x", "a b", "a_b")
    ]
    assert names[0] == "explain-12.html"
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-.") for name in names)
    assert len(set(names)) == len(names)
