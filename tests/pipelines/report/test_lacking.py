"""Runs that lack something: the page is written without it, and says why in a sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipelines.cli import main
from tests.pipelines.conftest import World
from tests.pipelines.report.conftest import figure_keys, shown_text


def _report(run: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, list[str]]:
    """Write the page through the command; return it and what was noted."""
    capsys.readouterr()
    target = run.parent / "page.html"
    assert main(["report", "--run", str(run), "--out", str(target)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert "Traceback" not in "".join(lines)
    return target, [line.removeprefix("note: ") for line in lines if line.startswith("note: ")]


def _cut(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).unlink()


def _written(name: str, text: str) -> Callable[[Path], None]:
    return lambda run: (run / name).write_text(text, encoding="utf-8") and None


@pytest.mark.parametrize(
    ("harm", "says", "gone"),
    [
        (_written("model/training.json", "{}"), "does not describe a training", "learning-loss"),
        (_written("model/training.json", "{"), "cannot be read as JSON", "learning-loss"),
        (_written("model/fusion_weights.csv", "id\n1\n"), "fusion_weights.csv' is damaged", "fusion-samples"),
        (_cut("model/model.json"), "hidden layer is not drawn", "pca-hidden-layer"),
        (_cut("model/arrays.safetensors"), "hidden layer is not drawn", "pca-hidden-layer"),
        (
            _written("robustness.json", '{"rows": 2, "faults": [{}]}'),
            "lists no faults with their scores",
            "robustness-x",
        ),
        (_written("bad_cases.csv", "id,slices\n1,\n"), "bad_cases.csv' is damaged", "slices"),
    ],
)
def test_damaged_file_leaves_out_its_section_only(
    gated: Path,
    in_world: World,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    harm: Callable[[Path], None],
    says: str,
    gone: str,
) -> None:
    """Every other section is drawn."""
    run = Path(shutil.copytree(gated, tmp_path / "run"))
    harm(run)
    page, _ = _report(run, capsys)
    assert says in shown_text(page)
    assert gone not in figure_keys(page)
    assert {"scores", "roc", "pca-text.pooled", "pca-predictions"} <= set(figure_keys(page))


def test_what_was_never_measured_is_named_with_its_command(
    gated: Path, in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Robustness and slices are asked for in the page, and no fault is noted."""
    page, notes = _report(Path(shutil.copytree(gated, tmp_path / "run")), capsys)
    assert "embedonce robustness --run RUN adds it" in shown_text(page)
    assert "embedonce errors --run RUN adds slices" in shown_text(page)
    assert notes == []


def test_run_of_an_early_version_has_a_page(
    gated: Path, in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the figures, files and keys that came later the page is shorter, not broken."""
    run = Path(shutil.copytree(gated, tmp_path / "run"))
    early = {
        "classes",
        "n",
        "metric",
        "cv",
        "corrected",
        "default",
        "majority",
        "per_class",
        "test",
        "winner",
    }
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    kept = {key: value for key, value in metrics.items() if key in early}
    (run / "metrics.json").write_text(json.dumps(kept), encoding="utf-8")
    (run / "model" / "training.json").unlink()
    (run / "model" / "fusion_weights.csv").unlink()
    page, notes = _report(run, capsys)
    assert "of an earlier version" in shown_text(page)
    assert "scores" in figure_keys(page)
    assert "fusion-samples" not in figure_keys(page)
    assert notes == []


@pytest.mark.parametrize("modality", ["text", "image"])
def test_single_modality_without_pictures_and_texts_has_a_page(
    modality: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrays of one modality and a table of labels are enough; what they cannot show is named."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("x.npy", rng.normal(size=(40, 4)).astype(np.float32))
    lines = ["id,label", *(f"{i},{'ab'[i % 2]}" for i in range(40))]
    Path("t.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert main(["import", "--table", "t.csv", f"--{modality}", "x.npy", "--out", "s.h5"]) == 0
    assert main(["train", "--features", "s.h5", "--study", "r", "--folds", "2"]) == 0
    page, notes = _report(Path("runs/r"), capsys)
    text = shown_text(page)
    for sentence in ("hold no texts", "name no pictures", "Head 'logreg' has no hidden layer"):
        assert sentence in text
    keys = figure_keys(page)
    assert "pca-all-blocks" not in keys
    assert "text-lengths" not in keys
    assert sum(key.startswith("pca-") for key in keys) == 2  # the block and the predictions
    assert len(notes) == 1


def test_umap_without_its_library_names_the_extra(
    in_world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Nothing is written before the missing extra is named."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    out = tmp_path / "page.html"
    assert main(["report", "--run", str(in_world.run), "--umap", "--out", str(out)]) == 2
    assert "pip install 'embedonce[umap]'" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.nightly
def test_umap_maps_are_drawn_the_same_way_twice(
    gated: Path, in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the extra there is a third map of every space, and a seed fixes it."""
    pytest.importorskip("umap")
    pages = [tmp_path / name for name in ("a.html", "b.html")]
    for page in pages:
        assert main(["report", "--run", str(gated), "--umap", "--out", str(page)]) == 0
    keys = figure_keys(pages[0])
    assert [key.replace("umap", "tsne") for key in keys if key.startswith("umap-")] == [
        key for key in keys if key.startswith("tsne-")
    ]
    assert pages[0].read_bytes() == pages[1].read_bytes()
