"""The page of an ablation: its table and ledger as figures, and pages of early or damaged ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipelines.cli import main
from pipelines.report import write_ablation_report
from pipelines.report.charts import Chart
from tests.kit.browser import CHROMIUM, Browser
from tests.pipelines.ablation_stores import labels_of, make_store, noisy
from tests.pipelines.report.conftest import figure_keys, shown_text


@pytest.fixture(scope="module")
def ablated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ablation over a text that knows the labels and a picture that knows a little."""
    folder = tmp_path_factory.mktemp("ablated")
    codes = labels_of(120)
    vectors = {"text": noisy(codes, 2.0), "image": noisy(codes, 0.7, seed=1)}
    store = make_store(folder / "s.h5", "both", vectors, codes)
    words = ["--features", str(store), "--folds", "3", "--shuffles", "2", "--out", str(folder / "runs")]
    assert main(["ablate", *words]) == 0
    return next((folder / "runs").iterdir())


@pytest.fixture(scope="module")
def leaky(ablated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the leaks of the reports; its stores hold no views."""
    store = ablated.parent.parent / "s.h5"
    out = tmp_path_factory.mktemp("leaky")
    words = ["--features", str(store), "--folds", "3", "--shuffles", "0", "--leaky", "--out", str(out)]
    assert main(["ablate", *words]) == 0
    return next(out.iterdir())


def _chart(figures: list[Chart], key: str) -> Chart:
    return next(figure for figure in figures if figure.key == key)


def test_ablation_page_draws_its_table_and_ledger(ablated: Path, tmp_path: Path) -> None:
    """Points, intervals and colours are those of ``metrics.json``."""
    report = write_ablation_report(ablated, tmp_path / "page.html", title="a")
    keys = ["ablation", "ablation-differences", "ledger", "ledger-cases"]
    assert [figure.key for figure in report.figures] == figure_keys(report.path) == keys
    metrics = json.loads((ablated / "metrics.json").read_text(encoding="utf-8"))
    charts = [figure for figure in report.figures if isinstance(figure, Chart)]
    span, points = (m for m in _chart(charts, "ablation").marks if m.kind in ("span", "points"))
    assert list(points.x) == [row["cv"]["macro_f1"]["mean"] for row in metrics["rows"]]
    assert list(zip(span.x, span.end, strict=True)) == [
        tuple(row["cv"]["macro_f1"]["ci95"]) for row in metrics["rows"]
    ]
    compared = {row["features"]: row["both_better_by"] for row in metrics["ledger"][0]["rows"]}
    drawn = [m for m in _chart(charts, "ledger").marks if m.kind == "points"]
    for mark in drawn:
        expected = [c["difference"] for c in compared.values() if c and c["verdict"] == mark.name]
        assert list(mark.x) == expected
    assert sum(len(mark.x) for mark in drawn) == 4  # text, image, and two kinds of shuffle
    cases = metrics["ledger"][0]["cases"]
    totals, right = (m for m in _chart(charts, "ledger-cases").marks if m.kind == "bars")
    assert list(totals.x) == [case["n"] for case in cases]
    assert list(right.x) == [case["both_right"] for case in cases]
    assert sum(totals.x) == 120


def test_leaks_stand_beside_the_honest_score_with_what_leaked(
    leaky: Path, ablated: Path, tmp_path: Path
) -> None:
    """Dots and intervals are those of ``metrics.json``; a leak that did not run says what it needs."""
    report = write_ablation_report(leaky, tmp_path / "page.html", title="a")
    assert figure_keys(report.path)[-1] == "leaks"
    assert "leaks" not in figure_keys(ablated / "report.html")
    leaks = json.loads((leaky / "metrics.json").read_text(encoding="utf-8"))["leaks"]
    of_practice = {leak["practice"]: leak for leak in leaks}
    wrong = [leak for leak in leaks if leak["leaky"]]
    scored = [leak["cv"]["macro_f1"] for leak in wrong if leak["cv"]]
    fair = [of_practice[leak["honest"]]["cv"]["macro_f1"] for leak in wrong if leak["cv"]]
    charts = [figure for figure in report.figures if isinstance(figure, Chart)]
    honest_span, honest, leaky_span, dots = _chart(charts, "leaks").marks
    assert (honest.name, dots.name) == ("honest", "leaky")
    assert list(honest.x) == [score["mean"] for score in fair]
    assert list(dots.x) == [score["mean"] for score in scored]
    assert list(zip(leaky_span.x, leaky_span.end, strict=True)) == [tuple(score["ci95"]) for score in scored]
    assert list(zip(honest_span.x, honest_span.end, strict=True)) == [tuple(score["ci95"]) for score in fair]
    text = shown_text(report.path)
    assert "A lesson, and no result" in text
    for leak in wrong:
        assert f"{leak['why'][1:]}." in text
        if leak["cv"]:
            gain = leak["cv"]["macro_f1"]["mean"] - of_practice[leak["honest"]]["cv"]["macro_f1"]["mean"]
            assert f">{gain:+.3f}<" in text
    assert "extract with --views 2 to see it" in text
    assert "Beside it stands: honest, SMOTE inside the training folds." in text


def test_damaged_leaks_are_refused_in_one_line(
    leaky: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A leak without its honest partner cannot be drawn."""
    run = Path(shutil.copytree(leaky, tmp_path / "run"))
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    for leaks in (metrics["leaks"][1:], [7], {"a": 1}):
        (run / "metrics.json").write_text(json.dumps({**metrics, "leaks": leaks}), encoding="utf-8")
        capsys.readouterr()
        assert main(["report", "--run", str(run)]) == 1
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "is not that of an ablation, or is damaged" in line


def test_ablation_without_its_table_says_so(
    ablated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The figures are drawn from ``metrics.json``; one line names the missing file."""
    run = Path(shutil.copytree(ablated, tmp_path / "run"))
    (run / "ablation.csv").unlink()
    assert main(["report", "--run", str(run)]) == 0
    assert f"note: '{run / 'ablation.csv'}' is missing" in capsys.readouterr().err
    assert "ablation.csv' is missing" in shown_text(run / "report.html")
    assert "ledger" in figure_keys(run / "report.html")


def test_early_ablation_has_a_page_without_a_ledger(
    ablated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows without names, references and ledgers are shown by features and head."""
    run = Path(shutil.copytree(ablated, tmp_path / "run"))
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    rows = [{key: row[key] for key in ("features", "head", "cv", "per_class")} for row in metrics["rows"]]
    early = {"n": metrics["n"], "classes": metrics["classes"], "rows": rows}
    (run / "metrics.json").write_text(json.dumps(early), encoding="utf-8")
    assert main(["report", "--run", str(run)]) == 0
    assert figure_keys(run / "report.html") == ["ablation"]
    assert "or was made by an earlier version" in shown_text(run / "report.html")


@pytest.mark.parametrize("content", ["{}", '{"n": 3, "rows": [{"name": "x"}]}'])
def test_damaged_ablation_is_refused_in_one_line(
    ablated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    """Without its rows there is nothing to make a page of."""
    run = Path(shutil.copytree(ablated, tmp_path / "run"))
    (run / "metrics.json").write_text(content, encoding="utf-8")
    assert main(["report", "--run", str(run)]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "is not that of an ablation, or is damaged" in lines[0]


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (CI installs it)")
@pytest.mark.parametrize(("kind", "n_charts"), [("ablated", 4), ("leaky", 5)])
def test_ablation_page_opens_without_a_complaint(
    kind: str, n_charts: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Wide and narrow, light and dark, with every chart visible."""
    page = request.getfixturevalue(kind) / "report.html"
    with Browser(tmp_path / "profile") as browser:
        for width, dark in ((1280, False), (390, True)):
            browser.open(page, width=width, dark=dark)
            assert browser.value("document.documentElement.scrollWidth") <= width
            assert browser.value("document.querySelectorAll('figure svg').length") == n_charts
            low = "[...document.querySelectorAll('section')].filter(s => s.offsetHeight < 60).length"
            assert browser.value(low) == 0
        assert browser.complaints == []
