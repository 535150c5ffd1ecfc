"""The page of one run: which sections it has, and what each is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cache import write_file
from pipelines.report import gallery, tables
from pipelines.report.charts import Chart
from pipelines.report.data_charts import class_chart, length_chart, size_chart, size_sentence
from pipelines.report.drawn_rows import QUICK, DrawnRows, draw_rows, leave_undrawn
from pipelines.report.evidence import CASES, SLICES, Evidence, OutOfFold, read_evidence
from pipelines.report.grids import Grid, attention_grid, confusion_grids
from pipelines.report.maps import SampleMap
from pipelines.report.markup import Section, figures, map_figures, no_rows, page, why
from pipelines.report.measurements import ROBUSTNESS
from pipelines.report.robustness_charts import robustness_charts, robustness_table
from pipelines.report.row_charts import (
    density_charts,
    precision_recall_chart,
    reliability_charts,
    roc_chart,
    shown_classes,
)
from pipelines.report.samples import find_samples
from pipelines.report.score_charts import history_chart, importance_charts, score_chart
from pipelines.report.slice_charts import slice_chart, slice_table
from pipelines.report.training_charts import fusion_epoch_chart, fusion_sample_chart, learning_charts
from pipelines.runs import MODEL, OUT_OF_FOLD, TRIALS
from pipelines.training_trace import FUSION_WEIGHTS, TRAINING

_UMAP = "UMAP maps are drawn with --umap (extra 'umap'; its library takes half a minute to start)."

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
    folder: Path,
    target: Path,
    *,
    title: str,
    thorough: bool = False,
    data: Path | None = None,
    with_umap: bool = False,
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
    with_umap : bool
        Also draw maps by UMAP, with the extra ``umap``; its library takes half a minute to start.

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
    maker = _PageMaker(run, thorough=thorough, data=data, with_umap=with_umap)
    sections = maker.sections()
    content = page(
        title, tables.lead(run.metrics), sections, maker.payload(), maker.drawn_rows.thumbnails.sheets
    )
    write_file(target, content)
    return Report(target, len(content), maker.figures, maker.notes)


class _PageMaker:
    """Makes the sections in order, and remembers the figures and what is missing."""

    def __init__(self, run: Evidence, *, thorough: bool, data: Path | None, with_umap: bool) -> None:
        self.run, self.thorough, self.with_umap = run, thorough, with_umap
        self.figures: list[Figure] = []
        # A run may lack these by right; what is there and cannot be read is a fault.
        by_right = {name: run.folder / name for name in (ROBUSTNESS, CASES, SLICES)}
        by_right[TRAINING] = run.folder / MODEL / TRAINING
        self.notes = [
            text for name, text in run.missing.items() if name not in by_right or by_right[name].exists()
        ]
        self.samples = None if run.rows is None else find_samples(run, run.rows, with_features=thorough)
        self.drawn_rows = DrawnRows()
        if run.rows is not None and self.samples is not None:
            self.notes += dict.fromkeys([*self.samples.missing.values()][:1])
            self.drawn_rows = (
                draw_rows(run, run.rows, self.samples, data=data, with_umap=with_umap)
                if thorough
                else leave_undrawn(self.samples)
            )
            if thorough and self.samples.image_paths is not None and self.drawn_rows.no_pictures:
                self.notes.append(self.drawn_rows.no_pictures)

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
            Section("robustness", "Robustness", self._robustness()),
            Section("reproduce", "How to reproduce", tables.reproduce(self.run.config, self.run.title)),
        ]  # fmt: skip

    def payload(self) -> dict[str, Any]:
        """Return what the script reads."""
        if self.run.rows is None or self.samples is None:
            return no_rows()
        return gallery.payload(
            self.run.rows,
            self.samples,
            self.drawn_rows.thumbnails,
            self.drawn_rows.maps,
            fusion=self.run.fusion or {},
            cases=self.run.cases or (),
            slice_names=[line["name"] for line in self.run.slices or ()],
        )

    def _drawn(self, items: Sequence[Chart | Grid], beside: str = "") -> str:
        self.figures += items
        return figures(items, beside)

    def _per_row(self, make: Callable[[OutOfFold], str]) -> str:
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
        if self.drawn_rows.no_pictures:
            reasons[self.drawn_rows.no_pictures] = None
        body = tables.data(self.run.metrics, self.samples.n_unlabelled) + self._drawn(charts)
        if self.run.rows is not None and (
            self.samples.texts is not None or self.drawn_rows.thumbnails.sheets
        ):
            body += gallery.examples(self.run.rows, self.samples, self.drawn_rows.thumbnails)
        return body + "".join(map(why, reasons))

    def _search(self) -> str:
        trials = self.run.trials
        if not trials:
            return why(self.run.missing[TRIALS])
        history = history_chart(trials, self.run.metrics["metric"]) if len(trials) > 1 else None
        if history is None:
            one = why("One configuration was asked for, so there is no search to show.")
            return one + tables.search(trials, self.run.metrics)
        charts = [history, *importance_charts(trials)]
        few = (
            ""
            if len(charts) > 1
            else why("The importance of hyper-parameters needs 12 finished trials of one head.")
        )
        words = tables.choice(self.run.metrics)
        return words + self._drawn(charts) + few + tables.search(trials, self.run.metrics)

    def _training(self) -> str:
        if self.run.training is None:
            return why(self.run.missing[TRAINING])
        charts: list[Chart | Grid] = [*learning_charts(self.run.training)]
        by_epoch = fusion_epoch_chart(self.run.training)
        charts += [by_epoch] if by_epoch is not None else []
        charts += [fusion_sample_chart(self.run.fusion)] if self.run.fusion else []
        if self.drawn_rows.layers.attention is not None:
            charts.append(attention_grid(self.run.training["blocks"], self.drawn_rows.layers.attention))
        several = len(self.run.training["networks"])
        note = why(f"The first of {several} networks is drawn.") if several > 1 else ""
        if all(chart.key != "learning-f1" for chart in charts):
            note += why(
                "No inner validation split: every row was learnt from, because a search chose the number of "
                "epochs over the folds, or the rows were too few."
            )
        plain = why(f"Fusion '{self.run.training['fusion']}' gives blocks no weights that could be drawn.")
        note += why(self.run.missing[FUSION_WEIGHTS]) if FUSION_WEIGHTS in self.run.missing else ""
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
            return why(QUICK)
        assert self.samples is not None  # it was looked for when the rows were read
        maps = self.drawn_rows.maps
        if not maps:
            return why("There are too few rows for a map.")
        self.figures += maps
        gone = [] if self.samples.features else [self.samples.missing["stores"]]
        gone += [self.drawn_rows.layers.missing] if self.drawn_rows.layers.missing else []
        gone += [] if self.with_umap else [_UMAP]
        reasons = "".join(map(why, dict.fromkeys(gone)))
        return gallery.map_controls(rows.classes) + map_figures(maps) + reasons

    def _robustness(self) -> str:
        robustness = self.run.robustness
        if robustness is None:
            return why(self.run.missing[ROBUSTNESS])
        words = (
            f"<p>{robustness['rows']:,} rows embedded again from worse inputs, and scored by models that "
            "have not learnt from them. Bands and bars are 95 % intervals.</p>"
        )
        return words + self._drawn(robustness_charts(robustness)) + robustness_table(robustness)

    def _errors(self, rows: OutOfFold) -> str:
        assert self.samples is not None
        names = [line["name"] for line in self.run.slices or ()]
        shown = gallery.errors(rows, self.samples, names, suspects=self.run.cases is not None)
        return (
            self._slices(rows)
            + shown
            + (why(self.drawn_rows.no_pictures) if self.drawn_rows.no_pictures else "")
        )

    def _slices(self, rows: OutOfFold) -> str:
        if self.run.cases is None or self.run.slices is None:
            return why(self.run.missing.get(CASES) or self.run.missing[SLICES])
        if not self.run.slices:
            return why("No slice of the samples is large enough to be looked at.")
        drawn = self._drawn([slice_chart(self.run.slices, float(rows.wrong.mean()))])
        return drawn + slice_table(self.run.slices)
