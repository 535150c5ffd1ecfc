"""Ablations and their page; pages of runs are tested in `report/`."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.cli import main


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
        lines = {row["features"]: row for row in csv.DictReader(file)}
    assert list(lines) == ["text", "image", "both"]
    assert (run / "ablation.md").read_text(encoding="utf-8").count("\n") == 5
    _check_numbers(run, lines["image"], rows["image"])


def _check_numbers(run: Path, line: dict[str, str], row: dict[str, Any]) -> None:
    """What programs read is a number to the last digit; what people read is rounded, and never zero."""
    against = row["against_reference"]
    assert against["p_value"] < 0.001
    assert float(line["p"]) == pytest.approx(against["p_value"], rel=1e-11)
    assert float(line["p (Holm)"]) == pytest.approx(against["p_holm"], rel=1e-11)
    assert int(line["parameters"]) == row["n_parameters"]
    interval = [float(line[f"macro_f1 95 % {end}"]) for end in ("low", "high")]
    assert interval == pytest.approx(row["cv"]["macro_f1"]["ci95"], rel=1e-11)
    with (run / "ledger.csv").open(encoding="utf-8", newline="") as file:
        for one in csv.DictReader(file):
            assert float(one["p (Holm)"] or "1") > 0
            assert float(one["95 % low"] or "-1") < float(one["95 % high"] or "1")
    assert " | <0.001 | " in (run / "ablation.md").read_text(encoding="utf-8")
    assert r" & \textless{}0.001 & " in (run / "ablation.tex").read_text(encoding="utf-8")
    page = (run / "report.html").read_text(encoding="utf-8")
    assert ">&lt;0.001<" in page
    assert f">{line['p']}<" not in page


def test_ablation_page_needs_nothing_from_outside(signal_store: Path, tmp_path: Path) -> None:
    """The page draws every row, loads nothing from anywhere, and is made anew from the run folder."""
    assert main(["ablate", "--features", str(signal_store), "--out", str(tmp_path), "--folds", "3"]) == 0
    made = next(tmp_path.glob("ablate-*/report.html"))
    page = made.read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert not re.search(r"url\((?!data:)", page)
    assert re.search(r'<figure data-figure="ablation">.*?<circle', page, flags=re.DOTALL)
    assert main(["report", "--run", str(made.parent), "--out", str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_bytes() == made.read_bytes()
