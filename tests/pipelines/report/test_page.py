"""The page of a run: its numbers are the run's, and what is missing is said in a sentence."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    precision_recall_curve,
    roc_auc_score,
)

from pipelines.cli import main
from pipelines.report import Report, write_report
from pipelines.report.charts import Chart
from pipelines.report.evidence import read_evidence
from pipelines.report.grids import Grid
from pipelines.report.tables import lead
from tests.pipelines.conftest import World
from tests.pipelines.report.conftest import figure_keys

_EVERY_FIGURE = [
    "scores", "classes", "text-lengths", "learning-loss", "learning-f1", "learning-rate", "fusion-epochs",
    "fusion-samples", "confusion-counts", "confusion-rates", "roc", "precision-recall", "confidence-0",
    "confidence-1", "confidence-2", "reliability-before", "reliability-after", "pca-text.pooled",
    "tsne-text.pooled", "pca-image.pooled", "tsne-image.pooled", "pca-all-blocks", "tsne-all-blocks",
    "pca-fused-features", "tsne-fused-features", "pca-hidden-layer", "tsne-hidden-layer", "pca-predictions",
]  # fmt: skip


def _copy(run: Path, to: Path) -> Path:
    return Path(shutil.copytree(run, to / "run"))


def _text(page: Path) -> str:
    return re.sub(r"<(script|style).*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_page_has_every_figure_and_needs_nothing_from_outside(gated_page: Report) -> None:
    """All figures are there, and every address in the page is inside it."""
    assert sorted(figure_keys(gated_page.path)) == sorted(_EVERY_FIGURE)
    assert sorted(figure.key for figure in gated_page.figures) == sorted(_EVERY_FIGURE)
    page = gated_page.path.read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert not re.search(r"url\((?!data:)", page)
    assert "default-src 'none'" in page
    assert gated_page.notes == []


def test_page_of_a_search_has_its_history(in_world: World) -> None:
    """The quick page that tune writes has every trial, and says how the maps are added."""
    page = in_world.run / "report.html"
    assert "search-history" in figure_keys(page)
    assert page.read_text(encoding="utf-8").count('data-tip="trial ') == 5
    assert "embedonce report --run RUN adds it" in _text(page)


def test_trials_that_were_dropped_early_are_counted(in_world: World, tmp_path: Path) -> None:
    """The page and the comparison say how many trials were made, not only how many were finished."""
    run = _copy(in_world.run, tmp_path)
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    metrics.update(n_trials=12, n_dropped=8)
    (run / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    assert "labelled rows, 20 trial(s), 8 of them dropped early." in lead(metrics)
    assert main(["report", "--compare", str(run), str(in_world.run), "--out", str(tmp_path / "c.html")]) == 0
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", _text(tmp_path / "c.html"))
    assert [cells[cells.index(name) + 3] for name in ("run", "small")] == ["20", "5"]


def test_same_run_gives_the_same_bytes(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two pages of one run are equal, maps and pictures included."""
    pages = [tmp_path / "a.html", tmp_path / "b.html"]
    for page in pages:
        assert main(["report", "--run", str(in_world.run), "--out", str(page), "--json"]) == 0
    assert pages[0].read_bytes() == pages[1].read_bytes()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found == {"report": str(pages[1]), "bytes": pages[1].stat().st_size, "figures": [], "notes": []}


def _figure(report: Report, key: str) -> Chart | Grid:
    found = next(figure for figure in report.figures if figure.key == key)
    assert isinstance(found, Chart | Grid)
    return found


