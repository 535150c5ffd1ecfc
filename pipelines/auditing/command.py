"""The audit: read the rows, run every check, settle the tests, print what was found."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.auditing.findings import ALPHA, SEVERITIES, Finding, Tested, significant
from pipelines.auditing.hints import side_feature_test, word_tests
from pipelines.auditing.permuted import permuted_rows_test
from pipelines.auditing.relations import duplicate_findings, fold_findings, id_findings
from pipelines.auditing.rows import AuditRows, rows_of_data, rows_of_stores, with_file_sizes
from pipelines.auditing.shifts import split_tests
from pipelines.console import duration, p_text, say, say_json, table, tell
from pipelines.duplicates import LISTED_BY_AUDIT, RULES
from pipelines.errors import RunError, UsageError
from pipelines.named_stores import default_features
from pipelines.run_stores import store_specs
from pipelines.runs import CONFIG, OUT_OF_FOLD, check_config, read_csv, read_json, write_csv
from tuning import make_folds

_N_FOLDS = 5
HEADER = ["severity", "finding", "rows", "p", "detail", "examples", "advice"]


@dataclass(frozen=True)
class AuditSettings:
    """Settings of ``embedonce audit``, as on the command line.

    Attributes
    ----------
    features : tuple of str
        ``FILE[:SPACE]``; with neither stores nor data nor a run, the stores in ``features/``.
    data : Path or None
        A data set: alone it is read itself, beside stores it tells the sizes of the picture files.
    run : Path or None
        A run folder: its stores, and its folds.
    duplicates : {"near", "exact", "none"}
        How the folds of the permutation check are made where there is no run.
    columns, encodings, clean
        How the data set is read.
    seed : int
    out : Path or None
        CSV of the findings.
    """

    features: tuple[str, ...] = ()
    data: Path | None = None
    run: Path | None = None
    duplicates: str = "near"
    columns: dict[str, str] | None = None
    encodings: tuple[str, ...] = ("utf-8", "gb18030", "cp1252")
    clean: str = "basic"
    seed: int = 0
    out: Path | None = None

    def __post_init__(self) -> None:
        faults = []
        if self.run is not None and self.features:
            faults.append("a run brings its own stores: leave out --features")
        if self.duplicates not in RULES:
            faults.append(f"duplicates {self.duplicates!r} is not known; allowed are {', '.join(RULES)}")
        if self.seed < 0:
            faults.append(f"seed {self.seed} must not be negative")
        if faults:
            raise UsageError("; ".join(faults))


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes
    ----------
    n_rows : int
    parts : dict of str to int
        Rows of each split.
    findings : tuple of Finding
        The worst first.
    tests : tuple of Tested
        All tests, with p-values by Holm.
    notes : tuple of str
    seconds : float
    """

    n_rows: int
    parts: dict[str, int]
    findings: tuple[Finding, ...]
    tests: tuple[Tested, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def serious(self) -> tuple[Finding, ...]:
        """Findings that are not of low severity."""
        return tuple(finding for finding in self.findings if finding.severity != SEVERITIES[-1])


def audit(settings: AuditSettings) -> Audit:
    """Look for whatever could make a score too good.

    Raises
    ------
    UsageError
        If there are no stores, or a space is ambiguous.
    RunError
        If the run folder is not whole, or its stores have changed.
    StoreError, DataError
        If a store or the data set cannot be read.
    """
    began = time.perf_counter()
    fold_of: dict[str, str] = {}
    if settings.run is not None:
        config = read_json(settings.run / CONFIG)
        check_config(config, settings.run / CONFIG)
        fold_of = {row["id"]: row["fold"] for row in _out_of_fold(settings.run)}
        rows = rows_of_stores(store_specs(config["spaces"], settings.run))
    elif settings.data is not None and not settings.features:
        rows = rows_of_data(
            settings.data, columns=settings.columns, encodings=settings.encodings, clean=settings.clean
        )
    else:
        rows = rows_of_stores(settings.features or tuple(default_features()))
    if settings.data is not None and rows.X is not None:
        rows = with_file_sizes(rows, settings.data, columns=settings.columns, encodings=settings.encodings)
    found = [*duplicate_findings(rows), *id_findings(rows)]
    if fold_of:
        found += fold_findings(rows, fold_of)
    tests = _tests(rows, settings, fold_of)
    more, settled = significant(tests)
    parts, counts = np.unique(rows.parts, return_counts=True)
    return Audit(
        len(rows.ids),
        dict(zip(parts.tolist(), counts.tolist(), strict=True)),
        tuple(sorted([*found, *more], key=lambda finding: SEVERITIES.index(finding.severity))),
        tuple(settled),
        tuple(note.removesuffix(LISTED_BY_AUDIT) for note in rows.notes),
        time.perf_counter() - began,
    )


def _out_of_fold(run: Path) -> list[dict[str, str]]:
    path = run / OUT_OF_FOLD
    rows = read_csv(path)
    if not rows or not {"id", "fold"} <= set(rows[0]):
        raise RunError(
            f"'{path}' has no rows with columns id and fold. --run takes a run folder of tune or train."
        )
    return rows


def _tests(rows: AuditRows, settings: AuditSettings, fold_of: dict[str, str]) -> list[Tested]:
    steps: list[tuple[str, Callable[[], list[Tested]]]] = [
        ("words", lambda: word_tests(rows)),
        ("lengths and sizes", lambda: side_feature_test(rows, random_state=settings.seed)),
        ("splits", lambda: split_tests(rows, random_state=settings.seed)),
        ("permuted labels", lambda: _permuted(rows, settings, fold_of)),
    ]
    tests = []
    for name, step in steps:
        tell(f"testing {name}")
        tests += step()
    return tests


def _permuted(rows: AuditRows, settings: AuditSettings, fold_of: dict[str, str]) -> list[Tested]:
    def of_run(kept: np.ndarray) -> Sequence[tuple[np.ndarray, np.ndarray]]:
        folds = np.array([fold_of.get(rows.ids[row], "") for row in kept])
        known = np.flatnonzero(folds != "")
        return [
            (known[folds[known] != name], known[folds[known] == name])
            for name in sorted(set(folds[known].tolist()))
        ]

    def anew(kept: np.ndarray) -> Sequence[tuple[np.ndarray, np.ndarray]]:
        groups = rows.related.groups_under(settings.duplicates)[kept]
        if len(np.unique(groups)) < _N_FOLDS:
            return []
        zeros = np.zeros(len(kept), dtype=np.int64)  # the labels are dealt out anew anyway
        return make_folds(zeros, n_folds=_N_FOLDS, groups=groups, random_state=settings.seed)

    return permuted_rows_test(rows, of_run if fold_of else anew, random_state=settings.seed)


def print_audit(result: Audit, *, as_json: bool, out: Path | None) -> None:
    """Print an audit, and write its findings as CSV where asked to."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_csv(out, HEADER, [_cells(finding) for finding in result.findings])
    if as_json:
        say_json(_as_json(result))
        return
    for note in result.notes:
        tell(f"note: {note}")
    parts = ", ".join(f"{name} {count:,}" for name, count in result.parts.items())
    say(f"{result.n_rows:,} rows ({parts}), {len(result.tests)} tests, {len(result.findings)} finding(s)")
    if result.findings:
        say()
        shown = [
            [one.severity, one.check, one.count, "" if one.p is None else p_text(one.p)]
            for one in result.findings
        ]
        say(table(shown, HEADER[:4]))
    for finding in result.findings:
        say()
        say(f"{finding.check}: {finding.detail}")
        if finding.examples:
            say(f"  first ids: {', '.join(finding.examples)}")
        say(f"  what to do: {finding.advice}")
    found = {finding.check for finding in result.findings}
    clean = [test for test in result.tests if not any(test.check.startswith(check) for check in found)]
    if clean:
        say()
        say(table([[test.check, p_text(test.p), test.detail] for test in clean], ["no finding", "p", "seen"]))
        if any(test.p <= ALPHA for test in clean):
            say(f"p of at most {ALPHA} without a finding: an effect, but too weak or too usual to be a fault")
    tell(f"audited in {duration(result.seconds)}" + (f"; findings in {out}" if out is not None else ""))


def _cells(finding: Finding) -> list[object]:
    return [
        finding.severity,
        finding.check,
        finding.count,
        "" if finding.p is None else f"{finding.p:.2g}",  # a number, for whoever reads the file on
        finding.detail,
        "; ".join(finding.examples),
        finding.advice,
    ]


def _as_json(result: Audit) -> dict[str, Any]:
    return {
        "rows": result.n_rows,
        "splits": result.parts,
        "findings": [asdict(finding) for finding in result.findings],
        "tests": [{"check": test.check, "p": test.p, "detail": test.detail} for test in result.tests],
        "notes": list(result.notes),
        "seconds": round(result.seconds, 3),
    }
