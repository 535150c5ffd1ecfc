"""``embedonce predict``: answers from a run, for stored rows, a data set, or one text and image.

Raw inputs go the same way as stored ones: a pass writes a small store into a temporary folder, and that store
is read like any other. So a prediction cannot depend on the way in.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cache import FeatureStore, align
from extract import (
    DataSet,
    PassOptions,
    Sample,
    SourceOptions,
    backbone_names,
    open_backbone,
    read_data_set,
    resolve_device,
    run_pass,
)
from pipelines.console import say, table, tell
from pipelines.errors import RunError, UsageError
from pipelines.extract import PassPrinter
from pipelines.matrices import split_spec
from pipelines.runs import CONFIG, MODEL, read_json, write_predictions

if TYPE_CHECKING:
    from extract import Backbone
    from heads import LoadedModel


@dataclass(frozen=True)
class PredictSettings:
    """Settings of ``embedonce predict``, as on the command line."""

    run: Path
    features: tuple[str, ...] = ()
    data: Path | None = None
    text: str | None = None
    image: Path | None = None
    out: Path = Path("predictions.csv")
    device: str = "auto"
    weights: Mapping[str, Path] = field(default_factory=dict)
    columns: Mapping[str, str] | None = None
    encodings: tuple[str, ...] = ("utf-8", "gb18030", "cp1252")

    def __post_init__(self) -> None:
        ways = [
            name
            for name, given in (
                ("--features", self.features),
                ("--data", self.data is not None),
                ("--text/--image", self.text is not None or self.image is not None),
            )
            if given
        ]
        if len(ways) > 1:
            raise UsageError(f"{' and '.join(ways)} are different inputs; give one of them.")


@dataclass(frozen=True)
class Predictions:
    """Answers of a run.

    Attributes
    ----------
    ids : tuple of str
    tags : tuple of str
        The most probable class.
    probabilities : ndarray of shape (n, n_classes), float64
    class_names : tuple of str
    notes : tuple of str
        Blocks that were missing and imputed, and the like.
    """

    ids: tuple[str, ...]
    tags: tuple[str, ...]
    probabilities: np.ndarray
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Rows:
    """Rows to predict: one matrix per needed space (None: the store is not there)."""

    ids: tuple[str, ...]
    X: np.ndarray
    notes: tuple[str, ...]


def predict(settings: PredictSettings) -> Predictions:
    """Predict what `settings` name with the model of a run.

    Raises
    ------
    RunError
        If the run folder is incomplete, or its stores have changed since.
    UsageError
        If the given stores lack a space that the run needs.
    """
    from heads import load_model

    config = read_json(settings.run / CONFIG)
    if "spaces" not in config:
        raise RunError(
            f"'{settings.run / CONFIG}' names no spaces; it is not the config of a tune or train run."
        )
    model = load_model(settings.run / MODEL)
    if settings.features:
        rows = _stored_rows(
            _find_spaces(settings.features, config["spaces"]), config["spaces"], unlabelled_only=False
        )
    elif settings.data is not None:
        data_set = read_data_set(settings.data, columns=settings.columns, encodings=settings.encodings)
        for name, note in data_set.notes.items():
            tell(f"{name}: {note}")
        rows = _embedded_rows(data_set, config["spaces"], settings)
    elif settings.text is not None or settings.image is not None:
        rows = _embedded_rows(_one_sample(settings), config["spaces"], settings)
    else:
        rows = _own_unlabelled_rows(settings.run, config["spaces"])
    return _answer(model, rows)


def _answer(model: LoadedModel, rows: _Rows) -> Predictions:
    if not len(rows.ids):
        return Predictions((), (), np.zeros((0, len(model.classes))), model.classes, rows.notes)
    probabilities = model.predict_proba(rows.X)
    tags = tuple(model.classes[code] for code in probabilities.argmax(axis=1))
    return Predictions(rows.ids, tags, probabilities, model.classes, rows.notes)


def _own_unlabelled_rows(run: Path, spaces: Sequence[Mapping[str, Any]]) -> _Rows:
    files = {}
    for space in spaces:
        path = Path(space["path"])
        if not path.exists():
            raise RunError(
                f"Run '{run}' used store '{path}', which is not there (relative to the current folder). Run "
                "from the folder where it was tuned, or name the stores with --features."
            )
        with FeatureStore.open(path) as store:
            if store.fingerprint != space["store_fingerprint"]:
                raise RunError(
                    f"Store '{path}' has changed since run '{run}' was made (fingerprint "
                    f"{store.fingerprint[:12]}, the run used {space['store_fingerprint'][:12]}). Tune "
                    "again, or name stores with --features to predict all their rows."
                )
        files[space["block"]] = path
    return _stored_rows(files, spaces, unlabelled_only=True)


def _find_spaces(specs: Sequence[str], spaces: Sequence[Mapping[str, Any]]) -> dict[str, Path]:
    """Return block -> store file; a space is recognised by its fingerprint, not by its file's name."""
    offered: dict[str, Path] = {}
    names = []
    for spec in specs:
        path, _ = split_spec(spec)
        with FeatureStore.open(path) as store:
            for name in store.spaces:
                offered.setdefault(store.select(name).fingerprint, path)
                names.append(f"{path}:{name}")
    missing = [space for space in spaces if space["space_fingerprint"] not in offered]
    if missing:
        needed = ", ".join(
            f"'{s['space']}' of {s['backbone']} ({s['precision']}, cleaning {s['clean'] or 'none'})"
            for s in missing
        )
        raise UsageError(
            f"The run needs {needed}, which the given stores do not hold (they hold {', '.join(names)}). "
            "Extract with that backbone and the same settings, and add its store with --features."
        )
    return {space["block"]: offered[space["space_fingerprint"]] for space in spaces}


