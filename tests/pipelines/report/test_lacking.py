"""Runs that lack something: the page is written without it, and says why in a sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.cli import main
from pipelines.report import maps
from pipelines.report.training_charts import fusion_epoch_chart
from tests.pipelines.conftest import World
from tests.pipelines.report.conftest import figure_keys, shown_text


@pytest.fixture(autouse=True, scope="module")
def each_map_once() -> Iterator[None]:
    """Compute t-SNE once for equal rows: it is two thirds of a page's time, and these pages show one run."""
    tsne, computed = maps.tsne, dict[bytes, np.ndarray]()

    def once(reduced: np.ndarray) -> np.ndarray:
        key = reduced.tobytes()
        if key not in computed:
            computed[key] = tsne(reduced)
        return computed[key].copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maps, "tsne", once)
        yield


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


def _edited(name: str, edit: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def harm(run: Path) -> None:
        found = json.loads((run / name).read_text(encoding="utf-8"))
        edit(found)
        (run / name).write_text(json.dumps(found), encoding="utf-8")

    return harm


_TRIALS = (
    "number,state,head,resampler,score,rung,seconds,fold_scores,parameters,reason\n"
    "0,complete,mlp,none,{},0,1.0,0.5,{},\n"
)
_FAULT = {"name": "noise", "severity": 1, "score": 0.5, "low": 0.4, "high": 0.6, "difference": -0.1,
          "diff_low": -0.2, "diff_high": 0.0}  # fmt: skip


def _faults(fault: object) -> Callable[[Path], None]:
    return _written("robustness.json", json.dumps({"rows": 2, "faults": [_FAULT, fault]}))


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
        *(
            (_edited("model/training.json", edit), "does not describe a training", "learning-loss")
            for edit in (
                lambda found: found.update(networks=[1]),
                lambda found: found.update(networks={"history": []}),
                lambda found: found.update(blocks="text"),
                lambda found: found["networks"][0].update(history=[3]),
                lambda found: found["networks"][0].update(history=[]),
                lambda found: found["networks"][0].update(best_epoch="nan"),
                lambda found: found["networks"][0]["history"][0].update(train_loss="nan"),
                lambda found: found["networks"][0]["history"][0].update(epoch=float("nan")),
                lambda found: found["networks"][0].update(fusion_weights=[[1.0]]),
            )
        ),
        *(
            (_faults(fault), "lists no faults with their scores", "robustness-noise")
            for fault in (
                7,
                [],
                {**_FAULT, "score": "nan"},
                {**_FAULT, "low": float("nan")},
                {**_FAULT, "severity": None},
                {**_FAULT, "name": ["noise"]},
                {**_FAULT, "difference": float("inf")},
            )
        ),
        (_written("robustness.json", '{"rows": 2, "faults": []}'), "lists no faults", "robustness-x"),
        (_written("trials.csv", _TRIALS.format("nan", "{}")), "trials.csv' is damaged", "search-history"),
        (_written("trials.csv", _TRIALS.format("0.5", "[]")), "trials.csv' is damaged", "search-history"),
        (
            _written("model/fusion_weights.csv", "id,text.pooled,image.pooled\n"),
            "its rows are not those of oof.csv",
            "fusion-samples",
        ),
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


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("classes", "ab"), ("n", [3]), ("metric", "luck"), ("cv", []), ("cv", {"macro_f1": {"mean": "nan"}}),
        ("cv", {"macro_f1": {"mean": 0.5, "ci95": [0.1]}}), ("corrected", {}), ("majority", [1]),
        ("majority", {"macro_f1": float("nan")}), ("per_class", {"a": 3}), ("per_class", []),
        ("default", [1]), ("test", {"n": 3}), ("winner", "mlp"), ("runner_up", [2]),
    ],
)  # fmt: skip
def test_damaged_scores_are_one_clear_error(
    gated: Path,
    in_world: World,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    part: str,
    value: object,
) -> None:
    """Without its scores a run has no page; what is wrong is named, and it is no crash."""
    run = Path(shutil.copytree(gated, tmp_path / "run"))
    _edited("metrics.json", lambda found: found.update({part: value}))(run)
    capsys.readouterr()
    assert main(["report", "--run", str(run)]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "is not what a run records" in line


def test_loss_that_is_not_finite_is_left_out_of_its_curve(
    gated: Path, in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A training that ended so has an entry without a value; the epochs before it are drawn."""
    run = Path(shutil.copytree(gated, tmp_path / "run"))

    def diverge(found: dict[str, Any]) -> None:
        network = found["networks"][0]
        network["history"][-1]["train_loss"] = float("nan")
        network["fusion_weights"][-1] = [float("nan")] * 2

    _edited("model/training.json", diverge)(run)
    page, notes = _report(run, capsys)
    assert notes == []
    drawn = (
        page.read_text(encoding="utf-8").partition('data-figure="learning-loss"')[2].partition("</figure>")[0]
    )
    assert "epoch 1, training: " in drawn
    assert "nan" not in drawn
    assert "fusion-epochs" in figure_keys(page)


def test_weights_by_epoch_say_which_rows_they_are_of() -> None:
    """Without an inner split they are of the rows that were learnt from, as the caption says."""
    entry = {"epoch": 1, "train_loss": 1.0, "valid_macro_f1": 0.5}
    for held_out, words in ((0.5, "over the inner validation rows"), (None, "over the rows learnt from")):
        network = {"history": [{**entry, "valid_macro_f1": held_out}], "fusion_weights": [[0.4, 0.6]]}
        chart = fusion_epoch_chart({"networks": [network], "blocks": ["a", "b"], "fusion": "gated"})
        assert chart is not None
        assert words in chart.caption


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
