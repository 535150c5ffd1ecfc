"""Manifests: find out how a data set is laid out, and read the list of its samples.

Four layouts, each a function that returns a `DataSet`: the guid layout of the course data set, a table
(CSV, TSV, JSONL, Parquet), MVSA, and a folder of images by class.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from extract.data_sets import DataSet, merge_repeats
from extract.images import SUFFIXES
from extract.listings import FilesByStem, refuse_link_outside
from extract.mvsa_labels import joined_label
from extract.sample_table import SampleTable
from extract.samples import (
    IMAGE,
    TEXT,
    DataError,
    Sample,
    note_repairs,
    repair_id,
    repair_label,
)
from extract.texts import (
    DEFAULT_ENCODINGS,
    MAX_MANIFEST_BYTES,
    MAX_TEXT_BYTES,
    TextEncodingError,
    decode_text,
    read_regular_file,
)

LABELLED_LIST = "train.txt"
UNLABELLED_LIST = "test_without_label.txt"
MVSA_LIST = "labelResultAll.txt"
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


def read_data_set(
    path: Path,
    *,
    columns: Mapping[str, str] | None = None,
    encodings: Sequence[str] = DEFAULT_ENCODINGS,
) -> DataSet:
    """Read the manifest of a data set; pictures and text files themselves are not opened yet.

    Parameters
    ----------
    path : Path
        A folder (guid layout, MVSA layout, one table, or images by class) or a manifest file.
    columns : Mapping of str to str, optional
        For tables: our column name -> the table's column name, e.g. ``{"id": "guid", "label": "tag"}``.
    encodings : sequence of str
        Encodings to try for manifest files after UTF-8.

    Returns
    -------
    DataSet

    Raises
    ------
    FileNotFoundError
        If `path` does not exist.
    DataError
        If no layout fits or the manifest has faults; every fault of one check is named.
    """
    from extract.tables import read_table

    if not path.exists():
        raise FileNotFoundError(
            f"Data path '{path}' does not exist. Pass --data a folder or a manifest file "
            f"({', '.join(TABLE_SUFFIXES)})."
        )
    if path.is_dir():
        return _read_folder(path, columns=columns, encodings=encodings)
    if not path.is_file():
        raise DataError(f"Data path '{path}' is neither a folder nor a regular file.")
    if path.name in (LABELLED_LIST, UNLABELLED_LIST):
        return read_guid_layout(path.parent, encodings=encodings)
    if path.name == MVSA_LIST:
        return read_mvsa(path.parent, encodings=encodings)
    if path.suffix.lower() in TABLE_SUFFIXES:
        return read_table(path, columns=columns, encodings=encodings)
    raise DataError(
        f"Data file '{path}' has the ending {path.suffix!r}; allowed are {', '.join(TABLE_SUFFIXES)}, "
        f"'{LABELLED_LIST}', '{UNLABELLED_LIST}' and '{MVSA_LIST}'."
    )


def _read_folder(folder: Path, *, columns: Mapping[str, str] | None, encodings: Sequence[str]) -> DataSet:
    from extract.tables import read_table

    # Whatever has the name of a list is one: a pipe or a folder there is refused by name, not passed over.
    if (folder / LABELLED_LIST).exists() or (folder / UNLABELLED_LIST).exists():
        return read_guid_layout(folder, encodings=encodings)
    if (folder / MVSA_LIST).is_file():
        return read_mvsa(folder, encodings=encodings)
    tables = sorted(p for p in folder.iterdir() if p.suffix.lower() in TABLE_SUFFIXES and p.is_file())
    if len(tables) == 1:
        return read_table(tables[0], columns=columns, encodings=encodings)
    if len(tables) > 1:
        names = ", ".join(f"'{p.name}'" for p in tables[:5])
        raise DataError(f"Folder '{folder}' holds {len(tables)} tables ({names}); name one with --data.")
    if any(_images_under(folder)):
        return read_image_folder(folder)
    raise DataError(
        f"Folder '{folder}' is not a data set: it has no {LABELLED_LIST} or {UNLABELLED_LIST} (guid "
        f"layout), no {MVSA_LIST} (MVSA), no table ({', '.join(TABLE_SUFFIXES)}) and no images in class "
        "folders. Pass --data with the right path."
    )


# --- guid layout ------------------------------------------------------------------------------------


def read_guid_layout(folder: Path, *, encodings: Sequence[str] = DEFAULT_ENCODINGS) -> DataSet:
    """Read ``train.txt`` and ``test_without_label.txt`` (header ``guid,tag``) and look up ``data/<guid>.*``.

    Only listed guids count; other files in ``data/`` are ignored and counted in the notes.
    """
    notes: dict[str, str] = {}
    repaired: list[tuple[str, str]] = []
    files = FilesByStem(folder / "data")

    def read() -> Iterator[tuple[str, Sample]]:
        for name in (LABELLED_LIST, UNLABELLED_LIST):
            if not (folder / name).exists():
                continue
            for line, raw_id, raw_tag in _guid_rows(folder / name, encodings):
                place = f"{name} line {line}"
                guid = _repaired(raw_id, place, repaired)
                found = files.of(guid) or files.of(raw_id.strip())
                yield place, _sample(folder, guid, found, repair_label(raw_tag))

    samples = merge_repeats(read(), notes)
    note_repairs(repaired, notes)
    for sample in samples:
        files.take(sample.text_path, sample.image_path)
    _note_ignored(files, notes)
    return DataSet(folder, "guid", _not_empty(samples, folder), _present(samples, both_if_none=True), notes)


def _sample(folder: Path, guid: str, found: Mapping[str, Path], label: str | None) -> Sample:
    """Return the sample of some files of one stem."""
    image_path = next((found[suffix] for suffix in SUFFIXES if suffix in found), None)
    name = image_path.relative_to(folder).as_posix() if image_path else ""
    return Sample(guid, None, found.get(".txt"), image_path, name, label)


def _guid_rows(path: Path, encodings: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """Yield (line number, raw guid, raw tag) of a ``guid,tag`` list, which is checked as a whole before."""
    text = _manifest_text(path, encodings).replace("\r\n", "\n").replace("\r", "\n")
    lines = _csv_lines(text, path)
    header = [cell.strip().lower() for cell in next(lines, (0, []))[1]]
    if header != ["guid", "tag"]:
        raise DataError(f"'{path}' starts with {','.join(header)[:60]!r}; its first line must be 'guid,tag'.")
    faults = [
        f"line {line}: {','.join(row)[:60]!r}" for line, row in lines if len(row) != 2 or not row[0].strip()
    ]
    if faults:
        raise DataError(
            f"'{path}' has {len(faults)} line(s) that are not 'guid,tag': "
            + "; ".join(faults[:5])
            + ". Mend or remove them."
        )
    lines = _csv_lines(text, path)
    next(lines)
    for line, (guid, tag) in lines:
        yield line, guid, tag


def _csv_lines(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of CSV; after the first line, lines without any word are left out."""
    csv.field_size_limit(MAX_TEXT_BYTES)  # as for tables, whichever is read first
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for number, row in enumerate(reader):
            if number == 0 or any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"'{path}' line {reader.line_num} cannot be parsed: {error}. Mend it.") from error


