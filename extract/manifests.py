"""Manifests: find out how a data set is laid out, and read the list of its samples.

Four layouts, each a function that returns a `DataSet`: the guid layout of the course data set, a table
(CSV, TSV, JSONL, Parquet), MVSA, and a folder of images by class.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from extract.data_sets import DataSet, merge_repeats
from extract.images import SUFFIXES
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
    files = _files_by_stem(folder / "data")
    rows: list[tuple[str, Sample]] = []
    used: set[Path] = set()
    for name in (LABELLED_LIST, UNLABELLED_LIST):
        if not (folder / name).exists():
            continue
        for line, raw_id, raw_tag in _guid_rows(folder / name, encodings):
            place = f"{name} line {line}"
            guid = _repaired(raw_id, place, repaired)
            found = files.get(guid) or files.get(raw_id.strip()) or {}
            image_path = next((found[suffix] for suffix in SUFFIXES if suffix in found), None)
            used.update(path for path in (found.get(".txt"), image_path) if path is not None)
            sample = Sample(
                id=guid,
                text_path=found.get(".txt"),
                image_path=image_path,
                image_name=image_path.relative_to(folder).as_posix() if image_path else "",
                label=repair_label(raw_tag),
            )
            rows.append((place, sample))
    samples = merge_repeats(rows, notes)
    note_repairs(repaired, notes)
    _note_ignored(files, used, notes)
    return DataSet(folder, "guid", _not_empty(samples, folder), _present(samples, both_if_none=True), notes)


def _guid_rows(path: Path, encodings: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """Yield (line number, raw guid, raw tag) of a ``guid,tag`` list."""
    text = _manifest_text(path, encodings).replace("\r\n", "\n").replace("\r", "\n")
    csv.field_size_limit(MAX_TEXT_BYTES)  # as for tables, whichever is read first
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        lines = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise DataError(f"'{path}' line {reader.line_num} cannot be parsed: {error}. Mend it.") from error
    header = [cell.strip().lower() for cell in lines[0][1]] if lines else []
    if header != ["guid", "tag"]:
        raise DataError(f"'{path}' starts with {','.join(header)[:60]!r}; its first line must be 'guid,tag'.")
    faults = []
    rows = []
    for line, row in lines[1:]:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != 2 or not row[0].strip():
            faults.append(f"line {line}: {','.join(row)[:60]!r}")
            continue
        rows.append((line, row[0], row[1]))
    if faults:
        raise DataError(
            f"'{path}' has {len(faults)} line(s) that are not 'guid,tag': "
            + "; ".join(faults[:5])
            + ". Mend or remove them."
        )
    yield from rows


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


def _files_by_stem(folder: Path) -> dict[str, dict[str, Path]]:
    """Map stem -> {suffix: path} of the regular files of `folder`.

    Looking ids up in this listing, instead of building paths from them, means that no id can name a file
    outside the folder. A link is followed only if it stays under the data set's folder.
    """
    if not folder.is_dir():
        raise DataError(
            f"Folder '{folder}' does not exist; the guid layout keeps '<guid>.txt' and '<guid>.jpg' there."
        )
    root = folder.parent.resolve()
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir(), key=lambda p: (p.suffix != p.suffix.lower(), p.name)):
        _refuse_link_outside(path, root)
        if path.is_file():
            by_suffix = found.setdefault(path.stem, {})
            # Of 1.jpg and 1.JPG the lower-case name counts; the other is kept to be counted as ignored.
            taken = path.suffix.lower() in by_suffix
            by_suffix[path.suffix if taken else path.suffix.lower()] = path
    return found


def _refuse_link_outside(path: Path, root: Path) -> None:
    if not path.is_symlink():
        return
    try:
        target = path.resolve()
    except (OSError, RuntimeError) as error:  # links in a circle, a name that is too long
        raise DataError(f"'{path}' is a link that leads nowhere ({error}). Remove it.") from error
    if not target.is_relative_to(root):
        raise DataError(
            f"'{path}' is a link to '{target}', outside the data set. Copy the file into the data set "
            "instead."
        )


def _note_ignored(files: Mapping[str, Mapping[str, Path]], used: set[Path], notes: dict[str, str]) -> None:
    ignored = [path.name for by_suffix in files.values() for path in by_suffix.values() if path not in used]
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

    The two labels are joined by the rule of the papers that use the set (Xu and Mao 2017): equal labels
    stand; neutral gives way to the other; positive against negative is dropped. Of three annotators the
    majority counts per modality, and a sample without a majority is dropped.
    """
    notes: dict[str, str] = {}
    lines = _manifest_text(folder / MVSA_LIST, encodings).replace("\r\n", "\n").split("\n")
    files = _files_by_stem(folder / "data")
    rows: list[tuple[str, Sample]] = []
    used: set[Path] = set()
    repaired: list[tuple[str, str]] = []
    dropped = 0
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        place = f"{MVSA_LIST} line {number}"
        raw_id, *annotations = line.split("\t")
        guid = _repaired(raw_id, place, repaired)
        label = _mvsa_label(annotations, place)
        found = files.get(guid, {})
        used.update(found.values())
        if label is None:
            dropped += 1
            continue
        image_path = next((found[suffix] for suffix in SUFFIXES if suffix in found), None)
        name = image_path.relative_to(folder).as_posix() if image_path else ""
        rows.append((place, Sample(guid, None, found.get(".txt"), image_path, name, label)))
    samples = merge_repeats(rows, notes)
    note_repairs(repaired, notes)
    if dropped:
        notes["samples dropped"] = f"{dropped} with contradicting or no majority labels (the published rule)"
    _note_ignored(files, used, notes)
    return DataSet(folder, "mvsa", _not_empty(samples, folder), _present(samples, both_if_none=True), notes)


def _mvsa_label(annotations: Sequence[str], place: str) -> str | None:
    pairs = [
        [word.strip().lower() for word in annotation.split(",")]
        for annotation in annotations
        if annotation.strip()
    ]
    allowed = {"positive", "neutral", "negative"}
    if not pairs or any(len(pair) != 2 or not set(pair) <= allowed for pair in pairs):
        raise DataError(
            f"{place} has the labels {list(annotations)!r}; expected 'text,image' of {sorted(allowed)}."
        )
    text, image = (_majority([pair[i] for pair in pairs]) for i in (0, 1))
    if text is None or image is None or {text, image} == {"positive", "negative"}:
        return None
    return image if text == "neutral" else text


def _majority(votes: Sequence[str]) -> str | None:
    best = max(set(votes), key=votes.count)
    return best if votes.count(best) * 2 > len(votes) else None


# --- images by class --------------------------------------------------------------------------------


def read_image_folder(folder: Path) -> DataSet:
    """Read ``<class>/<image>``, also under ``train/``, ``val/`` or ``test/``; the id is the relative path."""
    rows: list[tuple[str, Sample]] = []
    for path in _images_under(folder):
        parts = path.relative_to(folder).parts
        split = parts[0] if len(parts) > 2 and parts[0] in ("train", "val", "test") else ""
        name = path.relative_to(folder).as_posix()
        rows.append((name, Sample(repair_id(name), None, None, path, name, parts[-2], split)))
    return DataSet(folder, "image-folder", _not_empty(merge_repeats(rows, {}), folder), (IMAGE,), {})


def _images_under(folder: Path) -> Iterator[Path]:
    root = folder.resolve()
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.parent != folder:
            _refuse_link_outside(path, root)
            if path.is_file():
                yield path
