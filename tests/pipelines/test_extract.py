"""What a pass prints: each figure once, and what takes its time."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import named_stores
from pipelines.cli import main
from pipelines.console import Progress
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


def test_extract_tells_every_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading, embedding and writing each have a line that ends at all of their rows, in this order."""
    monkeypatch.setattr(Progress, "_quiet_seconds", 0.0)
    monkeypatch.setattr(Progress, "_log_every", 0.0)
    bert = make_tiny_bert(tmp_path / "bert")
    write_guid_data_set(tmp_path / "set", 20, 0)
    words = ["--data", str(tmp_path / "set"), "--out", str(tmp_path / "out")]
    assert main(["extract", "--backbone", str(bert), *words]) == 0
    told = capsys.readouterr().err.splitlines()
    assert "opening bert" in told
    ends = [line.split(" (")[0] for line in told if " (100 %)" in line]
    assert list(dict.fromkeys(ends)) == [
        "reading the data: 20/20 samples",
        "text: 20/20 texts",
        "writing the store: 20/20 rows",
    ]


def test_extract_says_which_large_stores_it_hashes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store to be published, one that is there, and one whose vectors are taken over; each once."""
    monkeypatch.setattr(named_stores, "_SLOW_BYTES", 0)
    monkeypatch.setattr("cache.verify._SETTLED_NS", 0)  # as if the files had been there for a while
    bert = make_tiny_bert(tmp_path / "bert")
    write_guid_data_set(tmp_path / "set", 20, 0)
    store = tmp_path / "out" / "bert.h5"
    words = ["--backbone", str(bert), "--data", str(tmp_path / "set"), "--out", str(store.parent)]

    def told(*more: str) -> list[str]:
        assert main(["extract", *words, *more]) == 0
        lines = capsys.readouterr().err.splitlines()
        return [Path(line.split("'")[1]).name for line in lines if line.startswith("comparing the hashes of")]

    assert told() == ["bert.h5"]
    assert told() == ["bert.h5"]
    assert told("--limit", "10", "--replace", "--dry-run") == []  # known since
    store.rename(store.with_name("earlier.h5"))
    assert told() == ["earlier.h5", "bert.h5"]
    monkeypatch.undo()
    assert told("--limit", "10", "--replace") == []
