"""The sample table: the samples of a data set by column, a few bytes of memory for each row."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from cache import Split
from extract.samples import Sample
from extract.string_columns import StringColumn, StringColumnBuilder

_SPLITS = {"": Split.NONE, "train": Split.TRAIN, "val": Split.VAL, "test": Split.TEST}
_SPLIT_NAMES = {int(code): name for name, code in _SPLITS.items()}
#: Which of a row's optional strings are there: an empty text is another thing than none.
_HAS_TEXT, _HAS_TEXT_PATH, _HAS_IMAGE_PATH = 1, 2, 4
#: Rows that are turned into samples at a time.
_RUN = 4096


@dataclass(frozen=True, eq=False)
class SampleTable(Sequence[Sample]):
    """Samples by column; `of` makes one. As a sequence it gives `Sample` objects, a slice is a table.

    Attributes
    ----------
    ids, image_names : StringColumn
    texts, text_paths, image_paths : StringColumn
        Empty where a sample has none; `present` tells.
    present : ndarray of shape (n,), uint8
    label : ndarray of shape (n,), int32
        Code into `label_names`, -1 = unlabelled.
    split : ndarray of shape (n,), uint8
        Codes of `Split`.
    group : ndarray of shape (n,), int32
        Code into `group_names`, -1 = none.
    label_names, group_names : tuple of str
        In order of first appearance.
    """

    ids: StringColumn
    texts: StringColumn
    text_paths: StringColumn
    image_paths: StringColumn
    image_names: StringColumn
    present: np.ndarray
    label: np.ndarray
    split: np.ndarray
    group: np.ndarray
    label_names: tuple[str, ...]
    group_names: tuple[str, ...]

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> SampleTable:
        """Return a table of `samples`; a table is returned as it is."""
        if isinstance(samples, SampleTable):
            return samples
        builder = SampleTableBuilder()
        for sample in samples:
            builder.append(sample)
        return builder.table()

    def __len__(self) -> int:
        return len(self.present)

    @overload
    def __getitem__(self, row: int) -> Sample: ...

    @overload
    def __getitem__(self, row: slice) -> SampleTable: ...

    def __getitem__(self, row: int | slice) -> Sample | SampleTable:
        if isinstance(row, slice):
            if row.step not in (None, 1):
                return SampleTable.of(self[i] for i in range(*row.indices(len(self))))
            return self._part(row)
        at = range(len(self))[row]
        return next(self._part(slice(at, at + 1))._samples())

    def __iter__(self) -> Iterator[Sample]:
        for start in range(0, len(self), _RUN):
            yield from self._part(slice(start, start + _RUN))._samples()

    def image_path(self, row: int) -> Path | None:
        """Return where the picture of a row lies."""
        return Path(self.image_paths[row]) if self.present[row] & _HAS_IMAGE_PATH else None

    @property
    def has_files(self) -> bool:
        """Whether any sample has a file of its own."""
        return bool((self.present & (_HAS_TEXT_PATH | _HAS_IMAGE_PATH)).any())

    @property
    def has_text(self) -> bool:
        """Whether any sample has a text or a file of one."""
        return bool((self.present & (_HAS_TEXT | _HAS_TEXT_PATH)).any())

    @property
    def has_image(self) -> bool:
        """Whether any sample has a picture file."""
        return bool((self.present & _HAS_IMAGE_PATH).any())

    @property
    def class_names(self) -> tuple[str, ...]:
        """Labels that occur, in alphabetical order."""
        return tuple(sorted(self.label_names[code] for code in np.unique(self.label).tolist() if code >= 0))

    def label_codes(self) -> np.ndarray:
        """Return each sample's place in `class_names`, int32; -1 = unlabelled."""
        place = {name: code for code, name in enumerate(self.class_names)}
        codes = [*(place.get(name, -1) for name in self.label_names), -1]  # the last one is that of -1
        labels: np.ndarray = np.array(codes, dtype=np.int32)[self.label]
        return labels

    def group_codes(self) -> np.ndarray:
        """Return group numbers in order of first appearance, int32; -1 = none."""
        if not self.group_names:
            return self.group
        found, first = np.unique(self.group[self.group >= 0], return_index=True)
        codes = np.full(len(self.group_names) + 1, -1, dtype=np.int32)
        codes[found[np.argsort(first)]] = np.arange(len(found))
        groups: np.ndarray = codes[self.group]
        return groups

    def _part(self, rows: slice) -> SampleTable:
        return SampleTable(
            self.ids[rows],
            self.texts[rows],
            self.text_paths[rows],
            self.image_paths[rows],
            self.image_names[rows],
            self.present[rows],
            self.label[rows],
            self.split[rows],
            self.group[rows],
            self.label_names,
            self.group_names,
        )

    def _samples(self) -> Iterator[Sample]:
        """Yield the samples of few rows."""
        for guid, text, text_path, image_path, image_name, present, label, split, group in zip(
            self.ids,
            self.texts,
            self.text_paths,
            self.image_paths,
            self.image_names,
            self.present.tolist(),
            self.label.tolist(),
            self.split.tolist(),
            self.group.tolist(),
            strict=True,
        ):
            yield Sample(
                guid,
                text if present & _HAS_TEXT else None,
                Path(text_path) if present & _HAS_TEXT_PATH else None,
                Path(image_path) if present & _HAS_IMAGE_PATH else None,
                image_name,
                self.label_names[label] if label >= 0 else None,
                _SPLIT_NAMES[split],
                self.group_names[group] if group >= 0 else None,
            )


