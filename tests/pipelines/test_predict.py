"""Predictions: one answer per input, the same on every way in."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipelines.cli import main
from pipelines.predict import PredictSettings, predict
from tests.pipelines.conftest import World


def _answers(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row["guid"]: row["tag"] for row in csv.DictReader(file)}


def test_predict_alone_answers_for_the_unlabelled_rows(in_world: World, tmp_path: Path) -> None:
    """Without inputs, the withheld rows of the run's own stores are predicted."""
    out = tmp_path / "p.csv"
    assert main(["predict", "--run", str(in_world.run), "--out", str(out)]) == 0
    assert out.read_bytes() == (in_world.run / "predictions.csv").read_bytes()


def test_predict_from_stores_answers_for_every_row(in_world: World, tmp_path: Path) -> None:
    """With --features, every row of the store gets one answer; the store may have another name."""
    shutil.copy(in_world.root / "features" / "tiny-clip.h5", tmp_path / "renamed.h5")
    out = tmp_path / "p.csv"
    assert (
        main(
            [
                "predict",
                "--run",
                str(in_world.run),
                "--features",
                str(tmp_path / "renamed.h5"),
                "--out",
                str(out),
            ]
        )
        == 0
    )
    assert list(_answers(out)) == list(in_world.ids)


def test_raw_text_and_image_get_the_stored_answer(in_world: World) -> None:
    """Embedding one text and picture anew gives the probabilities of the stored row."""
    stored = predict(PredictSettings(run=in_world.run, features=("features/tiny-clip.h5",)))
    for guid in in_world.ids[-3:]:
        text = (in_world.root / "data" / f"{guid}.txt").read_text(encoding="utf-8")
        raw = predict(
            PredictSettings(
                run=in_world.run,
                text=text,
                image=in_world.root / "data" / f"{guid}.jpg",
                weights={"tiny-clip": in_world.clip},
            )
        )
        # The vectors are equal to the bit; one row and many may differ in the last bit of a float64 product.
        np.testing.assert_allclose(
            raw.probabilities[0], stored.probabilities[stored.ids.index(guid)], rtol=1e-12
        )


def test_raw_data_set_gets_the_stored_answers(in_world: World, tmp_path: Path) -> None:
    """--data embeds and predicts every listed sample."""
    out = tmp_path / "p.csv"
    command = [
        "predict",
        "--run",
        str(in_world.run),
        "--data",
        ".",
        "--weights",
        f"tiny-clip={in_world.clip}",
        "--out",
        str(out),
    ]
    assert main(command) == 0
    stored = predict(PredictSettings(run=in_world.run, features=("features/tiny-clip.h5",)))
    assert _answers(out) == dict(zip(stored.ids, stored.tags, strict=True))


def test_missing_modality_is_imputed_and_said(in_world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Text alone is answered with the training mean of the pictures, and a note says so."""
    command = [
        "predict",
        "--run",
        str(in_world.run),
        "--text",
        "the cat",
        "--weights",
        f"tiny-clip={in_world.clip}",
        "--json",
    ]
    assert main(command) == 0
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert answer["tag"] in answer["probabilities"]
    assert sum(answer["probabilities"].values()) == pytest.approx(1.0)
    assert "no image.pooled" in printed.err


def test_other_weights_are_refused(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network that makes other vectors than the run was trained on is not used."""
    other = tmp_path / "tiny-clip"
    shutil.copytree(in_world.clip, other)
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(other / "model.safetensors")
    weights["text_projection.weight"] = torch.flip(weights["text_projection.weight"], [0]).contiguous()
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    assert (
        main(["predict", "--run", str(in_world.run), "--text", "x", "--weights", f"tiny-clip={other}"]) == 1
    )
    assert "does not make the space" in capsys.readouterr().err


def test_wrong_store_names_what_the_run_needs(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A store without the needed space is refused with what it holds."""
    assert main(["extract", "--backbone", str(in_world.bert), "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main(["predict", "--run", str(in_world.run), "--features", str(tmp_path / "tiny-bert.h5")]) == 2
    assert "needs 'text.pooled' of tiny-clip" in capsys.readouterr().err


def test_folder_backbone_asks_for_its_weights(in_world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A backbone that came from a folder cannot be guessed."""
    assert main(["predict", "--run", str(in_world.run), "--text", "x"]) == 2
    assert "--weights tiny-clip=DIR" in capsys.readouterr().err


def test_broken_raw_inputs_are_named(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A picture that is none is named; with no usable input at all there is no answer."""
    junk = tmp_path / "junk.jpg"
    junk.write_text("hello", encoding="utf-8")
    command = [
        "predict",
        "--run",
        str(in_world.run),
        "--weights",
        f"tiny-clip={in_world.clip}",
        "--image",
        str(junk),
    ]
    assert main([*command, "--text", "the cat"]) == 0
    told = capsys.readouterr().err
    assert "embedding with tiny-clip" in told.splitlines()
    assert "not ok: input (image_format)" in told
    assert main(command) == 1
    assert "nothing to predict from: not ok: input (image_format)" in capsys.readouterr().err
    assert main([*command, "--text", "  "]) == 1
