"""``embedonce inspect``."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from pipelines.verbs.shared import Parser, data_options, json_option

HELP = "describe a store, or a data set with --data"


def add_options(parser: Parser) -> None:
    """Options of ``inspect``."""
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="a store")
    parser.add_argument("--data", type=Path, metavar="PATH", help="a data set")
    parser.add_argument("--backbone", metavar="NAME", help="count tokens with this backbone's tokenizer")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="folder with that backbone's weights")
    parser.add_argument(
        "--clean",
        default="basic",
        choices=("none", "basic", "sentiment"),
        help="text cleaning recipe (default: %(default)s)",
    )
    data_options(parser)
    json_option(parser)


def run(options: Namespace, _words: list[str]) -> None:
    """Run ``inspect``."""
    from pipelines import inspecting
    from pipelines.errors import UsageError

    if (options.file is None) == (options.data is None):
        raise UsageError(
            "Give either a store (embedonce inspect FILE) or a data set (embedonce inspect --data PATH)."
        )
    if options.file is not None:
        inspecting.print_store(inspecting.describe_store(options.file), as_json=options.json)
        return
    settings = inspecting.InspectDataSettings(
        options.data, options.backbone, options.weights, options.clean, options.encodings, options.columns
    )
    inspecting.print_data(inspecting.describe_data(settings), as_json=options.json)
