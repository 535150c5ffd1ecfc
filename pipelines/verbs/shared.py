"""Options that several verbs share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pipelines.verbs import types

Parser = argparse.ArgumentParser


def json_option(parser: Parser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")


def data_options(parser: Parser) -> None:
    """Add the options that say how a data set is read."""
    parser.add_argument(
        "--columns",
        type=types.pairs,
        metavar="id=COLUMN,...",
        help="names of the table's columns: id, text, text_path, image, label, split, group",
    )
    parser.add_argument(
        "--encodings",
        type=types.words,
        default=("utf-8", "gb18030", "cp1252"),
        metavar="LIST",
        help="encodings to try after UTF-8 (default: utf-8,gb18030,cp1252)",
    )


def features_option(parser: Parser) -> None:
    """Add ``--features``."""
    parser.add_argument(
        "--features",
        action="append",
        default=[],
        metavar="FILE[:SPACE]",
        help="a store, or one space of it; repeat for several (default: the stores in features/)",
    )


def use_views_option(parser: Parser) -> None:
    """Add ``--use-views``."""
    parser.add_argument(
        "--use-views",
        type=types.views_used,
        default=None,
        metavar="all|none|N",
        help="train on the augmented views that the stores hold (default: all; no effect without views)",
    )


def run_options(parser: Parser) -> None:
    """Add the options that every kind of run has."""
    parser.add_argument("--metric", default="macro-f1", help="score that decides (default: %(default)s)")
    parser.add_argument("--folds", type=int, default=5, help="cross-validation folds (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of folds, search and heads (default: %(default)s)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="folder of the runs (default: %(default)s)",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="replay the settings of a run's config.json; options given here win",
    )


def given_options(arguments: Sequence[str]) -> set[str]:
    """Return the destinations of the options that stand on a command line."""
    return {word.split("=")[0].lstrip("-").replace("-", "_") for word in arguments if word.startswith("--")}
