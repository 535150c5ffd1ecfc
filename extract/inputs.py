"""Inputs of a pass: texts as tokens, images as pixel arrays, pairs of both; clean or as augmented views.

A *unit* is one rendering of one row's input: ``row + view * n_rows``, where view 0 is the clean one.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cache import Status
from extract.batches import IMAGE_ROWS, MAX_TEXT_ROWS, PAIR_ROWS, TOKEN_BUDGET
from extract.images import BadImageError, decode_image, read_image_file
from extract.samples import DataError
from extract.source_table import SourceTable
from extract.string_columns import StringColumn
from extract.views import image_view, text_view

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from extract.backbones import ImageTower, JointTower, TextTower, Tokens
    from extract.forwards import Vectors


@dataclass(frozen=True)
class Renderings:
    """What the units of one modality stand for.

    Attributes
    ----------
    n_rows : int
    augment : str
        Kind of the views; see ``extract.views.AUGMENTATIONS``.
    seeds : ndarray of shape (n_rows, 32), uint8
        Hash of each row's input, which seeds its views: equal inputs have equal views. Empty without views.
    """

    n_rows: int
    augment: str
    seeds: np.ndarray

    def text(self, unit: int, text: str) -> str:
        """Return the text of `unit`, given its row's."""
        row, view = unit % self.n_rows, unit // self.n_rows
        if not view:
            return text
        return text_view(text, augment=self.augment, seed=self.seeds[row].tobytes(), view=view)

    def image(self, unit: int, image: Image) -> Image:
        """Return the picture of `unit`, given its row's."""
        row, view = unit % self.n_rows, unit // self.n_rows
        if not view:
            return image
        return image_view(image, augment=self.augment, seed=self.seeds[row].tobytes(), view=view)


@dataclass(frozen=True)
class Prepared:
    """A batch that is ready for the network.

    Attributes
    ----------
    units : list of int
    status : ndarray of shape (n_units,), uint8
        Codes of `Status`; only units that are ok have items.
    items : list of list
        For each lane, the inputs of the units that are ok and that it wants, in order.
    positions : list of ndarray of int
        For each lane, where in `units` its items belong.
    lengths : ndarray of shape (n_units, 2), int32
        Tokens of each text as it is, and as the network sees it; zeros where there is no text.
    """

    units: list[int]
    status: np.ndarray
    items: list[list[Any]]
    positions: list[np.ndarray]
    lengths: np.ndarray


class Inputs(ABC):
    """One modality's inputs for one or several towers (lanes) that share the reading and decoding.

    Attributes
    ----------
    n_lanes : int
    reentrant : bool
        Whether several threads may call `forward` at once.
    """

    n_lanes: int = 1
    reentrant: bool = True

    @abstractmethod
    def buckets(self, units: Sequence[int]) -> list[int]:
        """Return what units that may share a batch have in common, one int per unit."""

    @abstractmethod
    def capacity(self, bucket: int) -> int:
        """Return how many units of a bucket make a full batch."""

    @abstractmethod
    def prepare(self, units: Sequence[int], wanted: Sequence[np.ndarray]) -> Prepared:
        """Read and decode `units`; safe to call from several threads.

        Parameters
        ----------
        units : sequence of int
        wanted : sequence of ndarray of shape (n_units,), bool
            For each lane, which units it wants.
        """

    @abstractmethod
    def forward(self, lane: int, items: Sequence[Any]) -> Vectors:
        """Embed the items of one lane: readout -> ndarray of shape (n_items, width), float32."""


