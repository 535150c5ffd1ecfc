"""Plans: everything that changes an embedding, gathered and hashed before the pass starts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache import Plan, RowTable, SpaceSpec, canonical_json, sha256_hex
from extract.choices import parts_of, readouts_by_modality, shared_modalities
from extract.data_sets import DataSet
from extract.images import DECODING
from extract.samples import IMAGE
from extract.source_table import SourceTable
from extract.sources import SourceOptions, encoding_names, row_table
from extract.texts import recipe_version
from extract.views import AUGMENTATIONS, describe

if TYPE_CHECKING:
    from extract.backbones import Backbone

DEFAULT_SHARD_ROWS = 256
#: Strings that are hashed at a time.
_RUN = 4096


@dataclass(frozen=True)
class PassOptions:
    """Settings of one pass.

    Attributes
    ----------
    out : Path
        Folder of the stores.
    readouts : tuple of str
        Which vectors are taken from each forward: a readout of every modality (``"pooled"``), or of one
        (``"image.layer:3"``).
    modalities : tuple of str
        Modalities to embed; empty takes the backbone's default.
    views : int
        Augmented views stored beside the clean vector of every row.
    augment : {"light", "strong"}
        Kind of the views.
    device : str
        Resolved, never "auto": "cpu", "cuda:0", or several with commas, one process each.
    precision : {"fp32", "fp16", "bf16"}
        Resolved, never "auto".
    batch_size : int or None
        Rows per forward on a GPU; None chooses by modality and device. On a CPU forwards have fixed shapes.
    max_memory : int or None
        Most bytes that the network and its work may take on the device.
    max_bad : float
        Largest share of rows, 0 to 1, that may have a status other than ok.
    shard_rows : int
        Rows per shard: the most that a crash can cost.
    replace : bool
        Write a new store over one with another fingerprint (rows that did not change are still reused).
    source : SourceOptions
        How texts are decoded and cleaned.
    command : tuple of str
        The words that start this pass, noted in its work folder so that it can be gone on with.
    """

    out: Path
    readouts: tuple[str, ...] = ("pooled",)
    modalities: tuple[str, ...] = ()
    views: int = 0
    augment: str = "light"
    device: str = "cpu"
    precision: str = "fp32"
    batch_size: int | None = None
    max_memory: int | None = None
    max_bad: float = 0.1
    shard_rows: int = DEFAULT_SHARD_ROWS
    replace: bool = False
    source: SourceOptions = field(default_factory=SourceOptions)
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        faults = []
        if self.batch_size is not None and self.batch_size < 1:
            faults.append(f"batch size {self.batch_size} must be at least 1")
        if not 0 <= self.max_bad <= 1:
            faults.append(f"max-bad {self.max_bad} must be a share between 0 and 1")
        if self.shard_rows < 1:
            faults.append(f"shard rows {self.shard_rows} must be at least 1")
        if self.views < 0:
            faults.append(f"views {self.views} must be at least 0")
        if self.augment not in AUGMENTATIONS:
            faults.append(f"augment '{self.augment}' is not one of {', '.join(AUGMENTATIONS)}")
        if faults:
            raise ValueError("; ".join(faults))

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that share the pass, at least one."""
        return tuple(self.device.split(","))


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


def make_plan(data_set: DataSet, sources: SourceTable, backbone: Backbone, options: PassOptions) -> PassPlan:
    """Gather everything that identifies the store that a pass would write.

    Raises
    ------
    DataError
        If the data set has none of the backbone's modalities.
    ValueError
        If a readout is not one of the backbone's.
    """
    modalities = shared_modalities(data_set, backbone, options.modalities)
    readouts = readouts_by_modality(backbone, modalities, options.readouts)
    encodings = encoding_names(sources)
    table = row_table(data_set, sources, modalities, encodings)
    spaces = tuple(
        _space(backbone, modality, readout, options)
        for modality in modalities
        for readout in readouts[modality]
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
    if options.views:
        identity["views"] = _views(options, modalities)
    plan = Plan(
        backbone=backbone.card.name,
        n_rows=len(table.ids),
        shard_rows=options.shard_rows,
        spaces=spaces,
        modalities=modalities,
        identity=identity,
    )
    target = options.out / f"{backbone.file_name}.h5"
    return PassPlan(
        target, modalities, plan, table, _meta(data_set, backbone, options, encodings, modalities)
    )


def _views(options: PassOptions, modalities: Sequence[str]) -> dict[str, Any]:
    """Describe the views; they are not part of a space's fingerprint, which is that of its clean vectors."""
    recipes = {modality: describe(options.augment, modality) for modality in modalities}
    return {"n": options.views, "augment": options.augment, "recipes": recipes}


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
    fingerprint = sha256_hex(canonical_json(identity))
    return SpaceSpec(f"{modality}.{readout}", width, "float32", fingerprint, views=options.views)


def _preprocessing(backbone: Backbone, modality: str) -> dict[str, Any]:
    settings = dict(backbone.preprocessing(modality))
    if IMAGE in parts_of(modality):
        settings["decoding"] = DECODING
    return settings


def _rows_digest(table: RowTable) -> str:
    """Hash what the manifest says: ids, labels, splits, groups, sources and cleaned texts, in order."""
    digest = hashlib.sha256()
    _add_json(digest, table.ids)
    for array in (table.label, table.split, table.group, table.source_sha256):
        digest.update(array.tobytes())
    if table.text is not None:
        _add_json(digest, table.text)
    return digest.hexdigest()


def _add_json(digest: hashlib._Hash, strings: Sequence[str]) -> None:
    """Add the canonical JSON of a list, a run of it at a time."""
    digest.update(b"[")
    for start in range(0, len(strings), _RUN):
        digest.update(b"," if start else b"")
        digest.update(canonical_json(list(strings[start : start + _RUN]))[1:-1])
    digest.update(b"]")


def _meta(
    data_set: DataSet,
    backbone: Backbone,
    options: PassOptions,
    encodings: Sequence[str],
    modalities: Sequence[str],
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
        "preprocessing": {m: _preprocessing(backbone, m) for m in modalities},
        "precision": options.precision,
        **({"views": _views(options, modalities)} if options.views else {}),
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
