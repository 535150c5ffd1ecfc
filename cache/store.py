"""Open a published store and read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from cache import content
from cache.errors import SpaceError, StoreError
from cache.header import Header
from cache.matrix import FeatureSpace
from cache.schema import MODALITIES, Array
from cache.verify import open_checked

_T = TypeVar("_T")


class FeatureStore:
    """A published store, opened for reading with `FeatureStore.open`; use it as a context manager.

    Columns are read when first asked for and kept. Every column has one entry per row, in the store's order.

    Attributes
    ----------
    path : pathlib.Path
    n_rows : int
    fingerprint : str
        Fingerprint of the plan that made the store.
    meta : mapping
        Provenance, as published.
    class_names : tuple of str
        What the label codes stand for.
    modalities : tuple of str
        Columns of `status`.
    spaces : tuple of str
        Names for `select`.
    """

    def __init__(self, file: Any, header: Header) -> None:
        self._file = file
        self._header = header
        self.path: Path = header.path
        self.n_rows: int = header.n_rows
        self.fingerprint: str = header.fingerprint
        self.meta: Mapping[str, Any] = header.meta
        self.class_names: tuple[str, ...] = header.class_names
        self.modalities: tuple[str, ...] = header.modalities
        self.spaces: tuple[str, ...] = tuple(space.name for space in header.spaces)

    @classmethod
    def open(
        cls, path: str | Path, *, verify: bool = True, on_hashing: Callable[[int], None] | None = None
    ) -> FeatureStore:
        """Open a store.

        Parameters
        ----------
        path : str or pathlib.Path
        verify : bool
            Compare every hash (about 1 s per GB), unless this process has done so and the file is unchanged.
            With False only the audit, the header and its hashes are checked.
        on_hashing : callable, optional
            Called with the file's size in bytes before every hash is compared; not where that is not done.

        Returns
        -------
        FeatureStore

        Raises
        ------
        StoreMissingError
            If nothing is there.
        StoreIncompleteError
            If the pass that writes it has not finished.
        UnsafeStoreError
            If it is no regular file, or holds links, external or virtual data, filters or other types.
        StoreCorruptError
            If it is no store, is cut short, or differs from what was published.
        StoreVersionError
            If its format is another major version.
        """
        return cls(*open_checked(path, verify=verify, on_hashing=on_hashing))

    def close(self) -> None:
        """Close the file; spaces and columns not read yet are gone."""
        self._file.close()

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return self.n_rows

    def __repr__(self) -> str:
        return f"FeatureStore('{self.path}', {self.n_rows} rows, spaces {', '.join(self.spaces)})"

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Unique ids."""
        return self._column(content.read_ids)

    @cached_property
    def labels(self) -> Array:
        """ndarray of shape (n,), int32: codes into `class_names`, -1 = none."""
        return self._column(content.read_labels)

    @cached_property
    def splits(self) -> Array:
        """ndarray of shape (n,), uint8: codes of `Split`."""
        return self._column(content.read_splits)

    @cached_property
    def groups(self) -> Array:
        """ndarray of shape (n,), int32: rows of one group never straddle folds; -1 = stands alone."""
        return self._column(content.read_groups)

    @cached_property
    def source_sha256(self) -> Array:
        """ndarray of shape (n, 32), uint8: hash of the raw input; zeros = unknown."""
        return self._array("/rows/source_sha256")

    @cached_property
    def status(self) -> Array:
        """ndarray of shape (n, n_modalities), uint8: codes of `Status`."""
        return self._column(content.read_status)

    @cached_property
    def texts(self) -> tuple[str, ...] | None:
        """Cleaned texts; None if the store has none."""
        return self._strings("/text/") if self._has("/text/bytes") else None

    def text_blocks(self) -> Iterator[tuple[str, ...]] | None:
        """Return the cleaned texts some megabytes at a time, in row order; None if the store has none."""
        self._refuse_closed()
        if not self._has("/text/bytes"):
            return None
        return content.read_string_blocks(self._file, self._header, "/text/")

    @cached_property
    def encodings(self) -> tuple[str, ...] | None:
        """Name of the encoding each text was read with; None if the store has no texts."""
        return self._column(content.read_encodings) if self._has("/text/bytes") else None

    @cached_property
    def image_paths(self) -> tuple[str, ...] | None:
        """Where each image lay, relative to the data set; None if the store has no images."""
        return self._strings("/image/path_") if self._has("/image/path_bytes") else None

    @cached_property
    def image_sizes(self) -> Array | None:
        """ndarray of shape (n, 2), int32: width and height in pixels, 0 = unknown; or None."""
        if not self._has("/image/path_bytes"):
            return None
        return np.stack([self._array("/image/width"), self._array("/image/height")], axis=1)

    @cached_property
    def image_sha256(self) -> Array | None:
        """ndarray of shape (n, 32), uint8: hash of each image file; None if the store keeps none."""
        return self._array("/image/sha256") if self._has("/image/sha256") else None

    def select(self, name: str) -> FeatureSpace:
        """Return one space.

        Parameters
        ----------
        name : str
            A name from `spaces`; a modality alone means its only space.

        Returns
        -------
        FeatureSpace

        Raises
        ------
        SpaceError
            If there is no such space, or a modality has several.
        """
        fitting = [spec for spec in self._header.spaces if name in (spec.name, spec.modality)]
        if len(fitting) == 1:
            self._refuse_closed()
            return FeatureSpace(self._file, self._header, fitting[0])
        if name in MODALITIES and fitting:
            names = ", ".join(f"'{spec.name}'" for spec in fitting)
            raise SpaceError(f"'{name}' is not clear in '{self.path}': it has {names}. Name one of them.")
        available = ", ".join(f"'{space}'" for space in self.spaces)
        raise SpaceError(f"'{self.path}' has no space {name!r}; it has {available}.")

    def _has(self, name: str) -> bool:
        return name in self._header.entries

    def _column(self, read: Callable[[Any, Header], _T]) -> _T:
        self._refuse_closed()
        return read(self._file, self._header)

    def _array(self, name: str) -> Array:
        self._refuse_closed()
        return content.read_array(self._file, self._header, name)

    def _strings(self, stem: str) -> tuple[str, ...]:
        self._refuse_closed()
        return content.read_strings(self._file, self._header, stem)

    def _refuse_closed(self) -> None:
        if not self._file:
            raise StoreError(f"'{self.path}' is closed; open it again with FeatureStore.open.")
