"""Parquet files as manifests."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from extract import DataError, load_frame, parquet_rows, read_data_set


def _write(path: Path, columns: dict[str, object], **options: object) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def test_cells_are_what_they_say_in_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole number stays one where others are missing, whatever the rows beside it hold."""
    monkeypatch.setattr(parquet_rows, "_RUN", 2)
    columns = {
        "id": pa.array([1, 2, 3, 4]),
        "text": pa.array(["a", None, "c", ""]),
        "label": pa.array([1, 0, None, 1]),
        "group": pa.array([date(2026, 1, 2), None, None, None]),
        "split": pa.array(["train", "test", None, "train"]).dictionary_encode(),
    }
    path = _write(tmp_path / "t.parquet", columns)
    samples = read_data_set(path).samples
    assert [s.id for s in samples] == ["1", "2", "3", "4"]
    assert [s.text for s in samples] == ["a", "", "c", ""]
    assert [s.label for s in samples] == ["1", "0", None, "1"]
    assert [s.group for s in samples] == ["2026-01-02", None, None, None]
    assert [s.split for s in samples] == ["train", "test", "", "train"]
    assert load_frame(path)["label"].tolist() == ["1", "0", "", "1"]


def test_numbers_keep_every_digit_that_float32_has(tmp_path: Path) -> None:
    """Vectors are imported from such a file; NaN is an empty cell."""
    numbers = np.array([0.1, np.nan, -2.5e-7], dtype=np.float32)
    cells = load_frame(_write(tmp_path / "x.parquet", {"0": pa.array(numbers)}))["0"].tolist()
    assert cells[1] == ""
    assert [np.float32(cells[0]), np.float32(cells[2])] == [numbers[0], numbers[2]]


def test_only_columns_that_are_used_are_read(tmp_path: Path) -> None:
    """Vectors and an index of pandas beside the text do no harm; the order of columns does not matter."""
    frame = pd.DataFrame({"words": ["x", "y"], "vector": [[1.0], [2.0]], "id": ["b", "a"]}, index=[7, 3])
    frame.to_parquet(tmp_path / "t.parquet")
    samples = read_data_set(tmp_path / "t.parquet", columns={"text": "words"}).samples
    assert [(s.id, s.text) for s in samples] == [("b", "x"), ("a", "y")]
    assert load_frame(tmp_path / "t.parquet").columns.tolist() == ["words", "vector", "id"]


def test_columns_that_are_no_text_are_named_together(tmp_path: Path) -> None:
    """Pictures inside the table and texts as bytes are refused, not spelled out as Python would."""
    columns: dict[str, object] = {
        "id": pa.array(["1"]),
        "text": pa.array([b"abc"]),
        "image": pa.array([{"bytes": b"\xff\xd8", "path": "1.jpg"}]),
    }
    path = _write(tmp_path / "t.parquet", columns)
    with pytest.raises(DataError, match=r"'text' holds binary; 'image' holds struct<bytes.*Write texts as"):
        read_data_set(path)


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    """As in a CSV file."""
    table = pa.Table.from_arrays([pa.array(["1"])] * 3, names=["id", "text", "text"])
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match="names 'text' twice"):
        read_data_set(tmp_path / "t.parquet")


def test_a_file_that_is_damaged_behind_its_header_is_one_error(tmp_path: Path) -> None:
    """Its columns can be named, its rows not be read: whatever Arrow raises then."""
    path = _write(
        tmp_path / "t.parquet", {"id": pa.array(["1"] * 99), "text": pa.array(list(map(str, range(99))))}
    )
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"t\.parquet' is not a readable Parquet file"):
        read_data_set(path)


def test_rows_are_read_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one row group, a row of 300 characters holds less than 110 bytes of memory, Arrow's included."""
    monkeypatch.setattr(parquet_rows, "_RUN", 64)
    monkeypatch.setattr(parquet_rows, "_BUFFER_BYTES", 1 << 14)
    monkeypatch.setattr("extract.string_columns._BLOCK_BYTES", 1 << 14)
    peak = {}
    for n in (100, 2000, 8000):  # the first one imports what all need
        columns = {
            "id": pa.array([f"post-{i}" for i in range(n)]),
            "text": pa.array([f"{i} " + "words and é " * 25 for i in range(n)]),
        }
        path = _write(tmp_path / f"{n}.parquet", columns, data_page_size=1 << 14, use_dictionary=False)
        del columns
        watched = _Watched(pa.total_allocated_bytes())
        with monkeypatch.context() as patch:
            patch.setattr("extract.tables.parquet_rows", watched.rows)
            tracemalloc.start()
            assert len(read_data_set(path).samples) == n
            peak[n] = tracemalloc.get_traced_memory()[1] + watched.most
            tracemalloc.stop()
        assert watched.most > 0
    assert (peak[8000] - peak[2000]) / 6000 < 110


class _Watched:
    """Rows as they are read, and the most that Arrow has held meanwhile."""

    def __init__(self, held: int) -> None:
        self.most, self._held = 0, held

    def rows(self, *arguments: Any) -> Iterator[tuple[str, ...]]:
        for row in parquet_rows.parquet_rows(*arguments):
            self.most = max(self.most, pa.total_allocated_bytes() - self._held)
            yield row


@pytest.mark.parametrize(
    "column", [pa.array([10**9], pa.int32()).cast(pa.date32()), pa.array([10**18], pa.timestamp("us"))]
)
def test_a_date_beyond_the_calendar_is_one_error(tmp_path: Path, column: pa.Array) -> None:
    """What Python has no date for names the file."""
    path = _write(tmp_path / "t.parquet", {"id": ["1"], "text": ["a"], "group": column})
    with pytest.raises(DataError, match=r"t\.parquet' is not a readable Parquet file: .*(days|date)"):
        read_data_set(path)


def test_categories_of_bytes_are_refused(tmp_path: Path) -> None:
    """A column that holds its values once is judged by these."""
    column = pa.array([b"a", b"b"]).dictionary_encode()
    path = _write(tmp_path / "t.parquet", {"id": ["1", "2"], "text": column})
    with pytest.raises(DataError, match="'text' holds binary"):
        read_data_set(path)
