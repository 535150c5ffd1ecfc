"""``embedonce doctor``."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from pipelines.verbs import types
from pipelines.verbs.shared import Parser, data_options, json_option

HELP = "say whether a pass would run here, and what earlier ones left unfinished"


def add_options(parser: Parser) -> None:
    """Options of ``doctor``."""
    parser.add_argument("--data", type=Path, metavar="PATH", help="the data set of a planned pass")
    parser.add_argument(
        "--backbone",
        action="append",
        default=[],
        metavar="NAME",
        help="the backbone of a planned pass; repeat for several",
    )
    parser.add_argument("--weights", type=Path, metavar="DIR", help="folder with that backbone's weights")
    parser.add_argument(
        "--views", type=types.whole, default=0, metavar="K", help="views of a planned pass (default: 0)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("features"),
        metavar="DIR",
        help="folder of the stores (default: features/)",
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of the runs (default: runs/)"
    )
    data_options(parser)
    json_option(parser)


def run(options: Namespace, _words: list[str]) -> None:
    """Run ``doctor``."""
    import time

    from pipelines import doctor

    began = time.perf_counter()
    settings = doctor.DoctorSettings(
        out=options.out,
        runs=options.runs,
        data=options.data,
        backbone=tuple(options.backbone),
        weights=options.weights,
        views=options.views,
        columns=options.columns,
        encodings=options.encodings,
    )
    doctor.print_findings(doctor.examine(settings), began=began, as_json=options.json)
