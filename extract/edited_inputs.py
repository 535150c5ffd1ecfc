"""Edited inputs: the rows of a data set embedded again with something changed, the way the pass embeds them.

Decoding, tokenising, batching and forwards are the pass's own, so an input that is not changed gets the
vector that is stored. Only what becomes of the vectors differs: they are returned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, cast

import numpy as np

from cache import Status
from extract.batches import BatchPlanner
from extract.engine import Batch, Engine, open_engine
from extract.inputs import ImageInputs, Inputs, JointInputs, Renderings, TextInputs
from extract.samples import IMAGE, JOINT, TEXT
from extract.source_table import Source, SourceTable, input_hashes, status_columns

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from extract.backbones import Backbone, ImageTower, JointTower, TextTower

_UNITS_AHEAD = 512


@dataclass(frozen=True)
class Edit:
    """One change of an input; the default changes nothing.

    Attributes
    ----------
    text : callable or None
        Cleaned text and the hash of it -> changed text. Called from several threads.
    image : callable or None
        RGB picture and the hash of its file -> changed picture. Called from several threads.
    """

    text: Callable[[str, bytes], str] | None = None
    image: Callable[[Image, bytes], Image] | None = None


@dataclass(frozen=True)
class _EditedRenderings(Renderings):
    """Unit ``row + k * n_rows`` is the row under the k-th edit."""

    text_seeds: np.ndarray = field(default_factory=lambda: np.empty((0, 32), dtype=np.uint8))
    edits: list[Edit] = field(default_factory=list)
    made: dict[int, str] = field(default_factory=dict)  # texts that were looked at and not yet asked for

    def text(self, unit: int, text: str) -> str:
        ready = self.made.pop(unit, None)
        return self._changed(unit, text) if ready is None else ready

    def says_something(self, unit: int, text: str) -> bool:
        """Whether there is a text left: an empty one is not embedded in a pass either."""
        self.made[unit] = self._changed(unit, text)
        if self.made[unit].strip():
            return True
        del self.made[unit]
        return False

    def _changed(self, unit: int, text: str) -> str:
        change = self.edits[unit // self.n_rows].text
        return text if change is None else change(text, self.text_seeds[unit % self.n_rows].tobytes())

    def image(self, unit: int, image: Image) -> Image:
        change = self.edits[unit // self.n_rows].image
        return image if change is None else change(image, self.seeds[unit % self.n_rows].tobytes())


class EditedInputs:
    """One loaded tower and the rows that it embeds under edits; a context manager.

    Parameters
    ----------
    sources : sequence of Source
        What the rows hold; rows whose status is not ok are not embedded.
    paths : sequence of Path or None
        Picture file of each row. A file whose bytes differ from the source's hash is refused.
    backbone : Backbone
    modality : {"text", "image", "joint"}
    readouts : sequence of str
    device : str
        Resolved: "cpu", "cuda" or "cuda:N".
    precision : {"fp32", "fp16", "bf16"}
    """

    def __init__(
        self,
        sources: Sequence[Source],
        paths: Sequence[Path | None],
        backbone: Backbone,
        modality: str,
        readouts: Sequence[str],
        *,
        device: str = "cpu",
        precision: str = "fp32",
    ) -> None:
        table = SourceTable.of(sources)
        self._sources, self._modality, self._device = table, modality, device
        self._widths = {name: backbone.card.width(modality, name) for name in readouts}
        self._usable = np.flatnonzero(status_columns(table, [modality])[:, 0] == Status.OK)
        self._renderings = _EditedRenderings(
            len(table), "", input_hashes(table, IMAGE), input_hashes(table, TEXT)
        )
        self._inputs = self._open(paths, backbone, precision)
        self._stack = ExitStack()

    def __enter__(self) -> EditedInputs:
        self._engine: Engine = self._stack.enter_context(open_engine(self._inputs, self._device))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def embed(
        self,
        edits: Sequence[Edit],
        *,
        rows: np.ndarray | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> dict[str, np.ndarray]:
        """Embed every row under every edit.

        Parameters
        ----------
        edits : sequence of Edit
        rows : ndarray of int, or None
            Only these rows.
        on_progress : callable, optional
            Called with the number of inputs embedded so far.

        Returns
        -------
        dict of str to ndarray of shape (n_edits, n_rows, width), float32
            By readout, of all rows. NaN where a row is left out, has no usable input, or has no text left
            after the edit.

        Raises
        ------
        DataError
            If a picture file has changed.
        """
        self._renderings.edits[:] = edits
        self._renderings.made.clear()  # of a call that was stopped
        n_rows = len(self._sources)
        found = {
            name: np.full((len(edits) * n_rows, width), np.nan, dtype=np.float32)
            for name, width in self._widths.items()
        }
        usable = self._usable if rows is None else np.intersect1d(self._usable, rows)
        done = 0
        for embedded in self._engine.run(self._batches(usable, len(edits))):
            lane = embedded.lanes[0]
            units = np.asarray(lane.units)
            for name, vectors in lane.vectors.items():
                found[name][units[lane.status == Status.OK]] = vectors
            done += len(units)
            if on_progress is not None:
                on_progress(done)
        return {name: vectors.reshape(len(edits), n_rows, -1) for name, vectors in found.items()}

    def _batches(self, rows: np.ndarray, n_edits: int) -> Iterator[Batch]:
        units = [int(row) + k * len(self._sources) for k in range(n_edits) for row in rows]
        pieces = (units[i : i + _UNITS_AHEAD] for i in range(0, len(units), _UNITS_AHEAD))
        for batch in BatchPlanner(
            map(self._usable_units, pieces), self._inputs.buckets, self._inputs.capacity
        ):
            yield batch, [np.ones(len(batch), dtype=bool)]

    def _usable_units(self, units: list[int]) -> list[int]:
        """Return the units that have something to embed after their edit."""
        if self._modality == IMAGE:
            return units
        n_rows, says = len(self._sources), self._renderings.says_something
        return [unit for unit in units if says(unit, self._sources.texts[unit % n_rows])]

    def _open(self, paths: Sequence[Path | None], backbone: Backbone, precision: str) -> Inputs:
        tower = backbone.open_tower(
            self._modality, readouts=tuple(self._widths), device=self._device, precision=precision
        )
        if self._modality == TEXT:
            return TextInputs(
                self._sources.texts, cast("TextTower", tower), self._renderings, batch_size=None
            )
        if self._modality == JOINT:
            joint = cast("JointTower", tower)
            return JointInputs(self._sources, paths, joint, self._renderings, batch_size=None)
        images = [cast("ImageTower", tower)]
        return ImageInputs(self._sources, paths, images, self._renderings, batch_size=None)
