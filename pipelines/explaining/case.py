"""The case: one text and picture, what a run's towers make of it, and what the model answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cache import Status
from extract import Edit, Sample, SourceOptions, decode_image, read_image_file
from extract.sources import read_source
from pipelines.applied_steps import answer
from pipelines.errors import RunError, UsageError
from pipelines.named_stores import open_store
from pipelines.prediction_rows import EmbeddingOptions, open_again
from pipelines.run_inputs import (
    Space,
    TowerRows,
    check_unchanged_vectors,
    group_by_tower,
    modality_of_space,
    open_edited,
    read_tower_rows,
)
from pipelines.run_stores import find_store

if TYPE_CHECKING:
    from PIL.Image import Image

    from extract import Backbone
    from heads import LoadedModel

MODALITIES = ("text", "image")


@dataclass(frozen=True, eq=False)
class Case:
    """One input of a run, ready to be explained.

    Attributes
    ----------
    name : str
        Its id; ``"input"`` for a text and picture that were given.
    is_stored : bool
        Whether it is a row of the run's stores.
    label : str or None
        Its class, where it is known.
    spaces : tuple of mapping
        As in ``config.json``: the blocks of the model's rows, in order.
    towers : tuple of TowerRows
        Of one row each.
    backbones : dict of str to Backbone
    vectors : dict of str to ndarray of shape (width,), float32
        Block -> vector of the unchanged input; NaN where there is none.
    model : LoadedModel
    device : str
        Resolved.
    """

    name: str
    is_stored: bool
    label: str | None
    spaces: tuple[Space, ...]
    towers: tuple[TowerRows, ...]
    backbones: Mapping[str, Backbone]
    vectors: Mapping[str, np.ndarray]
    model: LoadedModel
    device: str

    def rows(self, changes: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
        """Return the model's rows for changed blocks.

        Parameters
        ----------
        changes : sequence of mapping
            Block -> another vector; blocks that are not named stay as they are.

        Returns
        -------
        ndarray of shape (n_changes, n_features), float32
        """
        return np.stack(
            [
                np.concatenate([change.get(s["block"], self.vectors[s["block"]]) for s in self.spaces])
                for change in changes
            ]
        ).astype(np.float32)

    def probabilities(self, changes: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
        """Return what the run answers to changed blocks, (n_changes, n_classes), float64.

        After the run's calibration, so that they are the probabilities of ``predict``.
        """
        return answer(self.model, self.rows(changes))[0]

    @cached_property
    def predicted(self) -> int:
        """Position of the class that ``predict`` names: after the run's calibration and decision."""
        return int(answer(self.model, self.rows([{}]))[1][0])

    @cached_property
    def text(self) -> str | None:
        """The cleaned text that the first text network reads; None if there is none."""
        return next((t.sources[0].text for t in self.towers if t.modality != "image" and self._has(t)), None)

    @cached_property
    def picture(self) -> Image | None:
        """The picture, decoded; None if there is none."""
        path = next((t.paths[0] for t in self.towers if t.modality != "text" and self._has(t)), None)
        return None if path is None else decode_image(read_image_file(path))

    @property
    def has(self) -> tuple[str, ...]:
        """The modalities that the case has a vector of, of ``text`` and ``image``."""
        return tuple(
            m for m, there in zip(MODALITIES, (self.text, self.picture), strict=True) if there is not None
        )

    def _has(self, tower: TowerRows) -> bool:
        return bool(np.isfinite(self.vectors[tower.spaces[0]["block"]]).all())


