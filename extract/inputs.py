"""Inputs of the stages: texts as tokens, images as pixel arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cache import Status
from extract.batches import IMAGE_ROWS, MAX_TEXT_ROWS, TOKEN_BUDGET, cut_by_rows, cut_by_tokens
from extract.forwards import Vectors
from extract.images import BadImageError, decode_image, read_image_file
from extract.samples import DataSet
from extract.sources import Source

if TYPE_CHECKING:
    from extract.backbones import ImageTower, TextTower, Tokens


class TextInputs:
    """Cleaned texts of a data set for a text tower.

    Parameters
    ----------
    sources : sequence of Source
    tower : TextTower
    device : str
    batch_size : int or None
        Largest number of rows per forward; None leaves only the token budget.
    """

    def __init__(
        self, sources: Sequence[Source], tower: TextTower, *, device: str, batch_size: int | None
    ) -> None:
        self._sources, self._tower = sources, tower
        self._budget = TOKEN_BUDGET.get(device.split(":")[0], TOKEN_BUDGET["cpu"])
        self._batch_size = batch_size
        self._tokens: dict[int, Tokens] = {}

    def cut(self, rows: Sequence[int]) -> list[list[int]]:
        """Tokenise one shard's rows and cut them by tokens."""
        tokens = self._tower.tokenise([self._sources[row].text for row in rows]) if rows else []
        self._tokens = dict(zip(rows, tokens, strict=True))
        budget = (
            self._budget
            if self._batch_size is None
            else max(len(t.ids) for t in tokens) * self._batch_size
            if tokens
            else 1
        )
        batches = cut_by_tokens(
            [len(t.ids) for t in tokens],
            budget=budget,
            max_rows=self._batch_size or MAX_TEXT_ROWS,
        )
        return [[rows[i] for i in batch] for batch in batches]

    def prepare(self, rows: Sequence[int]) -> tuple[list[Any], np.ndarray]:
        """Return the tokens of `rows`; every one is usable."""
        return [self._tokens[row] for row in rows], np.full(len(rows), Status.OK, dtype=np.uint8)

    def is_truncated(self, item: Tokens) -> bool:
        """Whether the text has more tokens than the network takes."""
        return item.full_length > len(item.ids)

    def forward(self, items: Sequence[Any]) -> Vectors:
        """Embed tokens."""
        return self._tower.forward(items)


class ImageInputs:
    """Pictures of a data set for an image tower."""

    def __init__(self, data_set: DataSet, tower: ImageTower, *, device: str, batch_size: int | None) -> None:
        self._samples, self._tower = data_set.samples, tower
        self._rows = batch_size or IMAGE_ROWS.get(device.split(":")[0], IMAGE_ROWS["cpu"])

    def cut(self, rows: Sequence[int]) -> list[list[int]]:
        """Cut one shard's rows into batches of equal size."""
        return [[rows[i] for i in batch] for batch in cut_by_rows(len(rows), self._rows)]

    def prepare(self, rows: Sequence[int]) -> tuple[list[Any], np.ndarray]:
        """Read, decode and preprocess `rows`; a picture that cannot be decoded gets its status."""
        pixels, status = [], np.full(len(rows), Status.OK, dtype=np.uint8)
        for i, row in enumerate(rows):
            path = self._samples[row].image_path
            try:
                if path is None:
                    raise BadImageError(Status.IMAGE_MISSING, "no image file")
                pixels.append(self._tower.preprocess(decode_image(read_image_file(path))))
            except BadImageError as error:
                status[i] = error.status
        return pixels, status

    def is_truncated(self, item: Any) -> bool:  # noqa: ARG002
        """Pictures are resized, never cut short."""
        return False

    def forward(self, items: Sequence[Any]) -> Vectors:
        """Embed pixel arrays."""
        return self._tower.forward(items)
