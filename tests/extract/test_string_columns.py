"""Columns of strings that lie on disk."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract import roomy_folder, string_columns
from extract.string_columns import StringColumn

ODD = ["", "a", "é\u2028\r\n", "😀" * 9, "\ud800 alone", "\0", "", "x" * 300, ""]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks so small that nearly every string lies in the file, and no run of them in one block."""
    monkeypatch.setattr(string_columns, "_BLOCK_BYTES", 16)
    monkeypatch.setattr(string_columns, "_BLOCK_ROWS", 3)


@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=12), max_size=30), st.data())
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_string_column_is_the_list_it_was_made_of(
    small_blocks: None, strings: list[str], data: st.DataObject
) -> None:
    """Singly, in a slice, picked in any order and gone through: whatever the strings, wherever they lie."""
    column = StringColumn.of(strings)
    assert list(column) == strings == [column[i] for i in range(len(column))]
    start, stop = (data.draw(st.integers(-35, 35)) for _ in range(2))
    assert list(column[start:stop]) == strings[start:stop]
    assert list(column[start:stop:2]) == strings[start:stop:2]
    rows = data.draw(st.lists(st.integers(0, len(strings) - 1), max_size=9)) if strings else []
    assert column.pick(rows) == [strings[row] for row in rows]


def test_string_column_counts_from_the_end_and_refuses_what_is_not_there(small_blocks: None) -> None:
    """As a list does."""
    column = StringColumn.of(ODD)
    assert column[-2] == ODD[-2]
    with pytest.raises(IndexError, match="out of range"):
        column[len(ODD)]


def test_string_column_travels_to_another_process(small_blocks: None) -> None:
    """A part of a column is pickled with its own strings only."""
    part = pickle.loads(pickle.dumps(StringColumn.of(ODD * 20)[40:60]))  # noqa: S301 - our own bytes
    assert list(part) == (ODD * 20)[40:60]
    assert len(pickle.dumps(part)) < len(pickle.dumps(StringColumn.of(ODD * 20))) / 4


def test_string_column_is_read_by_several_threads(small_blocks: None) -> None:
    """Readers share one file and do not move each other's place in it."""
    strings = [f"{i} " * (i % 7) for i in range(3000)]
    column = StringColumn.of(strings)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(column.__getitem__, range(3000))) == strings


def test_string_column_leaves_no_file(
    small_blocks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file has no name, so nothing is left however the process ends; it is closed with its column."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = _n_open_files()
    column = StringColumn.of(ODD)
    assert list(tmp_path.iterdir()) == []
    assert column[3] == ODD[3]
    assert _n_open_files() == before + 1
    del column
    assert _n_open_files() == before


@pytest.mark.parametrize("name", ["TMPDIR", "TEMP", "TMP"])
def test_roomy_folder_is_the_one_that_the_user_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any of the variables that Python knows; without one it is not ``/tmp``, which may be memory."""
    for other in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setattr("tempfile.tempdir", None)
    assert roomy_folder() == Path("/var/tmp")
    monkeypatch.setenv(name, str(tmp_path))
    assert roomy_folder() == tmp_path


def test_string_column_leaves_no_file_when_stopped_at_any_time(
    small_blocks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C before the first byte is written, too."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def stopped(*_: object) -> int:
        raise KeyboardInterrupt

    for call in ("os.pwrite", "pathlib.Path.unlink"):
        with monkeypatch.context() as patch:
            patch.setattr(call, stopped)
            with suppress(KeyboardInterrupt):
                StringColumn.of(ODD)
        assert list(tmp_path.iterdir()) == []


def _n_open_files() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def test_string_column_names_the_folder_that_is_full(
    small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is told with its folder and the variable that names another one."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match=r"No space left on device.*TMPDIR"):
        StringColumn.of(["x" * 100])
