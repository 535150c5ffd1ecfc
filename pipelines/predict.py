"""``embedonce predict``: answers from a run, for stored rows, a data set, or one text and image."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from extract import DataSet, Sample, read_data_set
from heads.large_rows import read_ahead
from pipelines.applied_steps import answer
from pipelines.console import Progress, duration, say, table, tell
from pipelines.errors import UsageError, unwritable
from pipelines.prediction_blocks import PredictionRows, rows_to_predict
from pipelines.prediction_rows import (
    EmbeddingOptions,
    embedded_rows,
    find_spaces,
    own_unlabelled_rows,
    with_terms,
)
from pipelines.runs import CONFIG, MODEL, check_config, read_json, write_predictions

if TYPE_CHECKING:
    from heads import LoadedModel
    from pipelines.stored_rows import StoredRows

#: Rows answered at a time, as float32. With 32 MiB answers took as long, and 60 MiB more memory.
_PART_BYTES = 8 << 20

#: Parts are multiples of this, which the MLP computes together: in parts it answers as it would at once.
_PART_ROWS = 1024


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

    @property
    def is_one_input(self) -> bool:
        """Whether the answer is for one text, picture or both, and printed."""
        return self.text is not None or self.image is not None


@dataclass(frozen=True)
class Predictions:
    """Answers of a run.

    Attributes
    ----------
    ids : tuple of str
    tags : tuple of str
        The most probable class, unless the run was made with a decision.
    probabilities : ndarray of shape (n, n_classes), float64
        After the run's calibration, if it has one.
    class_names : tuple of str
    notes : tuple of str
        Blocks that were missing and imputed, and the like.
    """

    ids: tuple[str, ...]
    tags: tuple[str, ...]
    probabilities: np.ndarray
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def check_out(settings: PredictSettings) -> None:
    """Refuse a file that cannot be written, before all rows are answered.

    Raises
    ------
    UsageError
        If ``out`` is a folder, lies in none, or in one that may not be written.
    """
    if settings.is_one_input:
        return
    if fault := unwritable(settings.out):
        raise UsageError(f"{fault}.")


def predict(settings: PredictSettings) -> Predictions:
    """Predict what `settings` name with the model of a run.

    Features are read part by part; ids and answers of all rows are kept.

    Raises
    ------
    RunError
        If the run folder is incomplete, or its stores have changed since.
    UsageError
        If the given stores lack a space that the run needs.
    """
    from heads import load_model

    config = read_json(settings.run / CONFIG)
    check_config(config, settings.run / CONFIG)
    model = load_model(settings.run / MODEL)
    spaces = with_terms(config["spaces"], model.extra)
    with ExitStack() as stores:
        return _answer(model, _asked_rows(settings, spaces, stores))


def _asked_rows(
    settings: PredictSettings, spaces: Sequence[Mapping[str, Any]], stores: ExitStack
) -> PredictionRows:
    """Find the rows that the settings name; raw inputs are embedded."""
    how = EmbeddingOptions(settings.device, settings.weights, settings.encodings)
    if settings.features:
        files = find_spaces(settings.features, spaces)
        return rows_to_predict(files, spaces, unlabelled_only=False, stay_open=stores)
    if settings.data is not None:
        data_set = read_data_set(settings.data, columns=settings.columns, encodings=settings.encodings)
        for name, note in data_set.notes.items():
            tell(f"{name}: {note}")
        return embedded_rows(data_set, spaces, how, stores)
    if settings.is_one_input:
        return embedded_rows(_one_sample(settings), spaces, how, stores)
    return own_unlabelled_rows(settings.run, spaces, stores)


def _answer(model: LoadedModel, rows: PredictionRows) -> Predictions:
    """Answer part by part; the next part is read while one is worked on."""
    n_rows, width = rows.X.shape
    step = _PART_ROWS * max(1, _PART_BYTES // (4 * width * _PART_ROWS))
    parts = [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]
    probabilities = np.empty((n_rows, len(model.classes)))
    tags: list[str] = []
    if len(parts) > 1:  # all rows at once are read in the store's own order
        rows.X.put_in_order()
    progress = Progress("predicting", "rows")
    for places, X in zip(parts, read_ahead(partial(_read, rows.X, part) for part in parts), strict=True):
        probabilities[places], positions = answer(model, X)
        tags += [model.classes[position] for position in positions]
        progress.update(places.stop, n_rows)
    progress.close()
    return Predictions(rows.ids, tuple(tags), probabilities, model.classes, rows.notes)


def _read(X: StoredRows, part: slice) -> np.ndarray:
    return X[part].astype(np.float32, copy=False)


def _one_sample(settings: PredictSettings) -> DataSet:
    modalities = tuple(
        m for m, given in (("text", settings.text), ("image", settings.image)) if given is not None
    )
    if settings.image is not None and not settings.image.is_file():
        raise FileNotFoundError(f"Image '{settings.image}' does not exist or is not a file.")
    name = settings.image.name if settings.image is not None else ""
    sample = Sample(id="input", text=settings.text, image_path=settings.image, image_name=name)
    return DataSet(Path(), "input", (sample,), modalities)


def print_predictions(
    predictions: Predictions, settings: PredictSettings, *, seconds: float, as_json: bool
) -> None:
    """Write the answers, or print them when there is a single raw input."""
    for note in predictions.notes:
        tell(f"note: {note}")
    if settings.is_one_input:
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
    tell(f"{len(predictions.ids):,} rows predicted in {duration(seconds)}.")
    say(str(settings.out))
