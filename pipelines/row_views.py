"""Views of some rows of a run: those that its stores hold, or embedded anew with the run's backbones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from extract import Backbone, Edit, EditedInputs
from extract.views import image_view, text_view
from pipelines.console import Progress
from pipelines.matrices import Matrix
from pipelines.prediction_rows import EmbeddingOptions, open_again
from pipelines.run_inputs import (
    TowerRows,
    check_unchanged_vectors,
    group_by_tower,
    open_edited,
    read_tower_rows,
)
from pipelines.vector_memory import VectorMemory

if TYPE_CHECKING:
    from PIL.Image import Image


def open_backbones(spaces: Sequence[Mapping[str, Any]], how: EmbeddingOptions) -> dict[str, Backbone]:
    """Open the backbones of some spaces, or refuse what cannot be embedded again before anything long begins.

    Parameters
    ----------
    spaces : sequence of mapping
        As in ``config.json`` of a run.
    how : EmbeddingOptions

    Returns
    -------
    dict of str to Backbone
        By name; their weights are there and checked, but no network is loaded.

    Raises
    ------
    UsageError
        If a space was imported, or a backbone came from a folder that is not named again.
    WeightsMissingError
        If weights can neither be found nor fetched.
    """
    names = dict.fromkeys(members[0]["backbone"] for members in group_by_tower(spaces))
    backbones = {name: open_again(name, how) for name in names}
    for backbone in backbones.values():
        backbone.check_available()
    return backbones


def embed_views(
    matrix: Matrix,
    rows: np.ndarray,
    spaces: Sequence[Mapping[str, Any]],
    *,
    n_views: int,
    augment: str,
    run: Path,
    data: Path | None,
    backbones: Mapping[str, Backbone],
    device: str,
    work: Path,
) -> np.ndarray:
    """Embed views of some rows of a matrix, the same that ``extract --views`` would store.

    Parameters
    ----------
    matrix : Matrix
    rows : ndarray of integer
        Rows of the matrix.
    spaces : sequence of mapping
        As in ``config.json`` of the run, in the order of the matrix's blocks.
    n_views : int
    augment : {"light", "strong"}
    run : Path
        The run folder.
    data : Path or None
        The data set, where the pictures lie; None looks around the stores and the run.
    backbones : mapping of str to Backbone
        From `open_backbones` of the same spaces.
    device : str
    work : Path
        A folder that keeps the views of finished towers, so that an interrupted call goes on.

    Returns
    -------
    ndarray of shape (n_views, n_samples, n_features), float32
        Of the other rows, and of inputs that have no view (no text is left), the clean vectors.

    Raises
    ------
    RunError
        If stores or pictures are not there or have changed, or the backbones do not make the stored vectors.
    UsageError
        If a space was imported.
    """
    ids = [matrix.ids[row] for row in rows]
    towers = read_tower_rows(spaces, ids, run=run, data=data)
    made: dict[str, np.ndarray] = {}
    memory, facts = VectorMemory(work, n_views=n_views), {"n_views": n_views, "augment": augment}
    for tower in towers:
        known = memory.recall(tower, ids, facts)
        if known is None:
            with open_edited(tower, backbones[tower.backbone], device=device) as inputs:
                check_unchanged_vectors(partial(_unchanged, tower, inputs), tower, ids)
                known = _tower_views(tower, inputs, n_views, augment)
            memory.keep(tower, ids, facts, known)
        made |= known
    views = np.repeat(matrix.X[None], n_views, axis=0)
    start = 0
    for block, width in matrix.blocks.items():
        part, new = views[:, rows, start : start + width], made[block]
        views[:, rows, start : start + width] = np.where(np.isnan(new), part, new)
        start += width
    return views


def _unchanged(tower: TowerRows, inputs: EditedInputs, rows: np.ndarray) -> dict[str, np.ndarray]:
    return tower.by_block({name: x[0] for name, x in inputs.embed([Edit()], rows=rows).items()})


def _tower_views(tower: TowerRows, inputs: EditedInputs, n_views: int, augment: str) -> dict[str, np.ndarray]:
    """Return block -> views, float32 of shape (n_views, n_rows, width)."""
    progress = Progress(f"{tower.backbone} {tower.modality} views", "inputs")
    edits = [_view(augment, number) for number in range(1, n_views + 1)]
    total = n_views * len(tower.sources)
    found = inputs.embed(edits, on_progress=lambda done: progress.update(done, total))
    progress.close()
    return tower.by_block(found)


def _view(augment: str, number: int) -> Edit:
    def text(value: str, seed: bytes) -> str:
        return text_view(value, augment=augment, seed=seed, view=number)

    def image(value: Image, seed: bytes) -> Image:
        return image_view(value, augment=augment, seed=seed, view=number)

    return Edit(text=text, image=image)
