"""The data set: samples in manifest order, one for each id."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from extract.sample_table import SampleTable, SampleTableBuilder
from extract.samples import DataError, Sample
from extract.string_columns import StringColumnBuilder

#: The note of a table's columns that are not read.
UNREAD = "columns not read"


@dataclass(frozen=True)
class DataSet:
    """Samples in manifest order, with what was noticed while reading them.

    Attributes
    ----------
    root : Path
        Folder that image names are relative to.
    layout : str
        ``"guid"``, ``"table"``, ``"mvsa"`` or ``"image-folder"``.
    samples : sequence of Sample
        Readers of manifests give a `SampleTable`, whose texts and names lie on disk.
    modalities : tuple of str
        ``"text"`` and/or ``"image"``: what the data set has.
    notes : Mapping of str to str
        Oddities, one line each (ids repaired, files ignored, repeated rows), for the summary.
    """

    root: Path
    layout: str
    samples: Sequence[Sample]
    modalities: tuple[str, ...]
    notes: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def table(self) -> SampleTable:
        """The samples by column."""
        return SampleTable.of(self.samples)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in alphabetical order; label code i is the i-th."""
        return self.table.class_names

    def head(self, n_samples: int | None) -> DataSet:
        """Return the first `n_samples` samples (all of them for None)."""
        if n_samples is None or n_samples >= len(self.samples):
            return self
        return DataSet(self.root, self.layout, self.samples[:n_samples], self.modalities, self.notes)


def merge_repeats(
    rows: Iterable[tuple[str | int, Sample]], notes: dict[str, str], *, place: str = "{}"
) -> SampleTable:
    """Keep one sample per id, in order of first appearance.

    Parameters
    ----------
    rows : iterable of (str or int, Sample)
        Where each sample stands, and the sample.
    notes : dict
        Gets a line when rows were merged.
    place : str
        Format of a place in messages, such as ``"row {}"``.

    Raises
    ------
    DataError
        If one id is listed with different contents: choosing one quietly would hide a leak.
    """
    builder, places, hashes = SampleTableBuilder(), StringColumnBuilder(), array("q")
    for where, sample in rows:
        builder.append(sample)
        places.append(str(where))
        hashes.append(hash(sample.id))
    table = builder.table()
    suspects = _share_hash(hashes)
    if not suspects.any():
        return table
    first: dict[str, int] = {}
    conflicts: list[str] = []
    repeats: list[str] = []
    dropped: set[int] = set()
    at = places.column()
    for row, (sample, is_suspect) in enumerate(zip(table, suspects.tolist(), strict=True)):
        if not is_suspect:
            continue
        known = first.setdefault(sample.id, row)
        if known == row:
            continue
        dropped.add(row)
        if table[known] == sample:
            repeats.append(sample.id)
        else:
            conflicts.append(f"'{sample.id}' ({place.format(at[known])} and {place.format(at[row])})")
    if conflicts:
        raise DataError(
            f"{len(conflicts)} id(s) are listed more than once with different contents: "
            + ", ".join(conflicts[:5])
            + ". Every id may have one row; remove or rename the others."
        )
    if not repeats:
        return table
    notes["repeated rows"] = f"{len(repeats)} identical, counted once: {_some(repeats)}"
    return SampleTable.of(sample for row, sample in enumerate(table) if row not in dropped)


def _share_hash(hashes: array[int]) -> np.ndarray:
    """Return which rows have a hash that another row has too: all rows with equal ids, and hardly others.

    A dictionary of a million ids would take two hundred megabytes.
    """
    values = np.array(hashes, dtype=np.int64)
    ordered = np.sort(values)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    shared: np.ndarray = np.isin(values, repeated)
    return shared


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown + (", ..." if len(names) > 5 else "")