class TextInputs(Inputs):
    """Cleaned texts for a text tower.

    Parameters
    ----------
    texts : StringColumn
        Of all rows.
    tower : TextTower
    renderings : Renderings
    batch_size : int or None
        Largest number of rows per forward on a GPU; None leaves only the token budget.
    token_budget : int
        Padded tokens of a batch on a GPU.
    """

    def __init__(
        self,
        texts: StringColumn,
        tower: TextTower,
        renderings: Renderings,
        *,
        batch_size: int | None,
        token_budget: int | None = None,
    ) -> None:
        self._texts, self._tower, self._renderings = texts, tower, renderings
        self._batch_size, self._budget = batch_size, token_budget or TOKEN_BUDGET
        self._tokens: dict[int, Tokens] = {}  # of units between `buckets` and `prepare`
        self.reentrant = tower.reentrant

    def buckets(self, units: Sequence[int]) -> list[int]:
        """Tokenise `units` and return their padded lengths."""
        n_rows = self._renderings.n_rows
        texts = self._texts.pick([unit % n_rows for unit in units])
        texts = [self._renderings.text(unit, text) for unit, text in zip(units, texts, strict=True)]
        tokens = self._tower.tokenise(texts)
        self._tokens.update(zip(units, tokens, strict=True))
        return [self._tower.bucket(item) for item in tokens]

    def capacity(self, bucket: int) -> int:
        """Return the rows of a fixed shape, or what the token budget allows."""
        fixed = self._tower.rows_per_forward(bucket)
        return fixed or self._batch_size or max(1, min(MAX_TEXT_ROWS, self._budget // max(1, bucket)))

    def prepare(self, units: Sequence[int], wanted: Sequence[np.ndarray]) -> Prepared:
        """Return the tokens of `units`; every one is usable."""
        items = [self._tokens.pop(unit) for unit in units]
        positions = np.flatnonzero(wanted[0])
        return Prepared(
            units=list(units),
            status=np.full(len(units), Status.OK, dtype=np.uint8),
            items=[[items[i] for i in positions]],
            positions=[positions],
            lengths=np.array([item.counts for item in items], dtype=np.int32).reshape(-1, 2),
        )

    def forward(self, lane: int, items: Sequence[Any]) -> Vectors:  # noqa: ARG002
        """Embed tokens."""
        return self._tower.forward(items)


class ImageInputs(Inputs):
    """Pictures for one or several image towers: each picture is read and decoded once for all of them."""

    def __init__(
        self,
        sources: SourceTable,
        paths: Sequence[Path | None],
        towers: Sequence[ImageTower],
        renderings: Renderings,
        *,
        batch_size: int | None,
    ) -> None:
        self._sources, self._paths, self._towers = sources, paths, towers
        self._renderings, self._batch_size = renderings, batch_size
        self.n_lanes = len(towers)
        self.reentrant = all(tower.reentrant for tower in towers)

    def buckets(self, units: Sequence[int]) -> list[int]:
        """Return one bucket for all: pictures have one size after preprocessing."""
        return [0] * len(units)

    def capacity(self, bucket: int) -> int:
        """Return the rows of a fixed shape, or the batch size."""
        fixed = [tower.rows_per_forward(bucket) for tower in self._towers]
        known = [rows for rows in fixed if rows]
        return max(known) if known else self._batch_size or IMAGE_ROWS

    def prepare(self, units: Sequence[int], wanted: Sequence[np.ndarray]) -> Prepared:
        """Read, decode and preprocess `units`; a picture that cannot be decoded gets its status."""
        status = np.full(len(units), Status.OK, dtype=np.uint8)
        items: list[list[Any]] = [[] for _ in self._towers]
        positions: list[list[int]] = [[] for _ in self._towers]
        for i, unit in enumerate(units):
            row = unit % self._renderings.n_rows
            try:
                picture = _decoded(self._paths[row], self._sources.image_sha256[row])
                image = self._renderings.image(unit, picture)
            except BadImageError as error:
                status[i] = error.status
                continue
            for lane, tower in enumerate(self._towers):
                if wanted[lane][i]:
                    items[lane].append(tower.preprocess(image))
                    positions[lane].append(i)
        no_texts = np.zeros((len(units), 2), dtype=np.int32)
        return Prepared(list(units), status, items, [np.array(p, dtype=np.intp) for p in positions], no_texts)

    def forward(self, lane: int, items: Sequence[Any]) -> Vectors:
        """Embed pixel arrays."""
        return self._towers[lane].forward(items)


class JointInputs(Inputs):
    """Pairs of text and picture for a joint tower."""

    def __init__(
        self,
        sources: SourceTable,
        paths: Sequence[Path | None],
        tower: JointTower,
        renderings: Renderings,
        *,
        batch_size: int | None,
    ) -> None:
        self._sources, self._paths, self._tower = sources, paths, tower
        self._renderings, self._batch_size = renderings, batch_size
        self.reentrant = tower.reentrant

    def buckets(self, units: Sequence[int]) -> list[int]:
        """Return one bucket for all; `forward` groups by shape, which is known after preparing."""
        return [0] * len(units)

    def capacity(self, bucket: int) -> int:
        """Return the rows of a fixed shape, or the batch size."""
        return self._tower.rows_per_forward(bucket) or self._batch_size or PAIR_ROWS

    def prepare(self, units: Sequence[int], wanted: Sequence[np.ndarray]) -> Prepared:
        """Read, decode and prepare `units`; a picture that cannot be decoded gives its pair a status."""
        status = np.full(len(units), Status.OK, dtype=np.uint8)
        lengths = np.zeros((len(units), 2), dtype=np.int32)
        items, positions = [], []
        for i in np.flatnonzero(wanted[0]).tolist():
            row = units[i] % self._renderings.n_rows
            try:
                picture = _decoded(self._paths[row], self._sources.image_sha256[row])
                image = self._renderings.image(units[i], picture)
            except BadImageError as error:
                status[i] = error.status
                continue
            pair = self._tower.prepare(self._renderings.text(units[i], self._sources.texts[row]), image)
            lengths[i] = pair.tokens.counts
            items.append(pair)
            positions.append(i)
        return Prepared(list(units), status, [items], [np.array(positions, dtype=np.intp)], lengths)

    def forward(self, lane: int, items: Sequence[Any]) -> Vectors:  # noqa: ARG002
        """Embed pairs, those of one shape together."""
        groups: dict[int, list[int]] = {}
        for i, pair in enumerate(items):
            groups.setdefault(self._tower.bucket(pair), []).append(i)
        rows: Vectors = {}
        for members in groups.values():
            for name, x in self._tower.forward([items[i] for i in members]).items():
                rows.setdefault(name, np.empty((len(items), x.shape[1]), dtype=np.float32))[members] = x
        return rows


def _decoded(path: Path | None, sha256: np.ndarray) -> Image:
    """Decode a picture that was hashed when the pass began; other bytes would get the old ones' identity."""
    if path is None:
        raise BadImageError(Status.IMAGE_MISSING, "no image file")
    try:
        data = read_image_file(path)
    except BadImageError as error:
        raise _changed(path, f"it cannot be read any more ({error})") from error
    if hashlib.sha256(data).digest() != sha256.tobytes():
        raise _changed(path, "its content is another one now")
    return decode_image(data)


def _changed(path: Path, how: str) -> DataError:
    return DataError(
        f"'{path}' has changed since the pass began: {how}. Nothing wrong was stored. Put the file back and "
        "run the same command again; or, to embed the data as it is now, delete the '.work' folder first."
    )
