"""The page of an explanation in a real Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.cli import main
from tests.kit.browser import CHROMIUM, Browser
from tests.pipelines.explaining.conftest import Planted
from tests.pipelines.report.conftest import EVIL
from tests.pipelines.report.test_browser import browser  # noqa: F401 - a fixture


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (CI installs it)")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_page_is_drawn_and_strangers_text_stays_text(
    browser: Browser,  # noqa: F811
    here: Planted,
    tmp_path: Path,
    width: int,
    dark: bool,
) -> None:
    """Map, words, charts and neighbours are drawn offline; markup in a text is shown and never run."""
    page = tmp_path / "e.html"
    words = ["explain", "--run", str(here.run("tiny-clip")), *here.options(), "--out", str(page)]
    assert main([*words, "--id", "evil"]) == 0
    browser.complaints.clear()
    browser.requests.clear()
    browser.open(page, width=width, dark=dark)
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.resolve().as_uri()]
    assert browser.value("document.title").startswith("Why evil?")
    assert EVIL.split()[0] in browser.value("document.querySelector('#words p').textContent")
    assert browser.value("document.querySelectorAll('#picture figure > svg rect').length") == 49
    assert browser.value("document.querySelectorAll('#neighbours .card .thumb').length") == 10
    assert browser.value("document.documentElement.scrollWidth") <= width
    loaded = "(async () => { const i = new Image(); i.src = document.querySelector('#picture image')"
    loaded += ".getAttribute('href'); await i.decode(); return i.naturalWidth; })()"
    assert browser.value(loaded) == 70
    browser.value(
        "document.querySelector('#picture rect').scrollIntoView({block: 'center', behavior: 'instant'})"
    )
    place = browser.value(
        "(() => { const cell = document.querySelectorAll('#picture figure > svg rect')[24];"
        " const b = cell.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
    )
    browser.hover(*place)
    assert browser.value("document.getElementById('tip').textContent").startswith("row 4, column 4: ")
