"""The work of one pass: data set, sources, backbone and plan together, and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cache import Status
from extract.inputs import ImageInputs, TextInputs
from extract.plans import PassOptions, PassPlan, make_plan
from extract.reports import OnProgress, PassProgress
from extract.samples import TEXT, DataSet
from extract.sources import Source, input_hashes, read_sources
from extract.stages import Inputs, ModalityRows, first_occurrences

if TYPE_CHECKING:
    from extract.backbones import Backbone, ImageTower, TextTower


@dataclass(frozen=True)
class PassWork:
    """Everything that is known before a network runs.

    Attributes
    ----------
    data_set : DataSet
    sources : list of Source
    backbone : Backbone
    options : PassOptions
    planned : PassPlan
    """

    data_set: DataSet
    sources: list[Source]
    backbone: Backbone
    options: PassOptions
    planned: PassPlan

    @classmethod
    def gather(
        cls, data_set: DataSet, backbone: Backbone, options: PassOptions, tell: OnProgress
    ) -> PassWork:
        """Check the weights, read all sources and make the plan."""
        backbone.check_available()
        total = len(data_set.samples)
        sources = read_sources(
            data_set, options.source, on_progress=lambda n: tell(PassProgress("sources", n, total))
        )
        return cls(data_set, sources, backbone, options, make_plan(data_set, sources, backbone, options))

    def rows(self, modality: str) -> ModalityRows:
        """Return the rows of one modality: usable ones, repeats, and the fingerprints of their spaces."""
        status = self.planned.table.status[:, self.planned.modalities.index(modality)]
        hashes = input_hashes(self.sources, modality)
        fingerprints = {
            space.name: space.fingerprint
            for space in self.planned.plan.spaces
            if space.name.startswith(f"{modality}.")
        }
        first = first_occurrences(hashes, status == Status.OK)
        return ModalityRows(modality, status, hashes, first, fingerprints)

    def open_inputs(self, modality: str) -> Inputs:
        """Load one tower and return its inputs."""
        options = self.options
        readouts = tuple(r for r in options.readouts if r in self.backbone.card.readouts[modality])
        tower = self.backbone.open_tower(
            modality, readouts=readouts, device=options.device, precision=options.precision
        )
        settings: dict[str, Any] = {"device": options.device, "batch_size": options.batch_size}
        if modality == TEXT:
            return TextInputs(self.sources, cast("TextTower", tower), **settings)
        return ImageInputs(self.data_set, cast("ImageTower", tower), **settings)


class LazyInputs:
    """Inputs that load their tower with the first batch: a fully reused pass never loads weights."""

    def __init__(self, work: PassWork, modality: str) -> None:
        self._work, self._modality = work, modality
        self._inputs: Inputs | None = None

    @property
    def _opened(self) -> Inputs:
        if self._inputs is None:
            self._inputs = self._work.open_inputs(self._modality)
        return self._inputs

    def cut(self, rows: Sequence[int]) -> list[list[int]]:
        """See `Inputs.cut`."""
        return self._opened.cut(rows) if rows else []

    def prepare(self, rows: Sequence[int]) -> tuple[list[Any], np.ndarray]:
        """See `Inputs.prepare`."""
        return self._opened.prepare(rows)

    def is_truncated(self, item: Any) -> bool:
        """See `Inputs.is_truncated`."""
        return self._opened.is_truncated(item)

    def forward(self, items: Sequence[Any]) -> dict[str, np.ndarray]:
        """See `Inputs.forward`."""
        return self._opened.forward(items)
