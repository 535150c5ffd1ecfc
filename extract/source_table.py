"""What one sample's files hold, and the table of that for a whole data set, a few bytes of memory a row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from cache import Status
from extract.samples import IMAGE, JOINT, TEXT
from extract.string_columns import StringColumn, StringColumnBuilder

NO_HASH = bytes(32)
#: Rows that are turned into sources, or hashed, at a time.
_RUN = 4096


@dataclass(frozen=True, slots=True)
class Source:
    """What one sample's files hold.

    Attributes
    ----------
    text : str
        Cleaned text; empty if there is none.
    encoding : str
        How the text was decoded; empty if it was not.
    text_status, image_status : Status
    source_sha256 : bytes of length 32
        Of the hash of the text's raw bytes followed by that of the picture's; zeros where there are neither.
    image_sha256 : bytes of length 32
        Of the picture's file; zeros where there is none.
    width, height : int
        Picture size in pixels from its header; 0 if unknown.
    """

    text: str
    encoding: str
    text_status: Status
    source_sha256: bytes
    image_status: Status
    image_sha256: bytes
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class SourceTable(Sequence[Source]):
    """Sources by column; `of` makes one. As a sequence it gives `Source` objects.

    Attributes
    ----------
    texts : StringColumn
        Cleaned texts.
    encoding : ndarray of shape (n,), uint8
        Code into `encodings`.
    encodings : tuple of str
        In order of first appearance; ``""`` stands for not decoded.
    text_status, image_status : ndarray of shape (n,), uint8
        Codes of `Status`.
    source_sha256, image_sha256 : ndarray of shape (n, 32), uint8
    sizes : ndarray of shape (n, 2), int32
        Width and height in pixels.
    """

    texts: StringColumn
    encoding: np.ndarray
    encodings: tuple[str, ...]
    text_status: np.ndarray
    image_status: np.ndarray
    source_sha256: np.ndarray
    image_sha256: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, sources: Sequence[Source]) -> SourceTable:
        """Return a table of `sources`; a table is returned as it is."""
        if isinstance(sources, SourceTable):
            return sources
        builder = SourceTableBuilder(len(sources), with_images=True)
        builder.extend(sources)
        return builder.table()

    def __len__(self) -> int:
        return len(self.encoding)

    @overload
    def __getitem__(self, row: int) -> Source: ...

    @overload
    def __getitem__(self, row: slice) -> Sequence[Source]: ...

    def __getitem__(self, row: int | slice) -> Source | Sequence[Source]:
        if isinstance(row, slice):
            return tuple(self[i] for i in range(*row.indices(len(self))))
        at = range(len(self))[row]
        return next(self._run(at, at + 1))

    def __iter__(self) -> Iterator[Source]:
        for start in range(0, len(self), _RUN):
            yield from self._run(start, start + _RUN)

    def _run(self, start: int, stop: int) -> Iterator[Source]:
        rows = slice(start, stop)
        for text, encoding, text_status, digest, image_status, image_digest, (width, height) in zip(
            self.texts[rows],
            self.encoding[rows].tolist(),
            self.text_status[rows].tolist(),
            self.source_sha256[rows],
            self.image_status[rows].tolist(),
            self.image_sha256[rows],
            self.sizes[rows].tolist(),
            strict=True,
        ):
            yield Source(
                text,
                self.encodings[encoding],
                Status(text_status),
                digest.tobytes(),
                Status(image_status),
                image_digest.tobytes(),
                width,
                height,
            )


class SourceTableBuilder:
    """Takes the sources of a known number of rows, a run at a time.

    Parameters
    ----------
    n_rows : int
    with_images : bool
        Without, hashes and sizes of pictures are zeros that take no memory.
    """

    def __init__(self, n_rows: int, *, with_images: bool) -> None:
        self.n_done = 0
        self._with_images = with_images
        self._texts = StringColumnBuilder()
        self._encodings: dict[str, int] = {}
        self._encoding, self._text_status, self._image_status = (
            np.zeros(n_rows, dtype=np.uint8) for _ in range(3)
        )
        self._source_sha256 = np.zeros((n_rows, 32), dtype=np.uint8)
        if with_images:
            self._image_sha256 = np.zeros((n_rows, 32), dtype=np.uint8)
            self._sizes = np.zeros((n_rows, 2), dtype=np.int32)
        else:
            self._image_sha256 = np.broadcast_to(np.uint8(0), (n_rows, 32))
            self._sizes = np.broadcast_to(np.int32(0), (n_rows, 2))

    def extend(self, sources: Sequence[Source]) -> None:
        """Add the sources of the next rows."""
        rows = slice(self.n_done, self.n_done + len(sources))
        codes = self._encodings
        for source in sources:
            self._texts.append(source.text)
        self._encoding[rows] = [codes.setdefault(source.encoding, len(codes)) for source in sources]
        self._text_status[rows] = [source.text_status for source in sources]
        self._image_status[rows] = [source.image_status for source in sources]
        self._source_sha256[rows] = _hash_rows([source.source_sha256 for source in sources])
        if self._with_images:
            self._image_sha256[rows] = _hash_rows([source.image_sha256 for source in sources])
            self._sizes[rows] = [(source.width, source.height) for source in sources]
        self.n_done = rows.stop

    def table(self) -> SourceTable:
        """Return what was added; nothing may be added after that."""
        return SourceTable(
            self._texts.column(),
            self._encoding,
            tuple(self._encodings),
            self._text_status,
            self._image_status,
            self._source_sha256,
            self._image_sha256,
            self._sizes,
        )


def status_columns(sources: SourceTable, modalities: Sequence[str]) -> np.ndarray:
    """Return uint8 of shape (n_samples, n_modalities)."""
    text, image = sources.text_status, sources.image_status
    # A pair is usable if both halves are; the text's fault is named first.
    columns = {TEXT: text, IMAGE: image, JOINT: np.where(text == Status.OK, image, text)}
    return np.stack([columns[modality] for modality in modalities], axis=1)


def input_hashes(sources: SourceTable, modality: str) -> np.ndarray:
    """Return what identifies an input of one modality: uint8 of shape (n_samples, 32).

    A text is identified by its cleaned characters, an image by the bytes of its file, a pair by both hashes.
    """
    if modality == IMAGE:
        return sources.image_sha256
    return hashes_of_rows(sources, modality, np.arange(len(sources)))


def hashes_of_rows(sources: SourceTable, modality: str, rows: np.ndarray) -> np.ndarray:
    """Return `input_hashes` of some rows; those of texts are taken anew, so that nobody has to keep them."""
    if modality == IMAGE:
        images: np.ndarray = sources.image_sha256[rows]
        return images
    hashes = np.empty((len(rows), 32), dtype=np.uint8)
    for start in range(0, len(rows), _RUN):
        run = rows[start : start + _RUN]
        texts = sources.texts.pick(run.tolist())
        digests = [hashlib.sha256(text.encode("utf-8")).digest() for text in texts]
        if modality == JOINT:
            # The rule of cache.ReuseIndex, which finds pairs in earlier stores.
            pairs = zip(digests, sources.image_sha256[run], strict=True)
            digests = [hashlib.sha256(text + image.tobytes()).digest() for text, image in pairs]
        hashes[start : start + len(run)] = _hash_rows(digests)
    return hashes


def _hash_rows(digests: Sequence[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32)
