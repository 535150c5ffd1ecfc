"""``embedonce errors``."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from pipelines.verbs import types
from pipelines.verbs.shared import Parser, finished_run_option, json_option

HELP = "bad cases of a run: confusion pairs, weak slices, likely label errors"


def add_options(parser: Parser) -> None:
    """Options of ``errors``."""
    finished_run_option(parser)
    parser.add_argument("--id", metavar="ID", help="print one labelled row with its nearest neighbours")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="the data set, to look at texts before they were cleaned (URLs, mentions, hashtags)",
    )
    parser.add_argument(
        "--top",
        type=types.count,
        default=10,
        metavar="N",
        help="lines of each table (default: %(default)s; the files have all)",
    )
    json_option(parser)


def run(options: Namespace, _words: list[str]) -> None:
    """Run ``errors``."""
    import time
    from shlex import quote

    from pipelines import bad_cases
    from pipelines.console import duration, tell

    began, place = time.perf_counter(), quote(str(options.run))
    found = bad_cases.find_bad_cases(options.run, data=options.data)
    bad_cases.tell_notes(found)
    if options.id is not None:
        from pipelines.explaining import explain_command

        bad_cases.print_case(found, options.id, as_json=options.json)
        tell(f"done in {duration(time.perf_counter() - began)}")
        command = explain_command(options.run, options.id, data=options.data)
        if command is not None:
            tell(f"Next: {command} shows what decided it")
        return
    files = bad_cases.write_bad_cases(found)
    bad_cases.print_bad_cases(found, files, top=options.top, as_json=options.json)
    tell(f"done in {duration(time.perf_counter() - began)}")
    tell(f"Next: look through {files[0]}, correct labels, and tune again; or put all of it on a page:")
    tell(f"embedonce report --run {place}")
