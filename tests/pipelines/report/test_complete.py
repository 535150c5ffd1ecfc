"""A run about which everything has been measured: slices, suspect labels, robustness, attention."""

from __future__ import annotations

import base64
import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from heads import load_model
from pipelines.cli import main
from pipelines.report import Report, write_report
from pipelines.report.charts import Chart
from pipelines.report.evidence import read_evidence
from pipelines.report.grids import Grid
from pipelines.report.maps import SampleMap
from pipelines.report.samples import find_samples
from tests.kit.browser import CHROMIUM, Browser
from tests.pipelines.conftest import World
from tests.pipelines.report.conftest import figure_keys, shown_text


@pytest.fixture(scope="module")
def complete(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained attention head with its errors looked at and its robustness measured."""
    out = tmp_path_factory.mktemp("complete")
    before = Path.cwd()
    os.chdir(world.root)
    try:
        words = ["--set", 'fusion="attention"', "--set", "max_epochs=2", "--set", "projection_width=8"]
        words += ["--folds", "3", "--study", "all", "--out", str(out)]
        assert main(["train", "--head", "mlp", *words]) == 0
        assert main(["errors", "--run", str(out / "all")]) == 0
        words = ["--rows", "20", "--severities", "1,5", "--faults", "blur,missing-image"]
        words += ["--weights", f"{world.clip.name}={world.clip}"]
        assert main(["robustness", "--run", str(out / "all"), *words]) == 0
    finally:
        os.chdir(before)
    return out / "all"


@pytest.fixture(scope="module")
def complete_page(world: World, complete: Path) -> Report:
    before = Path.cwd()
    os.chdir(world.root)
    try:
        return write_report(complete, complete / "report.html", title="all", thorough=True)
    finally:
        os.chdir(before)


def _figure(report: Report, key: str) -> Chart | Grid | SampleMap:
    return next(figure for figure in report.figures if figure.key == key)


def test_page_shows_all_that_was_measured(complete_page: Report) -> None:
    """Slices, attention, layers and robustness are drawn, and nothing is asked for."""
    wanted = {"slices", "fusion-attention", "pca-hidden-layer", "tsne-fused-features", "robustness-blur"}
    assert wanted | {"robustness-missing"} <= set(figure_keys(complete_page.path))
    assert "adds it" not in shown_text(complete_page.path)
    assert complete_page.notes == []


def test_robustness_chart_holds_the_measured_scores(complete: Path, complete_page: Report) -> None:
    """A point for each severity at its score, inside its interval, and a line at the unharmed score."""
    measured = json.loads((complete / "robustness.json").read_text(encoding="utf-8"))
    blur = [fault for fault in measured["faults"] if fault["name"] == "blur"]
    chart = _figure(complete_page, "robustness-blur")
    assert isinstance(chart, Chart)
    band, points = (next(m for m in chart.marks if m.kind == kind) for kind in ("band", "points"))
    assert list(zip(points.x, points.y, strict=True)) == [(f["severity"], f["score"]) for f in blur]
    assert list(band.y) == [f["low"] for f in blur]
    assert list(band.end) == [f["high"] for f in blur]
    unharmed = next(mark for mark in chart.marks if mark.name == "unharmed")
    assert set(unharmed.y) == {measured["clean"]["score"]}


def test_attention_and_layers_are_the_final_models(
    world: World, complete: Path, complete_page: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The grid is the mean attention over rows and heads, the map the PCA of the hidden layer."""
    monkeypatch.chdir(world.root)
    run = read_evidence(complete, title="all")
    assert run.rows is not None
    features = find_samples(run, run.rows, with_features=True).features
    X = np.concatenate(list(features.values()), axis=1)
    model = load_model(complete / "model")
    attention = model.sample_fusion_weights(X, detail=True).mean(axis=(0, 1))
    grid = _figure(complete_page, "fusion-attention")
    assert isinstance(grid, Grid)
    np.testing.assert_allclose(grid.shades, attention)
    np.testing.assert_allclose(np.sum(grid.shades, axis=1), 1.0)
    hidden = model.layer_outputs(X)["hidden"]
    centred = hidden - hidden.mean(axis=0)
    places = np.linalg.svd(centred, full_matrices=False)[0][:, 0]
    drawn = _figure(complete_page, "pca-hidden-layer")
    assert isinstance(drawn, SampleMap)
    assert abs(np.corrcoef(places, drawn.xy[:, 0])[0, 1]) > 0.999
    assert "has learnt from these rows" in drawn.caption


def test_slice_chart_holds_the_table_of_errors(complete: Path, complete_page: Report) -> None:
    """Rates and intervals are those of ``slices.csv``, in its order."""
    with (complete / "slices.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    chart = _figure(complete_page, "slices")
    assert isinstance(chart, Chart)
    points = next(mark for mark in chart.marks if mark.kind == "points")
    assert list(points.x) == [float(line["error_rate"]) for line in lines[:12]]
    assert [name for _, name in chart.y.marks()] == [line["name"] for line in lines[:12]]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


_CARDS = "[...document.querySelectorAll('#gallery .card')].map(c => c.lastChild.lastChild.textContent)"


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (CI installs it)")
def test_gallery_filters_by_slice_and_by_suspect_label(
    browser: Browser, complete: Path, complete_page: Report
) -> None:
    """Exactly the rows of a slice, and exactly the suspected ones, are left; cards name their slices."""
    browser.complaints.clear()
    browser.open(complete_page.path)
    with (complete / "bad_cases.csv").open(encoding="utf-8", newline="") as file:
        cases = list(csv.DictReader(file))

    def choose(name: str, value: str) -> set[str]:
        browser.value(
            f"(e => {{ e.value = {value!r}; e.dispatchEvent(new Event('input')); }})"
            f"(document.getElementById('gallery-{name}'))"
        )
        while browser.value("document.getElementById('gallery-more').hidden") is False:
            browser.value("document.getElementById('gallery-more').click()")
        return {words.split(",")[0].removeprefix("id ") for words in browser.value(_CARDS)}

    suspects = {case["id"] for case in cases if case["suspected"] == "True"}
    assert choose("label", "suspect") == suspects
    assert choose("label", "") == {case["id"] for case in cases}
    options = browser.value("[...document.getElementById('gallery-slice').options].map(o => o.text)")
    name = options[1]
    inside = {case["id"] for case in cases if name in case["slices"].split("; ")}
    assert choose("slice", "0") == inside
    assert 0 < len(inside) < len(cases)
    tags = browser.value("[...document.querySelectorAll('#gallery .tag')].map(t => t.textContent)")
    assert tags.count(name) == len(inside)
    assert browser.complaints == []


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (CI installs it)")
@pytest.mark.parametrize(("width", "dark"), [(1280, True), (390, False)])
def test_complete_page_is_drawn_wide_and_narrow(
    browser: Browser, complete_page: Report, width: int, dark: bool
) -> None:
    """Nothing sticks out of the window, no words of a chart stick out of it, and nothing complains."""
    browser.complaints.clear()
    browser.open(complete_page.path, width=width, dark=dark)
    assert browser.value("document.documentElement.scrollWidth") <= width
    clipped = """[...document.querySelectorAll('svg text')].filter(text => {
        const box = text.getBoundingClientRect(), around = text.ownerSVGElement.getBoundingClientRect();
        return box.left < around.left - 1 || box.right > around.right + 1;
    }).map(text => text.textContent)"""
    assert browser.value(clipped) == []
    assert browser.complaints == []


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (CI installs it)")
def test_maps_and_tables_are_reached_by_keyboard(browser: Browser, complete_page: Report) -> None:
    """Arrow keys walk over the points of a map and show each row's card; tables can be scrolled."""
    browser.open(complete_page.path)
    browser.value("""new Promise(done => {
        const map = document.querySelector('canvas[data-map]');
        map.scrollIntoView({ block: 'center', behavior: 'instant' });
        map.focus({ preventScroll: true });
        requestAnimationFrame(() => requestAnimationFrame(done));  // scrolling hides the card
    })""")
    seen = []
    for _ in range(3):
        browser.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight", code="ArrowRight")
        assert browser.value("document.getElementById('tip').hidden") is False
        seen.append(browser.value("document.getElementById('tip').innerText"))
    assert len(set(seen)) == 3
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="Escape", code="Escape")
    assert browser.value("document.getElementById('tip').hidden") is True
    unreachable = "[...document.querySelectorAll('.scroll')].filter(s => s.tabIndex !== 0).length"
    assert browser.value(unreachable) == 0


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (CI installs it)")
def test_page_prints_in_light_colours_without_its_controls(browser: Browser, complete_page: Report) -> None:
    """On paper there are neither menus nor dark grounds, and nothing is wider than the sheet."""
    browser.open(complete_page.path, width=720, dark=True)
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.call("Emulation.setEmulatedMedia", media="print", features=dark)
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for control in ("nav", ".bar-row", "#gallery-more"):
        display = f"getComputedStyle(document.querySelector('{control}')).display"
        assert browser.value(display) == "none"
    assert browser.value("document.documentElement.scrollWidth") <= 720
    printed = base64.b64decode(browser.call("Page.printToPDF", printBackground=False)["data"])
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/Type /Page\n") > 3
    browser.call("Emulation.setEmulatedMedia", media="", features=[])
