"""Hostile manifests, ids and files of a data set: a status or one clear error, bounded in memory and time."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from cache import Status
from extract import DataError, SourceOptions, read_data_set, read_sources, repair_id
from pipelines.cli import main
from tests.kit.data_sets import write_guid_data_set


@pytest.mark.parametrize("name", ["train.txt", "table.csv", "table.jsonl"])
def test_manifest_of_ten_gigabytes_is_not_read(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line of 10 GB is refused by the file's size, before a byte of it is in memory."""
    (tmp_path / "data").mkdir()
    path = tmp_path / name
    path.write_bytes(b"guid,tag\n")
    os.truncate(path, 10 << 30)
    tracemalloc.start()
    status = main(["inspect", "--data", str(path)])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert status == 1
    error = capsys.readouterr().err
    assert "has 10,737,418,240 bytes; at most 1,073,741,824 are read. Split it." in error
    assert error.count("\n") == 1
    assert peak < 100 << 20


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; it must list the samples"),
        (b"guid,tag\n1,pos\0itive\n", "holds NUL characters"),
        ("guid,tag\n1,positive\n".encode("utf-16-le"), "holds NUL characters"),
        (b'guid,tag\n"1,positive\n2,negative\n', "cannot be parsed: unexpected end of data"),
        (b'guid,tag\n1,"pos"itive\n', "line 2 cannot be parsed: ',' expected after"),
        (b"guid,tag\n" + b"x" * (65 << 20) + b",positive\n", "line 2 cannot be parsed: field larger"),
        (b"guid,tag\n1\n", r"line\(s\) that are not 'guid,tag': line 2"),
        (b"guid;tag\n1;positive\n", "its first line must be 'guid,tag'"),
        (b"guid,tag\n" + b"x" * 10_000_000 + b",positive\n", "an id of 10,000,000 bytes"),
        (b"guid,tag\n" + b"x" * 2_000 + b",positive\n", "an id of 2,000 bytes"),
        (b"guid,tag\na\x1bb,positive\n", "holds control characters"),
    ],
)
def test_manifest_with_faults_is_one_clear_error(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """NUL, lost quotes, missing cells, other separators and ids of megabytes are named in one line."""
    (tmp_path / "data").mkdir()
    (tmp_path / "train.txt").write_bytes(content)
    assert main(["inspect", "--data", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("embedonce: ")
    assert error.count("\n") == 1
    with pytest.raises(ValueError, match=message):
        read_data_set(tmp_path)


@pytest.mark.parametrize("mark", ["", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_manifest_is_read_with_any_mark_and_line_end(mark: str, line_end: str, tmp_path: Path) -> None:
    """A byte-order mark and the line ends of other systems change nothing."""
    (tmp_path / "data").mkdir()
    text = line_end.join(["guid,tag", "1,positive", "2,negative", ""])
    (tmp_path / "train.txt").write_bytes(text.encode(mark or "utf-8"))
    data_set = read_data_set(tmp_path)
    assert [(s.id, s.label) for s in data_set.samples] == [("1", "positive"), ("2", "negative")]


@pytest.mark.parametrize("raw", ["a\0b", "a\nb", "a\x1b[2J", "a\x9b2J", "x" * 10_000_000, "", "\ud800"])
def test_id_that_could_hurt_is_refused(raw: str) -> None:
    """Control characters (C1 too), megabytes, nothing and lone surrogates are no ids."""
    with pytest.raises(DataError, match=r"control characters|at most 1,024|an empty id|not valid Unicode"):
        repair_id(raw)


@pytest.mark.parametrize(
    "raw",
    ["../../etc/passwd", "/etc/passwd", "=cmd|' /C calc'!A0", "+1", "-1", "@x", "a\u202eb", "CON", "e\u0301"],
)
def test_id_is_opaque(raw: str) -> None:
    """Paths, formulas, reversed text and unnormalised letters are kept to the letter: an id is only data."""
    assert repair_id(raw) == raw


def test_text_that_is_no_regular_file_becomes_a_status(tmp_path: Path) -> None:
    """A pipe, a folder and a file of gigabytes in place of a text are never waited for nor read."""
    ids = write_guid_data_set(tmp_path, 10, 0)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder.txt").mkdir()
    (tmp_path / "giant.txt").touch()
    os.truncate(tmp_path / "giant.txt", 8 << 30)
    names = ["pipe", "folder.txt", "giant.txt", f"data/{ids[0]}.txt"]
    rows = "".join(f"{i},{name},positive\n" for i, name in enumerate(names))
    (tmp_path / "t.csv").write_text("id,text_path,label\n" + rows)
    sources = read_sources(read_data_set(tmp_path / "t.csv"), SourceOptions())
    missing = Status.TEXT_MISSING
    assert [s.text_status for s in sources] == [missing, missing, missing, Status.OK]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("", Status.TEXT_EMPTY),
        ("   ", Status.TEXT_EMPTY),
        ("word " * 100_000, Status.OK),
        ("😀🙈", Status.OK),
        ("שלום مرحبا", Status.OK),
    ],
    ids=["none", "spaces", "100,000 words", "emoji", "right to left"],
)
def test_text_in_a_table_has_a_stated_status(text: str, status: Status, tmp_path: Path) -> None:
    """No words, 100,000 words, emoji alone and scripts from right to left are read as they stand."""
    (tmp_path / "t.csv").write_text(f'id,text,label\n1,"{text}",positive\n', encoding="utf-8")
    (source,) = read_sources(read_data_set(tmp_path / "t.csv"), SourceOptions(clean="none"))
    assert (source.text_status, source.text) == (status, text)