def _manifest_text(path: Path, encodings: Sequence[str]) -> str:
    data = read_regular_file(path, MAX_MANIFEST_BYTES)
    if not data.strip():
        raise DataError(f"'{path}' is empty; it must list the samples of the data set.")
    try:
        return decode_text(data, encodings)[0]
    except TextEncodingError as error:
        raise DataError(f"'{path}' cannot be read as text: {error}") from error


def _repaired(raw: str, place: str, repaired: list[tuple[str, str]]) -> str:
    try:
        guid = repair_id(raw)
    except DataError as error:
        raise DataError(f"{place}: {error}. Mend the id in the manifest.") from error
    if guid != raw:
        repaired.append((raw, guid))
    return guid


def _note_ignored(files: FilesByStem, notes: dict[str, str]) -> None:
    ignored = files.names()
    if ignored:
        shown = ", ".join(repr(name) for name in ignored[:3]) + (", ..." if len(ignored) > 3 else "")
        notes["files ignored"] = f"{len(ignored)} not in any list: {shown}"


def _not_empty(samples: SampleTable, path: Path) -> SampleTable:
    if not samples:
        raise DataError(f"Data set '{path}' lists no samples.")
    return samples


def _present(samples: SampleTable, *, both_if_none: bool = False) -> tuple[str, ...]:
    """Return the modalities that at least one sample has."""
    if not samples.has_text and not samples.has_image and both_if_none:
        return (TEXT, IMAGE)
    return tuple(name for name, has in ((TEXT, samples.has_text), (IMAGE, samples.has_image)) if has)