def stored_case(
    run: Path,
    spaces: Sequence[Space],
    model: LoadedModel,
    guid: str,
    *,
    data: Path | None,
    how: EmbeddingOptions,
) -> Case:
    """Return a row of a run's stores as a case, after checking that its inputs give its vectors.

    Raises
    ------
    UsageError
        If the store does not hold the id.
    RunError
        If the inputs are not there or have changed.
    """
    path = find_store(spaces[0], run)
    with open_store(path) as store:
        if guid not in store.ids:
            raise UsageError(_unknown_id(guid, store.ids, path))
        code = int(store.labels[store.ids.index(guid)])
        label = store.class_names[code] if code >= 0 else None
    towers = read_tower_rows(spaces, [guid], run=run, data=data)
    backbones = _open(towers, how)
    for tower in towers:
        backbone = backbones[tower.backbone]
        with open_edited(tower, backbone, device=how.device) as inputs:
            check_unchanged_vectors(partial(_embed, tower, inputs), tower, [guid])
    vectors = {block: stored[0] for tower in towers for block, stored in tower.stored.items()}
    return Case(guid, True, label, tuple(spaces), tuple(towers), backbones, vectors, model, how.device)


def given_case(
    spaces: Sequence[Space],
    model: LoadedModel,
    *,
    text: str | None,
    image: Path | None,
    how: EmbeddingOptions,
) -> Case:
    """Return a text and a picture as a case.

    Raises
    ------
    UsageError
        If none of them is what the run was trained on.
    RunError
        If there is nothing else, and the picture cannot be used; its status is named.
    FileNotFoundError
        If the picture is not there.
    """
    if image is not None and not image.is_file():
        raise FileNotFoundError(f"Image '{image}' does not exist or is not a file.")
    sample = Sample(id="input", text=text, image_path=image, image_name="" if image is None else image.name)
    there = tuple(m for m, given in zip(MODALITIES, (text, image), strict=True) if given is not None)
    towers: list[TowerRows] = []
    vectors: dict[str, np.ndarray] = {}
    grouped = group_by_tower(spaces)
    backbones: dict[str, Backbone] = {}
    for members in grouped:
        first = members[0]
        source = read_source(sample, there, SourceOptions(clean=first["clean"], encodings=how.encodings))
        modality = modality_of_space(first)
        tower = TowerRows(first["backbone"], first["precision"], modality, members, (source,), (image,), {})
        if first["backbone"] not in backbones:
            backbones |= _open([tower], how)
        with open_edited(tower, backbones[first["backbone"]], device=how.device) as inputs:
            vectors |= {block: x[0] for block, x in _embed(tower, inputs, None).items()}
        towers.append(tower)
    if not any(np.isfinite(x).all() for x in vectors.values()):
        needed = ", ".join(space["space"] for space in spaces)
        fault = (
            f"The run was trained on {needed}; the input has no usable {' or '.join(there)} that it could be "
            "answered from"
        )
        broken = [name for name in map(_picture_fault, towers) if name] if image is not None else []
        if broken:
            raise RunError(f"{fault}: '{image}' is {broken[0]}. Name another picture.")
        raise UsageError(f"{fault}.")
    return Case("input", False, None, tuple(spaces), tuple(towers), backbones, vectors, model, how.device)


def _open(towers: Sequence[TowerRows], how: EmbeddingOptions) -> dict[str, Any]:
    backbones = {tower.backbone: open_again(tower.backbone, how) for tower in towers}
    for backbone in backbones.values():
        backbone.check_available()
    return backbones


def _embed(tower: TowerRows, inputs: Any, rows: np.ndarray | None) -> dict[str, np.ndarray]:
    return tower.by_block({name: x[0] for name, x in inputs.embed([Edit()], rows=rows).items()})


def _picture_fault(tower: TowerRows) -> str:
    """Return the status of a tower's picture if it is one that the tower reads and cannot use, else ""."""
    status = tower.sources[0].image_status
    return "" if tower.modality == "text" or status == Status.OK else status.label


def _unknown_id(guid: str, ids: Sequence[str], path: Path) -> str:
    from difflib import get_close_matches

    near = get_close_matches(guid, ids, n=5, cutoff=0.5)
    hint = f"near matches: {', '.join(map(repr, near))}" if near else f"its first is '{ids[0]}'"
    return f"Store '{path}' of the run has no row '{guid}'; {hint}. Name one with --id."
