"""``embedonce explain``."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from pipelines.verbs.shared import Parser, embedding_options, finished_run_option, json_option

HELP = "show which words and parts of the picture speak for an answer"


def add_options(parser: Parser) -> None:
    """Options of ``explain``."""
    finished_run_option(parser)
    parser.add_argument("--id", metavar="ID", help="explain this row of the run's stores")
    parser.add_argument("--text", help="explain this text")
    parser.add_argument("--image", type=Path, metavar="FILE", help="explain this picture")
    parser.add_argument(
        "--class",
        dest="target",
        metavar="NAME",
        help="the class whose probability is explained (default: the one that predict names)",
    )
    parser.add_argument(
        "--method",
        default="occlusion",
        help="occlusion (any network and head) or gradient (integrated gradients; CLIP, BERT, ResNet and "
        "their kin under logreg or mlp); default: %(default)s",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="the data set, where the pictures lie (default: around the stores and the run)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the page (default: explain-ID.html in the current folder)"
    )
    embedding_options(parser)
    json_option(parser)


def run(options: Namespace, _words: list[str]) -> None:
    """Run ``explain``."""
    from pipelines import explaining

    settings = explaining.ExplainSettings(
        run=options.run,
        id=options.id,
        text=options.text,
        image=options.image,
        target=options.target,
        method=options.method,
        data=options.data,
        out=options.out,
        device=options.device,
        weights=dict(options.weights),
    )
    explaining.print_explanation(explaining.explain(settings), settings, as_json=options.json)