def _stored_rows(
    files: Mapping[str, Path], spaces: Sequence[Mapping[str, Any]], *, unlabelled_only: bool
) -> _Rows:
    """Read the needed spaces of aligned stores; a block without a file is NaN, to be imputed."""
    paths = list(dict.fromkeys(files.values()))
    stores = [FeatureStore.open(path) for path in paths]
    try:
        aligned = align(stores)
        columns = []
        for space in spaces:
            path = files.get(space["block"])
            if path is None:
                columns.append(np.full((len(aligned.ids), space["width"]), np.nan, dtype=np.float32))
                continue
            at = paths.index(path)
            x, valid = aligned.take(at, _space_name(stores[at], space))
            x = np.array(x, dtype=np.float32)
            x[~valid] = np.nan
            columns.append(x)
        dropped = [
            f"{n:,} rows of '{path}' are not in every store and are left out"
            for path, n in aligned.dropped.items()
            if n
        ]
        keep = np.arange(len(aligned.ids))
        if unlabelled_only:
            keep = np.flatnonzero(np.asarray(aligned.labels) < 0)
        ids = tuple(aligned.ids[i] for i in keep)
        return _Rows(ids, np.concatenate(columns, axis=1)[keep], (*dropped, *_imputed(columns, spaces, keep)))
    finally:
        for store in stores:
            store.close()


def _space_name(store: FeatureStore, space: Mapping[str, Any]) -> str:
    return next(name for name in store.spaces if store.select(name).fingerprint == space["space_fingerprint"])


def _imputed(
    columns: Sequence[np.ndarray], spaces: Sequence[Mapping[str, Any]], keep: np.ndarray
) -> list[str]:
    notes = []
    for x, space in zip(columns, spaces, strict=True):
        n_missing = int(np.isnan(x[keep, 0]).sum())
        if n_missing:
            notes.append(
                f"{n_missing:,} of {len(keep):,} rows have no {space['block']}; the training mean stands in "
                "for it"
            )
    return notes


def _one_sample(settings: PredictSettings) -> DataSet:
    modalities = tuple(
        m for m, given in (("text", settings.text), ("image", settings.image)) if given is not None
    )
    if settings.image is not None and not settings.image.is_file():
        raise FileNotFoundError(f"Image '{settings.image}' does not exist or is not a file.")
    name = settings.image.name if settings.image is not None else ""
    sample = Sample(id="input", text=settings.text, image_path=settings.image, image_name=name)
    return DataSet(Path(), "input", (sample,), modalities)


