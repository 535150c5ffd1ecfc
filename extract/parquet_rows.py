"""Rows of a Parquet file as text, a few at a time, however many rows lie in one of its groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from extract.samples import DataError

#: Rows that are decoded at a time, and bytes of each column that are read at a time.
_RUN = 1024
_BUFFER_BYTES = 1 << 18


def parquet_columns(path: Path) -> list[str]:
    """Return the names of the columns, without those that hold the index of a pandas frame.

    Raises
    ------
    DataError
        If the file cannot be read, or names a column twice.
    """
    with _opened(path) as file:
        metadata: Mapping[str, Any] = file.schema_arrow.pandas_metadata or {}
        # A range has no column: it is described by a dictionary.
        index = {name for name in metadata.get("index_columns") or () if isinstance(name, str)}
        names = [name for name in file.schema_arrow.names if name not in index]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(f"Table '{path}' names {', '.join(map(repr, twice[:5]))} twice. Rename one of them.")
    return names


def refuse_no_text(path: Path, names: Sequence[str]) -> None:
    """Refuse columns of bytes, lists or records: pictures inside a table are not read, nor lists of words.

    Raises
    ------
    DataError
        Naming all of them.
    """
    import pyarrow.types as kinds

    with _opened(path) as file:
        types = {name: file.schema_arrow.field(name).type for name in names}
    # A categorical column holds its values once.
    types = {name: kind.value_type if kinds.is_dictionary(kind) else kind for name, kind in types.items()}
    faults = [
        f"{name!r} holds {kind!s:.80}"
        for name, kind in types.items()
        if kinds.is_nested(kind)
        or kinds.is_binary(kind)
        or kinds.is_large_binary(kind)
        or kinds.is_binary_view(kind)
        or kinds.is_fixed_size_binary(kind)
    ]
    if faults:
        raise DataError(
            f"Table '{path}' needs columns of text, but {'; '.join(faults)}. Write texts as strings and "
            "pictures as files, and name their paths."
        )


def parquet_rows(path: Path, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the cells of one row after the other, as text; other columns are not read.

    Parameters
    ----------
    path : Path
    names : sequence of str
        Columns, in the order wanted.

    Raises
    ------
    DataError
        If the file cannot be read to its end.
    """
    with _opened(path) as file:
        batches = file.iter_batches(batch_size=_RUN, columns=list(names), use_threads=False)
        for batch in batches:
            columns = [map(cell_text, batch.column(name).to_pylist()) for name in names]
            yield from zip(*columns, strict=True)


def cell_text(value: object) -> str:
    """Return a cell of a typed table as text; nothing and NaN are ``""``."""
    if value is None or value != value:  # NaN is the only value that differs from itself
        return ""
    return value if isinstance(value, str) else str(value)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DataError(
            f"Reading '{path}' needs pyarrow: pip install -e '.[parquet]' in the folder of embedonce."
        ) from error
    try:
        with pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
            yield file
    except (OSError, ValueError, OverflowError, pa.ArrowException) as error:  # a date beyond Python's
        raise DataError(f"Table '{path}' is not a readable Parquet file: {error}") from error