def test_figures_equal_an_independent_computation(gated: Path, gated_page: Report) -> None:
    """Confusion and areas under curves are scikit-learn's, the calibration error that of metrics.json."""
    metrics = json.loads((gated / "metrics.json").read_text(encoding="utf-8"))
    with (gated / "oof.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    y = np.array([metrics["classes"].index(row["label"]) for row in rows])
    table = np.array([[float(row[f"p_{name}"]) for name in metrics["classes"]] for row in rows])
    counts = _figure(gated_page, "confusion-counts")
    assert isinstance(counts, Grid)
    assert [[int(c) for c in row] for row in counts.texts] == confusion_matrix(
        y, table.argmax(axis=1)
    ).tolist()
    roc = _figure(gated_page, "roc")
    assert isinstance(roc, Chart)
    areas = [mark.name.rsplit(" ", 1)[1] for mark in roc.marks if mark.name != "chance"]
    assert areas == [f"{roc_auc_score(y == code, table[:, code]):.3f}" for code in range(3)]
    for mark in roc.marks:
        area = np.trapezoid(mark.y, mark.x)  # what is drawn, not only what is said
        assert mark.name == "chance" or area == pytest.approx(float(mark.name.rsplit(" ", 1)[1]), abs=0.01)
    for key, step in (("before", "none"), ("after", "temperature")):
        error = float(_figure(gated_page, f"reliability-{key}").title.rsplit(" ", 1)[1])
        assert error == pytest.approx(metrics["after"][step]["ece"], abs=6e-4)


def test_curves_and_bins_equal_an_independent_computation(gated: Path, gated_page: Report) -> None:
    """Every drawn point of PR curves and reliability bins is one that scikit-learn computes."""
    run = read_evidence(gated, title="gated")
    assert run.rows is not None
    y, table = run.rows.y, run.rows.probabilities
    chart = _figure(gated_page, "precision-recall")
    assert isinstance(chart, Chart)
    curves = [mark for mark in chart.marks if mark.name]
    assert len(curves) == 3
    for code, mark in enumerate(curves):
        precision, recall, _ = precision_recall_curve(y == code, table[:, code])
        assert set(zip(mark.x, mark.y, strict=True)) <= set(
            zip(recall.tolist(), precision.tolist(), strict=True)
        )
        assert mark.name.endswith(f" {average_precision_score(y == code, table[:, code]):.3f}")
    table = table / table.sum(axis=1, keepdims=True)
    right, sure = table.argmax(axis=1) == y, table.max(axis=1)
    share, confidence = calibration_curve(right, sure, n_bins=10)
    bins = _figure(gated_page, "reliability-before")
    assert isinstance(bins, Chart)
    drawn = [point for m in bins.marks if m.kind == "points" for point in zip(m.x, m.y, strict=True)]
    np.testing.assert_allclose(sorted(drawn), sorted(zip(confidence, share, strict=True)), atol=1e-9)
    density = _figure(gated_page, "confidence-1")
    assert isinstance(density, Chart)
    outline = next(mark for mark in density.marks if mark.name.startswith("rows of ") and mark.colour == 1)
    expected, _ = np.histogram(run.rows.probabilities[y == 1, 1], bins=20, range=(0, 1), density=True)
    np.testing.assert_allclose(np.asarray(outline.y)[::2], expected)


def test_training_section_shows_what_was_measured(gated: Path, gated_page: Report) -> None:
    """The curves are those of training.json, and every row's block weights add up to one."""
    training = json.loads((gated / "model" / "training.json").read_text(encoding="utf-8"))
    history = training["networks"][0]["history"]
    chart = _figure(gated_page, "learning-loss")
    assert isinstance(chart, Chart)
    drawn = {mark.name: list(mark.y) for mark in chart.marks if mark.name}
    assert drawn == {
        "training": [entry["train_loss"] for entry in history],
        "validation": [entry["valid_loss"] for entry in history],
    }
    run = read_evidence(gated, title="gated")
    assert run.fusion is not None
    assert list(run.fusion) == training["blocks"]
    np.testing.assert_allclose(sum(run.fusion.values()), 1.0, atol=1e-5)


def test_head_without_epochs_leaves_no_training_trace(in_world: World, tmp_path: Path) -> None:
    """A logistic regression has no curves, and its page says so."""
    assert main(["train", "--head", "logreg", "--folds", "3", "--study", "r", "--out", str(tmp_path)]) == 0
    assert not (tmp_path / "r" / "model" / "training.json").exists()
    assert "not trained in epochs" in _text(tmp_path / "r" / "report.html")


def test_missing_rows_or_trials_leave_out_their_sections(
    gated: Path, in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One clear line each on stderr, and the page says why a section is not there."""
    run = _copy(gated, tmp_path)
    (run / "oof.csv").unlink()
    (run / "trials.csv").write_text("number\n1\n", encoding="utf-8")
    assert main(["report", "--run", str(run)]) == 0
    lines = capsys.readouterr().err
    assert f"note: '{run / 'oof.csv'}' is missing from the run folder." in lines
    assert f"note: '{run / 'trials.csv'}' lacks the columns" in lines
    text = _text(run / "report.html")
    assert text.count("oof.csv&#x27; is missing from the run folder.") == 6
    assert "roc" not in figure_keys(run / "report.html")
    assert {"scores", "classes", "learning-loss"} <= set(figure_keys(run / "report.html"))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("metrics.json", None, "is missing"),
        ("metrics.json", "{", "cannot be read as JSON"),
        ("metrics.json", "{}", "lacks 'classes'"),
        ("config.json", None, "is missing"),
        ("config.json", '{"command": "tune"}', "names no spaces"),
    ],
)
def test_folder_that_is_no_run_is_refused_in_one_line(
    gated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str | None, says: str
) -> None:
    """Without its scores or settings there is nothing to make a page of."""
    run = _copy(gated, tmp_path)
    (run / name).unlink()
    if content is not None:
        (run / name).write_text(content, encoding="utf-8")
    assert main(["report", "--run", str(run), "--out", str(tmp_path / "page.html")]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert says in lines[0]
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    "content", ["id,fold,label\n1,0,positive\n", "id,fold,label,p_negative,p_neutral,p_positive\n"]
)
def test_damaged_rows_are_named(gated: Path, in_world: World, tmp_path: Path, content: str) -> None:
    """A table without its columns or without rows is no traceback."""
    run = _copy(gated, tmp_path)
    (run / "oof.csv").write_text(content, encoding="utf-8")
    report = write_report(run, tmp_path / "page.html", title="r", thorough=True)
    assert any("oof.csv' is damaged" in note for note in report.notes)


def test_page_says_when_a_store_is_gone_or_has_changed(
    gated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the stores there are no texts, pictures and raw maps; all else is drawn."""
    run = _copy(gated, tmp_path)
    monkeypatch.chdir(tmp_path)
    report = write_report(run, tmp_path / "gone.html", title="r", thorough=True)
    assert "is not there any more" in report.notes[0]
    assert "pca-predictions" in figure_keys(report.path)
    assert "pca-text.pooled" not in figure_keys(report.path)


def test_page_says_when_a_store_has_changed(gated: Path, in_world: World, tmp_path: Path) -> None:
    """A store of another fingerprint is not taken for the run's."""
    run = _copy(gated, tmp_path)
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    for space in config["spaces"]:
        space["store_fingerprint"] = "0" * 64
    (run / "config.json").write_text(json.dumps(config), encoding="utf-8")
    report = write_report(run, tmp_path / "page.html", title="r", thorough=True)
    assert "has changed since the run was made." in report.notes[0]
    assert report.notes[0].split("'")[1] in _text(report.path)


def test_run_is_found_from_another_folder(
    in_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stores and pictures are looked for above the run, so the page is the same from anywhere."""
    here = write_report(in_world.run, tmp_path / "here.html", title="small", thorough=True)
    monkeypatch.chdir(tmp_path)
    there = write_report(in_world.run, tmp_path / "there.html", title="small", thorough=True)
    assert here.path.read_bytes() == there.path.read_bytes()
    assert "data:image/webp" in there.path.read_text(encoding="utf-8")


def test_pictures_that_are_not_found_are_asked_for(gated: Path, in_world: World, tmp_path: Path) -> None:
    """The page says where it looked and which option helps."""
    report = write_report(gated, tmp_path / "page.html", title="r", thorough=True, data=tmp_path)
    assert "name the data set&#x27;s folder with --data" in _text(report.path)
    assert "name the data set's folder with --data" in report.notes[0]
    assert "data:image/webp" not in report.path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--run", "RUN", "--data", "nowhere"], 1, "--data 'nowhere' is not a folder"),
        (["--run", "RUN", "--out", "."], 2, "--out '.' cannot be written: it is a folder"),
        (["--run", "RUN", "--out", "gone/page.html"], 2, "--out 'gone/page.html' cannot be written"),
        (["--run", "nowhere"], 1, "is missing"),
        (["--run", "train.txt"], 1, "--run 'train.txt' is a file"),
        ([], 2, "one of the arguments --run --compare is required"),
        (["--compare", "RUN"], 2, "--compare needs two or more different runs, got 1"),
        (["--compare", "RUN", "RUN"], 2, "--compare needs two or more different runs, got 1"),
    ],
)
def test_wrong_words_are_one_clear_message(
    in_world: World, capsys: pytest.CaptureFixture[str], words: list[str], code: int, says: str
) -> None:
    """A wrong path exits with 1, a wrong word with 2."""
    words = [str(in_world.run) if word == "RUN" else word for word in words]
    try:
        found = main(["report", *words])
    except SystemExit as end:
        found = int(str(end.code))
    assert found == code
    shown = capsys.readouterr().err
    assert says in shown
    assert "Traceback" not in shown
