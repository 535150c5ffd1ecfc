"""``embedonce extract`` (``extract-features``): embed a data set once into a feature store."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from extract import (
    DryRun,
    PassOptions,
    PassProgress,
    PassReport,
    SourceOptions,
    dry_run,
    open_backbone,
    read_data_set,
    resolve_device,
    resolve_precision,
    run_pass,
)
from pipelines.console import Progress, duration, say, size, table, tell

_SHOWN = 20
_UNITS = {"sources": ("reading the data", "samples"), "text": ("text", "texts"), "image": ("image", "images")}


@dataclass(frozen=True)
class ExtractSettings:
    """Settings of ``embedonce extract``, as on the command line."""

    backbone: str
    data: Path = Path()
    out: Path = Path("features")
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    readout: tuple[str, ...] = ("pooled",)
    clean: str = "basic"
    encodings: tuple[str, ...] = ("utf-8", "gb18030", "cp1252")
    columns: Mapping[str, str] | None = None
    weights: Path | None = None
    limit: int | None = None
    max_bad: float = 0.1
    replace: bool = False


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
            note = f"limited by {moment.limiting}" if moment.limiting else ""
            self._progress.update(moment.done, moment.total, note)

    def close(self) -> None:
        """End the current line."""
        if self._progress is not None:
            self._progress.close()


def extract_features(settings: ExtractSettings) -> PassReport:
    """Run the pass that `settings` describe and return its report."""
    data_set, backbone, options = _open(settings)
    printer = PassPrinter()
    try:
        return run_pass(data_set, backbone, options, on_progress=printer)
    finally:
        printer.close()


def plan_extraction(settings: ExtractSettings) -> DryRun:
    """Return what the pass would do, without writing anything."""
    data_set, backbone, options = _open(settings)
    printer = PassPrinter()
    try:
        return dry_run(data_set, backbone, options, on_progress=printer)
    finally:
        printer.close()


def _open(settings: ExtractSettings) -> tuple[Any, Any, PassOptions]:
    backbone = open_backbone(settings.backbone, weights=settings.weights)
    backbone.check_available()
    data_set = read_data_set(settings.data, columns=settings.columns, encodings=settings.encodings)
    device = resolve_device(settings.device)
    options = PassOptions(
        out=settings.out,
        readouts=settings.readout,
        device=device,
        precision=resolve_precision(settings.precision, device),
        batch_size=settings.batch_size,
        max_bad=settings.max_bad,
        replace=settings.replace,
        source=SourceOptions(clean=settings.clean, encodings=settings.encodings),
    )
    return data_set.head(settings.limit), backbone, options


def print_report(report: PassReport, *, as_json: bool) -> None:
    """Print what a pass did, and what to do next."""
    if as_json:
        say(json.dumps(report_as_dict(report), indent=2))
        return
    for note in report.notes:
        tell(f"note: {note}")
    if report.nothing_to_do:
        tell(f"Nothing to do: '{report.path}' is whole and was made with these settings.")
    else:
        _print_counts(report)
    _print_summary(report)
    if not report.nothing_to_do:
        name = quote(str(report.path))
        tell(f"{report.n_rows:,} rows in {duration(report.seconds)}. Next: tune --features {name}")
    say(str(report.path))


def _print_counts(report: PassReport) -> None:
    rows = [
        [m, c.computed, c.reused, c.repeated, c.resumed, c.truncated, c.clock.limiting]
        for m, c in report.counts.items()
    ]
    say(table(rows, ["modality", "embedded", "reused", "repeated", "resumed", "truncated", "limited by"]))
    say()


def _print_summary(report: PassReport) -> None:
    """Print what the data set turned out to hold, every oddity included."""
    say(_status_table(report.statuses))
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


def print_dry_run(plan: DryRun, *, as_json: bool) -> None:
    """Print what a pass would do."""
    if as_json:
        values = asdict(plan)
        values["path"] = str(plan.path)
        say(json.dumps(values, indent=2))
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
