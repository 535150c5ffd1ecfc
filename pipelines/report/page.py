"""The page of one run: which sections it has, and what each is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cache import write_file
from pipelines.report import gallery, tables
from pipelines.report.charts import Chart
from pipelines.report.data_charts import class_chart, length_chart, size_chart, size_sentence
from pipelines.report.evidence import Evidence, OutOfFold, read_evidence
from pipelines.report.grids import Grid, confusion_grids
from pipelines.report.maps import SampleMap, sample_maps
from pipelines.report.markup import Section, figure, figures, no_rows, page, why
from pipelines.report.row_charts import (
    density_charts,
    precision_recall_chart,
    reliability_charts,
    roc_chart,
    shown_classes,
)
from pipelines.report.samples import Samples, find_samples
from pipelines.report.score_charts import history_chart, importance_charts, score_chart
from pipelines.report.thumbnails import Thumbnails, data_root, make_thumbnails
from pipelines.report.training_charts import fusion_epoch_chart, fusion_sample_chart, learning_charts
from pipelines.runs import OUT_OF_FOLD, TRIALS
from pipelines.training_trace import TRAINING

_QUICK = "Not drawn while a run is made, because it takes seconds; embedonce report --run RUN adds it."
_NO_THUMBNAILS = Thumbnails((), (), "")

Figure = Chart | Grid | SampleMap


@dataclass(frozen=True)
class Report:
    """A page that was written.

    Attributes
    ----------
    path : Path
    n_bytes : int
    figures : list of Chart, Grid or SampleMap
        In the page's order, for `paper.write_figures`.
    notes : list of str
        One sentence for each thing that the page lacks.
    """

    path: Path
    n_bytes: int
    figures: list[Figure]
    notes: list[str] = field(default_factory=list)


def write_report(
    folder: Path, target: Path, *, title: str, thorough: bool = False, data: Path | None = None
) -> Report:
    """Write the page of a tune or train run.

    Parameters
    ----------
    folder, target : Path
        The run folder, and the file to write.
    title : str
    thorough : bool
        Also draw what takes seconds: maps and thumbnails.
    data : Path, optional
        The data set's folder, where the pictures lie. By default it is looked for around the stores and the
        run, and in the current folder.

    Returns
    -------
    Report

    Raises
    ------
    RunError
        If the folder has no ``metrics.json`` or ``config.json``. Whatever else is missing (another file, a
        store, the pictures) leaves out its section, which then says why.
    """
    run = read_evidence(folder, title=title)
    maker = _PageMaker(run, thorough=thorough, data=data)
    sections = maker.sections()
    content = page(title, tables.lead(run.metrics), sections, maker.payload(), maker.thumbnails.sheets)
    write_file(target, content)
    return Report(target, len(content), maker.figures, maker.notes)


class _PageMaker:
    """Makes the sections in order, and remembers the figures and what is missing."""

    def __init__(self, run: Evidence, *, thorough: bool, data: Path | None) -> None:
        self.run, self.thorough = run, thorough
        self.figures: list[Figure] = []
        self.notes = [text for name, text in run.missing.items() if name != TRAINING]
        self.samples = None if run.rows is None else find_samples(run, run.rows, with_features=thorough)
        self.thumbnails, self.no_pictures = _NO_THUMBNAILS, ""
        if run.rows is not None and self.samples is not None:
            self.thumbnails, self.no_pictures = _pictures(
                run, run.rows, self.samples, thorough=thorough, data=data
            )
            self.notes += dict.fromkeys([*self.samples.missing.values()][:1])
        self.maps: list[SampleMap] = []

    def sections(self) -> list[Section]:
        """Return every section."""
        metrics = self.run.metrics
        after = [Section("after", "After training", tables.after(metrics))] if "after" in metrics else []
        return [
            Section("scores", "Scores", self._drawn([score_chart(metrics)], tables.scores(metrics))),
            Section("data", "Data", self._data()),
            Section("search", "Search", self._search()),
            Section("training", "Training", self._training()),
            Section("confusion", "Confusion", self._confusion()),
            Section("curves", "ROC and PR", self._per_row(self._curves)),
            Section("confidence", "Confidence", self._per_row(self._confidence)),
            *after,
            Section("maps", "Maps", self._per_row(self._maps)),
            Section("errors", "Errors", self._per_row(self._errors)),
            Section("reproduce", "How to reproduce", tables.reproduce(self.run.config, self.run.title)),
        ]  # fmt: skip

    def payload(self) -> dict[str, Any]:
        """Return what the script reads."""
        if self.run.rows is None or self.samples is None:
            return no_rows()
        return gallery.payload(self.run.rows, self.samples, self.thumbnails, self.maps)

    def _drawn(self, items: Sequence[Chart | Grid], beside: str = "") -> str:
        self.figures += items
        return figures(items, beside)

    def _per_row(self, make: Any) -> str:
        """Make a section from out-of-fold rows, or say why there are none."""
        return make(self.run.rows) if self.run.rows is not None else why(self.run.missing[OUT_OF_FOLD])

    def _data(self) -> str:
        charts = [class_chart(self.run.metrics["per_class"])]
        if self.samples is None:
            return self._drawn(charts) + why(self.run.missing[OUT_OF_FOLD])
        reasons = dict.fromkeys(self.samples.missing.values())
        if self.samples.texts is not None:
            charts.append(length_chart(self.samples.texts))
        if self.samples.sizes is not None:
            sizes = size_chart(self.samples.sizes)
            charts += [sizes] if sizes is not None else []
            reasons |= {} if sizes is not None else {size_sentence(self.samples.sizes): None}
        if self.no_pictures:
            reasons[self.no_pictures] = None
        body = tables.data(self.run.metrics, self.samples.n_unlabelled) + self._drawn(charts)
        if self.run.rows is not None and (self.samples.texts is not None or self.thumbnails.sheets):
            body += gallery.examples(self.run.rows, self.samples, self.thumbnails)
        return body + "".join(map(why, reasons))

    def _search(self) -> str:
        trials = self.run.trials
        if not trials:
            return why(self.run.missing[TRIALS])
        history = history_chart(trials, self.run.metrics["metric"]) if len(trials) > 1 else None
        if history is None:
            return why("One configuration was asked for, so there is no search to show.") + tables.search(
                trials, self.run.metrics
            )
        charts = [history, *importance_charts(trials)]
        few = (
            ""
            if len(charts) > 1
            else why("The importance of hyper-parameters needs 12 finished trials of one head.")
        )
        return self._drawn(charts) + few + tables.search(trials, self.run.metrics)

    def _training(self) -> str:
        if self.run.training is None:
            return why(self.run.missing[TRAINING])
        charts = learning_charts(self.run.training)
        by_epoch = fusion_epoch_chart(self.run.training)
        charts += [by_epoch] if by_epoch is not None else []
        charts += [fusion_sample_chart(self.run.fusion)] if self.run.fusion else []
        several = len(self.run.training["networks"])
        note = why(f"The first of {several} networks is drawn.") if several > 1 else ""
        if all(chart.key != "learning-f1" for chart in charts):
            note += why("There were too few rows for an inner validation split: every row was learnt from.")
        plain = why(f"Fusion '{self.run.training['fusion']}' gives blocks no weights that could be drawn.")
        return self._drawn(charts) + note + ("" if by_epoch is not None else plain)

    def _confusion(self) -> str:
        by_class = tables.classes(self.run.metrics)
        if self.run.rows is None:
            return why(self.run.missing[OUT_OF_FOLD]) + by_class
        return self._drawn(confusion_grids(self.run.rows)) + by_class

    def _curves(self, rows: OutOfFold) -> str:
        if not shown_classes(rows):
            return why("There is one class only, so there is nothing to tell apart.")
        return self._drawn([roc_chart(rows), precision_recall_chart(rows)])

    def _confidence(self, rows: OutOfFold) -> str:
        words = (
            "<p>How probable each class is held, out of fold. The less the two shapes overlap, the better "
            "the class is told from the others.</p>"
        )
        return words + self._drawn(density_charts(rows)) + self._drawn(reliability_charts(rows))

    def _maps(self, rows: OutOfFold) -> str:
        if not self.thorough:
            return why(_QUICK)
        assert self.samples is not None  # it was looked for when the rows were read
        shown = self.samples.shown
        self.maps = sample_maps(self.samples.features, rows.probabilities[shown], rows.y[shown], rows.classes)
        if not self.maps:
            return why("There are too few rows for a map.")
        self.figures += self.maps
        drawn = "".join(
            figure(m.key, m.title, f'<canvas data-map="{k}" role="img" aria-label="map"></canvas>', m.caption)
            for k, m in enumerate(self.maps)
        )
        gone = "" if self.samples.features else why(self.samples.missing["stores"])
        return gallery.map_controls(rows.classes) + f'<div class="figures">{drawn}</div>' + gone

    def _errors(self, rows: OutOfFold) -> str:
        assert self.samples is not None
        return gallery.errors(rows, self.samples) + (why(self.no_pictures) if self.no_pictures else "")


def _pictures(
    run: Evidence, rows: OutOfFold, samples: Samples, *, thorough: bool, data: Path | None
) -> tuple[Thumbnails, str]:
    """Return the thumbnails, or why there are none."""
    if samples.image_paths is None:
        return _NO_THUMBNAILS, samples.missing.get("images", "")
    if not thorough:
        return _NO_THUMBNAILS, "Pictures: " + _QUICK[0].lower() + _QUICK[1:]
    above = [folder for store in samples.store_folders for folder in (store.parent, store)]
    roots = [data] if data is not None else [*above, *run.folder.resolve().parents[:3], Path()]
    root = data_root(samples.image_paths, roots)
    if root is None:
        where = f"'{data}'" if data is not None else "the current folder or around the stores and the run"
        return (
            _NO_THUMBNAILS,
            f"The pictures were not found in {where}; name the data set's folder with --data.",
        )
    order = np.argsort(~rows.wrong[samples.shown], kind="stable").tolist()  # errors first
    made = make_thumbnails(root, samples.image_paths, samples.image_hashes, order)
    return made, f"{made.note}." if made.note else ""
