"""``embedonce extract`` (``extract-features``): embed a data set once into a feature store."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from extract import (
    BackboneNameError,
    DryRun,
    PassOptions,
    PassProgress,
    PassReport,
    SourceOptions,
    dry_runs,
    open_backbone,
    parse_bytes,
    read_data_set,
    readouts_by_modality,
    resolve_devices,
    resolve_precision,
    run_passes,
    shared_modalities,
)
from pipelines.console import Progress, duration, say, say_json, size, table, tell
from pipelines.errors import UsageError, users_words
from pipelines.named_stores import tell_hashing
from pipelines.truncation import truncation_lines

if TYPE_CHECKING:
    from extract import Backbone, DataSet

_SHOWN = 20
_UNITS = {
    "sources": ("reading the data", "samples"),
    "text": ("text", "texts"),
    "image": ("image", "images"),
    "joint": ("joint", "pairs"),
    "store": ("writing the store", "rows"),
}


@dataclass(frozen=True)
class ExtractSettings:
    """Settings of ``embedonce extract``, as on the command line."""

    backbone: tuple[str, ...]
    data: Path = Path()
    out: Path = Path("features")
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    max_memory: str | None = None
    modality: tuple[str, ...] = ()
    readout: tuple[str, ...] = ("pooled",)
    views: int = 0
    augment: str = "light"
    clean: str = "basic"
    encodings: tuple[str, ...] = ("utf-8", "gb18030", "cp1252")
    columns: Mapping[str, str] | None = None
    weights: Path | None = None
    limit: int | None = None
    max_bad: float = 0.1
    replace: bool = False
    command: tuple[str, ...] = ()


class PassPrinter:
    """Shows the progress of a pass, one line per stage."""

    def __init__(self) -> None:
        self._stage = ""
        self._progress: Progress | None = None

    def __call__(self, moment: PassProgress) -> None:
        if moment.stage != self._stage:
            self.close()
            self._stage = moment.stage
            self._progress = Progress(*_UNITS.get(moment.stage, (moment.stage, "rows")))
        if self._progress is not None:
            self._progress.update(moment.done, moment.total, _note(moment))

    def hashing(self, path: Path, n_bytes: int) -> None:
        """Say that a store is hashed, on a line of its own, where that takes seconds."""
        self.close()
        tell_hashing(path, n_bytes)

    def close(self) -> None:
        """End the current line."""
        if self._progress is not None:
            self._progress.close()
        self._stage, self._progress = "", None


def extract_features(settings: ExtractSettings) -> list[PassReport]:
    """Run the passes that `settings` describe; one report per backbone."""
    data_set, passes = _open(settings)
    _tell_names("opening", passes)
    printer = PassPrinter()
    try:
        return run_passes(data_set, passes, on_progress=printer, on_hashing=printer.hashing)
    finally:
        printer.close()


def plan_extraction(settings: ExtractSettings) -> list[DryRun]:
    """Return what the passes would do, without writing anything; one plan per backbone."""
    data_set, passes = _open(settings)
    _tell_names("rehearsing", passes)
    printer = PassPrinter()
    try:
        return dry_runs(data_set, passes, on_progress=printer, on_hashing=printer.hashing)
    finally:
        printer.close()


def _tell_names(what: str, passes: Sequence[tuple[Backbone, PassOptions]]) -> None:
    """Say what is about to happen: libraries and weights take seconds to load."""
    tell(f"{what} {' and '.join(backbone.card.name for backbone, _ in passes)}")


def _note(moment: PassProgress) -> str:
    """Return what the progress line says besides numbers and rate."""
    parts = [f"limited by {moment.limiting}"] if moment.limiting else []
    if moment.peak_bytes:
        parts.append(f"{size(moment.peak_bytes)} of GPU memory")
    if moment.truncated:
        parts.append(f"{moment.truncated:,} truncated")
    if moment.bad:
        parts.append(f"{moment.bad:,} bad")
    return ", ".join(parts)


def _open(settings: ExtractSettings) -> tuple[DataSet, list[tuple[Backbone, PassOptions]]]:
    if settings.weights is not None and len(settings.backbone) > 1:
        raise UsageError(
            f"--weights '{settings.weights}' is one folder, but {len(settings.backbone)} backbones are asked "
            "for. Give one --backbone with it."
        )
    with users_words(BackboneNameError):
        backbones = [open_backbone(name, weights=settings.weights) for name in settings.backbone]
    for backbone in backbones:
        backbone.check_available()
    data_set = read_data_set(settings.data, columns=settings.columns, encodings=settings.encodings)
    with users_words():
        for backbone in backbones:
            modalities = shared_modalities(data_set, backbone, settings.modality)
            readouts_by_modality(backbone, modalities, settings.readout)
        passes = _passes(settings, backbones)
    return data_set.head(settings.limit), passes


def _passes(settings: ExtractSettings, backbones: Sequence[Backbone]) -> list[tuple[Backbone, PassOptions]]:
    """Return what each backbone is asked for, every word of it read."""
    device = resolve_devices(settings.device)
    options = PassOptions(
        out=settings.out,
        readouts=settings.readout,
        modalities=settings.modality,
        views=settings.views,
        augment=settings.augment,
        device=device,
        batch_size=settings.batch_size,
        max_memory=None if settings.max_memory is None else parse_bytes(settings.max_memory),
        max_bad=settings.max_bad,
        replace=settings.replace,
        source=SourceOptions(clean=settings.clean, encodings=settings.encodings),
        command=settings.command,
    )
    return [
        (each, replace(options, precision=resolve_precision(settings.precision, device, each.card)))
        for each in backbones
    ]


def print_reports(reports: Sequence[PassReport], *, as_json: bool) -> None:
    """Print what the passes did, and what to do next."""
    if as_json:
        values = [report_as_dict(report) for report in reports]
        say_json(values[0] if len(values) == 1 else {"stores": values})
        return
    for number, report in enumerate(reports):
        if number:
            say()
        _print_report(report)
    if any(not report.nothing_to_do for report in reports):
        names = " ".join(f"--features {quote(str(report.path))}" for report in reports)
        seconds = max(report.seconds for report in reports)
        tell(f"{reports[0].n_rows:,} rows in {duration(seconds)}. Next: tune {names}")
    for report in reports:
        say(str(report.path))


def _print_report(report: PassReport) -> None:
    for note in report.notes:
        tell(f"note: {note}")
    if report.nothing_to_do:
        _tell_nothing_to_do(report.path)
    else:
        _print_counts(report)
    _print_summary(report)


def _tell_nothing_to_do(path: Path) -> None:
    tell(f"Nothing to do: '{path}' is whole and was made with these settings.")


def _print_counts(report: PassReport) -> None:
    header = ["modality", "embedded", "reused", "repeated", "resumed", "limited by"]
    rows: list[list[Any]] = [
        [m, c.computed, c.reused, c.repeated, c.resumed, c.clock.limiting] for m, c in report.counts.items()
    ]
    if any(count.views for count in report.counts.values()):
        header.insert(2, "views")
        for row, count in zip(rows, report.counts.values(), strict=True):
            row.insert(2, count.views)
    say(f"{report.path.name}:")
    say(table(rows, header))
    say()


def _print_summary(report: PassReport) -> None:
    """Print what the data set turned out to hold, every oddity included."""
    say(_status_table(report.statuses))
    for line in truncation_lines(report.truncated):
        say(line)
    if report.encodings:
        say("text encodings: " + ", ".join(f"{name} {count:,}" for name, count in report.encodings.items()))
    for name, note in report.data_notes.items():
        say(f"{name}: {note}")
    for guid, reason in list(report.not_ok.items())[:_SHOWN]:
        say(f"not ok: {guid} ({reason})")
    if len(report.not_ok) > _SHOWN:
        say(f"not ok: {len(report.not_ok) - _SHOWN:,} more (--json lists all)")


def _status_table(statuses: Mapping[str, Mapping[str, int]]) -> str:
    rows = [[m, name, count] for m, counts in statuses.items() for name, count in counts.items()]
    return table(rows, ["modality", "status", "rows"])


def report_as_dict(report: PassReport) -> dict[str, Any]:
    """Return the report as JSON-able values."""
    values = asdict(report)
    values["path"] = str(report.path)
    return values


def print_dry_runs(plans: Sequence[DryRun], *, as_json: bool) -> None:
    """Print what the passes would do."""
    if as_json:
        values = [{**asdict(plan), "path": str(plan.path)} for plan in plans]
        say_json(values[0] if len(values) == 1 else {"stores": values})
        return
    for plan in plans:
        _print_dry_run(plan)


def _print_dry_run(plan: DryRun) -> None:
    if plan.nothing_to_do:
        _tell_nothing_to_do(plan.path)
        say(_status_table(plan.statuses))
        return
    say(f"would write {plan.path}: {plan.n_rows:,} rows")
    say(_status_table(plan.statuses))
    for modality, count in plan.to_compute.items():
        say(
            f"{modality}: {count:,} of {plan.n_rows:,} rows to embed (the others are repeated, reused or "
            "not ok)"
        )
    say(f"disk: {size(plan.needed_bytes)} needed while it runs, {size(plan.free_bytes)} free")
    say(f"time: about {duration(plan.seconds)} on this machine")
    if plan.needed_bytes > plan.free_bytes:
        sys.stderr.write("warning: not enough free disk space\n")
