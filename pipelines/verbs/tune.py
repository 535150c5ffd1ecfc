"""``embedonce tune``."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from pipelines.verbs import types
from pipelines.verbs.replay import replayed
from pipelines.verbs.shared import (
    Parser,
    applied_options,
    features_option,
    json_option,
    run_options,
    use_views_option,
)

HELP = "search for the best head on stored features"


def add_options(parser: Parser) -> None:
    """Options of ``tune``."""
    features_option(parser)
    parser.add_argument(
        "--trials", type=int, default=200, metavar="N", help="configurations to try (default: %(default)s)"
    )
    parser.add_argument(
        "--heads",
        type=types.words,
        default=("mlp", "logreg", "lightgbm"),
        metavar="LIST",
        help="heads to try (default: mlp,logreg,lightgbm)",
    )
    parser.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="stop asking for new trials after this time"
    )
    parser.add_argument(
        "--study", metavar="NAME", help="name of the run folder, and of the study in --storage"
    )
    parser.add_argument(
        "--storage", metavar="URL", help="share the study: an Optuna URL, or a file ending in .journal"
    )
    parser.add_argument(
        "--space",
        type=Path,
        metavar="FILE",
        help="TOML that changes what is tried (docs/spaces.md; --print-space prints one to start from)",
    )
    parser.add_argument(
        "--grid",
        action="store_true",
        help="try every combination of the space, whose dimensions are all lists, and nothing else",
    )
    parser.add_argument(
        "--print-space", action="store_true", help="print what is tried of each head as TOML, and stop"
    )
    parser.add_argument(
        "--select",
        choices=("best", "simplest"),
        default="best",
        help="which trial wins: the best, or the simplest within one standard error of it (default: best)",
    )
    parser.add_argument(
        "--repeats",
        type=int,
        metavar="N",
        help="splits that decide among the best five; 0: that of the search (default: 1 or 3 from 100 on)",
    )
    use_views_option(parser)
    applied_options(parser)
    run_options(parser)
    json_option(parser)


def run(options: Namespace, words: list[str]) -> None:
    """Run ``tune``."""
    from pipelines import scoreboard, search_spaces, tune, tune_settings

    values = replayed(options, words)
    space = search_spaces.read_space(values.space) if isinstance(values.space, Path) else values.space
    if options.print_space:
        search_spaces.print_spaces(values.heads, space, as_json=options.json)
        return
    settings = tune_settings.TuneSettings(
        features=tuple(values.features),
        heads=tuple(values.heads),
        trials=values.trials,
        metric=values.metric,
        folds=values.folds,
        duplicates=values.duplicates,
        seed=values.seed,
        timeout=values.timeout,
        study=values.study,
        storage=values.storage,
        out=values.out,
        use_views=values.use_views,
        space=space,
        grid=values.grid,
        select=values.select,
        repeats=values.repeats,
        calibrate=values.calibrate,
        decide=values.decide,
    )
    scoreboard.print_run(tune.tune(settings), as_json=options.json)
