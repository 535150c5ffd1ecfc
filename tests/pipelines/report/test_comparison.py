"""Runs side by side, and figures for papers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.cli import main
from pipelines.report import Report, paper, write_comparison
from pipelines.report.charts import Chart
from pipelines.report.evidence import read_evidence
from pipelines.report.paired_runs import paired_runs
from tests.kit.browser import CHROMIUM, Browser
from tests.pipelines.ablation_stores import labels_of, make_store, noisy
from tests.pipelines.conftest import World
from tests.pipelines.report.conftest import figure_keys, shown_text
from tuning import paired_difference


@pytest.fixture(scope="module")
def compared(world: World, gated: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return write_comparison([world.run, gated], tmp_path_factory.mktemp("compared") / "comparison.html")


def test_comparison_has_its_figures_and_the_paired_difference(
    world: World, gated: Path, compared: Report
) -> None:
    """The difference in the table is `paired_difference` over the runs' own rows."""
    assert figure_keys(compared.path) == [
        "compare-scores",
        "compare-radar",
        "compare-cost",
        "compare-differences",
    ]
    first, second = read_evidence(world.run, title="a").rows, read_evidence(gated, title="b").rows
    assert first is not None
    assert second is not None
    assert first.ids == second.ids
    folds = [(np.flatnonzero(first.folds != k), np.flatnonzero(first.folds == k)) for k in range(3)]
    found = paired_difference(second.probabilities, first.probabilities, first.y, n_classes=3, folds=folds)
    assert found["difference"] != 0
    page = compared.path.read_text(encoding="utf-8")
    assert f'<td class="number">{found["difference"]:+.3f}</td>' in page
    assert f"{found['ci95'][0]:+.3f} to {found['ci95'][1]:+.3f}" in page


