"""``embedonce ablate``."""

from __future__ import annotations

from argparse import Namespace

from pipelines.verbs import types
from pipelines.verbs.replay import replayed
from pipelines.verbs.shared import Parser, features_option, json_option, run_options

HELP = "compare text, image and both on the same folds"


def add_options(parser: Parser) -> None:
    """Options of ``ablate``."""
    features_option(parser)
    parser.add_argument(
        "--heads",
        type=types.words,
        default=("logreg",),
        metavar="LIST",
        help="heads to compare (default: logreg)",
    )
    run_options(parser)
    json_option(parser)


def run(options: Namespace, words: list[str]) -> None:
    """Run ``ablate``."""
    from pipelines import ablate

    values = replayed(options, words)
    settings = ablate.AblateSettings(
        features=tuple(values.features),
        heads=tuple(values.heads),
        metric=values.metric,
        folds=values.folds,
        seed=values.seed,
        out=values.out,
    )
    ablate.print_ablation(ablate.ablate(settings), as_json=options.json)
