"""``embedonce demo``."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from pipelines.verbs.shared import Parser, json_option

HELP = "see the whole idea on real data, in about a minute"


def add_options(parser: Parser) -> None:
    """Options of ``demo``."""
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="default: demo/")
    parser.add_argument(
        "--trials", type=int, default=20, metavar="N", help="trials of the search (default: %(default)s)"
    )
    json_option(parser)


def run(options: Namespace, _words: list[str]) -> None:
    """Run ``demo``."""
    from pipelines import demo
    from pipelines.errors import UsageError

    if options.trials < 1:
        raise UsageError(f"trials {options.trials} must be at least 1")
    demo.print_demo(demo.demo(options.out, trials=options.trials), as_json=options.json)
