"""The rows of an audit: from stores, from a data set, or from the stores of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cache import FeatureStore, Split
from pipelines.console import Progress
from pipelines.duplicates import RelatedRows, find_related_rows, related_notes
from pipelines.errors import RunError
from pipelines.matrices import read_matrix

TRAINING, VALIDATION, TEST, UNLABELLED = "train", "val", "test", "unlabelled"


@dataclass(frozen=True, eq=False)
class AuditRows:
    """What is known of every row.

    Attributes
    ----------
    ids : tuple of str
    labels : ndarray of shape (n_samples,), int32
        Codes into `class_names`; -1 = none.
    class_names : tuple of str
    parts : ndarray of shape (n_samples,), str
        ``"train"`` (also where no split is given), ``"val"``, ``"test"`` or ``"unlabelled"``.
    texts, images : tuple of str or None
        Cleaned texts; picture files relative to the data set.
    sizes : ndarray of shape (n_samples, 2), int, or None
        Width and height of the pictures in pixels; 0 = unknown.
    file_bytes : ndarray of shape (n_samples,), float, or None
        Size of the picture files; NaN = unknown.
    related : RelatedRows
        With the rule ``near``, whatever a run would use.
    X : ndarray of shape (n_samples, n_features), float32, or None
        NaN where there is no vector. None for a data set without stores.
    notes : tuple of str
    """

    ids: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    parts: np.ndarray
    texts: tuple[str, ...] | None
    images: tuple[str, ...] | None
    sizes: np.ndarray | None
    file_bytes: np.ndarray | None
    related: RelatedRows
    X: np.ndarray | None
    notes: tuple[str, ...] = ()

    @property
    def labelled(self) -> np.ndarray:
        """Positions of the rows with a label."""
        return np.flatnonzero(self.labels >= 0)


def rows_of_stores(specs: Sequence[str]) -> AuditRows:
    """Read stores.

    Raises
    ------
    StoreError
        If a store cannot be trusted, or stores disagree.
    UsageError
        If a space is ambiguous.
    """
    matrix = read_matrix(specs, use_views=0)
    assert matrix.related is not None
    sizes = None
    for path in dict.fromkeys(ref.path for ref in matrix.spaces):
        with FeatureStore.open(Path(path), verify=False) as store:  # verified a moment ago
            if sizes is None and store.image_sizes is not None:
                place = {guid: row for row, guid in enumerate(store.ids)}
                sizes = np.asarray(store.image_sizes)[[place[guid] for guid in matrix.ids]]
    return AuditRows(
        matrix.ids,
        matrix.labels,
        matrix.class_names,
        _parts(matrix.labels, [Split(int(code)).name.lower() for code in matrix.splits]),
        matrix.texts,
        matrix.images,
        sizes,
        None,
        matrix.related,
        matrix.X,
        matrix.notes,
    )


def rows_of_data(
    data: Path, *, columns: Mapping[str, str] | None, encodings: Sequence[str], clean: str
) -> AuditRows:
    """Read a data set, every text and every picture.

    Raises
    ------
    DataError
        If the data set cannot be understood.
    """
    from extract import SourceOptions, read_data_set, read_sources

    data_set = read_data_set(data, columns=columns, encodings=tuple(encodings))
    samples = data_set.samples
    progress = Progress("reading the data", "samples")
    sources = read_sources(
        data_set,
        SourceOptions(clean=clean, encodings=tuple(encodings)),
        on_progress=lambda n: progress.update(n, len(samples)),
    )
    progress.close()
    code = {name: number for number, name in enumerate(data_set.class_names)}
    labels = np.array([-1 if s.label is None else code[s.label] for s in samples], dtype=np.int32)
    groups: dict[str, int] = {}
    declared = np.array(
        [-1 if s.group is None else groups.setdefault(s.group, len(groups)) for s in samples], dtype=np.int32
    )
    has_text, has_image = "text" in data_set.modalities, "image" in data_set.modalities
    texts = tuple(source.text for source in sources) if has_text else None
    images = tuple(s.image_name for s in samples) if has_image else None
    related = find_related_rows(
        "near",
        declared,
        texts=texts,
        image_hashes=[s.image_sha256 if any(s.image_sha256) else None for s in sources]
        if has_image
        else None,
        images=images,
        blocks={},
        folders=[data if data.is_dir() else data.parent],
        labels=labels,
        all_pictures=True,
    )
    return AuditRows(
        tuple(s.id for s in samples),
        labels,
        tuple(data_set.class_names),
        _parts(labels, [s.split for s in samples]),
        texts,
        images,
        np.array([[s.width, s.height] for s in sources]) if has_image else None,
        np.array([_size_of(s.image_path) for s in samples]) if has_image else None,
        related,
        None,
        (*(f"{name}: {note}" for name, note in data_set.notes.items()), *related_notes(related, labels)),
    )


def with_file_sizes(
    rows: AuditRows, data: Path, *, columns: Mapping[str, str] | None, encodings: Sequence[str]
) -> AuditRows:
    """Return the rows of stores with the sizes of their picture files, which only the data set knows.

    Raises
    ------
    DataError
        If the data set cannot be understood.
    RunError
        If the data set lacks rows of the stores.
    """
    from extract import read_data_set

    data_set = read_data_set(data, columns=columns, encodings=tuple(encodings))
    samples = {sample.id: sample for sample in data_set.samples}
    absent = [guid for guid in rows.ids if guid not in samples]
    if absent:
        raise RunError(
            f"{len(absent):,} of {len(rows.ids):,} rows of the stores are not in the data set '{data}', the "
            f"first is {absent[0]!r}. Pass the --data that the stores were made from."
        )
    notes = tuple(f"{name}: {note}" for name, note in data_set.notes.items())
    sizes = np.array([_size_of(samples[guid].image_path) for guid in rows.ids])
    known = None if rows.images is None or np.isnan(sizes).all() else sizes
    return replace(rows, file_bytes=known, notes=(*rows.notes, *notes))


def _parts(labels: np.ndarray, splits: Sequence[str]) -> np.ndarray:
    named = np.array([TRAINING if split in ("", "none") else split for split in splits], dtype=object)
    named[labels < 0] = UNLABELLED
    return named.astype(str)


def _size_of(path: Path | None) -> float:
    return float(path.stat().st_size) if path is not None and path.is_file() else float("nan")