def test_p_values_of_several_runs_are_corrected(
    world: World, gated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two differences the smaller p-value counts twice, and the larger at least as much (Holm, 1979)."""
    monkeypatch.chdir(world.root)
    words = ["--set", "C=0.0001", "--folds", "3", "--study", "weak", "--out", str(tmp_path)]
    assert main(["train", "--head", "logreg", *words]) == 0
    runs = [read_evidence(run, title=run.name) for run in (world.run, gated, tmp_path / "weak")]
    compared, reasons = paired_runs(runs, "macro_f1")
    assert reasons == []
    assert [title for title, _ in compared] == ["gated", "weak"]
    small, large = sorted((found["p_value"], found["p_holm"]) for _, found in compared)
    assert small[1] == pytest.approx(min(1.0, 2 * small[0]))
    assert large[1] == pytest.approx(max(large[0], small[1]))
    for _, found in compared:
        inside = found["p_holm"] > 0.05
        assert (found["verdict"] == "inside the noise") is inside


def test_related_rows_are_drawn_together_while_the_stores_tell_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four rows of one text are drawn as one; without the store they are single rows, which a reason says."""
    monkeypatch.chdir(tmp_path)
    codes = np.repeat(labels_of(60), 4)
    x = np.repeat(noisy(codes[::4], 1.0), 4, axis=0)
    texts = tuple(f"number {row // 4} of all" for row in range(len(codes)))
    store = make_store(Path("s.h5"), "toy", {"text": x}, codes, texts=texts)
    for name, c in (("strong", "1"), ("weak", "0.0001")):
        words = ["--features", str(store), "--set", f"C={c}", "--folds", "3", "--study", name]
        assert main(["train", "--head", "logreg", *words]) == 0
    runs = [read_evidence(Path("runs") / name, title=name) for name in ("strong", "weak")]
    strong, weak = (run.rows for run in runs)
    assert strong is not None
    assert weak is not None
    folds = [(np.flatnonzero(strong.folds != k), np.flatnonzero(strong.folds == k)) for k in range(3)]
    options = {"n_classes": 3, "metric": "macro-f1", "folds": folds}
    groups = [int(guid) // 4 for guid in strong.ids]
    together = paired_difference(weak.probabilities, strong.probabilities, strong.y, groups=groups, **options)
    alone = paired_difference(weak.probabilities, strong.probabilities, strong.y, **options)
    ((_, found),), reasons = paired_runs(runs, "macro_f1")
    assert reasons == []
    assert found["ci95"] == together["ci95"]
    store.unlink()
    ((_, found),), reasons = paired_runs(runs, "macro_f1")
    assert "take every row for itself, related ones too: Store 's.h5' is not there any more" in reasons[0]
    assert found["ci95"] == alone["ci95"]
    assert np.ptp(together["ci95"]) > 1.3 * np.ptp(alone["ci95"])


def test_radar_holds_every_score_of_every_run(world: World, gated: Path, compared: Report) -> None:
    """Longer rays are larger scores, in the order of the names around the circle."""
    radar = next(figure for figure in compared.figures if figure.key == "compare-radar")
    assert isinstance(radar, Chart)
    drawn = [mark for mark in radar.marks if mark.kind == "points"]
    names = next(mark for mark in radar.marks if mark.kind == "text").notes
    assert [mark.notes[0].split(",")[0] for mark in drawn] == ["small", "gated"]
    for run, mark in zip((world.run, gated), drawn, strict=True):
        cv = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["cv"]
        means = [cv[name.replace(" ", "_").replace("F1", "f1")]["mean"] for name in names]
        radii = np.hypot(mark.x, mark.y)
        assert radii.max() <= 1
        assert (
            np.argsort(means, kind="stable").tolist() == np.argsort(radii.round(12), kind="stable").tolist()
        )


def test_runs_on_other_rows_are_not_paired(world: World, gated: Path, tmp_path: Path) -> None:
    """One row less: the scores are shown, the difference is not, and the page says why."""
    other = Path(shutil.copytree(gated, tmp_path / "other"))
    lines = (other / "oof.csv").read_text(encoding="utf-8").splitlines()
    (other / "oof.csv").write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    page = write_comparison([world.run, other], tmp_path / "page.html").path.read_text(encoding="utf-8")
    assert "other is not compared row by row: its rows or classes are not those of small." in page


def test_run_without_its_rows_says_so_whatever_else_it_lacks(
    world: World, gated: Path, tmp_path: Path
) -> None:
    """The reason is that of oof.csv, not of the first file that is missing."""
    other = Path(shutil.copytree(gated, tmp_path / "other run"))
    for name in ("trials.csv", "oof.csv"):
        (other / name).unlink()
    page = write_comparison([world.run, other], tmp_path / "page.html").path
    assert f"other run is not compared row by row: '{other / 'oof.csv'}' is missing" in shown_text(page)
    assert f"embedonce report --compare {world.run} '{other}'" in shown_text(page)


def test_comparison_refuses_what_is_no_tune_or_train_run(
    world: World, gated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An ablation has no single winner to compare."""
    other = Path(shutil.copytree(gated, tmp_path / "other"))
    config = json.loads((other / "config.json").read_text(encoding="utf-8"))
    (other / "config.json").write_text(json.dumps({**config, "command": "ablate"}), encoding="utf-8")
    assert (
        main(["report", "--compare", str(world.run), str(other), "--out", str(tmp_path / "page.html")]) == 1
    )
    assert "is a run of 'ablate', but only runs of tune and train can be compared" in capsys.readouterr().err


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (CI installs it)")
def test_comparison_opens_without_a_complaint(compared: Report, tmp_path: Path) -> None:
    """Wide and narrow, in a real browser."""
    with Browser(tmp_path / "profile") as browser:
        for width in (1280, 390):
            browser.open(compared.path, width=width)
            assert browser.value("document.documentElement.scrollWidth") <= width
            assert browser.value("document.querySelectorAll('section').length") == 5
        assert browser.complaints == []


def test_figures_are_written_as_png_and_svg(
    in_world: World, gated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every figure of the page, twice; the pictures are not blank."""
    pytest.importorskip("matplotlib")
    page = tmp_path / "page.html"
    words = ["--figures", str(tmp_path / "figures"), "--out", str(page), "--json"]
    assert main(["report", "--run", str(gated), *words]) == 0
    found = json.loads(capsys.readouterr().out)
    written = sorted((tmp_path / "figures").iterdir())
    assert {path.stem for path in written} == set(figure_keys(page))
    assert len(written) == len(found["figures"]) == 2 * len(figure_keys(page))
    for path in written:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert len(image.convert("L").getcolors(256) or range(256)) > 8
        else:
            assert "<svg" in path.read_text(encoding="utf-8")


def test_figures_of_the_same_run_are_the_same_bytes(compared: Report, tmp_path: Path) -> None:
    """Neither a date nor random names get into the files."""
    pytest.importorskip("matplotlib")
    pairs = [paper.write_figures(compared.figures, tmp_path / name) for name in "ab"]
    assert len(pairs[0]) == 8
    for one, other in zip(*pairs, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_figures_without_their_library_name_the_extra(
    in_world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Nothing is written before the missing extra is named."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install 'embedonce\[report\]'"):
        paper.check_library()
    out = tmp_path / "page.html"
    assert (
        main(["report", "--run", str(in_world.run), "--figures", str(tmp_path / "f"), "--out", str(out)]) == 2
    )
    assert "The page itself does not need it" in capsys.readouterr().err
    assert not out.exists()
