"""The work of one pass: data set, sources, backbone and plan together, and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np

from cache import ReuseIndex, Status
from extract.data_sets import DataSet
from extract.inputs import ImageInputs, Inputs, JointInputs, Renderings, TextInputs
from extract.memory import limit_device_memory
from extract.open_shards import ModalityRows, first_occurrences
from extract.plans import PassOptions, PassPlan, make_plan
from extract.sample_table import ImagePaths
from extract.samples import IMAGE, JOINT, TEXT
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


def stages_of(works: Sequence[PassWork]) -> list[tuple[str, list[int]]]:
    """Return (modality, works that take part), in the order of the first work; images of all go together."""
    stages: list[tuple[str, list[int]]] = []
    for i, work in enumerate(works):
        for modality in work.planned.modalities:
            shared = next((members for m, members in stages if m == modality == IMAGE), None)
            if shared is None:
                stages.append((modality, [i]))
            else:
                shared.append(i)
    return stages


def refuse_little_memory(works: Sequence[PassWork], reuse: ReuseIndex) -> None:
    """Refuse passes that would take more than ``max_memory`` on a CPU, where no allocator can be limited.

    Parameters
    ----------
    works : sequence of PassWork
        With the same limit and devices; what they know already needs no tower.
    reuse : ReuseIndex
        Where vectors of equal inputs may already lie.

    Raises
    ------
    ValueError
        Naming every modality with what it would take by the estimate.
    """
    from extract.probing import bytes_on_cpu

    if not works:
        return
    limit, n_processes = works[0].options.max_memory, works[0].options.devices.count("cpu")
    if limit is None or not n_processes:
        return
    faults = []
    for modality, members in stages_of(works):
        together = [works[i] for i in members]
        rows = [work.rows(modality) for work in together]
        if not any(each.views or len(each.unknown_to(reuse)) for each in rows):
            continue
        needed = sum(
            bytes_on_cpu(work.backbone, modality, work.options.precision, n_processes=n_processes)
            for work in together
        )
        if needed > limit:
            names = " and ".join(f"'{work.backbone.card.name}'" for work in together)
            faults.append(f"{modality} inputs with {names} take about {needed / 1e6:,.1f} MB")
    if faults:
        how = f" in {n_processes} processes" if n_processes > 1 else ""
        raise ValueError(
            f"--max-memory {limit / 1e6:,.1f} MB is less than is needed on this CPU{how}: "
            f"{'; '.join(faults)}. Allow more, set OMP_NUM_THREADS to fewer cores, or choose a smaller "
            "--backbone."
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
    if options.max_memory is not None and device != "cpu":
        limit_device_memory(device, options.max_memory)
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
