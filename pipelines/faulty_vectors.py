"""Vectors of rows under faults of their inputs, remembered on disk as they are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from extract import FAULTS_VERSION, INPUT_FAULTS, Edit, EditedInputs, faulty_image, faulty_text
from pipelines.console import Progress
from pipelines.prediction_rows import EmbeddingOptions, open_again
from pipelines.run_inputs import TowerRows, check_unchanged_vectors, open_edited
from pipelines.vector_memory import VectorMemory

if TYPE_CHECKING:
    from extract import Backbone

#: Fault -> the modality that is not there.
MISSING: Mapping[str, str] = {"missing-text": "text", "missing-image": "image"}


@dataclass(frozen=True)
class Variant:
    """One fault at one severity.

    Attributes
    ----------
    fault : str
        A key of ``INPUT_FAULTS`` or of `MISSING`.
    severity : int
        1 to 5; 1 for a missing modality.
    """

    fault: str
    severity: int

    @property
    def name(self) -> str:
        """E.g. ``"noise 3"``."""
        return f"{self.fault} {self.severity}"

    @property
    def level(self) -> float | None:
        """What the severity means, see ``InputFault.meaning``; None for a missing modality."""
        fault = INPUT_FAULTS.get(self.fault)
        return None if fault is None else float(fault.levels[self.severity - 1])

    def changes(self, modality: str) -> bool:
        """Whether vectors of a modality must be made anew."""
        fault = INPUT_FAULTS.get(self.fault)
        return fault is not None and modality in (fault.modality, "joint")

    def removes(self, modality: str) -> bool:
        """Whether vectors of a modality are not there."""
        return self.fault in MISSING and modality in (MISSING[self.fault], "joint")


class FaultyVectors:
    """Embeds the rows of several towers under faults.

    Parameters
    ----------
    towers : sequence of TowerRows
    ids : sequence of str
        Of the rows.
    how : EmbeddingOptions
        Resolved device, and folders of weights.
    work : Path
        Folder for finished parts, so that an interrupted call goes on; made when needed.
    """

    def __init__(
        self, towers: Sequence[TowerRows], ids: Sequence[str], how: EmbeddingOptions, work: Path
    ) -> None:
        self._towers, self._ids, self._how = towers, ids, how
        self._memory = VectorMemory(work)

    def embed(self, variants: Sequence[Variant]) -> dict[str, np.ndarray]:
        """Return block -> vectors of shape (n_variants, n_rows, width), float32.

        Rows without a usable input are NaN, and so is every variant that does not change the block's tower.

        Raises
        ------
        RunError
            If an unchanged row does not get its stored vector.
        """
        backbones = {tower.backbone: open_again(tower.backbone, self._how) for tower in self._towers}
        for backbone in backbones.values():
            backbone.check_available()  # all weights are asked for before any network runs
        found: dict[str, np.ndarray] = {}
        for tower in self._towers:
            found |= self._embed_tower(tower, backbones[tower.backbone], variants)
        return found

    def _embed_tower(
        self, tower: TowerRows, backbone: Backbone, variants: Sequence[Variant]
    ) -> dict[str, np.ndarray]:
        whole = {
            block: np.full((len(variants), *stored.shape), np.nan, dtype=np.float32)
            for block, stored in tower.stored.items()
        }
        missing = []
        for k, variant in enumerate(variants):
            if not variant.changes(tower.modality):
                continue
            known = self._memory.recall(tower, self._ids, _facts(variant))
            if known is None:
                missing.append((k, variant))
            else:
                _put(whole, known, k)
        if not missing:
            return whole
        progress = Progress(f"{tower.backbone} {tower.modality} under faults", "inputs")
        n_rows = len(tower.sources)

        def show(before: int, done: int) -> None:
            progress.update(before + done, len(missing) * n_rows)

        with open_edited(tower, backbone, device=self._how.device) as inputs:
            check_unchanged_vectors(partial(_unchanged, tower, inputs), tower, self._ids)
            for number, (k, variant) in enumerate(missing):
                vectors = inputs.embed([_edit(variant, backbone)], on_progress=partial(show, number * n_rows))
                made = tower.by_block(_first(vectors))
                self._memory.keep(tower, self._ids, _facts(variant), made)
                _put(whole, made, k)
        progress.close()
        return whole


def _facts(variant: Variant) -> dict[str, object]:
    return {"version": FAULTS_VERSION, "variant": variant.name}


def _unchanged(tower: TowerRows, inputs: EditedInputs, rows: np.ndarray) -> dict[str, np.ndarray]:
    return tower.by_block(_first(inputs.embed([Edit()], rows=rows)))


def _first(vectors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {readout: x[0] for readout, x in vectors.items()}


def _put(whole: Mapping[str, np.ndarray], part: Mapping[str, np.ndarray], k: int) -> None:
    for block, x in part.items():
        whole[block][k] = x


def _edit(variant: Variant, backbone: Backbone) -> Edit:
    name, severity = variant.fault, variant.severity
    if INPUT_FAULTS[name].modality == "text":
        return Edit(text=lambda text, seed: faulty_text(text, name, severity, seed=seed))
    card = backbone.card
    return Edit(image=lambda image, seed: faulty_image(image, name, severity, seed=seed, card=card))