def _embedded_rows(
    data_set: DataSet, spaces: Sequence[Mapping[str, Any]], settings: PredictSettings
) -> _Rows:
    """Embed a data set with the run's backbones into a temporary folder, and read it from there."""
    files: dict[str, Path] = {}
    with tempfile.TemporaryDirectory(prefix="embedonce-predict-") as folder:
        for number, (key, members) in enumerate(_by_backbone(spaces).items()):
            wanted = [s for s in members if s["space"].split(".")[0] in data_set.modalities]
            if not wanted:
                continue
            path = _pass(key, wanted, data_set, Path(folder) / str(number), settings)
            files.update({space["block"]: path for space in wanted})
        if not files:
            needed = ", ".join(space["space"] for space in spaces)
            raise UsageError(
                f"The run was trained on {needed}; the input has only {' and '.join(data_set.modalities)}."
            )
        return _stored_rows(files, spaces, unlabelled_only=False)


_PassKey = tuple[str, str, str]


def _by_backbone(spaces: Sequence[Mapping[str, Any]]) -> dict[_PassKey, list[Mapping[str, Any]]]:
    grouped: dict[_PassKey, list[Mapping[str, Any]]] = {}
    for space in spaces:
        grouped.setdefault((space["backbone"], space["clean"], space["precision"]), []).append(space)
    return grouped


def _pass(
    key: _PassKey,
    spaces: Sequence[Mapping[str, Any]],
    data_set: DataSet,
    out: Path,
    settings: PredictSettings,
) -> Path:
    name, clean, precision = key
    if not clean or not precision:
        raise UsageError(
            f"Space '{spaces[0]['space']}' was imported, so embedonce cannot embed new inputs for it. "
            "Import their vectors into a store and name it with --features."
        )
    options = PassOptions(
        out=out,
        readouts=tuple(dict.fromkeys(space["space"].split(".", 1)[1] for space in spaces)),
        device=resolve_device(settings.device),
        precision=precision,
        max_bad=1.0,  # a broken input is predicted from its other modality, and listed
        source=SourceOptions(clean=clean, encodings=settings.encodings),
    )
    printer = PassPrinter()
    try:
        report = run_pass(data_set, _open_again(name, settings), options, on_progress=printer)
    finally:
        printer.close()
    with FeatureStore.open(report.path) as store:
        made = {space: store.select(space).fingerprint for space in store.spaces}
    for space in spaces:
        if made[space["space"]] != space["space_fingerprint"]:
            raise RunError(
                f"Backbone '{name}' on this machine does not make the space '{space['space']}' that the run "
                "was trained on (its weights or preprocessing differ). Pass the right weights with "
                f"--weights {name}=DIR."
            )
    return report.path


def _open_again(name: str, settings: PredictSettings) -> Backbone:
    """Open the backbone that a store names; one that came from a folder needs that folder again."""
    weights = settings.weights.get(name)
    if name in backbone_names() or name.startswith("hf:"):
        return open_backbone(name, weights=weights)
    if weights is None:
        raise UsageError(
            f"The run's backbone '{name}' came from a folder of weights; say where that folder is with "
            f"--weights {name}=DIR."
        )
    return open_backbone(str(weights.absolute()))


def print_predictions(predictions: Predictions, settings: PredictSettings, *, as_json: bool) -> None:
    """Write the answers, or print them when there is a single raw input."""
    for note in predictions.notes:
        tell(f"note: {note}")
    single = settings.text is not None or settings.image is not None
    if single:
        probabilities = dict(
            zip(predictions.class_names, map(float, predictions.probabilities[0]), strict=True)
        )
        if as_json:
            say(json.dumps({"tag": predictions.tags[0], "probabilities": probabilities}, ensure_ascii=False))
            return
        say(table([[name, f"{p:.4f}"] for name, p in probabilities.items()], ["class", "probability"]))
        say(predictions.tags[0])
        return
    write_predictions(settings.out, predictions.ids, predictions.tags)
    counts = {name: predictions.tags.count(name) for name in predictions.class_names}
    if as_json:
        say(
            json.dumps(
                {"out": str(settings.out), "n": len(predictions.ids), "counts": counts}, ensure_ascii=False
            )
        )
        return
    if not predictions.ids:
        tell(
            "The run's stores hold no unlabelled rows; the file has only its header. Name inputs with "
            "--features or --data."
        )
    say(table([[name, count] for name, count in counts.items()], ["predicted", "rows"]))
    say(str(settings.out))
