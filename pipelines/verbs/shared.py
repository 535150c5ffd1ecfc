"""Options that several verbs share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from heads.names import RESAMPLERS
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
        type=types.encodings,
        default=("utf-8", "gb18030", "cp1252"),
        metavar="LIST",
        help="encodings to try after UTF-8 (default: utf-8,gb18030,cp1252)",
    )


def features_option(parser: Parser, *, default: str = "the stores in features/") -> None:
    """Add ``--features``; `default` says what is taken without it."""
    parser.add_argument(
        "--features",
        action="append",
        default=[],
        metavar="FILE[:SPACE]",
        help=f"a store, or one space of it; repeat for several (default: {default})",
    )


def weights_option(parser: Parser) -> None:
    """Add ``--weights``, once for every backbone whose weights must be found."""
    parser.add_argument(
        "--weights",
        type=types.folder_of,
        action="append",
        default=[],
        metavar="BACKBONE=DIR",
        help="folder with a backbone's weights; repeat for several",
    )


def finished_run_option(parser: Parser) -> None:
    """Add ``--run``, the run that is read."""
    parser.add_argument("--run", type=Path, required=True, metavar="RUN", help="run folder of tune or train")


def embedding_options(parser: Parser) -> None:
    """Add the options that say how inputs are embedded again: ``--device`` and ``--weights``."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    weights_option(parser)


def out_option(parser: Parser) -> None:
    """Add ``--out``, the folder that a new run goes into."""
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="folder of the runs (default: %(default)s)",
    )


def head_options(parser: Parser) -> None:
    """Add the options that go with ``--head``: ``--resampler`` and ``--set``."""
    parser.add_argument("--resampler", default="none", help=f"{', '.join(RESAMPLERS)} (default: %(default)s)")
    parser.add_argument(
        "--set",
        type=types.parameter,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="parameters",
        help="a parameter of the head, e.g. C=0.1; repeat for several",
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


def duplicates_option(parser: Parser) -> None:
    """Add ``--duplicates``."""
    parser.add_argument(
        "--duplicates",
        choices=("near", "exact", "none"),
        default="near",
        help="which rows must share a fold: near duplicates, exact ones, or declared groups only "
        "(default: %(default)s)",
    )


def run_options(parser: Parser) -> None:
    """Add the options that every kind of run has."""
    parser.add_argument("--metric", default="macro-f1", help="score that decides (default: %(default)s)")
    parser.add_argument("--folds", type=int, default=5, help="cross-validation folds (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of folds, search and heads (default: %(default)s)"
    )
    duplicates_option(parser)
    out_option(parser)
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="replay the settings of a run's config.json; options given here win",
    )


def applied_options(parser: Parser) -> None:
    """Add the options that say what ``predict`` does to the probabilities of the winner."""
    parser.add_argument(
        "--calibrate",
        default="none",
        metavar="HOW",
        help="how predict calibrates, fitted on out-of-fold rows: none, temperature, vector (default: none)",
    )
    parser.add_argument(
        "--decide",
        default="argmax",
        metavar="HOW",
        help="how predict names a class: argmax, weights (fitted on out-of-fold rows), or "
        "low-confidence:CLASS[,A,B] (default: argmax)",
    )


def given_options(arguments: Sequence[str]) -> set[str]:
    """Return the destinations of the options that stand on a command line."""
    return {word.split("=")[0].lstrip("-").replace("-", "_") for word in arguments if word.startswith("--")}
