"""``embedonce robustness``."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from pipelines.verbs import types
from pipelines.verbs.shared import Parser, embedding_options, finished_run_option, json_option

HELP = "score a run when its inputs get worse: noise, blur, typos, a missing picture"


def add_options(parser: Parser) -> None:
    """Options of ``robustness``."""
    finished_run_option(parser)
    parser.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="the data set, where the pictures lie (default: around the stores and the run)",
    )
    parser.add_argument(
        "--rows",
        type=types.count,
        default=200,
        metavar="N",
        help="labelled rows to embed again, drawn by class (default: %(default)s)",
    )
    parser.add_argument(
        "--severities",
        type=types.numbers,
        default=(1, 3, 5),
        metavar="LIST",
        help="of 1 to 5 (default: 1,3,5)",
    )
    parser.add_argument(
        "--faults",
        type=types.words,
        default=(),
        metavar="LIST",
        help="of noise, blur, jpeg, downscale, typos, dropped-words, missing-text, missing-image (default: "
        "all that fit the run)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the rows drawn (default: %(default)s)")
    embedding_options(parser)
    json_option(parser)


def run(options: Namespace, _words: list[str]) -> None:
    """Run ``robustness``."""
    from pipelines import robustness

    settings = robustness.RobustnessSettings(
        run=options.run,
        data=options.data,
        rows=options.rows,
        severities=options.severities,
        faults=options.faults,
        seed=options.seed,
        device=options.device,
        weights=dict(options.weights),
    )
    robustness.print_robustness(robustness.robustness(settings), as_json=options.json)
