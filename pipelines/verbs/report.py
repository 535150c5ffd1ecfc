"""``embedonce report``."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

from pipelines.verbs.shared import Parser, json_option

HELP = "write the report page of a run anew"


def add_options(parser: Parser) -> None:
    """Options of ``report``."""
    parser.add_argument(
        "--run", type=Path, required=True, metavar="RUN", help="run folder of tune, train or ablate"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: report.html in the run folder")
    json_option(parser)


def run(options: Namespace, _words: list[str]) -> None:
    """Run ``report``."""
    from pipelines.console import say
    from pipelines.report import write_ablation_report, write_report
    from pipelines.runs import CONFIG, REPORT, read_json

    target: Path = options.out or options.run / REPORT
    write = (
        write_ablation_report if read_json(options.run / CONFIG).get("command") == "ablate" else write_report
    )
    write(options.run, target, title=options.run.resolve().name)
    say(json.dumps({"report": str(target)}) if options.json else str(target))
