"""Ablations and report pages."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pipelines.cli import main
from tests.pipelines.conftest import World


@pytest.fixture(scope="module")
def signal_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose texts know the label and whose pictures know nothing."""
    folder = tmp_path_factory.mktemp("signal")
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [120, 40, 80])
    text = rng.normal(size=(240, 10))
    text[np.arange(240), y] += 3
    np.save(folder / "text.npy", text.astype(np.float32))
    np.save(folder / "image.npy", rng.normal(size=(240, 12)).astype(np.float32))
    lines = ["id,label", *(f"{i},{'abc'[label]}" for i, label in enumerate(y))]
    (folder / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    words = [
        "import",
        "--table",
        folder / "t.csv",
        "--text",
        folder / "text.npy",
        "--image",
        folder / "image.npy",
        "--out",
        folder / "s.h5",
    ]
    assert main([str(word) for word in words]) == 0
    return folder / "s.h5"


def test_ablation_finds_the_modality_that_matters(
    signal_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Text and both are good, image is chance, and the differences carry intervals and p-values."""
    capsys.readouterr()
    assert main(["ablate", "--features", str(signal_store), "--out", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = {row["features"]: row for row in found["rows"]}
    assert list(rows) == ["text", "image", "both"]
    assert rows["text"]["cv"]["macro_f1"]["mean"] > 0.8
    assert rows["image"]["cv"]["macro_f1"]["mean"] < 0.45
    assert rows["both"]["against_reference"] is None
    assert rows["image"]["against_reference"]["p_value"] < 0.01
    assert rows["image"]["against_reference"]["ci95"][1] < 0
    run = Path(found["run"])
    with (run / "ablation.csv").open(encoding="utf-8", newline="") as file:
        assert [row["features"] for row in csv.DictReader(file)] == ["text", "image", "both"]
    assert (run / "ablation.md").read_text(encoding="utf-8").count("\n") == 5


def _needs_nothing_from_outside(page: str) -> None:
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "url(" not in page
    assert "<script" not in page


def test_pages_are_self_contained(in_world: World, signal_store: Path, tmp_path: Path) -> None:
    """Both kinds of report load nothing from anywhere."""
    page = (in_world.run / "report.html").read_text(encoding="utf-8")
    _needs_nothing_from_outside(page)
    for name in ("Scores", "Classes", "Confusion", "Search", "Confident errors", "How to reproduce"):
        assert f"<h2>{name}</h2>" in page
    assert main(["ablate", "--features", str(signal_store), "--out", str(tmp_path), "--folds", "3"]) == 0
    _needs_nothing_from_outside(next(tmp_path.glob("ablate-*/report.html")).read_text(encoding="utf-8"))


def test_report_is_made_anew_from_the_run_folder(in_world: World, tmp_path: Path) -> None:
    """`report --run` writes the page that tune wrote."""
    out = tmp_path / "page.html"
    assert main(["report", "--run", str(in_world.run), "--out", str(out)]) == 0
    assert out.read_bytes() == (in_world.run / "report.html").read_bytes()


def test_report_names_a_missing_file(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run folder without its out-of-fold rows is one clear line."""
    shutil.copytree(in_world.run, tmp_path / "run")
    (tmp_path / "run" / "oof.csv").unlink()
    assert main(["report", "--run", str(tmp_path / "run")]) == 1
    assert "oof.csv' is missing" in capsys.readouterr().err


def test_names_from_data_cannot_inject_markup(tmp_path: Path) -> None:
    """Class names and ids are text in the page, never tags."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.normal(size=(60, 4)).astype(np.float32))
    lines = ["id,label", *(f"<b>{i}</b>,{'<script>alert(1)</script>' if i % 2 else 'b'}" for i in range(60))]
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    assert (
        main(
            [
                "import",
                "--table",
                str(tmp_path / "t.csv"),
                "--text",
                str(tmp_path / "x.npy"),
                "--out",
                str(tmp_path / "s.h5"),
            ]
        )
        == 0
    )
    assert main(["train", "--features", str(tmp_path / "s.h5"), "--study", "r", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "<b>1</b>" not in page


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (CI installs it)")
def test_page_opens_in_a_browser_without_a_console_error(in_world: World, tmp_path: Path) -> None:
    """A real browser draws every section and has nothing to complain about."""
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr",
        "--dump-dom",
        (in_world.run / "report.html").resolve().as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.count("<section>") == 7
    assert "<svg" in done.stdout
    assert "CONSOLE" not in done.stderr
