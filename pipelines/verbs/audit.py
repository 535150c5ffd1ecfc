"""``embedonce audit``."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from pipelines.verbs import types
from pipelines.verbs.shared import Parser, data_options, duplicates_option, features_option, json_option

HELP = "look for leaks: duplicates across splits, labels in the data, splits that differ"


def add_options(parser: Parser) -> None:
    """Options of ``audit``."""
    features_option(parser)
    parser.add_argument(
        "--data", type=Path, metavar="PATH", help="a data set; beside stores, for the sizes of its files"
    )
    parser.add_argument("--run", type=Path, metavar="RUN", help="a run folder: its stores and its folds")
    duplicates_option(parser)
    parser.add_argument(
        "--clean",
        default="basic",
        choices=("none", "basic", "sentiment"),
        help="text cleaning recipe, for --data alone (default: %(default)s)",
    )
    data_options(parser)
    parser.add_argument(
        "--seed", type=types.whole, default=0, help="seed of folds and permutations (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the findings as CSV")
    parser.add_argument(
        "--strict", action="store_true", help="exit 1 if something of medium or high severity is found"
    )
    json_option(parser)


def run(options: Namespace, _words: list[str]) -> None:
    """Run ``audit``."""
    from pipelines import auditing
    from pipelines.errors import RunError

    settings = auditing.AuditSettings(
        features=tuple(options.features),
        data=options.data,
        run=options.run,
        duplicates=options.duplicates,
        columns=options.columns,
        encodings=tuple(options.encodings),
        clean=options.clean,
        seed=options.seed,
        out=options.out,
    )
    result = auditing.audit(settings)
    auditing.print_audit(result, as_json=options.json, out=options.out)
    if options.strict and result.serious:
        raise RunError(
            f"{len(result.serious)} finding(s) of medium or high severity, and --strict allows none. See "
            "what to do at each, or leave out --strict."
        )
