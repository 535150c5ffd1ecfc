"""Tables as manifests: CSV, TSV, JSONL and Parquet.

Their columns are id, text or text_path, image, label, split and group.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from extract.data_sets import UNREAD, DataSet, merge_repeats
from extract.parquet_rows import cell_text, parquet_columns, parquet_rows, refuse_no_text
from extract.samples import (
    IMAGE,
    TEXT,
    DataError,
    Sample,
    note_repairs,
    repair_id,
    repair_label,
    repair_split,
)
from extract.texts import (
    DEFAULT_ENCODINGS,
    MAX_MANIFEST_BYTES,
    MAX_TEXT_BYTES,
    TextEncodingError,
    decode_text,
    is_plain_utf8,
    read_regular_file,
    refuse_other_file,
)

if TYPE_CHECKING:
    import pandas as pd

_MOST_COLUMNS = 20_000
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
COLUMNS = ("id", "text", "text_path", "image", "label", "split", "group")


def read_table(
    path: Path,
    *,
    columns: Mapping[str, str] | None = None,
    encodings: Sequence[str] = DEFAULT_ENCODINGS,
) -> DataSet:
    """Read a table of samples; image and text paths are relative to the table and must stay under its folder.

    Parameters
    ----------
    path : Path
        ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet``.
    columns : Mapping of str to str, optional
        Our column name -> the table's.
    encodings : sequence of str
        Encodings to try after UTF-8.

    Raises
    ------
    DataError
        If the table cannot be parsed, columns are missing, or rows have faults (all are named together).
    """
    names, unread, rows = _named_rows(path, columns or {}, encodings)
    notes: dict[str, str] = {}
    _note_unread(names, unread, notes)
    repaired: list[tuple[str, str]] = []
    faults: list[str] = []

    def read() -> Iterator[tuple[int, Sample]]:
        for number, cells in enumerate(rows, start=1):
            record = dict(zip(names, cells, strict=True))
            try:
                sample = _sample(record, path.parent)
            except DataError as error:
                faults.append(f"row {number}: {error}")
                continue
            if sample.id != record["id"]:
                repaired.append((record["id"], sample.id))
            yield number, sample
        if faults:
            raise DataError(
                f"Table '{path}' has {len(faults)} faulty row(s): " + "; ".join(faults[:5]) + ". Mend them."
            )

    samples = merge_repeats(read(), notes, place="row {}")
    if not samples:
        raise DataError(f"Table '{path}' has no rows.")
    note_repairs(repaired, notes)
    has_text = "text" in names or "text_path" in names
    modalities = tuple(m for m, present in ((TEXT, has_text), (IMAGE, "image" in names)) if present)
    return DataSet(path.parent, "table", samples, modalities, notes)


def _named_rows(
    path: Path, columns: Mapping[str, str], encodings: Sequence[str]
) -> tuple[list[str], list[str], Iterator[Sequence[str]]]:
    """Return which of our columns there are, the table's others, and our cells of one row after the other.

    A million rows as a frame, or as dictionaries, would take a gigabyte.
    """
    if path.suffix.lower() == ".parquet":
        _refuse_missing(path)
        header = parquet_columns(path)
        places = _places(header, columns, path)
        theirs = [header[place] for place in places.values()]
        refuse_no_text(path, theirs)
        return list(places), _unread(header, places), parquet_rows(path, theirs)
    if path.suffix.lower() == ".jsonl":
        foreign = _foreign_text(path, encodings)
        header = list(dict.fromkeys(chain.from_iterable(_records(path, foreign))))
        records = _records(path, foreign)
        rows: Iterator[list[str]] = ([record.get(name, "") for name in header] for record in records)
    else:
        rows = _separated(_lines(path, _foreign_text(path, encodings)), path)
        header = next(rows)
    places = _places(header, columns, path)
    kept = list(places.values())
    return list(places), _unread(header, places), ([row[i] for i in kept] for row in rows)


def _unread(header: Sequence[str], places: Mapping[str, int]) -> list[str]:
    return [name for place, name in enumerate(header) if place not in places.values()]


def _note_unread(names: Sequence[str], unread: Sequence[str], notes: dict[str, str]) -> None:
    """Name the columns that are not read where one of them may be the text or the label by another name."""
    absent = [] if {"text", "text_path"} & set(names) else ["text"]
    absent += [] if "label" in names else ["label"]
    if absent and unread:
        named = ",".join(f"{name}=COLUMN" for name in absent)
        notes[UNREAD] = f"{_shown(unread)}; there is no {' and no '.join(absent)} (--columns {named})"


def _places(header: Sequence[str], columns: Mapping[str, str], path: Path) -> dict[str, int]:
    """Return where our columns stand in the header of a table; one of the inputs must be there."""
    import pandas as pd

    named = rename_columns(pd.DataFrame([range(len(header))], columns=list(header)), columns, path)
    if not {"text", "text_path", "image"} & set(named.columns):
        raise DataError(
            f"Table '{path}' has the columns {_shown(named.columns)}; it needs 'text', "
            "'text_path' or 'image'. Rename with --columns text=YOUR_COLUMN."
        )
    return {name: int(named[name].iloc[0]) for name in COLUMNS if name in named.columns}


def load_frame(path: Path, encodings: Sequence[str] = DEFAULT_ENCODINGS) -> pd.DataFrame:
    """Return the table as a frame of strings; an empty cell is ``""``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DataError
        If the file is empty or cannot be parsed.
    """
    import pandas as pd

    if path.suffix.lower() == ".parquet":
        _refuse_missing(path)
        header = parquet_columns(path)
        return pd.DataFrame(list(parquet_rows(path, header)), columns=header, dtype=str)
    if path.suffix.lower() == ".jsonl":
        return pd.DataFrame(list(_records(path, _foreign_text(path, encodings)))).fillna("")
    rows = _separated(_lines(path, _foreign_text(path, encodings)), path)
    header = next(rows)
    return pd.DataFrame(list(rows), columns=header, dtype=str)


def _refuse_missing(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"Table '{path}' does not exist or is not a file.")


def _foreign_text(path: Path, encodings: Sequence[str]) -> str | None:
    """Return a table that may be in another encoding, read whole; None for UTF-8, which nearly all are."""
    _refuse_missing(path)
    refuse_other_file(path, MAX_MANIFEST_BYTES)
    return None if is_plain_utf8(path) else _table_text(path, encodings)


def _lines(path: Path, foreign: str | None, *, newline: str = "") -> Iterator[str]:
    """Yield the lines of a table that is text, with their ends, as ``open(newline=newline)`` does.

    UTF-8 is read line by line, another encoding from `foreign`, see `_foreign_text`.
    """
    if foreign is not None:
        yield from io.StringIO(foreign, newline=newline)
        return
    with path.open(encoding="utf-8-sig", newline=newline) as file:
        try:
            yield from file
        except UnicodeDecodeError as error:
            raise DataError(f"Table '{path}' changed while it was read. Run the command again.") from error


def _table_text(path: Path, encodings: Sequence[str]) -> str:
    """Read a table that is text; an empty one is a fault."""
    data = read_regular_file(path, MAX_MANIFEST_BYTES)
    if not data.strip():
        raise DataError(f"Table '{path}' is empty; it needs a header line and rows.")
    try:
        return decode_text(data, encodings)[0]
    except TextEncodingError as error:
        raise DataError(f"Table '{path}' cannot be read as text: {error}") from error


def _separated(lines: Iterator[str], path: Path) -> Iterator[list[str]]:
    """Yield the header and the rows of CSV or TSV.

    A row with more or fewer cells than the header is a fault, never shifted; faults are told after the last
    row, all together.
    """
    # The module's own limit of 131,072 characters would refuse a text of 100,000 words.
    csv.field_size_limit(MAX_TEXT_BYTES)
    separator = _SEPARATORS.get(path.suffix.lower(), ",")
    reader = csv.reader(lines, delimiter=separator, strict=True)
    faults: list[str] = []
    try:
        header = next(reader, [])
        if not any(header):
            raise DataError(
                f"Table '{path}' does not begin with a header line, such as 'id,text,image,label'."
            )
        if len(header) > _MOST_COLUMNS:
            raise DataError(
                f"Table '{path}' has {len(header):,} columns; at most {_MOST_COLUMNS:,} are read. Arrays of "
                "numbers are imported as .npy."
            )
        repeated = [name for name, times in Counter(header).items() if times > 1]
        if not repeated:
            yield header
        for row in reader:
            if len(row) == len(header):
                if not repeated:
                    yield row
            elif row:
                faults.append(f"line {reader.line_num} has {len(row)} cells")
    except csv.Error as error:
        raise DataError(f"Table '{path}' cannot be parsed: line {reader.line_num}: {error}") from error
    if repeated:
        faults.append(f"the header names {_shown(repeated)} twice")
    if faults:
        raise DataError(
            f"Table '{path}' has a header of {len(header)} cells, but {len(faults)} fault(s): "
            f"{'; '.join(faults[:5])}. Quote texts that hold the separator."
        )


def _records(path: Path, foreign: str | None) -> Iterator[dict[str, str]]:
    """Yield the objects of JSONL, their values as text."""
    # Lines end with a line feed alone: U+2028, U+0085 and a carriage return may stand in a JSON string.
    for number, line in enumerate(_lines(path, foreign, newline="\n"), start=1):
        if not line.strip():
            continue
        line = line.removesuffix("\n")
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(f"Table '{path}' line {number} is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise DataError(f"Table '{path}' line {number} is not a JSON object: {line[:60]!r}")
        yield {key: cell_text(value) for key, value in record.items()}


def _shown(columns: Iterable[object]) -> str:
    names = [f"{column!r:.60}" for column in columns]
    return ", ".join(names[:10]) + (f" and {len(names) - 10:,} more" if len(names) > 10 else "")


def rename_columns(frame: pd.DataFrame, columns: Mapping[str, str], path: Path) -> pd.DataFrame:
    """Apply ``--columns`` and check that there is an id column.

    Raises
    ------
    DataError
        If `columns` names something unknown on either side, or there is no ``id`` column.
    """
    faults = []
    for ours, theirs in columns.items():
        if ours not in COLUMNS:
            faults.append(f"{ours!r} is not one of our columns ({', '.join(COLUMNS)})")
        if theirs not in frame.columns:
            near = difflib.get_close_matches(theirs, [str(c) for c in frame.columns], n=5)
            faults.append(
                f"the table has no column {theirs!r}" + (f" (near: {', '.join(near)})" if near else "")
            )
    if faults:
        raise DataError(f"--columns does not fit table '{path}': " + "; ".join(faults) + ".")
    shadowed = [ours for ours, theirs in columns.items() if ours in frame.columns and ours != theirs]
    frame = frame.drop(columns=shadowed).rename(columns={theirs: ours for ours, theirs in columns.items()})
    if "id" not in frame.columns:
        raise DataError(
            f"Table '{path}' has the columns {_shown(frame.columns)} and none is 'id'. "
            "Rename with --columns id=YOUR_COLUMN."
        )
    return frame


def _sample(record: Mapping[str, str], root: Path) -> Sample:
    image_name = record.get("image", "").strip()
    text_name = record.get("text_path", "").strip()
    return Sample(
        id=repair_id(record["id"]),
        text=record.get("text"),
        text_path=_inside(root, text_name) if text_name else None,
        image_path=_inside(root, image_name) if image_name else None,
        image_name=image_name,
        label=repair_label(record.get("label")),
        split=repair_split(record.get("split", "")),
        group=record.get("group", "").strip() or None,
    )


def _inside(root: Path, name: str) -> Path:
    """Return ``root / name``, refusing a path that leaves the data set."""
    path = root / name
    try:
        outside = (
            "\0" in name or Path(name).is_absolute() or not path.resolve().is_relative_to(root.resolve())
        )
    except (OSError, RuntimeError) as error:  # links in a circle, a name that is too long
        raise DataError(f"path {name!r:.200} leads nowhere ({error!s:.200})") from error
    if outside:
        raise DataError(f"path {name!r} leads outside the folder of the table")
    return path
