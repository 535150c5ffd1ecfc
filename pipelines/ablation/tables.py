"""Tables of an ablation: for the terminal, and as CSV, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cache import write_file
from pipelines.console import IntervalCell, NumberCell, count_cell, is_number, p_cell
from pipelines.metrics import SHOWN
from pipelines.runs import write_csv

Row = Mapping[str, Any]

#: Stems of the files of an ablation.
TABLE, LEDGER, LEAKS, DISAGREEMENTS = "ablation", "ledger", "leaks", "disagreements"

HEADER = ["features", "head", *SHOWN, "macro_f1 95 %", "difference", "p", "p (Holm)", "verdict"]
LEDGER_HEADER = ["set", "features", "score", "deviation", "both is better by", "95 %", "p (Holm)", "verdict"]
CASES_HEADER = ["set", "alone", "samples", "both is right", "both says as text", "both says as image"]
LEAKS_HEADER = ["practice", *SHOWN, "seems better by", "scored rows", "why"]
DISAGREEMENTS_HEADER = ["set", "id", "label", "text", "image", "both", "case"]


def table_rows(rows: Sequence[Row]) -> list[list[object]]:
    """Return the cells of the ablation table, under `HEADER`."""
    return [_cells(row) for row in rows]


def _cells(row: Row) -> list[object]:
    return [
        row["features"],
        row["head"],
        *(f"{row['cv'][name]['mean']:.3f}" for name in SHOWN),
        IntervalCell(row["cv"]["macro_f1"]["ci95"]),
        *_compared(row["against_reference"]),
    ]


def _compared(against: Mapping[str, Any] | None) -> list[object]:
    if against is None:
        return ["reference", "", "", ""]
    return [
        f"{against['difference']:+.3f}",
        p_cell(against["p_value"]),
        p_cell(against["p_holm"]),
        against["verdict"],
    ]


def details_table(rows: Sequence[Row]) -> tuple[list[str], list[list[object]]]:
    """Return header and cells of what else there is to know of each row."""
    classes = list(rows[0]["per_class"])
    header = ["precision", "recall", *(f"F1 {name}" for name in classes), "parameters", "seconds"]
    cells: list[list[object]] = [
        [
            f"{row['cv']['macro_precision']['mean']:.3f}",
            f"{row['cv']['macro_recall']['mean']:.3f}",
            *(f"{row['per_class'][name]['f1']:.3f}" for name in classes),
            count_cell(row["n_parameters"]),
            f"{row['seconds']:.1f}",
        ]
        for row in rows
    ]
    return header, cells


def reported_table(rows: Sequence[Row], skipped: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of every figure of a report beside ours; a row that was not run has only its.

    Parameters
    ----------
    rows, skipped : sequence of dict
        Rows of ``metrics.json``; `skipped` have a name, reported figures and the reason.
    """
    scores = list(dict.fromkeys(score for row in [*rows, *skipped] for score in row["reported"]))
    ours = [score for score in (*SHOWN, *scores) if any(score in row["cv"] for row in rows)]
    header = ["row", *dict.fromkeys(ours), *(f"reported {score}" for score in scores), "note"]
    cells = []
    for row in [*rows, *skipped]:
        found = row.get("cv", {})
        cells.append(
            [
                row["name"],
                *(f"{found[score]['mean']:.3f}" if score in found else "-" for score in dict.fromkeys(ours)),
                *(f"{row['reported'][s]:.4g}" if s in row["reported"] else "-" for s in scores),
                row.get("note", ""),
            ]
        )
    return header, cells


def whole_table(rows: Sequence[Row], skipped: Sequence[Row] = ()) -> tuple[list[str], list[list[object]]]:
    """Return header and cells of everything, one line per row: what the files hold."""
    header, cells = list(HEADER), table_rows(rows)
    more, details = details_table(rows)
    header += more
    cells = [short + long for short, long in zip(cells, details, strict=True)]
    reported = list(dict.fromkeys(score for row in [*rows, *skipped] for score in row["reported"]))
    if reported:
        header += [f"reported {score}" for score in reported]
        for row, line in zip(rows, cells, strict=True):
            line += [f"{row['reported'][s]:.4g}" if s in row["reported"] else "" for s in reported]
        blank = len(header) - len(reported) - 2
        cells += [
            [row["name"], "not run", *[""] * blank]
            + [f"{row['reported'][s]:.4g}" if s in row["reported"] else "" for s in reported]
            for row in skipped
        ]
    return header, cells


