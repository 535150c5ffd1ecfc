"""The work of one pass: data set, sources, backbone and plan together, and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np

from cache import Status
from extract.data_sets import DataSet
from extract.inputs import ImageInputs, Inputs, JointInputs, Renderings, TextInputs
from extract.open_shards import ModalityRows, first_occurrences
from extract.plans import PassOptions, PassPlan, make_plan
from extract.sample_table import ImagePaths
from extract.samples import JOINT, TEXT
from extract.source_table import SourceTable, hashes_of_rows, input_hashes

if TYPE_CHECKING:
    from extract.backbones import Backbone, ImageTower, JointTower, TextTower
    from extract.backbones.contract import Tower


@dataclass(frozen=True)
class PassWork:
    """Everything that is known before a network runs. It can be pickled, for processes of other devices.

    Attributes
    ----------
    data_set : DataSet
    sources : SourceTable
    backbone : Backbone
    options : PassOptions
    planned : PassPlan
    """

    data_set: DataSet
    sources: SourceTable
    backbone: Backbone
    options: PassOptions
    planned: PassPlan

    @classmethod
    def gather(
        cls, data_set: DataSet, sources: SourceTable, backbone: Backbone, options: PassOptions
    ) -> PassWork:
        """Make the plan, from weights that are there."""
        return cls(data_set, sources, backbone, options, make_plan(data_set, sources, backbone, options))

    def rows(self, modality: str) -> ModalityRows:
        """Return the rows of one modality: usable ones, repeats, and the fingerprints of their spaces."""
        status = self.planned.table.status[:, self.planned.modalities.index(modality)]
        fingerprints = {space.name: space.fingerprint for space in self.planned.plan.of_modality(modality)}
        first = first_occurrences(input_hashes(self.sources, modality), status == Status.OK)
        hashes_of = partial(hashes_of_rows, self.sources, modality)
        return ModalityRows(modality, status, hashes_of, first, fingerprints, self.options.views)

    def open_tower(self, modality: str, device: str) -> Tower:
        """Load one tower of the backbone."""
        prefix = f"{modality}."
        names = [space.name.removeprefix(prefix) for space in self.planned.plan.of_modality(modality)]
        return self.backbone.open_tower(
            modality, readouts=names, device=device, precision=self.options.precision
        )


def open_inputs(works: Sequence[PassWork], modality: str, device: str) -> Inputs:
    """Load the towers of one modality and return their inputs.

    Parameters
    ----------
    works : sequence of PassWork
        On one data set; several only for images, which they then decode once.
    modality : str
    device : str
        Resolved.
    """
    work, options = works[0], works[0].options
    _limit_memory(works, modality, device)
    towers = [each.open_tower(modality, device) for each in works]
    seeds = input_hashes(work.sources, modality) if options.views else np.empty((0, 32), dtype=np.uint8)
    renderings = Renderings(len(work.sources), options.augment, seeds)
    batch_size = options.batch_size
    if batch_size is None and device != "cpu":
        batch_size = min(_found(*pair, modality, device) for pair in zip(works, towers, strict=True))
    paths = ImagePaths(work.data_set.table)
    if modality == TEXT:
        # What is found for texts counts padded tokens, what is asked for counts rows.
        budget = batch_size if options.batch_size is None else None
        text_tower = cast("TextTower", towers[0])
        return TextInputs(
            work.sources.texts, text_tower, renderings, batch_size=options.batch_size, token_budget=budget
        )
    if modality == JOINT:
        tower = cast("JointTower", towers[0])
        return JointInputs(work.sources, paths, tower, renderings, batch_size=batch_size)
    return ImageInputs(
        work.sources, paths, cast("list[ImageTower]", towers), renderings, batch_size=batch_size
    )


def _limit_memory(works: Sequence[PassWork], modality: str, device: str) -> None:
    from extract.probing import apply_memory_limit

    limit = works[0].options.max_memory
    if limit is not None:
        towers = [(work.backbone, work.options.precision) for work in works]
        apply_memory_limit(towers, modality, device=device, max_memory=limit)


def _found(work: PassWork, tower: Tower, modality: str, device: str) -> int:
    from extract.probing import find_batch_size

    return find_batch_size(
        work.backbone,
        modality,
        tower,
        precision=work.options.precision,
        device=device,
        max_memory=work.options.max_memory,
    )
