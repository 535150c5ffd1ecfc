"""The page in a real Chromium without a network: sections drawn, hover and filter work, nothing complains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.report import Report
from tests.kit.browser import CHROMIUM, Browser
from tests.pipelines.report.conftest import EVIL

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (CI installs it)")

_GALLERY = "[...document.querySelectorAll('#gallery .card')]"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)])
def test_page_is_drawn_on_wide_and_narrow_screens(
    browser: Browser, gated_page: Report, width: int, dark: bool
) -> None:
    """Every section has a height, no part sticks out of the window, and the colours follow the scheme."""
    browser.complaints.clear()
    browser.requests.clear()
    browser.open(gated_page.path, width=width, dark=dark)
    heights = browser.value(
        "[...document.querySelectorAll('section')].map(s => s.getBoundingClientRect().height)"
    )
    assert len(heights) == 12
    assert min(heights) > 60
    assert browser.value("document.documentElement.scrollWidth") <= width
    empty = "[...document.querySelectorAll('svg')].filter(s => s.getBoundingClientRect().height < 40).length"
    assert browser.value(empty) == 0
    background = browser.value("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(19, 22, 26)" if dark else "rgb(255, 255, 255)")
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [
        gated_page.path.resolve().as_uri()
    ]


def test_maps_hold_points_of_every_class(browser: Browser, gated_page: Report) -> None:
    """Each canvas shows the colours of the classes, and other ones when coloured by right and wrong."""
    browser.open(gated_page.path)
    colours = """(() => [...document.querySelectorAll('canvas')].map(canvas => {
        const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        const seen = new Set();
        for (let k = 0; k < pixels.length; k += 4)
            if (pixels[k + 3] === 191) seen.add(pixels.slice(k, k + 3).join());
        return [...seen];
    }))()"""
    by_class = browser.value(colours)
    assert len(by_class) == 11
    assert all(len(seen) >= 3 for seen in by_class)
    browser.value(
        "(e => { e.value = 'right'; e.dispatchEvent(new Event('change')); })"
        "(document.getElementById('map-colour'))"
    )
    assert browser.value(colours) != by_class


def test_hover_over_a_point_shows_its_text_picture_and_prediction(
    browser: Browser, gated_page: Report
) -> None:
    """The card beside the mouse is that of the row under it."""
    browser.open(gated_page.path)
    found = browser.value("""(() => {
        const data = JSON.parse(document.getElementById('page-data').textContent);
        const canvas = document.querySelector('canvas[data-map="0"]');
        canvas.scrollIntoView({ block: 'center', behavior: 'instant' });
        const box = canvas.getBoundingClientRect(), map = data.maps[0], side = box.width - 24;
        const k = map.x.indexOf(1000), row = map.rows[k];
        return { x: box.left + 12 + side, y: box.top + 12 + (1 - map.y[k] / 1000) * side,
                 id: data.rows.id[row], text: data.rows.text[row], label: data.classes[data.rows.y[row]] };
    })()""")
    browser.hover(5, 5)
    browser.hover(found["x"], found["y"])
    assert browser.value("document.getElementById('tip').hidden") is False
    shown = browser.value("document.getElementById('tip').innerText")
    for words in (found["text"], found["label"], f"id {found['id']},", "predicted"):
        assert words in shown
    picture = "getComputedStyle(document.querySelector('#tip .thumb')).backgroundImage.slice(0, 22)"
    assert browser.value(picture) == 'url("data:image/webp;b'
    browser.hover(2, found["y"])
    assert browser.value("document.getElementById('tip').hidden") is True


def test_hover_over_a_mark_of_a_chart_says_its_numbers(browser: Browser, gated_page: Report) -> None:
    """The words are those of the chart, beside the mouse."""
    browser.open(gated_page.path)
    dot = browser.value("""(() => {
        const dot = document.querySelector('[data-figure="scores"] circle.c0');
        dot.scrollIntoView({ block: 'center', behavior: 'instant' });
        const box = dot.getBoundingClientRect();
        return { x: box.left + box.width / 2, y: box.top + box.height / 2, words: dot.dataset.tip };
    })()""")
    browser.hover(dot["x"], dot["y"])
    assert browser.value("document.getElementById('tip').innerText") == dot["words"]
    assert "macro F1, cross-validated: 0." in dot["words"]


def test_gallery_filters_sorts_and_finds(browser: Browser, gated_page: Report) -> None:
    """Every choice shows the rows that the data say, and no other."""
    browser.open(gated_page.path)
    data = browser.value("JSON.parse(document.getElementById('page-data').textContent)")
    rows, classes = data["rows"], data["classes"]
    wrong = [i for i, y in enumerate(rows["y"]) if rows["predicted"][i] != y]
    assert len(wrong) > 3

    def choose(name: str, value: str) -> list[str]:
        browser.value(
            f"(e => {{ e.value = {value!r}; e.dispatchEvent(new Event('input')); }})"
            f"(document.getElementById('gallery-{name}'))"
        )
        return browser.value(f"{_GALLERY}.map(c => c.lastChild.lastChild.textContent.split(/[ ,]/)[1])")

    shown = browser.value(f"{_GALLERY}.length")
    assert shown == min(24, len(wrong))
    sure = [rows["id"][i] for i in sorted(wrong, key=lambda i: -max(rows["p"][i]))]
    assert choose("sort", "sure")[:5] == sure[:5]
    assert choose("sort", "unsure")[0] == sure[-1]
    label = rows["y"][wrong[0]]
    expected = {rows["id"][i] for i in wrong if rows["y"][i] == label}
    assert set(choose("true", str(label))) <= expected
    assert browser.value("document.getElementById('gallery-count').textContent").endswith(
        f"of {len(expected)} shown"
    )
    never = next(code for code in range(len(classes)) if code == label)
    assert choose("predicted", str(never)) == []  # predicted as it is labelled is no error
    choose("predicted", "")
    words = rows["text"][wrong[0]]
    holding = {rows["id"][i] for i in wrong if rows["y"][i] == label and words in rows["text"][i]}
    assert set(choose("find", words)) == holding != expected


def test_markup_from_data_is_shown_as_text_and_never_run(browser: Browser, hostile_page: Path) -> None:
    """Ids, texts and class names full of markup and scripts are read as they are."""
    browser.complaints.clear()
    browser.open(hostile_page)
    assert browser.value("document.title") == "r - embedonce"
    assert browser.value("document.querySelectorAll('script').length") == 2
    assert browser.value("document.querySelectorAll('img').length") == 0
    assert EVIL.split("<img")[0] in browser.value(f"{_GALLERY}[0].innerText")
    assert browser.complaints == []


def test_policy_stops_scripts_and_requests_that_are_not_the_pages_own(
    browser: Browser, gated_page: Report, tmp_path: Path
) -> None:
    """Even markup that had slipped through could neither run nor load anything."""
    page = tmp_path / "broken.html"
    slipped = '<script>document.title="owned"</script><img src="https://example.org/x.png"></main>'
    page.write_text(gated_page.path.read_text(encoding="utf-8").replace("</main>", slipped), encoding="utf-8")
    browser.complaints.clear()
    browser.open(page)
    assert browser.value("document.title") == "gated - embedonce"
    assert sum("Content Security Policy" in complaint for complaint in browser.complaints) == 2
    browser.complaints.clear()