# --- MVSA -------------------------------------------------------------------------------------------


def read_mvsa(folder: Path, *, encodings: Sequence[str] = DEFAULT_ENCODINGS) -> DataSet:
    """Read ``labelResultAll.txt``: ``ID<tab>text,image`` with one annotator (Single) or three (Multiple).

    Labels are joined by the published rule, see `mvsa_labels`; what it drops is counted in the notes.
    """
    notes: dict[str, str] = {}
    lines = _manifest_text(folder / MVSA_LIST, encodings).replace("\r\n", "\n").split("\n")
    files = FilesByStem(folder / "data")
    repaired: list[tuple[str, str]] = []
    dropped: list[str] = []

    def read() -> Iterator[tuple[str, Sample]]:
        for number, line in enumerate(lines[1:], start=2):
            if not line.strip():
                continue
            place = f"{MVSA_LIST} line {number}"
            raw_id, *annotations = line.split("\t")
            guid = _repaired(raw_id, place, repaired)
            label = joined_label(annotations, place)
            if label is None:
                dropped.append(guid)
                continue
            yield place, _sample(folder, guid, files.of(guid), label)

    samples = merge_repeats(read(), notes)
    note_repairs(repaired, notes)
    if dropped:
        notes["samples dropped"] = (
            f"{len(dropped)} with contradicting or no majority labels (the published rule)"
        )
    for guid in chain(samples.ids, dropped):
        files.take(*files.of(guid).values())
    _note_ignored(files, notes)
    return DataSet(folder, "mvsa", _not_empty(samples, folder), _present(samples, both_if_none=True), notes)


# --- images by class --------------------------------------------------------------------------------


def read_image_folder(folder: Path) -> DataSet:
    """Read ``<class>/<image>``, also under ``train/``, ``val/`` or ``test/``; the id is the relative path."""

    def read() -> Iterator[tuple[str, Sample]]:
        for path in _images_under(folder):
            parts = path.relative_to(folder).parts
            split = parts[0] if len(parts) > 2 and parts[0] in ("train", "val", "test") else ""
            name = path.relative_to(folder).as_posix()
            yield name, Sample(repair_id(name), None, None, path, name, parts[-2], split)

    return DataSet(folder, "image-folder", _not_empty(merge_repeats(read(), {}), folder), (IMAGE,), {})


def _images_under(folder: Path) -> Iterator[Path]:
    root = folder.resolve()
    for path in _walk(folder):
        if path.suffix.lower() in SUFFIXES and path.parent != folder:
            refuse_link_outside(path, root)
            if path.is_file():
                yield path


def _walk(folder: Path) -> Iterator[Path]:
    """Yield what lies below a folder, in the order of sorted paths; links to folders are not followed."""
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - a name takes a fifth of the memory of a path
        path = folder / name
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
