"""Plans: everything that changes an embedding, gathered and hashed before the pass starts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache import Plan, RowTable, SpaceSpec, canonical_json, sha256_hex
from extract.images import DECODING
from extract.samples import IMAGE, DataError, DataSet
from extract.sources import Source, SourceOptions, encoding_names, row_table
from extract.texts import recipe_version

if TYPE_CHECKING:
    from extract.backbones import Backbone

DEFAULT_SHARD_ROWS = 256


@dataclass(frozen=True)
class PassOptions:
    """Settings of one pass.

    Attributes
    ----------
    out : Path
        Folder of the stores.
    readouts : tuple of str
        Which vectors are taken from each forward.
    device : {"cpu", "cuda", ...}
        Resolved, never "auto".
    precision : {"fp32", "fp16", "bf16"}
        Resolved, never "auto".
    batch_size : int or None
        Rows per forward; None chooses by modality and device.
    max_bad : float
        Largest share of rows, 0 to 1, that may have a status other than ok.
    shard_rows : int
        Rows per shard: the most that a crash can cost.
    replace : bool
        Write a new store over one with another fingerprint (rows that did not change are still reused).
    source : SourceOptions
        How texts are decoded and cleaned.
    """

    out: Path
    readouts: tuple[str, ...] = ("pooled",)
    device: str = "cpu"
    precision: str = "fp32"
    batch_size: int | None = None
    max_bad: float = 0.1
    shard_rows: int = DEFAULT_SHARD_ROWS
    replace: bool = False
    source: SourceOptions = field(default_factory=SourceOptions)

    def __post_init__(self) -> None:
        faults = []
        if self.batch_size is not None and self.batch_size < 1:
            faults.append(f"batch size {self.batch_size} must be at least 1")
        if not 0 <= self.max_bad <= 1:
            faults.append(f"max-bad {self.max_bad} must be a share between 0 and 1")
        if self.shard_rows < 1:
            faults.append(f"shard rows {self.shard_rows} must be at least 1")
        if faults:
            raise ValueError("; ".join(faults))


@dataclass(frozen=True)
class PassPlan:
    """What a pass will write: the cache's plan, the table of rows and the metadata.

    Attributes
    ----------
    target : Path
        The store's file.
    modalities : tuple of str
        Modalities that the backbone embeds and the data set has.
    plan : Plan
    table : RowTable
    meta : Mapping
        Caller's part of ``/meta``. It holds no clock times, so an interrupted pass ends in the same bytes.
    """

    target: Path
    modalities: tuple[str, ...]
    plan: Plan
    table: RowTable
    meta: Mapping[str, Any]


def make_plan(
    data_set: DataSet, sources: Sequence[Source], backbone: Backbone, options: PassOptions
) -> PassPlan:
    """Gather everything that identifies the store that a pass would write.

    Raises
    ------
    DataError
        If the data set has none of the backbone's modalities.
    ValueError
        If a readout is not one of the backbone's.
    """
    modalities = shared_modalities(data_set, backbone)
    encodings = encoding_names(sources)
    table = row_table(data_set, sources, modalities, encodings)
    spaces = tuple(
        _space(backbone, modality, readout, options)
        for modality in modalities
        for readout in _readouts(backbone, modality, options.readouts)
    )
    identity: dict[str, Any] = {
        "backbone": backbone.card.name,
        "weights_sha256": backbone.weights_sha256(),
        "revision": backbone.revision,
        "preprocessing": {modality: _preprocessing(backbone, modality) for modality in modalities},
        "precision": options.precision,
        "clean": {"recipe": options.source.clean, "version": recipe_version(options.source.clean)},
        "class_names": list(data_set.class_names),
        "rows": _rows_digest(table),
    }
    plan = Plan(
        backbone=backbone.card.name,
        n_rows=len(table.ids),
        shard_rows=options.shard_rows,
        spaces=spaces,
        modalities=modalities,
        identity=identity,
    )
    target = options.out / f"{backbone.file_name}.h5"
    return PassPlan(target, modalities, plan, table, _meta(data_set, backbone, options, encodings))


def shared_modalities(data_set: DataSet, backbone: Backbone) -> tuple[str, ...]:
    """Return the modalities that both have, in the backbone's order."""
    shared = tuple(m for m in backbone.card.modalities if m in data_set.modalities)
    if not shared:
        raise DataError(
            f"Backbone '{backbone.card.name}' embeds {' and '.join(backbone.card.modalities)}, but the data "
            f"set in '{data_set.root}' has only {' and '.join(data_set.modalities)}. Choose another "
            "--backbone."
        )
    return shared


def _readouts(backbone: Backbone, modality: str, asked: Sequence[str]) -> list[str]:
    for readout in asked:
        backbone.card.width(modality, readout)
    return list(dict.fromkeys(asked))


def _space(backbone: Backbone, modality: str, readout: str, options: PassOptions) -> SpaceSpec:
    """Describe one space. Its fingerprint leaves the data out, so other data sets can reuse its vectors."""
    identity = {
        "weights_sha256": backbone.weights_sha256(),
        "preprocessing": _preprocessing(backbone, modality),
        "readout": readout,
        "precision": options.precision,
        "stored": "float32",
    }
    width = backbone.card.width(modality, readout)
    return SpaceSpec(f"{modality}.{readout}", width, "float32", sha256_hex(canonical_json(identity)))


def _preprocessing(backbone: Backbone, modality: str) -> dict[str, Any]:
    settings = dict(backbone.preprocessing(modality))
    if modality == IMAGE:
        settings["decoding"] = DECODING
    return settings


def _rows_digest(table: RowTable) -> str:
    """Hash what the manifest says: ids, labels, splits, groups, sources and cleaned texts, in order."""
    digest = hashlib.sha256()
    digest.update(canonical_json(list(table.ids)))
    for array in (table.label, table.split, table.group, table.source_sha256):
        digest.update(array.tobytes())
    if table.text is not None:
        digest.update(canonical_json(list(table.text)))
    return digest.hexdigest()


def _meta(
    data_set: DataSet, backbone: Backbone, options: PassOptions, encodings: Sequence[str]
) -> dict[str, Any]:
    return {
        "class_names": list(data_set.class_names),
        "encodings": list(encodings),
        "card": backbone.card.as_dict(),
        "weights": {
            "sha256": backbone.weights_sha256(),
            "revision": backbone.revision,
            "source": backbone.card.source,
        },
        "preprocessing": {m: _preprocessing(backbone, m) for m in shared_modalities(data_set, backbone)},
        "precision": options.precision,
        "clean": {"recipe": options.source.clean, "version": recipe_version(options.source.clean)},
        "data": {"layout": data_set.layout, "notes": dict(data_set.notes)},
        "versions": library_versions(),
        # Clock times would make two equal passes differ; they are kept in the pass log beside the store.
        "times": {"pass_log": f"{backbone.file_name}.pass.json"},
    }


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that take part in a pass."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in (
        "embedonce",
        "torch",
        "torchvision",
        "transformers",
        "tokenizers",
        "pillow",
        "numpy",
        "h5py",
    ):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