class ImagePaths(Sequence["Path | None"]):
    """The picture file of each row of a table, made when it is asked for."""

    def __init__(self, table: SampleTable) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    @overload
    def __getitem__(self, row: int) -> Path | None: ...

    @overload
    def __getitem__(self, row: slice) -> Sequence[Path | None]: ...

    def __getitem__(self, row: int | slice) -> Path | Sequence[Path | None] | None:
        if isinstance(row, slice):
            return tuple(self._table.image_path(i) for i in range(*row.indices(len(self))))
        return self._table.image_path(row)


class SampleTableBuilder:
    """Takes samples one by one."""

    def __init__(self) -> None:
        self._strings = [StringColumnBuilder() for _ in range(5)]
        self._present, self._split = array("B"), array("B")
        self._label, self._group = array("i"), array("i")
        self._label_names: dict[str, int] = {}
        self._group_names: dict[str, int] = {}

    def append(self, sample: Sample) -> None:
        """Add one sample."""
        ids, texts, text_paths, image_paths, image_names = self._strings
        ids.append(sample.id)
        texts.append(sample.text or "")
        text_paths.append("" if sample.text_path is None else str(sample.text_path))
        image_paths.append("" if sample.image_path is None else str(sample.image_path))
        image_names.append(sample.image_name)
        self._present.append(
            (_HAS_TEXT if sample.text is not None else 0)
            | (_HAS_TEXT_PATH if sample.text_path is not None else 0)
            | (_HAS_IMAGE_PATH if sample.image_path is not None else 0)
        )
        self._label.append(_code(sample.label, self._label_names))
        self._split.append(_SPLITS[sample.split])
        self._group.append(_code(sample.group, self._group_names))

    def table(self) -> SampleTable:
        """Return what was added; nothing may be added after that."""
        ids, texts, text_paths, image_paths, image_names = (builder.column() for builder in self._strings)
        return SampleTable(
            ids=ids,
            texts=texts,
            text_paths=text_paths,
            image_paths=image_paths,
            image_names=image_names,
            present=_array(self._present, np.uint8),
            label=_array(self._label, np.int32),
            split=_array(self._split, np.uint8),
            group=_array(self._group, np.int32) if self._group_names else _no_groups(len(self._group)),
            label_names=tuple(self._label_names),
            group_names=tuple(self._group_names),
        )


def _code(name: str | None, names: dict[str, int]) -> int:
    return -1 if name is None else names.setdefault(name, len(names))


def _no_groups(n_rows: int) -> np.ndarray:
    return np.broadcast_to(np.int32(-1), (n_rows,))


def _array(values: array[int], dtype: Any) -> np.ndarray:
    return np.frombuffer(values, dtype=dtype) if values else np.empty(0, dtype=dtype)
