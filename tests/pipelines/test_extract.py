"""What a pass prints: each figure once."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.cli import main
from tests.kit.data_sets import write_guid_data_set
from tests.kit.tiny_checkpoints import make_tiny_bert


def test_extract_says_once_what_was_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of all rows, repeats included, in one line; the table of what was computed has no second count."""
    bert = make_tiny_bert(tmp_path / "bert")
    write_guid_data_set(tmp_path / "set", 20, 0)
    for guid in ("103", "109"):  # equal, so one of them is computed and the other repeats it
        (tmp_path / "set" / "data" / f"{guid}.txt").write_text("the cat " * 30, encoding="utf-8")
    words = ["--data", str(tmp_path / "set"), "--out", str(tmp_path / "out"), "--clean", "none"]
    assert main(["extract", "--backbone", str(bert), *words]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "truncated" in line]
    assert len(lines) == 1
    assert lines[0].startswith("truncated (text): 2 (10.0%) of 20 texts, ")
