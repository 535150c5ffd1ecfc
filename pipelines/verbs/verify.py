"""``embedonce verify``."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from pipelines.verbs.shared import Parser, json_option

HELP = "prove that a store is whole and unchanged"


def add_options(parser: Parser) -> None:
    """Options of ``verify``."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a store")
    json_option(parser)


def run(options: Namespace, _words: list[str]) -> None:
    """Run ``verify``."""
    from pipelines import inspecting

    inspecting.verify(options.file, as_json=options.json)