def write_tables(folder: Path, stem: str, header: Sequence[str], cells: Sequence[Sequence[object]]) -> None:
    """Write ``<stem>.csv``, ``.md`` and ``.tex`` (booktabs); the CSV has plain numbers."""
    write_csv(folder / f"{stem}.csv", *plain_numbers(header, cells))
    write_file(folder / f"{stem}.md", markdown(header, cells).encode("utf-8"))
    write_file(folder / f"{stem}.tex", latex(header, cells).encode("utf-8"))


def plain_numbers(
    header: Sequence[str], cells: Sequence[Sequence[object]]
) -> tuple[list[str], list[list[object]]]:
    """Return a table as programs read it: a column of intervals is two, its lows and its highs."""
    wide = [any(isinstance(line[i], IntervalCell) for line in cells) for i in range(len(header))]
    names: list[str] = []
    for name, is_wide in zip(header, wide, strict=True):
        names += [f"{name} low", f"{name} high"] if is_wide else [name]
    lines = [
        [part for cell, is_wide in zip(line, wide, strict=True) for part in _plain(cell, is_wide)]
        for line in cells
    ]
    return names, lines


def _plain(cell: object, is_wide: bool) -> list[object]:
    """Return the one or two cells of the CSV; what is no interval fills both."""
    if isinstance(cell, IntervalCell):
        return [f"{end:.12g}" for end in cell.ends]
    plain = f"{cell.value:.12g}" if isinstance(cell, NumberCell) else cell
    return [plain] * (2 if is_wide else 1)


def markdown(header: Sequence[str], cells: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; a ``|`` of a name does not end its cell."""
    lines = [header, ["---"] * len(header), *cells]
    return "".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines
    )


def latex(header: Sequence[str], cells: Sequence[Sequence[object]]) -> str:
    """Return a LaTeX ``tabular`` in the style of the package booktabs; numbers stand right."""
    texts = [[str(cell) for cell in line] for line in cells]
    columns = zip(*texts, strict=True)
    right = [all(cell == "reference" or is_number(cell) for cell in column) for column in columns]
    places = "".join("r" if is_right else "l" for is_right in right)
    lines = [" & ".join(map(_escaped, line)) + r" \\" for line in [header, *texts]]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            rf"\begin{{tabular}}{{{places}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


_LATEX = {
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)


def ledger_tables(ledgers: Sequence[Row]) -> tuple[list[list[object]], list[list[object]]]:
    """Return the cells under `LEDGER_HEADER` and under `CASES_HEADER`."""
    rows = [_ledger_cells(ledger["set"], row) for ledger in ledgers for row in ledger["rows"]]
    cases: list[list[object]] = [
        [
            ledger["set"],
            case["case"],
            str(case["n"]),
            _share(case["both_right"], case["n"]),
            _share(case["both_as_text"], case["n"]),
            _share(case["both_as_image"], case["n"]),
        ]
        for ledger in ledgers
        for case in ledger["cases"]
    ]
    return rows, cases


def _ledger_cells(name: str, row: Row) -> list[object]:
    against, deviation = row["both_better_by"], row["deviation"]
    start = [name, row["features"], f"{row['score']:.3f}", "" if deviation is None else f"{deviation:.3f}"]
    if against is None:
        return [*start, "", "", "", ""]
    return [
        *start,
        f"{against['difference']:+.3f}",
        IntervalCell(against["ci95"], "+.3f"),
        p_cell(against["p_holm"]),
        against["verdict"],
    ]


def leaks_table(leaks: Sequence[Row], metric: str) -> list[list[object]]:
    """Return the cells under `LEAKS_HEADER`; how much better a leak seems is in `metric`."""
    by_practice = {row["practice"]: row for row in leaks}
    cells: list[list[object]] = []
    for row in leaks:
        if row["cv"] is None:
            cells.append([row["practice"], *["-"] * len(SHOWN), "-", "-", row["why"]])
            continue
        scores = [f"{row['cv'][name]['mean']:.3f}" for name in SHOWN]
        honest = by_practice[row["honest"]]["cv"][metric]["mean"]
        more = f"{row['cv'][metric]['mean'] - honest:+.3f}" if row["leaky"] else ""
        cells.append([row["practice"], *scores, more, count_cell(row["n_scored"]), row["why"]])
    return cells


def _share(part: int, whole: int) -> str:
    return f"{part} ({part / whole:.0%})" if whole else "0"
