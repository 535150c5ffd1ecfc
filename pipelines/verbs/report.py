"""``embedonce report``."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.verbs.shared import Parser, json_option

if TYPE_CHECKING:
    from pipelines.report import Report

HELP = "write the page of a run anew, with pictures and maps, or put runs side by side"


def add_options(parser: Parser) -> None:
    """Options of ``report``."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", type=Path, metavar="RUN", help="run folder of tune, train or ablate")
    what.add_argument(
        "--compare",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="run folders of tune or train, the first is the yardstick",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="default: report.html in the run folder; comparison.html for --compare",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="the data set's folder, for pictures (default: looked for around the run)",
    )
    parser.add_argument(
        "--figures",
        type=Path,
        metavar="DIR",
        help="also write each figure as PNG and SVG (needs matplotlib: extra 'report')",
    )
    parser.add_argument(
        "--umap",
        action="store_true",
        help="also draw maps by UMAP (needs umap-learn: extra 'umap'; half a minute more)",
    )
    json_option(parser)


def run(options: Namespace, _words: list[str]) -> None:
    """Run ``report``."""
    from pipelines.console import duration, say, size, tell

    if options.figures is not None:
        from pipelines.report import paper

        paper.check_library()
    if options.umap:
        from pipelines.report import projections

        projections.check_umap()
    began = time.perf_counter()
    report = _written(options)
    for note in report.notes:
        tell(f"note: {note}")
    drawn: list[Path] = []
    if options.figures is not None:
        tell(f"drawing {len(report.figures)} figures")
        drawn = paper.write_figures(report.figures, options.figures)
    if options.json:
        found = {
            "report": str(report.path),
            "bytes": report.n_bytes,
            "figures": [str(path) for path in drawn],
            "notes": report.notes,
        }
        say(json.dumps(found, ensure_ascii=False))
    else:
        say(str(report.path))
        if drawn:
            say(f"{len(drawn)} files in {options.figures}")
    tell(f"done in {duration(time.perf_counter() - began)}, {size(report.n_bytes)}. Next: open {report.path}")


def _written(options: Namespace) -> Report:
    """Write the page that was asked for."""
    from pipelines.errors import RunError, UsageError, unwritable
    from pipelines.report import write_ablation_report, write_comparison, write_report
    from pipelines.runs import CONFIG, REPORT, read_json

    if options.out is not None and (fault := unwritable(options.out)):
        raise UsageError(f"--out {fault}; name the file to write, such as {REPORT}.")
    if options.data is not None and not options.data.is_dir():
        raise RunError(
            f"--data '{options.data}' is not a folder; name the folder that the pictures' paths start from."
        )
    if options.compare is not None:
        return write_comparison(options.compare, options.out or Path("comparison.html"))
    if options.run.is_file():
        raise RunError(
            f"--run '{options.run}' is a file; pass the folder that tune, train or ablate printed."
        )
    target: Path = options.out or options.run / REPORT
    title = options.run.resolve().name
    command = read_json(options.run / CONFIG).get("command")
    if command == "ablate":
        return write_ablation_report(options.run, target, title=title)
    if command not in ("tune", "train"):
        raise RunError(
            f"'{options.run}' is a run of '{command}'; pages are made of runs of tune, train and ablate."
        )
    return write_report(
        options.run, target, title=title, thorough=True, data=options.data, with_umap=options.umap
    )
