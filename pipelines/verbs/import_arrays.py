"""``embedonce import``."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path

from pipelines.verbs import types
from pipelines.verbs.shared import Parser, json_option

HELP = "make a store from arrays made elsewhere"


def add_options(parser: Parser) -> None:
    """Options of ``import``."""
    parser.add_argument(
        "--table",
        type=Path,
        required=True,
        metavar="FILE",
        help="CSV, TSV, JSONL or Parquet with id, label, optional split, group, text",
    )
    for modality in ("text", "image", "joint"):
        parser.add_argument(
            f"--{modality}",
            type=Path,
            metavar="FILE",
            help=f"{modality} vectors, rows in the table's order (.npy, .npz, .csv, .parquet)",
        )
    parser.add_argument(
        "--columns",
        type=types.pairs,
        metavar="id=COLUMN,...",
        help="names of the table's columns: id, text, label, split, group",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the store to write")
    json_option(parser)


def run(options: Namespace, _words: list[str]) -> None:
    """Run ``import``."""
    from pipelines import importing

    settings = importing.ImportSettings(
        options.table, options.out, options.text, options.image, options.joint, options.columns
    )
    began = time.perf_counter()
    path = importing.import_arrays(settings)
    importing.print_import(path, seconds=time.perf_counter() - began, as_json=options.json)
