"""What takes seconds to draw of single rows: their pictures and maps, made side by side."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import numpy as np

from pipelines.picture_files import data_folders, data_root, searched
from pipelines.report.evidence import Evidence, OutOfFold
from pipelines.report.maps import SampleMap, sample_maps
from pipelines.report.model_layers import ModelLayers, model_layers
from pipelines.report.samples import Samples
from pipelines.report.thumbnails import Thumbnails, make_thumbnails

QUICK = "Not drawn while a run is made, because it takes seconds; embedonce report --run RUN adds it."

_NO_THUMBNAILS = Thumbnails((), (), "")


@dataclass(frozen=True)
class DrawnRows:
    """Pictures and maps of the rows shown.

    Attributes
    ----------
    thumbnails : Thumbnails
    no_pictures : str
        Why there are none, or what is not among them; may be empty.
    layers : ModelLayers
    maps : sequence of SampleMap
    """

    thumbnails: Thumbnails = _NO_THUMBNAILS
    no_pictures: str = ""
    layers: ModelLayers = field(default_factory=ModelLayers)
    maps: Sequence[SampleMap] = ()


def leave_undrawn(samples: Samples) -> DrawnRows:
    """Return nothing but the reason, for the quick page of a run that has just been made."""
    quick = "Pictures: " + QUICK[0].lower() + QUICK[1:]
    reason = quick if samples.image_paths is not None else samples.missing.get("images", "")
    return DrawnRows(no_pictures=reason, layers=ModelLayers(missing=QUICK))


def draw_rows(
    run: Evidence, rows: OutOfFold, samples: Samples, *, data: Path | None, with_umap: bool
) -> DrawnRows:
    """Make thumbnails on some threads while the maps are computed on this one.

    Parameters
    ----------
    run : Evidence
    rows : OutOfFold
    samples : Samples
        With features.
    data : Path or None
        The data set's folder; None looks for it.
    with_umap : bool
    """
    stop = Event()
    with ThreadPoolExecutor(1, "thumbnails") as pool:
        pictures = pool.submit(_pictures, run, rows, samples, data, stop)
        try:
            layers = (
                model_layers(run, samples.features)
                if samples.features
                else ModelLayers(missing=samples.missing["stores"])
            )
            shown = samples.shown
            maps = sample_maps(
                samples.features,
                rows.probabilities[shown],
                rows.y[shown],
                rows.classes,
                layers=layers.vectors,
                with_umap=with_umap,
            )
            thumbnails, reason = pictures.result()
        except BaseException:
            stop.set()
            raise
    return DrawnRows(thumbnails, reason, layers, maps)


def _pictures(
    run: Evidence, rows: OutOfFold, samples: Samples, data: Path | None, stop: Event
) -> tuple[Thumbnails, str]:
    """Return the thumbnails, or why there are none."""
    if samples.image_paths is None:
        return _NO_THUMBNAILS, samples.missing.get("images", "")
    root = data_root(samples.image_paths, data_folders(data, samples.stores, run.folder))
    if root is None:
        return (
            _NO_THUMBNAILS,
            f"The pictures were not found in {searched(data)}; name the data set's folder with --data.",
        )
    order = np.argsort(~rows.wrong[samples.shown], kind="stable").tolist()  # errors first
    made = make_thumbnails(root, samples.image_paths, samples.image_hashes, order, stop=stop)
    return made, f"{made.note}." if made.note else ""
