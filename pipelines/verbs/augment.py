"""``embedonce augment``."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from pipelines.verbs import types
from pipelines.verbs.shared import Parser, embedding_options, finished_run_option, json_option, out_option

HELP = "train again with views of samples like the worst slices, and measure the gain on other rows"


def add_options(parser: Parser) -> None:
    """Options of ``augment``."""
    finished_run_option(parser)
    parser.add_argument(
        "--slices",
        type=types.count,
        default=3,
        metavar="N",
        help="slices chosen at most in each outer fold (default: %(default)s)",
    )
    parser.add_argument(
        "--draws",
        type=types.count,
        default=3,
        metavar="N",
        help="random controls with as many views (default: %(default)s)",
    )
    parser.add_argument(
        "--views",
        type=types.count,
        metavar="N",
        help="views of each chosen row (default: all that the stores hold, else 2 are embedded)",
    )
    parser.add_argument(
        "--augment",
        choices=("light", "strong"),
        default="light",
        help="kind of the views that are embedded (default: %(default)s)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="the data set: texts before they were cleaned, and pictures to embed",
    )
    parser.add_argument("--metric", help="score that is compared (default: the run's)")
    parser.add_argument("--folds", type=int, default=5, help="outer folds (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of folds and draws (default: %(default)s)")
    embedding_options(parser)
    out_option(parser)
    json_option(parser)


def run(options: Namespace, _words: list[str]) -> None:
    """Run ``augment``."""
    from pipelines import augment

    settings = augment.AugmentSettings(
        run=options.run,
        slices=options.slices,
        draws=options.draws,
        views=options.views,
        augment=options.augment,
        folds=options.folds,
        seed=options.seed,
        metric=options.metric,
        data=options.data,
        device=options.device,
        weights=dict(options.weights),
        out=options.out,
    )
    augment.print_augmentation(augment.augment(settings), as_json=options.json)
